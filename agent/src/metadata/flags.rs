//! Inode flags (`FS_IOC_GETFLAGS`, what `lsattr` shows): which of them are kept.

use super::Unread;
use crate::walk::{Held, Stat};
use rustix::fs::{FileType, IFlags, ioctl_getflags};
use rustix::io::Errno;

/// `FS_NOCOMP_FL`: btrfs does not compress it.
const NO_COMPRESSION: u32 = 0x400;

/// The flags that somebody set to say how a file is to be treated. Those that only tell how the file system stores
/// it (extents, index, inline data, encrypted, verity) mean nothing elsewhere; `PROJINHERIT` means nothing without
/// the project's number, and `CASEFOLD` depends on how the file system was made.
pub const KEPT_FLAGS: u32 = EARLY_FLAGS
    | UNWRITABLE_FLAGS
    | IFlags::DIRSYNC.bits()
    | IFlags::JOURNALING.bits()
    | IFlags::NOATIME.bits()
    | IFlags::NODUMP.bits()
    | IFlags::NOTAIL.bits()
    | IFlags::SECURE_REMOVAL.bits()
    | IFlags::SYNC.bits()
    | IFlags::TOPDIR.bits()
    | IFlags::UNRM.bits();
/// The flags that decide how content is stored, and so are set before there is any.
pub const EARLY_FLAGS: u32 = IFlags::COMPRESSED.bits() | IFlags::NOCOW.bits() | NO_COMPRESSION;
/// The flags that forbid writing, linking and changing attributes: nothing can be done after they are set.
pub const UNWRITABLE_FLAGS: u32 = IFlags::IMMUTABLE.bits() | IFlags::APPEND.bits();

/// The kept flags of a file or directory; no other kind of entry has any.
pub(super) fn read(held: &Held, stat: &Stat, unread: &mut Vec<Unread>) -> u32 {
    if !matches!(stat.kind, FileType::RegularFile | FileType::Directory) {
        return 0;
    }
    let flags = if held.is_open() { ioctl_getflags(held) } else { Err(Errno::ACCESS) };
    match flags {
        Ok(flags) => flags.bits() & KEPT_FLAGS,
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => 0,
        Err(error) => {
            unread.push(Unread { attribute: "inode flags".into(), source: error.into() });
            0
        }
    }
}
