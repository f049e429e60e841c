//! Gives an entry its attributes, in the order in which none undoes another, and then looks whether it has them.
//!
//! Owner, because a change of owner takes away setuid bits and capabilities; then extended attributes; then the mode,
//! which agrees with the ACL; then times, which everything before would have touched. Flags come after, in `flags`.

use super::report::Attribute;
use crate::metadata::{KEPT_FLAGS, flags_of, xattrs_of};
use crate::walk::{Held, Stat, stat_open};
use lifeboat_format::tree::{Attributes, Xattr};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat, chownat, fchmod,
    fgetxattr, fremovexattr, fsetxattr, getxattr, removexattr, setxattr, utimensat,
};
use rustix::io::{self, Errno};

const SETUID: u16 = 0o4000;
const SETGID: u16 = 0o2000;
const NANOS: u32 = 1_000_000_000;

/// Whether an entry that is there has other attributes than it should.
pub fn differ(held: &Held, stat: &Stat, wanted: &Attributes, (uid, gid): (Uid, Gid)) -> bool {
    let is_symlink = stat.kind == FileType::Symlink;
    (stat.uid, stat.gid, stat.mtime) != (uid.as_raw(), gid.as_raw(), wanted.mtime)
        || !is_symlink && stat.mode != wanted.mode
        || (flags_of(held, stat) ^ wanted.flags) & KEPT_FLAGS != 0
        || xattrs_of(held) != wanted.xattrs
}

/// Takes away the extended attributes that an entry which was there should not have.
pub fn strip(held: &Held, wanted: &Attributes, lose: &mut dyn FnMut(Attribute, String)) {
    for xattr in xattrs_of(held).iter().filter(|xattr| wanted.xattrs.iter().all(|kept| kept.name != xattr.name)) {
        let removed = match held.is_open() {
            true => fremovexattr(held, &*xattr.name),
            false => removexattr(held.proc_path(), &*xattr.name),
        };
        if let Err(error) = removed {
            lose(Attribute::Xattr(xattr.name.clone()), format!("it is there and cannot be removed: {error}"));
        }
    }
}

/// Sets everything but flags. Calls `lose` for each attribute that is not as wanted afterwards.
pub fn apply(held: &Held, wanted: &Attributes, owner: (Uid, Gid), lose: &mut dyn FnMut(Attribute, String)) {
    let owner_error = set_owner(held, owner).err();
    for xattr in &wanted.xattrs {
        if let Err(error) = set_xattr(held, xattr) {
            lose(Attribute::Xattr(xattr.name.clone()), error.to_string());
        }
    }
    let before = match stat_open(held) {
        Ok(stat) => stat,
        Err(error) => return lose(Attribute::Mode, error.to_string()),
    };
    let mode = allowed_mode(wanted.mode, &before, owner);
    let mode_error = set_mode(held, &before, mode).err();
    let time_error = set_time(held, wanted).err();
    let Ok(after) = stat_open(held) else { return };
    let mut check = |is_right: bool, attribute: Attribute, error: Option<Errno>, otherwise: &str| {
        if !is_right {
            lose(attribute, error.map_or_else(|| otherwise.to_string(), |error| error.to_string()));
        }
    };
    let kept_other = "the file system keeps another value";
    check(after.uid == owner.0.as_raw(), Attribute::Owner, owner_error, kept_other);
    check(after.gid == owner.1.as_raw(), Attribute::Group, owner_error, kept_other);
    check(after.mtime == wanted.mtime, Attribute::ModificationTime, time_error, kept_other);
    if after.kind != FileType::Symlink {
        let otherwise = if mode == wanted.mode { kept_other } else { "setuid and setgid need the right owner" };
        check(after.mode == wanted.mode, Attribute::Mode, mode_error, otherwise);
    }
}

/// Both, or as an ordinary user at least the group.
fn set_owner(held: &Held, (uid, gid): (Uid, Gid)) -> io::Result<()> {
    let change = |uid| chownat(held, "", uid, Some(gid), AtFlags::EMPTY_PATH);
    change(Some(uid)).inspect_err(|_| {
        let _ = change(None); // Whether that helped is seen afterwards.
    })
}

fn set_xattr(held: &Held, xattr: &Xattr) -> io::Result<()> {
    let set = match held.is_open() {
        true => fsetxattr(held, &*xattr.name, &xattr.value, XattrFlags::empty()),
        false => setxattr(held.proc_path(), &*xattr.name, &xattr.value, XattrFlags::empty()),
    };
    // A label that this user may not set may be there already.
    if set.is_err() && has_xattr(held, xattr) { Ok(()) } else { set }
}

fn has_xattr(held: &Held, xattr: &Xattr) -> bool {
    let mut value = vec![0; xattr.value.len() + 1];
    let length = match held.is_open() {
        true => fgetxattr(held, &*xattr.name, &mut value),
        false => getxattr(held.proc_path(), &*xattr.name, &mut value),
    };
    length.is_ok_and(|length| value[..length] == xattr.value)
}

/// The mode, without the bits that would lend the powers of the wrong owner.
fn allowed_mode(mode: u16, stat: &Stat, owner: (Uid, Gid)) -> u16 {
    let without_user = if stat.uid == owner.0.as_raw() { 0 } else { SETUID };
    let without_group = if stat.gid == owner.1.as_raw() { 0 } else { SETGID };
    mode & !without_user & !without_group
}

fn set_mode(held: &Held, stat: &Stat, mode: u16) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode.into());
    match stat.kind {
        FileType::Symlink => Ok(()),
        _ if held.is_open() => fchmod(held, mode),
        _ => chmodat(CWD, held.proc_path(), mode, AtFlags::empty()),
    }
}

fn set_time(held: &Held, wanted: &Attributes) -> io::Result<()> {
    if wanted.mtime.nanos >= NANOS {
        return Err(Errno::INVAL);
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: wanted.mtime.seconds, tv_nsec: wanted.mtime.nanos.into() },
    };
    utimensat(held, "", &times, AtFlags::EMPTY_PATH)
}
