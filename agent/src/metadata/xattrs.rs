//! Extended attributes of every namespace that the process may read: ACLs, capabilities, labels, what users set.

use super::Unread;
use crate::walk::{Held, Shown};
use lifeboat_format::tree::{XATTRS_BYTES_MAX, Xattr};
use rustix::fs::{fgetxattr, flistxattr, getxattr, listxattr};
use rustix::io::{self, Errno};

/// What the first call has room for: enough for nearly every file.
const FIRST_BYTES: usize = 256;
/// The most that the kernel gives, for a list and for a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MOST_BYTES: usize = 64 << 10;

/// What is asked for by name where a file has more names than the kernel lists: all that a user cannot set at will.
const WELL_KNOWN: [&[u8]; 6] = [
    b"security.capability",
    b"security.evm",
    b"security.ima",
    b"security.selinux",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];

/// All that can be read and a snapshot can hold, sorted by name. Those that are lost are one note for each file: their
/// number is for its user to choose.
pub(super) fn read(held: &Held, unread: &mut Vec<Unread>) -> Vec<Xattr> {
    let mut lost = Lost::default();
    let names = match list(held) {
        Ok(names) => names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect(),
        Err(Errno::OPNOTSUPP) => return Vec::new(),
        Err(error @ (Errno::TOOBIG | Errno::RANGE)) => {
            lost.add(|| "extended attributes beyond the well-known ones".to_owned(), error);
            WELL_KNOWN.map(<[u8]>::to_vec).to_vec()
        }
        Err(error) => {
            lost.add(|| "extended attributes".to_owned(), error);
            Vec::new()
        }
    };
    let mut xattrs = take(names, |name| value(held, name), &mut lost);
    xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    unread.extend(lost.into_note());
    xattrs
}

/// The attributes of these names, as long as a snapshot can hold them.
fn take(mut names: Vec<Vec<u8>>, value: impl Fn(&[u8]) -> io::Result<Vec<u8>>, lost: &mut Lost) -> Vec<Xattr> {
    // What users may set comes last, so that it displaces neither ACLs nor capabilities.
    names.sort_unstable_by(|a, b| (a.starts_with(b"user."), a).cmp(&(b.starts_with(b"user."), b)));
    names.dedup();
    let mut xattrs = Vec::new();
    let mut left = XATTRS_BYTES_MAX;
    for (at, name) in names.iter().enumerate() {
        let shown = || format!("extended attribute {}", Shown(name));
        match value(name) {
            Ok(value) => {
                let xattr = Xattr { name: name.clone(), value };
                let Some(rest) = left.checked_sub(xattr.weight()) else {
                    let why = "all of them together may take 1 MiB in a snapshot";
                    lost.add(shown, std::io::Error::other(why));
                    // The values of the others are not even looked at: there may be gigabytes of them.
                    lost.count += names.len() - at - 1;
                    break;
                };
                left = rest;
                xattrs.push(xattr);
            }
            Err(Errno::NODATA) => {} // Removed meanwhile, or never there.
            Err(error) => lost.add(shown, error),
        }
    }
    xattrs
}

/// Attributes that are not kept.
#[derive(Debug, Default)]
struct Lost {
    first: Option<Unread>,
    count: usize,
}

impl Lost {
    fn add(&mut self, attribute: impl FnOnce() -> String, source: impl Into<std::io::Error>) {
        self.count += 1;
        self.first.get_or_insert_with(|| Unread { attribute: attribute(), source: source.into() });
    }

    fn into_note(self) -> Option<Unread> {
        let Unread { attribute, source } = self.first?;
        match self.count {
            0 | 1 => Some(Unread { attribute, source }),
            count => Some(Unread { attribute: format!("{attribute} and {} more", count - 1), source }),
        }
    }
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
                // A value of some hundred bytes would keep room for the largest one.
                room.shrink_to_fit();
                return Ok(room);
            }
        }
    }
    Err(Errno::RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(space: &str, at: usize) -> Vec<u8> {
        format!("{space}.{at:04}").into_bytes()
    }

    #[test]
    fn what_users_set_beyond_the_limit_is_lost_with_a_note_and_acls_stay() {
        let asked = std::cell::Cell::new(0);
        let value = |_: &[u8]| {
            asked.set(asked.get() + 1);
            Ok(vec![7; 60_000])
        };
        let mut names: Vec<_> = (0..5000).map(|at| name("user", at)).collect();
        names.extend([b"zzz.other".to_vec(), b"system.posix_acl_access".to_vec()]);
        let mut lost = Lost::default();
        let kept = take(names, value, &mut lost);
        assert!(kept.iter().map(Xattr::weight).sum::<usize>() <= XATTRS_BYTES_MAX);
        assert_eq!(
            (kept[0].name.as_slice(), kept[1].name.as_slice()),
            (&b"system.posix_acl_access"[..], &b"zzz.other"[..])
        );
        assert_eq!((kept.len(), asked.get()), (17, 18), "no value is read that cannot be kept");
        let note = lost.into_note().unwrap();
        assert_eq!(note.attribute, "extended attribute user.0015 and 4984 more");
    }

    #[test]
    fn one_that_cannot_be_read_costs_no_other() {
        let value = |name: &[u8]| match name {
            b"user.b" => Err(Errno::ACCESS),
            b"user.c" => Err(Errno::NODATA),
            _ => Ok(vec![1]),
        };
        let mut lost = Lost::default();
        let kept = take(
            ["user.a", "user.b", "user.c", "user.d"].map(|name| name.as_bytes().to_vec()).to_vec(),
            value,
            &mut lost,
        );
        assert_eq!(kept.len(), 2);
        assert_eq!(lost.into_note().unwrap().attribute, "extended attribute user.b");
    }
}
