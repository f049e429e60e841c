//! `policy.toml`: what a coordinator may ask of this host. The agent's law.
//!
//! Root writes it, orders only name what stands in it (INV-46), and an unknown key is an error with its line: a
//! misspelt `exlude` must not back up what somebody wanted left out. Reading is pure, from text to a [`Policy`];
//! whether the file may be trusted at all is for [`load`].

mod amount;
mod check;
mod document;
mod file;
mod place;
mod rules;

pub use amount::{ByteRate, ByteSize};
pub use check::{Found, warnings};
pub use file::{exposure_of, load, read, write_default};
pub use place::{PlaceError, RestorePlace, STAGING, place};
pub use rules::{never, rules};

use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::status::ErrorClass;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What `enrol` writes where no policy is yet.
pub const DEFAULT_POLICY: &str = include_str!("policy/default.toml");

/// What to do without permission.
const AS_ROOT: &str = "run it as root: sudo lifeboat-agent …";

/// The host's own law.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What may be backed up, by name.
    pub sources: BTreeMap<SourceSetName, SourceSet>,
    /// Patterns that win over everything: what matches one never leaves this host.
    pub never: Vec<String>,
    /// Where a restore may write.
    pub restore: RestoreMode,
    /// Whose orders count.
    pub trust: TrustRule,
    /// Programs by name, each with its arguments. Orders and source sets may only name them.
    pub hooks: BTreeMap<String, Vec<String>>,
    /// What a backup may use of this machine.
    pub limits: Limits,
}

/// What is backed up under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSet {
    /// Absolute paths; what lies below them.
    pub paths: Vec<PathBuf>,
    /// Left out: patterns in the syntax of gitignore, as if in a `.gitignore` at `/`.
    pub exclude: Vec<String>,
    /// Stay on the file system of each path.
    pub one_file_system: bool,
    /// Leave out file systems that other machines keep (NFS, SMB, …).
    pub skip_network: bool,
    /// Leave out file systems that are gone after a restart (tmpfs).
    pub skip_temporary: bool,
    /// Leave out directories that a `CACHEDIR.TAG` marks.
    pub skip_cache_dirs: bool,
    /// Leave out what carries the nodump flag.
    pub skip_nodump: bool,
    /// Hooks to run before, in this order. If one fails, there is no backup.
    pub before: Vec<String>,
    /// Hooks to run after, in this order, also when the backup failed.
    pub after: Vec<String>,
    /// Commands whose standard output becomes a file of the snapshot, by the file's name.
    pub commands: BTreeMap<String, Vec<String>>,
}

/// Where a restore that the coordinator orders may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreMode {
    /// Nowhere.
    Off,
    /// Into these places and below.
    Into {
        /// The staging directory.
        staging: bool,
        /// Directories of this host.
        paths: Vec<PathBuf>,
    },
}

/// Whose orders count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustRule {
    /// The trust file, pinned at enrolment; beside the policy if none is named.
    pub file: Option<PathBuf>,
    /// How many operators must have signed a restore order.
    pub operators: u32,
}

/// What a backup may use of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sealed bytes a second; none: as fast as it goes.
    pub upload: Option<ByteRate>,
    /// Threads that compress and seal; none: one a core.
    pub processors: Option<usize>,
    /// What the agent may hold in memory while it backs up, in bytes; none: 256 MiB.
    pub memory: Option<ByteSize>,
    /// How long one hook or command may take.
    pub command_time: Duration,
}

impl Policy {
    /// The set of this name.
    pub fn source_set(&self, name: &SourceSetName) -> Result<&SourceSet, PolicyError> {
        self.sources.get(name).ok_or_else(|| PolicyError::NoSuchSet {
            name: name.clone(),
            known: self.sources.keys().map(SourceSetName::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

impl std::str::FromStr for Policy {
    type Err = PolicyError;

    /// Reads the text of a policy, and checks it whole.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        document::read(text)
    }
}

/// A policy that cannot be obeyed. The agent then does nothing at all.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is wrong.
    #[error("line {line} of the policy: {problem}")]
    Text {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The file is not there or cannot be read.
    #[error("cannot read the policy {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the policy {path:?}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others than root could have written it.
    #[error("the policy would let others rule this host: {path:?} {problem}")]
    Exposed {
        /// The file, or the directory it lies in.
        path: PathBuf,
        /// Who may change it.
        problem: String,
    },
    /// An order, or somebody at the keyboard, names a set that is not there.
    #[error("there is no source set {name} in this host's policy (there is: {known})")]
    NoSuchSet {
        /// What was named.
        name: SourceSetName,
        /// What there is.
        known: String,
    },
}

impl PolicyError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Text { .. } => ErrorClass::Usage,
            Self::NoSuchSet { .. } => ErrorClass::NotFound,
            Self::Exposed { .. } => ErrorClass::Refused,
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorClass::NotFound,
            Self::Read { .. } | Self::Write { .. } => ErrorClass::Internal,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Text { .. } => {
                "`lifeboat-agent policy check FILE` checks a changed policy before it is used".to_owned()
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "`lifeboat-agent policy default` prints the policy that enrolment starts with".to_owned()
            }
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => AS_ROOT.to_owned(),
            Self::Exposed { path, .. } => {
                format!(
                    "as root: chown root {0} && chmod go-w {0}; then read it, somebody may have changed it",
                    path.display()
                )
            }
            Self::NoSuchSet { .. } => "`lifeboat-agent sources` shows what each set holds".to_owned(),
            Self::Read { .. } | Self::Write { .. } => String::new(),
        }
    }
}
