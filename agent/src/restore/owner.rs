//! Whom a restored entry belongs to on this host.

use crate::metadata::NumberCache;
use lifeboat_format::tree::Attributes;
use rustix::fs::{Gid, Uid};
use std::sync::{Mutex, PoisonError};

/// Finds the numbers of owners: by name, since the same name may have another number here.
#[derive(Debug)]
pub struct Owners {
    numbers: Option<Mutex<NumberCache>>,
}

impl Owners {
    /// With `numeric`, numbers are taken as they are.
    pub fn new(numeric: bool) -> Self {
        Self { numbers: (!numeric).then(Mutex::default) }
    }

    /// Owner and group; by number where the name is not known here.
    pub fn of(&self, attributes: &Attributes) -> (Uid, Gid) {
        let (mut uid, mut gid) = (attributes.uid, attributes.gid);
        if let Some(numbers) = &self.numbers {
            let mut numbers = numbers.lock().unwrap_or_else(PoisonError::into_inner);
            if !attributes.owner.is_empty() {
                uid = numbers.user(&attributes.owner).unwrap_or(uid);
            }
            if !attributes.group.is_empty() {
                gid = numbers.group(&attributes.group).unwrap_or(gid);
            }
        }
        (Uid::from_raw(uid), Gid::from_raw(gid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_found_by_name_else_by_number() {
        let of = |owner: &[u8]| Attributes { uid: 4321, gid: 4321, owner: owner.to_vec(), ..Attributes::default() };
        let numbers = |numeric: bool, owner: &[u8]| Owners::new(numeric).of(&of(owner)).0.as_raw();
        assert_eq!(numbers(false, b"root"), 0);
        assert_eq!(numbers(true, b"root"), 4321);
        assert_eq!(numbers(false, b"no such user"), 4321);
        assert_eq!(numbers(false, b""), 4321);
    }
}
