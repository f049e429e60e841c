//! When a checkpoint of the journal is written, so that the next start need not read all history (INV-75).
//!
//! It is put outside of all locks that a commit takes; only the state is copied within them. The batch that names it
//! comes after it, and older checkpoints are removed after that batch.

use super::facts::{FactError, own_act};
use super::{Coordinator, Damage};
use crate::catalog::Catalog;
use crate::journal::checkpoint::{CheckpointError, Draft, inspect, newest_first, remove_others};
use crate::store::ObjectName;
use lifeboat_format::id::Digest;
use lifeboat_format::journal::{Batch, Event};
use lifeboat_proto::status::with_causes;
use std::sync::{MutexGuard, PoisonError};

/// A checkpoint was not written. The next start reads more batches.
#[derive(Debug, thiserror::Error)]
pub enum NoCheckpoint {
    /// The object could not be made or put.
    #[error("cannot write a journal checkpoint")]
    Object(#[from] CheckpointError),
    /// The batch that names it could not be written.
    #[error("cannot record a journal checkpoint")]
    Fact(#[from] FactError),
    /// There is none to be written now: the last batch is not settled, or is not ours.
    #[error("the journal cannot be continued just now")]
    NotNow,
}

/// What this process did about checkpoints.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// The last batch that a checkpoint includes, or would if it could have been written.
    since: u64,
    /// The memory is not what the journal says: no checkpoint of it is written.
    is_wrong: bool,
}

impl Checkpoints {
    /// The start read the journal from this checkpoint on.
    pub fn since(number: u64) -> Self {
        Self { since: number, is_wrong: false }
    }
}

impl Coordinator {
    fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the next checkpoint is due: `checkpoint_every` batches were written since the last one.
    pub fn is_checkpoint_due(&self) -> bool {
        let last = self.head().map_or(0, |head| head.head().number);
        let since = self.checkpoints().since;
        self.config.checkpoint_every.is_some_and(|every| last.saturating_sub(since) >= every)
    }

    /// Writes a checkpoint of the journal as it is, has a batch name it, and removes older ones: all but the newest two.
    pub fn write_checkpoint(&self) -> Result<(), NoCheckpoint> {
        let mut checkpoints = self.checkpoints();
        let named = self.put_checkpoint(&mut checkpoints)?;
        let kept: Vec<u64> = self.catalog(|catalog| catalog.checkpoints().map(|(number, _)| number).collect());
        debug_assert!(kept.contains(&named));
        remove_others(self.shared.store.as_ref(), &kept);
        Ok(())
    }

    /// Puts a checkpoint and has a batch name it.
    fn put_checkpoint(&self, checkpoints: &mut Checkpoints) -> Result<u64, NoCheckpoint> {
        if checkpoints.is_wrong {
            return Err(NoCheckpoint::NotNow);
        }
        let draft = self.draft_checkpoint().ok_or(NoCheckpoint::NotNow)?;
        let number = draft.number();
        // Also if it fails: a disk that is full is not asked again at once.
        checkpoints.since = number;
        let digest = draft.put(self.shared.store.as_ref())?;
        let event = Event::JournalCheckpoint { number, digest };
        self.record(vec![own_act(self.shared.clock.now_ns(), "checkpoint", event)])?;
        tracing::info!(number, "a journal checkpoint was written");
        Ok(number)
    }

    fn draft_checkpoint(&self) -> Option<Draft> {
        let journal = self.journal();
        let state = self.catalog(Catalog::to_state);
        journal.draft_checkpoint(state)
    }

    /// Begins a comparison of memory and checkpoints with a replay of all batches.
    pub(super) fn begin_audit(&self) -> Audit {
        let journal = self.journal();
        let (memory, named) = self.catalog(|catalog| (catalog.to_state().digest(), catalog.checkpoints().next_back()));
        let last = journal.len();
        drop(journal);
        let listed = newest_first(self.shared.store.as_ref());
        let mut audit = Audit { replay: Some(Catalog::new()), last, memory, named, listed, states: Vec::new() };
        audit.listed.extend(audit.missing());
        audit
    }

    /// Checks the checkpoints against what the audit has found. Those that are bad are replaced by a new one.
    pub(super) fn end_audit(&self, audit: &Audit) -> Vec<Damage> {
        let mut damages: Vec<Damage> = audit.listed.iter().filter_map(|name| self.audit_one(audit, name)).collect();
        // What is read despite damage is not what all batches say.
        if audit.is_memory_wrong() && !self.config.despite_damage {
            self.checkpoints().is_wrong = true;
            let what = "what the coordinator has in memory is not what the journal says; restart it: the next start \
                        reads all batches";
            damages.push(Damage { is_harmless: false, ..Damage::of(ObjectName::journal(audit.last), what.to_owned()) });
            remove_others(self.shared.store.as_ref(), &[]);
        } else if !damages.is_empty() && self.config.checkpoint_every.is_some() {
            self.replace_checkpoints(&mut damages);
        }
        damages
    }

    fn audit_one(&self, audit: &Audit, name: &ObjectName) -> Option<Damage> {
        let found = match inspect(self.shared.store.as_ref(), self.repository(), name) {
            Ok(found) => found,
            Err(error) => return Some(Damage::of(name.clone(), with_causes(&error))),
        };
        let hash = self.journal().hash(found.number);
        let is_other = audit.named.is_some_and(|(named, right)| named == found.number && right != found.object);
        let what = match audit.state_at(found.number) {
            _ if hash != Some(found.head) => "it is of another history".to_owned(),
            _ if is_other => "it is not the one that the journal names".to_owned(),
            Some(right) if right != found.state => "it is not the state that the journal gives".to_owned(),
            _ => return None,
        };
        Some(Damage::of(name.clone(), what))
    }

    /// A bad checkpoint costs nothing but the time of a start: a new one takes the place of all.
    fn replace_checkpoints(&self, damages: &mut [Damage]) {
        let mut checkpoints = self.checkpoints();
        let number = match self.put_checkpoint(&mut checkpoints) {
            Ok(number) => number,
            Err(error) => {
                tracing::warn!(error = %with_causes(&error), "bad checkpoints stay");
                return;
            }
        };
        remove_others(self.shared.store.as_ref(), &[number]);
        for damage in damages {
            if self.shared.store.size(&damage.object).is_err_and(|error| error.is_not_found()) {
                damage.is_healed = true;
                damage.what.push_str("; a new checkpoint takes its place");
            }
        }
    }
}

/// A replay of all batches beside what `verify` does, to be compared with checkpoints and memory.
pub(super) struct Audit {
    /// None once a batch was missing or damaged: what follows cannot be compared.
    replay: Option<Catalog>,
    last: u64,
    memory: Digest,
    named: Option<(u64, Digest)>,
    listed: Vec<ObjectName>,
    states: Vec<(u64, Digest)>,
}

impl Audit {
    /// How many batches are read.
    pub fn batches(&self) -> u64 {
        self.last
    }

    /// How many checkpoints are looked at.
    pub fn checkpoints(&self) -> u64 {
        self.listed.len() as u64
    }

    /// The checkpoint that the journal names last, if no list has it.
    fn missing(&self) -> Option<ObjectName> {
        let name = ObjectName::checkpoint(self.named?.0);
        (!self.listed.contains(&name)).then_some(name)
    }

    /// The next batch; none if it has no good copy.
    pub fn take(&mut self, number: u64, batch: Option<&Batch>) {
        let Some(catalog) = &mut self.replay else { return };
        let applied = batch.map(|batch| batch.records().iter().try_for_each(|record| catalog.apply(record)));
        if !matches!(applied, Some(Ok(()))) {
            self.replay = None;
        } else if number == self.last || self.listed.contains(&ObjectName::checkpoint(number)) {
            self.states.push((number, catalog.to_state().digest()));
        }
    }

    fn state_at(&self, number: u64) -> Option<Digest> {
        self.states.iter().find(|(at, _)| *at == number).map(|(_, state)| *state)
    }

    fn is_memory_wrong(&self) -> bool {
        self.state_at(self.last).is_some_and(|state| state != self.memory)
    }
}
