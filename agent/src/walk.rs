//! Finds everything under the roots of a source set, in walk order, by descriptor.
//!
//! Walk order is the order of the tree: component by component, byte by byte, a directory before what it holds.
//! Names are read with `getdents` and sorted; each entry costs one `statx` relative to its directory, so neither a
//! path longer than the kernel takes nor somebody who swaps a directory for a link can lead the walk astray. There is
//! no recursion, and memory does not grow with the number of entries, their depth aside: names beyond a budget are
//! sorted on disk.
//!
//! Whether an entry is new is for `backup`; what else is kept of it is for `metadata`.
//!
//! # Invariants
//! * The parent of every entry was an entry before it, up to the root, whose path is empty.
//! * What could not be read is a named [`Gap`]; what a rule leaves out is none (INV-17), but is named if it is left out
//!   as a whole; a source path that is left out is a gap (INV-76).
//! * The entry of a directory states whether all of its children follow or are gaps (INV-71).
//! * Names are matched before anything is touched, and no call is made without a deadline where it might hang.
//! * An entry counts as unchanged only by the rule of [`Signature`] (INV-18).

mod content;
mod evidence;
mod file_system;
mod held;
mod left_out;
mod link_table;
mod links;
mod name_filter;
mod names;
mod plan;
mod probe;
mod rules;
mod scan;
#[cfg(test)]
mod scan_tests;
mod signature;
mod spool;
mod stat;

pub use content::{OpenFile, Piece, open_file};
pub use evidence::{Evidence, FileSystems};
pub use file_system::{FileSystemKind, Mount, Mounts};
pub use held::Held;
pub use left_out::LeftOut;
pub(crate) use left_out::mounts_within;
pub use lifeboat_proto::shown::Shown;
pub use links::{FirstName, HardLinks};
pub(crate) use names::{Budget as NameBudget, NameReader, Names};
pub use plan::tree_path;
pub use rules::{Rules, RulesError};
pub use scan::{Item, Scan, ScanError, Scanned};
pub use signature::{Signature, is_unchanged, nanos_between};
pub(crate) use spool::Spool;
pub use stat::{Stat, stat_at, stat_open};

use std::fmt;
use std::io;

/// Something that was to be backed up and is not, or not as it stands on disk now.
#[derive(Debug)]
pub struct Gap {
    /// The entry; for a directory, everything in it that was not read yet.
    pub path: Vec<u8>,
    /// What went wrong.
    pub reason: GapReason,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: {}", Shown(&self.path), self.reason)
    }
}

/// Why there is a gap.
#[derive(Debug, thiserror::Error)]
pub enum GapReason {
    /// It was there when its directory was read, and is not any more; or a root that is not there at all.
    #[error("is not there, or vanished while it was backed up")]
    Vanished,
    /// Its name now stands for another file.
    #[error("was replaced by another file while it was backed up")]
    Replaced,
    /// Its content changed between the start and the end of reading.
    #[error("changed while it was read, so it may hold parts of different moments")]
    Changed,
    /// It ended before the size that it states, and nothing shows that it changed.
    #[error("ended after {read} bytes, although it states a size of {stated}")]
    Short {
        /// Its size.
        stated: u64,
        /// How much was read.
        read: u64,
    },
    /// It has far more content than its size states.
    #[error("states a size of {stated} bytes and does not end after {read}")]
    Endless {
        /// Its size.
        stated: u64,
        /// How much was read.
        read: u64,
    },
    /// A directory was moved away while the walk was in it.
    #[error("was moved while it was read; the rest of it was not read")]
    Moved,
    /// A source path is a symbolic link or leads through one, which the walk does not follow.
    #[error(
        "is a symbolic link to {}, so nothing behind it was backed up; in `paths` of the policy, name the real path",
        Shown(target)
    )]
    SourceIsLink {
        /// The target of the link.
        target: Vec<u8>,
    },
    /// A source path leads through a file.
    #[error("is not a directory, but a source path of the policy leads through it")]
    NotADirectory,
    /// `never` covers a source path.
    #[error("is a source path, but `never` of the policy leaves it out")]
    NeverCoversSource,
    /// `exclude` leaves nothing of a source path.
    #[error("is a source path, but `exclude` of the policy leaves out everything in it")]
    AllExcluded,
    /// A source path lies in the agent's own state.
    #[error("is a source path in the agent's own state, which is never backed up")]
    OwnState,
    /// A server or a program behind a mount does not answer.
    #[error("does not answer within {seconds} s: the server or the program behind this mount ({fs_type}) hangs")]
    Hangs {
        /// The type of the file system.
        fs_type: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The system refused.
    #[error("cannot {action}: {source}")]
    Unreadable {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl GapReason {
    /// What an error of the system means for an entry that was found a moment ago.
    pub fn of(action: &'static str, error: impl Into<io::Error>) -> Self {
        let source = error.into();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Vanished,
            _ => Self::Unreadable { action, source },
        }
    }
}
