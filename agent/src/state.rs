//! The agent's state directory: who this host is, what it saw last, and that only one agent works here.
//!
//! | file | holds | |
//! | --- | --- | --- |
//! | `lock` | the process id of the agent that works here | locked while it lives |
//! | `identity.json` | host number, address, signing and box keys, group secrets | mode 0600, refused otherwise |
//! | `tls` | TLS key (PKCS #8), certificate (DER), each behind its length; changed together | mode 0600, refused otherwise |
//! | `head` | the newest signed journal head that this host saw | |
//! | `outcomes.json` | how the last backup of each source set ended | for `status` |
//! | `obeyed.json` | which restore orders were obeyed, and what was reported, until they expire | |
//! | `trees/`, `scratch/`, `commands/` | local trees; temporary files; output of commands | |
//! | `restore/`, `restores/` | where restores may write; those that did not end | |
//!
//! What stands in the files is for `identity` and `backup`; here they are only kept, whole or not at all.

pub(crate) mod file;
mod head;
mod obeyed;
mod outcome;

#[cfg(test)]
pub(crate) use head::tests as head_for_tests;
pub use head::{HeadKeeper, Verdict};
pub use outcome::{Outcomes, SetOutcome};

use lifeboat_format::id::Digest;
use lifeboat_proto::convert::control::JobReport;
use lifeboat_proto::status::ErrorClass;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Where the state lies unless somebody says otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/lifeboat-agent";

/// The state directory of one agent.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes the directory if it is not there, for this user alone.
    pub fn create(path: &Path) -> Result<Self, StateError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(StateError::at("make", path))?;
        Self::open(path)
    }

    /// Uses a directory that is there, and that nobody else may enter.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let metadata = match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NotEnrolled { path: path.to_owned() });
            }
            metadata => metadata.map_err(StateError::at("use", path))?,
        };
        file::check_private(path, metadata.uid(), metadata.mode())?;
        for part in ["trees", "scratch", "commands"] {
            let part = path.join(part);
            DirBuilder::new().recursive(true).mode(0o700).create(&part).map_err(StateError::at("make", &part))?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where local trees lie.
    pub fn trees(&self) -> PathBuf {
        self.path.join("trees")
    }

    /// Where temporary files may lie, on disk.
    pub fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Where the output of commands lies while it is backed up.
    pub fn commands(&self) -> PathBuf {
        self.path.join("commands")
    }

    /// Where restores write that the policy allows nowhere else.
    pub fn staging(&self) -> PathBuf {
        self.path.join("restore")
    }

    /// Where restores are remembered that did not end.
    pub fn restores(&self) -> PathBuf {
        self.path.join("restores")
    }

    /// Makes sure that no other agent works with this directory, as long as the lock is held.
    pub fn lock(&self) -> Result<StateLock, StateError> {
        let path = self.path.join("lock");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(StateError::at("open", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut owner = String::new();
            file.take(20).read_to_string(&mut owner).map_err(StateError::at("read", &path))?;
            return Err(StateError::InUse { path: self.path.clone(), owner: owner.trim().to_owned() });
        }
        let write_owner = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write_owner(&mut file).map_err(StateError::at("write", &path))?;
        Ok(StateLock { _file: file })
    }

    /// Removes what an agent that was killed left behind: output of commands, such as a dump of a database, and temporary
    /// files. The lock shows that nobody uses them.
    pub fn remove_leftovers(&self, _lock: &StateLock) {
        for directory in [self.commands(), self.scratch()] {
            if let Err(error) = remove_content(&directory) {
                tracing::error!(?directory, %error, "cannot remove what an earlier agent left there");
            }
        }
    }

    /// A file that only this user may have been able to read; none if it is not there.
    pub fn read_secret(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        file::read_private(&self.path.join(name))
    }

    /// Puts a file in the place of the one before, durably, for this user alone.
    pub fn write_secret(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        file::replace(&self.path.join(name), bytes)
    }

    /// How the last backups ended.
    pub fn outcomes(&self) -> Result<Outcomes, StateError> {
        outcome::load(&self.path)
    }

    /// What was reported of a restore order, if it was obeyed to its end.
    pub fn obeyed(&self, order: &Digest) -> Result<Option<JobReport>, StateError> {
        obeyed::report(&self.path, order)
    }

    /// Remembers until its expiry that a restore order was obeyed, and what was reported.
    pub fn keep_obeyed(
        &self,
        order: &Digest,
        report: &JobReport,
        expires_ns: i64,
        now_ns: i64,
    ) -> Result<(), StateError> {
        obeyed::keep(&self.path, order, report, expires_ns, now_ns)
    }

    /// Remembers how a backup ended.
    pub fn keep_outcome(&self, set: &str, outcome: SetOutcome) -> Result<(), StateError> {
        outcome::keep(&self.path, set, outcome)
    }
}

/// Held by the one agent that works with a state directory. The system lets go of it when the process ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

/// Empties a directory.
pub(crate) fn remove_content(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// The state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent works with it.
    #[error("another agent works with {path:?} (process {owner})")]
    InUse {
        /// The state directory.
        path: PathBuf,
        /// Its process id, as the lock file says.
        owner: String,
    },
    /// There is nothing there.
    #[error("this host is not enrolled: there is no identity in {path:?}")]
    NotEnrolled {
        /// The state directory.
        path: PathBuf,
    },
    /// Others may read secrets, or could have changed them.
    #[error("{path:?} {problem}; a key that others could read is not used")]
    Exposed {
        /// The file or directory.
        path: PathBuf,
        /// Who may do what.
        problem: String,
    },
    /// It is another user's, most often root's: only that user may use it.
    #[error("{path:?} belongs to {owner}, and this command runs as user {own}")]
    OtherUser {
        /// The file or directory.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who runs the command.
        own: u32,
    },
    /// A file does not hold what it should.
    #[error("{path:?} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system refused.
    #[error("cannot {action} {path:?}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateError {
    /// Makes an error of what the system said.
    pub(crate) fn at(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::InUse { .. } => ErrorClass::Busy,
            Self::NotEnrolled { .. } => ErrorClass::NotFound,
            Self::Exposed { .. } | Self::OtherUser { .. } => ErrorClass::Refused,
            Self::Damaged { .. } => ErrorClass::Damaged,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorClass::Full,
            Self::Io { .. } => ErrorClass::Internal,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::InUse { .. } => {
                "the service does the backups: order one on the coordinator with `lifeboat backup HOST`, \
                 or stop it first (`systemctl stop lifeboat-agent`)"
                    .to_owned()
            }
            Self::NotEnrolled { .. } => {
                "make a token on the coordinator with `lifeboat token create`, then run `lifeboat-agent enrol` here"
                    .to_owned()
            }
            Self::Exposed { path, .. } => format!(
                "if nobody else read it: chmod go= {}; if in doubt: move the directory away and enrol with new keys, with a token of `lifeboat token create --replace HOST`",
                path.display()
            ),
            Self::OtherUser { .. } => "run it as root: sudo lifeboat-agent …".to_owned(),
            Self::Damaged { .. } => {
                "restore the file; or move the state directory away and enrol this server in its own place: `lifeboat token \
                 create --replace HOST` on the coordinator, then `lifeboat-agent enrol` here"
                    .to_owned()
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "run it as root: sudo lifeboat-agent …".to_owned()
            }
            Self::Io { .. } if self.class() == ErrorClass::Full => {
                "make room on that disk of this host, then back up again".to_owned()
            }
            Self::Io { .. } => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn state() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        (directory, state)
    }

    #[test]
    fn two_agents_do_not_work_with_one_directory() {
        let (_directory, state) = state();
        let lock = state.lock().unwrap();
        let Err(StateError::InUse { owner, .. }) = state.lock() else { panic!("locked twice") };
        assert_eq!(owner, std::process::id().to_string());
        drop(lock);
        assert!(state.lock().is_ok());
    }

    #[test]
    fn what_a_killed_agent_left_is_removed_and_the_rest_stays() {
        let (_directory, state) = state();
        fs::create_dir(state.commands().join("db")).unwrap();
        fs::write(state.commands().join("db/dump.sql"), "secret").unwrap();
        fs::write(state.scratch().join("command-7"), "half a dump").unwrap();
        fs::write(state.trees().join("db.tree"), "hint").unwrap();
        state.remove_leftovers(&state.lock().unwrap());
        let left = |directory| fs::read_dir(directory).unwrap().count();
        assert_eq!([state.commands(), state.scratch(), state.trees()].map(left), [0, 0, 1]);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let (_directory, state) = state();
        assert!(state.read_secret("identity.json").unwrap().is_none());
        state.write_secret("identity.json", b"{}").unwrap();
        assert_eq!(state.read_secret("identity.json").unwrap().unwrap().as_slice(), b"{}");
        let path = state.path().join("identity.json");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(state.read_secret("identity.json"), Err(StateError::Exposed { .. })));
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let (_directory, state) = state();
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(StateDir::open(state.path()), Err(StateError::Exposed { .. })));
    }
}
