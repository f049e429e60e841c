//! Takes hold of a file by descriptor, so that all that is done afterwards concerns this file and no other.

use super::GapReason;
use super::stat::{Stat, stat_open};
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::{self, Errno};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// A place in the file system, held by descriptor.
#[derive(Debug)]
pub struct Held {
    descriptor: OwnedFd,
    /// Whether the file is open, and not only its place.
    is_open: bool,
}

impl Held {
    /// Takes hold of an entry that the walk found; refused if another file stands there by now.
    pub fn open(directory: impl AsFd, name: &[u8], seen: &Stat) -> Result<Self, GapReason> {
        let open = |flags| open_quietly(&directory, name, flags);
        let opened = match seen.kind {
            FileType::RegularFile => open(OFlags::RDONLY | OFlags::NONBLOCK),
            FileType::Directory => open(OFlags::RDONLY | OFlags::DIRECTORY),
            _ => Err(Errno::ACCESS),
        };
        let is_open = opened.is_ok();
        let descriptor = opened.or_else(|_| open(OFlags::PATH)).map_err(|error| GapReason::of("open it", error))?;
        let now = stat_open(&descriptor).map_err(|error| GapReason::of("look at it", error))?;
        if now.is_same_file(seen) { Ok(Self { descriptor, is_open }) } else { Err(GapReason::Replaced) }
    }

    /// Takes a descriptor that is open for reading or writing.
    pub fn of_open(descriptor: OwnedFd) -> Self {
        Self { descriptor, is_open: true }
    }

    /// Takes a descriptor of a place (`O_PATH`).
    pub fn of_place(descriptor: OwnedFd) -> Self {
        Self { descriptor, is_open: false }
    }

    /// Whether the file is open, and not only its place.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// A path that leads to this very file, for calls that take no descriptor of a place. It follows no link.
    pub fn proc_path(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Opens without following a link, and where that is allowed without touching the access time.
pub fn open_quietly(directory: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if flags.contains(OFlags::PATH) {
        return openat(directory, name, flags, Mode::empty());
    }
    match openat(&directory, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => openat(directory, name, flags, Mode::empty()),
        result => result,
    }
}
