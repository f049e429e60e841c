//! Reads what Linux knows of an entry besides its content: owner by name, extended attributes, inode flags, targets.
//!
//! Everything is read through a descriptor of the very file that the walk found. Only files and directories are
//! opened for real; of links, devices, FIFOs and sockets a descriptor of the place is enough (`O_PATH`), so nothing
//! is set off by looking at it. What may not be read is a note for the report, and the entry is kept without it.
//! To set all this again is for `restore`.

mod flags;
mod names;
mod xattrs;

pub use flags::{EARLY_FLAGS, KEPT_FLAGS, UNWRITABLE_FLAGS};
pub use names::{NameCache, NumberCache};

use crate::walk::{GapReason, Held, Stat};
use lifeboat_format::tree::{Attributes, Completeness, EntryKind, Xattr};
use rustix::fs::{FileType, readlinkat};
use std::io;

/// How many bytes a link's target may have (`PATH_MAX`).
const TARGET_BYTES_MAX: usize = 4096;

/// An attribute that is there and could not be read.
#[derive(Debug)]
pub struct Unread {
    /// Which one.
    pub attribute: String,
    /// What the system said.
    pub source: io::Error,
}

/// Reads attributes; remembers names of owners from one entry to the next. One for each worker.
#[derive(Debug, Default)]
pub struct MetadataReader {
    names: NameCache,
}

impl MetadataReader {
    /// Attributes of an entry, and which of them could not be read.
    pub fn attributes(&mut self, held: &Held, stat: &Stat) -> (Attributes, Vec<Unread>) {
        let mut unread = Vec::new();
        let attributes = Attributes {
            xattrs: xattrs::read(held, &mut unread),
            flags: flags::read(held, stat, &mut unread),
            ..self.bare(stat)
        };
        (attributes, unread)
    }

    /// What `statx` alone shows of an entry's attributes.
    pub fn bare(&mut self, stat: &Stat) -> Attributes {
        Attributes {
            mode: stat.mode,
            uid: stat.uid,
            gid: stat.gid,
            owner: self.names.user(stat.uid),
            group: self.names.group(stat.gid),
            mtime: stat.mtime,
            btime: stat.btime,
            ..Attributes::default()
        }
    }
}

/// The extended attributes of an entry, sorted by name, as far as they can be read.
pub fn xattrs_of(held: &Held) -> Vec<Xattr> {
    xattrs::read(held, &mut Vec::new())
}

/// The kept inode flags of an entry, as far as they can be read.
pub fn flags_of(held: &Held, stat: &Stat) -> u32 {
    flags::read(held, stat, &mut Vec::new())
}

/// What kind of entry a thing without content of its own is; None for a regular file. `completeness` is that of a
/// directory.
pub fn kind_without_content(
    held: &Held,
    stat: &Stat,
    completeness: Completeness,
) -> Result<Option<EntryKind>, GapReason> {
    Ok(Some(match stat.kind {
        FileType::Directory => EntryKind::Directory(completeness),
        FileType::Symlink => EntryKind::Symlink { target: target(held)? },
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        FileType::CharacterDevice => EntryKind::CharDevice(stat.names_device),
        FileType::BlockDevice => EntryKind::BlockDevice(stat.names_device),
        _ => return Ok(None),
    }))
}

fn target(held: &Held) -> Result<Vec<u8>, GapReason> {
    let target = readlinkat(held, b"".as_slice(), Vec::with_capacity(TARGET_BYTES_MAX));
    target.map(|target| target.into_bytes()).map_err(|error| GapReason::of("read where it leads", error))
}
