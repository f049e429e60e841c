//! One path of a tree, with all that is kept of it.
//!
//! Nothing that differs between equal hosts for no reason: no inode, device, ctime, atime. Those stay in the agent's
//! local file. What an entry may hold is decided by [`Entry::check`]; the decoder refuses the rest, so who makes
//! entries asks it too, and what does not pass is a gap.

use super::node::{ChunkRef, NodeRef};
use super::path::{check_path, compare_paths};
use super::{Completeness, LABEL_BYTES_MAX, SYMLINK_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_BYTES_MAX};
use crate::error::FormatError;
use std::cmp::Ordering;

const WHAT: &str = "tree entry";
/// Permission bits, and set-user-id, set-group-id, sticky.
const MODE_MAX: u16 = 0o7777;
/// Counted for the fixed fields of an entry.
const ENTRY_BYTES: usize = 64;
/// Counted for the lengths of an extended attribute.
const XATTR_BYTES: usize = 8;

/// One path and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where, from the root of the tree (`path`).
    pub path: Vec<u8>,
    /// What.
    pub kind: EntryKind,
    /// Whose, since when, and the rest. [`Attributes::default`] for a hard link.
    pub attributes: Attributes,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory; what is in it follows in the tree, as far as it is complete.
    Directory(Completeness),
    /// A regular file.
    File(FileContent),
    /// A symbolic link.
    Symlink {
        /// Where it leads, as written: 1 to [`SYMLINK_BYTES_MAX`] bytes.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A socket of the local domain.
    Socket,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// One more name of a file that stands earlier in the tree.
    HardLink {
        /// The path of the first entry of the group, in walk order; attributes and content stand there.
        to: Vec<u8>,
    },
}

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The driver's number.
    pub major: u32,
    /// The driver's own number for it.
    pub minor: u32,
}

/// What is in a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// The length of the file, at most 2^63 - 1.
    pub bytes: u64,
    /// Where its bytes are.
    pub body: Body,
}

/// Where the bytes of a file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// It has none.
    Empty,
    /// A range of a bundle.
    Bundled {
        /// The bundle.
        chunk: ChunkRef,
        /// Where in the bundle the file begins, in bytes.
        offset: u32,
        /// The first 16 bytes of the content hash of the file alone.
        hash: [u8; 16],
    },
    /// 1 to [`EXTENTS_INLINE_MAX`](super::EXTENTS_INLINE_MAX) extents, one after the other.
    Extents(Vec<Extent>),
    /// More extents than that: the root of their own nodes.
    List(NodeRef),
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// A whole chunk.
    Data(ChunkRef),
    /// Zeros that the file system keeps.
    Zeros {
        /// How many, at least 1.
        bytes: u64,
    },
    /// Zeros that the file system does not keep.
    Hole {
        /// How many, at least 1.
        bytes: u64,
    },
}

/// Whose a file is, since when, and the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The lowest 12 bits of the mode.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The owner's name, at most [`LABEL_BYTES_MAX`] bytes; empty if there is none for the number.
    pub owner: Vec<u8>,
    /// The group's name, likewise.
    pub group: Vec<u8>,
    /// When the content last changed.
    pub mtime: Time,
    /// When it was made, where that is known.
    pub btime: Option<Time>,
    /// Sorted by name, each name once; ACLs are among them.
    pub xattrs: Vec<Xattr>,
    /// Those bits of `FS_IOC_GETFLAGS` that are kept.
    pub flags: u32,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// With its name space, 1 to [`LABEL_BYTES_MAX`] bytes, none of them NUL.
    pub name: Vec<u8>,
    /// At most [`XATTR_VALUE_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
}

/// A moment, from 1970 in UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds, rounded down; negative before 1970.
    pub seconds: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

/// What an entry weighs in its leaf, in bytes: all that is known before a file is read. `target` is that of a symbolic
/// link or a hard link, else empty.
pub fn metadata_bytes(path: &[u8], target: &[u8], attributes: &Attributes) -> usize {
    let names = attributes.owner.len() + attributes.group.len();
    ENTRY_BYTES + path.len() + target.len() + names + attributes.xattrs.iter().map(Xattr::weight).sum::<usize>()
}

impl Entry {
    /// [`metadata_bytes`] of this entry.
    pub fn metadata_bytes(&self) -> usize {
        let target = match &self.kind {
            EntryKind::Symlink { target } => target,
            EntryKind::HardLink { to } => to,
            _ => &[][..],
        };
        metadata_bytes(&self.path, target, &self.attributes)
    }

    /// Whether a tree may hold it: every limit that this file names, and nothing that contradicts itself.
    pub fn check(&self) -> Result<(), FormatError> {
        check_path(&self.path)?;
        self.attributes.check()?;
        match &self.kind {
            EntryKind::File(content) => content.check(),
            EntryKind::Symlink { target } => {
                within("symbolic link's length", target.len() as u64, 1, SYMLINK_BYTES_MAX as u64)?;
                without_nul("symbolic link", target)
            }
            EntryKind::HardLink { to } => self.check_hard_link(to),
            _ => Ok(()),
        }
    }

    fn check_hard_link(&self, to: &[u8]) -> Result<(), FormatError> {
        check_path(to)?;
        if compare_paths(to, &self.path) != Ordering::Less {
            return Err(FormatError::field(WHAT, "hard link", "to itself or a later path", "to an earlier path"));
        }
        if self.attributes != Attributes::default() {
            return Err(FormatError::field(WHAT, "attributes", "of a hard link", "at the first path of the group"));
        }
        Ok(())
    }

    /// The node that it refers to, if its file has extent lists.
    pub(super) fn list(&self) -> Option<&NodeRef> {
        match &self.kind {
            EntryKind::File(FileContent { body: Body::List(list), .. }) => Some(list),
            _ => None,
        }
    }
}

impl Attributes {
    fn check(&self) -> Result<(), FormatError> {
        within("mode", self.mode.into(), 0, MODE_MAX.into())?;
        within("owner name's length", self.owner.len() as u64, 0, LABEL_BYTES_MAX as u64)?;
        within("group name's length", self.group.len() as u64, 0, LABEL_BYTES_MAX as u64)?;
        without_nul("owner name", &self.owner)?;
        without_nul("group name", &self.group)?;
        self.mtime.check()?;
        self.btime.iter().try_for_each(Time::check)?;
        self.xattrs.iter().try_for_each(Xattr::check)?;
        let weight = self.xattrs.iter().map(Xattr::weight).sum::<usize>();
        within("extended attributes' length", weight as u64, 0, XATTRS_BYTES_MAX as u64)?;
        if !self.xattrs.is_sorted_by(|a, b| a.name < b.name) {
            return Err(FormatError::field(WHAT, "extended attributes", "out of order", "sorted by name, each once"));
        }
        Ok(())
    }
}

impl Xattr {
    fn check(&self) -> Result<(), FormatError> {
        within("extended attribute name's length", self.name.len() as u64, 1, LABEL_BYTES_MAX as u64)?;
        without_nul("extended attribute name", &self.name)?;
        within("extended attribute's length", self.value.len() as u64, 0, XATTR_VALUE_BYTES_MAX as u64)
    }

    /// What it counts towards [`XATTRS_BYTES_MAX`].
    pub fn weight(&self) -> usize {
        XATTR_BYTES + self.name.len() + self.value.len()
    }
}

impl Time {
    fn check(&self) -> Result<(), FormatError> {
        within("nanoseconds", self.nanos.into(), 0, 999_999_999)
    }
}

/// Refuses a value of an entry's field that is not `least` to `most`.
pub(super) fn within(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), FormatError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(FormatError::field(WHAT, field, value, format!("{least} to {most}")))
}

fn without_nul(field: &'static str, text: &[u8]) -> Result<(), FormatError> {
    if text.contains(&0) {
        return Err(FormatError::field(WHAT, field, "with a NUL", "without"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_entry, chunk};
    use super::*;
    use proptest::prelude::*;

    fn file(bytes: u64, body: Body) -> Entry {
        let kind = EntryKind::File(FileContent { bytes, body });
        Entry { path: b"f".to_vec(), kind, attributes: Attributes::default() }
    }

    fn refused(entry: &Entry, change: impl FnOnce(&mut Entry)) -> bool {
        let mut entry = entry.clone();
        change(&mut entry);
        entry.check().is_err()
    }

    proptest! {
        #[test]
        fn an_entry_that_passes_is_refused_once_it_breaks_a_rule(entry in any_entry()) {
            prop_assert_eq!(entry.check(), Ok(()));
            prop_assert!(refused(&entry, |entry| entry.path = b"../etc".to_vec()));
            prop_assert!(refused(&entry, |entry| entry.attributes.mode = 0o10000));
            prop_assert!(refused(&entry, |entry| entry.attributes.mtime.nanos = 1_000_000_000));
            let never = Time { seconds: 0, nanos: u32::MAX };
            prop_assert!(refused(&entry, |entry| entry.attributes.btime = Some(never)));
            prop_assert!(refused(&entry, |entry| entry.attributes.owner = vec![b'o'; LABEL_BYTES_MAX + 1]));
            let twice = vec![Xattr { name: b"user.a".to_vec(), value: vec![] }; 2];
            prop_assert!(refused(&entry, |entry| entry.attributes.xattrs = twice));
        }
    }

    #[test]
    fn content_must_have_the_length_of_the_file() {
        let hash = [0; 16];
        assert!(file(0, Body::Empty).check().is_ok());
        assert!(file(1, Body::Empty).check().is_err());
        let bundled = |bytes, offset| file(bytes, Body::Bundled { chunk: chunk(1, 100), offset, hash });
        assert!(bundled(60, 40).check().is_ok());
        assert!(bundled(60, 41).check().is_err());
        assert!(bundled(0, 40).check().is_err());
        assert!(bundled(1, u32::MAX).check().is_err());
        let extents = vec![Extent::Data(chunk(1, 100)), Extent::Hole { bytes: 7 }, Extent::Zeros { bytes: 3 }];
        assert!(file(110, Body::Extents(extents.clone())).check().is_ok());
        assert!(file(109, Body::Extents(extents)).check().is_err());
        assert!(file(0, Body::Extents(vec![])).check().is_err());
        let endless = vec![Extent::Hole { bytes: u64::MAX }, Extent::Hole { bytes: 2 }];
        assert!(file(1, Body::Extents(endless)).check().is_err());
        assert!(file(33, Body::Extents(vec![Extent::Hole { bytes: 1 }; 33])).check().is_err());
    }

    #[test]
    fn a_symbolic_link_leads_somewhere() {
        let link = |target: &[u8]| {
            let kind = EntryKind::Symlink { target: target.to_vec() };
            Entry { path: b"l".to_vec(), kind, attributes: Attributes::default() }
        };
        assert!(link(b"../a").check().is_ok());
        for target in [&b""[..], b"a\0", &[b'a'; SYMLINK_BYTES_MAX + 1]] {
            assert!(link(target).check().is_err());
        }
    }

    #[test]
    fn a_hard_link_leads_back_and_has_no_attributes() {
        let link = |path: &[u8], to: &[u8]| Entry {
            path: path.to_vec(),
            kind: EntryKind::HardLink { to: to.to_vec() },
            attributes: Attributes::default(),
        };
        assert!(link(b"b", b"a").check().is_ok());
        assert!(link(b"a", b"a").check().is_err());
        assert!(link(b"a", b"b").check().is_err());
        assert!(refused(&link(b"b", b"a"), |entry| entry.attributes.mode = 0o644));
    }
}
