//! Whether a directory's own children are all in the tree; and if not, why.
//!
//! A mirror deletes, and a search or a comparison calls a path absent, only in a complete directory. A single child that
//! could not be read does not count here: it is a gap, and the manifest names it.

use std::ops::{BitOr, BitOrAssign};

/// Reasons why not all children of a directory are in the tree; none if they all are. Any reason, also one that a
/// reader does not know, means that the directory is not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Completeness(u8);

impl Completeness {
    /// All children are in the tree, but for gaps.
    pub const COMPLETE: Self = Self(0);
    /// The directory is only on the way to a source path.
    pub const ANCESTOR: Self = Self(1);
    /// Another file system is mounted there, and was not entered.
    pub const OTHER_FILE_SYSTEM: Self = Self(2);
    /// A rule left out at least one child.
    pub const EXCLUDED: Self = Self(4);
    /// The directory is marked as a cache, or as not to be backed up.
    pub const CACHE: Self = Self(8);
    /// It could not be read, or not to its end.
    pub const UNREADABLE: Self = Self(16);

    /// From the bits as they stand in a leaf.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits as they stand in a leaf.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all children are in the tree, but for gaps.
    pub const fn is_complete(self) -> bool {
        self.0 == 0
    }

    /// Whether all reasons of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Completeness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Completeness {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
