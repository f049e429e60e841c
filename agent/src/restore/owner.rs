//! Whom a restored entry belongs to on this host.

use super::report::Attribute;
use crate::metadata::NumberCache;
use crate::walk::Shown;
use lifeboat_format::tree::Attributes;
use rustix::fs::{Gid, Uid};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What belonged to one goes to another, as whoever restores wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substitute {
    /// A name or a number of the snapshot.
    was: Vec<u8>,
    /// A number of this host.
    becomes: u32,
}

impl fmt::Display for Substitute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", Shown(&self.was), self.becomes)
    }
}

/// Text that is no substitute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstituteError {
    /// Not of the form `OLD=NEW`.
    #[error("{text:?} is not OLD=NEW, each a name or a number")]
    Form {
        /// What was typed.
        text: String,
    },
    /// Nobody here has that name.
    #[error("there is no {what} {name:?} here")]
    Unknown {
        /// User or group.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Substitute {
    /// Reads `OLD=NEW` for users; OLD is of the snapshot, NEW of this host.
    pub fn user(text: &str) -> Result<Self, SubstituteError> {
        Self::read(text, "user", |numbers, name| numbers.user(name))
    }

    /// The same for groups.
    pub fn group(text: &str) -> Result<Self, SubstituteError> {
        Self::read(text, "group", |numbers, name| numbers.group(name))
    }

    fn read(
        text: &str,
        what: &'static str,
        find: impl Fn(&mut NumberCache, &[u8]) -> Option<u32>,
    ) -> Result<Self, SubstituteError> {
        let parts = text.split_once('=').filter(|(was, becomes)| !was.is_empty() && !becomes.is_empty());
        let (was, name) = parts.ok_or_else(|| SubstituteError::Form { text: text.to_owned() })?;
        let number = name.parse().ok().or_else(|| find(&mut NumberCache::default(), name.as_bytes()));
        let becomes = number.ok_or_else(|| SubstituteError::Unknown { what, name: name.to_owned() })?;
        Ok(Self { was: was.as_bytes().to_vec(), becomes })
    }
}

/// Finds the numbers of owners: by name, since the same name may have another number here.
#[derive(Debug, Default)]
pub struct Owners {
    numbers: Option<Mutex<NumberCache>>,
    users: Vec<Substitute>,
    groups: Vec<Substitute>,
}

/// Who owns an entry here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The numbers that it gets.
    pub ids: (Uid, Gid),
    /// Names that nobody has here, and what was lost with them.
    pub unknown: Vec<(Attribute, String)>,
}

impl Owners {
    /// With `numeric`, numbers are taken as they are. Substitutes come before either.
    pub fn new(numeric: bool, users: Vec<Substitute>, groups: Vec<Substitute>) -> Self {
        Self { numbers: (!numeric).then(Mutex::default), users, groups }
    }

    /// Owner and group of an entry; by number where the name is not known here.
    pub fn of(&self, attributes: &Attributes) -> Owner {
        let mut unknown = Vec::new();
        let user = self.find(&self.users, &attributes.owner, attributes.uid, NumberCache::user);
        let group = self.find(&self.groups, &attributes.group, attributes.gid, NumberCache::group);
        if user.is_none() {
            let why = unknown_name("user", &attributes.owner, attributes.uid, "--owner-map");
            unknown.push((Attribute::Owner, why));
        }
        if group.is_none() {
            let why = unknown_name("group", &attributes.group, attributes.gid, "--group-map");
            unknown.push((Attribute::Group, why));
        }
        let ids = (Uid::from_raw(user.unwrap_or(attributes.uid)), Gid::from_raw(group.unwrap_or(attributes.gid)));
        Owner { ids, unknown }
    }

    /// The number here; none if it has a name that nobody has here.
    fn find(
        &self,
        substitutes: &[Substitute],
        name: &[u8],
        number: u32,
        known: impl Fn(&mut NumberCache, &[u8]) -> Option<u32>,
    ) -> Option<u32> {
        let is_meant = |was: &[u8]| was == name && !name.is_empty() || was == number.to_string().as_bytes();
        if let Some(substitute) = substitutes.iter().find(|substitute| is_meant(&substitute.was)) {
            return Some(substitute.becomes);
        }
        match self.numbers() {
            Some(mut numbers) if !name.is_empty() => known(&mut numbers, name),
            _ => Some(number),
        }
    }

    fn numbers(&self) -> Option<MutexGuard<'_, NumberCache>> {
        self.numbers.as_ref().map(|numbers| numbers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn unknown_name(what: &str, name: &[u8], number: u32, option: &str) -> String {
    let name = Shown(name);
    format!("there is no {what} {name} here, so it belongs to number {number}; {option} {name}=NEW gives it to another")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(owner: &[u8], owners: &Owners) -> (u32, usize) {
        let attributes = Attributes { uid: 4321, gid: 4321, owner: owner.to_vec(), ..Attributes::default() };
        let owner = owners.of(&attributes);
        (owner.ids.0.as_raw(), owner.unknown.len())
    }

    #[test]
    fn an_owner_is_found_by_name_else_by_number_and_said_to_be_unknown() {
        let numbers = |numeric| Owners::new(numeric, Vec::new(), Vec::new());
        assert_eq!(of(b"root", &numbers(false)), (0, 0));
        assert_eq!(of(b"root", &numbers(true)), (4321, 0));
        assert_eq!(of(b"no such user", &numbers(false)), (4321, 1));
        assert_eq!(of(b"no such user", &numbers(true)), (4321, 0));
        assert_eq!(of(b"", &numbers(false)), (4321, 0));
    }

    #[test]
    fn a_substitute_comes_before_name_and_number() {
        let substituted = |text: &str| Owners::new(false, vec![Substitute::user(text).unwrap()], Vec::new());
        assert_eq!(of(b"no such user", &substituted("no such user=root")), (0, 0));
        assert_eq!(of(b"no such user", &substituted("4321=77")), (77, 0));
        assert_eq!(of(b"", &substituted("4321=77")), (77, 0));
        assert_eq!(of(b"root", &substituted("other=77")), (0, 0));
        for text in ["root", "=root", "root=", ""] {
            assert!(matches!(Substitute::user(text), Err(SubstituteError::Form { .. })), "{text}");
        }
        assert!(matches!(Substitute::group("a=no such group"), Err(SubstituteError::Unknown { .. })));
    }
}
