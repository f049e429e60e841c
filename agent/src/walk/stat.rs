//! What one `statx` tells of an entry.

use lifeboat_format::tree::{Device, Time};
use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx};
use rustix::io;
use std::os::fd::{AsFd, BorrowedFd};

/// An entry as `statx` sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileType,
    /// The 12 bits of permission, setuid, setgid and sticky.
    pub mode: u16,
    /// The number of its owner.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// How many bytes its content has; of a symbolic link, its target.
    pub bytes: u64,
    /// How many bytes are allocated for it.
    pub allocated_bytes: u64,
    /// The device it lies on: major number in the upper 32 bits, minor in the lower.
    pub device: u64,
    /// Its number on that device.
    pub inode: u64,
    /// The mount it was reached through; 0 where the kernel does not say.
    pub mount: u64,
    /// When its content changed.
    pub mtime: Time,
    /// When anything of it changed.
    pub ctime: Time,
    /// When it was made, where the file system knows.
    pub btime: Option<Time>,
    /// The device that it stands for, if it is a device.
    pub names_device: Device,
    /// Whether it is marked as not to be dumped.
    pub nodump: bool,
}

impl Stat {
    /// Whether both are the same file: same device, inode and kind, and made at the same time as far as that is known,
    /// for a number is used again at once.
    pub fn is_same_file(&self, other: &Self) -> bool {
        let made = |stat: &Self| stat.btime.filter(|_| self.btime.is_some() && other.btime.is_some());
        (self.device, self.inode, self.kind, made(self)) == (other.device, other.inode, other.kind, made(other))
    }

    /// Whether both lie on one file system, reached through one mount.
    pub fn is_on_file_system_of(&self, other: &Self) -> bool {
        (self.device, self.mount) == (other.device, other.mount)
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }
}

/// Looks at `name` in a directory, following no link and mounting nothing.
pub fn stat_at(directory: impl AsFd, name: &[u8]) -> io::Result<Stat> {
    query(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}

/// Looks at what a descriptor stands for.
pub fn stat_open(file: impl AsFd) -> io::Result<Stat> {
    query(file.as_fd(), b"", AtFlags::EMPTY_PATH)
}

fn query(directory: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> io::Result<Stat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    Ok(convert(&statx(directory, name, flags, mask)?))
}

fn convert(raw: &Statx) -> Stat {
    let has = |field: StatxFlags| raw.stx_mask & field.bits() != 0;
    Stat {
        kind: FileType::from_raw_mode(raw.stx_mode.into()),
        mode: raw.stx_mode & 0o7777,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        links: raw.stx_nlink,
        bytes: raw.stx_size,
        allocated_bytes: raw.stx_blocks.saturating_mul(512),
        device: u64::from(raw.stx_dev_major) << 32 | u64::from(raw.stx_dev_minor),
        inode: raw.stx_ino,
        mount: if has(StatxFlags::MNT_ID) { raw.stx_mnt_id } else { 0 },
        mtime: time(&raw.stx_mtime),
        ctime: time(&raw.stx_ctime),
        btime: has(StatxFlags::BTIME).then(|| time(&raw.stx_btime)),
        names_device: Device { major: raw.stx_rdev_major, minor: raw.stx_rdev_minor },
        nodump: raw.stx_attributes.contains(StatxAttributes::NODUMP),
    }
}

fn time(raw: &StatxTimestamp) -> Time {
    // A file system in a user's program may answer anything.
    Time { seconds: raw.tv_sec, nanos: raw.tv_nsec.min(999_999_999) }
}
