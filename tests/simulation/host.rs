//! A host: a source, an agent's state directory, and how it backs up.

use crate::lab::{SCOPE, host_key, identity, keys, repository};
use lifeboat_agent::backup::budget::MEMORY_MIN;
use lifeboat_agent::backup::{Author, CheckpointRule, Plan};
use lifeboat_agent::local_tree::LocalTreeFiles;
use lifeboat_agent::walk::Rules;
use lifeboat_format::id::HostId;
use std::fs;
use std::path::{Path, PathBuf};

/// What every host backs up its source as.
pub const SET: &str = "data";

#[derive(Clone, Debug)]
pub struct Host {
    pub id: HostId,
    pub source: PathBuf,
    state: PathBuf,
}

/// How a backup goes.
#[derive(Clone, Debug, Default)]
pub struct How {
    /// Threads that seal; 0: one thread does everything, always in the same order.
    pub processors: usize,
    /// After so many sent bytes a checkpoint is committed; none: never.
    pub checkpoint_bytes: Option<u64>,
    /// At this call of the agent's, from 0, there is trouble.
    pub trouble: Option<(usize, crate::uplink::Trouble)>,
}

impl Host {
    /// A host whose agent knows nothing yet.
    pub fn new(id: u32, source: &Path, state: &Path) -> Self {
        fs::create_dir_all(source).unwrap();
        fs::create_dir_all(state).unwrap();
        Self { id: HostId::new(id), source: source.to_owned(), state: state.to_owned() }
    }

    /// The file of its last tree.
    pub fn local_tree(&self) -> PathBuf {
        self.state.join(format!("{SET}.tree"))
    }

    /// What its agent would do.
    pub fn plan(&self, how: &How) -> Plan {
        let mut rules = Rules::new(&[], &[]).unwrap();
        rules.skip_pseudo = false; // The source may lie in memory.
        let mut checkpoint = CheckpointRule::default();
        checkpoint.sent_bytes = how.checkpoint_bytes.unwrap_or(checkpoint.sent_bytes);
        Plan {
            source_set: SET.into(),
            roots: vec![self.source.clone()],
            rules,
            known_gaps: Vec::new(),
            job: String::new(),
            processors: how.processors,
            memory: MEMORY_MIN,
            is_part: false,
            checkpoint,
            scratch: self.state.clone(),
            local_tree: LocalTreeFiles::new(&self.state, SET),
            author: Author {
                repository: repository(),
                host: self.id,
                signing_key: host_key(self.id),
                keys: keys(),
                scope: SCOPE,
                recipients: vec![identity().recipient()],
                agent_version: "simulation".into(),
            },
        }
    }
}
