//! A coordinator that writes nothing into its repository: why, and what it says then.

use lifeboat_proto::status::{ErrorClass, Failure};

/// Why nothing is written into the repository.
#[derive(Clone, Debug)]
pub enum ReadOnly {
    /// It cannot be written.
    Disk,
    /// Its journal is damaged, and what is intact is read.
    Damaged {
        /// What is wrong.
        problem: String,
    },
}

/// What to do when the journal is damaged.
pub const BRING_BACK: &str = "bring the object back from a copy of the repository, below the same path, then `systemctl \
                              restart lifeboat`; `lifeboat repository verify` names all that is damaged";

impl ReadOnly {
    /// What every command says first, if what it shows may lack something.
    pub(super) fn warning(&self) -> Option<String> {
        match self {
            Self::Disk => None,
            Self::Damaged { problem } => Some(format!(
                "the journal is damaged; what is intact is shown and can be restored, nothing is backed up: {problem}; \
                 {BRING_BACK}"
            )),
        }
    }

    /// Why a call is refused.
    pub(super) fn refusal(&self) -> Failure {
        match self {
            Self::Disk => Failure::new(
                ErrorClass::Refused,
                "the repository is read-only: it can only be listed and restored from on this machine",
            )
            .hint("make its file system writable, then `systemctl restart lifeboat`"),
            Self::Damaged { problem } => {
                let refusal = "the journal is damaged, so nothing is written: what is intact can be listed and restored \
                               on this machine";
                Failure::new(ErrorClass::Damaged, format!("{refusal}; {problem}")).hint(BRING_BACK)
            }
        }
    }
}
