//! Extended attributes of every namespace that the process may read: ACLs, capabilities, labels, what users set.

use super::Unread;
use crate::walk::{Held, Shown};
use lifeboat_format::tree::Xattr;
use rustix::fs::{fgetxattr, flistxattr, getxattr, listxattr};
use rustix::io::{self, Errno};

/// What the first call has room for: enough for nearly every file.
const FIRST_BYTES: usize = 256;
/// The most that the kernel gives, for a list and for a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MOST_BYTES: usize = 64 << 10;

/// All that can be read, sorted by name.
pub(super) fn read(held: &Held, unread: &mut Vec<Unread>) -> Vec<Xattr> {
    let names = match list(held) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Vec::new(),
        Err(error) => {
            unread.push(Unread { attribute: "extended attributes".into(), source: error.into() });
            return Vec::new();
        }
    };
    let mut xattrs = Vec::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        match value(held, name) {
            Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
            Err(Errno::NODATA) => {} // Removed meanwhile.
            Err(error) => {
                let attribute = format!("extended attribute {}", Shown(name));
                unread.push(Unread { attribute, source: error.into() });
            }
        }
    }
    xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|a, b| a.name == b.name);
    xattrs
}

fn list(held: &Held) -> io::Result<Vec<u8>> {
    with_room(|room| match held.is_open() {
        true => flistxattr(held, room),
        false => listxattr(held.proc_path(), room),
    })
}

fn value(held: &Held, name: &[u8]) -> io::Result<Vec<u8>> {
    with_room(|room| match held.is_open() {
        true => fgetxattr(held, name, room),
        false => getxattr(held.proc_path(), name, room),
    })
}

/// Calls with a little room, and when that is too little with the most there can be.
fn with_room(mut call: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Vec<u8>> {
    for bytes in [FIRST_BYTES, MOST_BYTES] {
        let mut room = vec![0; bytes];
        match call(&mut room) {
            Err(Errno::RANGE) if bytes < MOST_BYTES => {}
            result => {
                room.truncate(result?);
                return Ok(room);
            }
        }
    }
    Err(Errno::RANGE)
}
