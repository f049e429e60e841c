//! Sets inode flags.

use super::report::Attribute;
use crate::metadata::UNWRITABLE_FLAGS;
use rustix::fs::{IFlags, OFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::{self, Errno};
use std::os::fd::AsFd;

/// Whether nothing may be made or removed in this directory.
pub fn forbid_changes(directory: impl AsFd) -> bool {
    let open = super::target::open_beneath(directory, b".", OFlags::RDONLY | OFlags::DIRECTORY);
    open.and_then(ioctl_getflags).is_ok_and(|flags| flags.bits() & UNWRITABLE_FLAGS != 0)
}

/// Makes the flags of `mask` as `wanted` has them. Returns those that are not, and why.
///
/// Where a file system refuses one of them, the others are set.
pub fn set(file: impl AsFd, wanted: u32, mask: u32) -> Option<(Attribute, Errno)> {
    let file = file.as_fd();
    let wanted = wanted & mask;
    let now = match ioctl_getflags(file) {
        Ok(now) => now.bits(),
        Err(_) if wanted == 0 => return None,
        Err(error) => return Some((Attribute::Flags(wanted), error)),
    };
    let set = |flags: u32| -> io::Result<()> { ioctl_setflags(file, IFlags::from_bits_retain(flags)) };
    if now & mask == wanted || set(now & !mask | wanted).is_ok() {
        return None;
    }
    set_one_by_one(now, now & mask ^ wanted, set)
}

fn set_one_by_one(mut now: u32, to_change: u32, set: impl Fn(u32) -> io::Result<()>) -> Option<(Attribute, Errno)> {
    let mut lost = None;
    for bit in (0..u32::BITS).map(|shift| 1 << shift).filter(|bit| to_change & bit != 0) {
        match set(now ^ bit) {
            Ok(()) => now ^= bit,
            Err(error) => lost = Some((lost.map_or(0, |(bits, _)| bits) | bit, error)),
        }
    }
    lost.map(|(bits, error)| (Attribute::Flags(bits), error))
}
