//! Names of users and groups, and back, remembered: to ask costs a search through `/etc/passwd`, or the network.

use lifeboat_format::tree::{Attributes, LABEL_BYTES_MAX};
use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

/// How many answers are remembered; then all are forgotten, so that memory has a bound.
const REMEMBERED: usize = 4096;

/// Numbers to names. An owner without a name has an empty one.
#[derive(Debug, Default)]
pub struct NameCache {
    users: HashMap<u32, Option<Vec<u8>>>,
    groups: HashMap<u32, Option<Vec<u8>>>,
}

impl NameCache {
    /// The name of a user.
    pub fn user(&mut self, uid: u32) -> Vec<u8> {
        self.known_user(uid).clone().unwrap_or_default()
    }

    /// The name of a group.
    pub fn group(&mut self, gid: u32) -> Vec<u8> {
        self.known_group(gid).clone().unwrap_or_default()
    }

    /// Gives an entry the names that its owner and its group have now; says whether they were others. Where nobody can be
    /// asked, as while a directory service is down, the names stay.
    pub fn refresh(&mut self, attributes: &mut Attributes) -> bool {
        let is_new = |known: &Option<Vec<u8>>, name: &mut Vec<u8>| match known {
            Some(known) if known != name => {
                name.clone_from(known);
                true
            }
            _ => false,
        };
        let owner = is_new(self.known_user(attributes.uid), &mut attributes.owner);
        let group = is_new(self.known_group(attributes.gid), &mut attributes.group);
        owner || group
    }

    /// None if it cannot be found out.
    fn known_user(&mut self, uid: u32) -> &Option<Vec<u8>> {
        remember(&mut self.users, uid, |uid| {
            let user = User::from_uid(Uid::from_raw(*uid)).ok()?;
            Some(kept(user.map(|user| user.name.into_bytes())))
        })
    }

    fn known_group(&mut self, gid: u32) -> &Option<Vec<u8>> {
        remember(&mut self.groups, gid, |gid| {
            let group = Group::from_gid(Gid::from_raw(*gid)).ok()?;
            Some(kept(group.map(|group| group.name.into_bytes())))
        })
    }
}

/// A name that a snapshot can hold; empty for none.
fn kept(name: Option<Vec<u8>>) -> Vec<u8> {
    name.filter(|name| name.len() <= LABEL_BYTES_MAX).unwrap_or_default()
}

/// Names to the numbers that they have on this host.
#[derive(Debug, Default)]
pub struct NumberCache {
    users: HashMap<Vec<u8>, Option<u32>>,
    groups: HashMap<Vec<u8>, Option<u32>>,
}

impl NumberCache {
    /// The number of a user; None if there is none of that name.
    pub fn user(&mut self, name: &[u8]) -> Option<u32> {
        *remember(&mut self.users, name.to_vec(), |name| {
            Some(User::from_name(str::from_utf8(name).ok()?).ok()??.uid.as_raw())
        })
    }

    /// The number of a group; None if there is none of that name.
    pub fn group(&mut self, name: &[u8]) -> Option<u32> {
        *remember(&mut self.groups, name.to_vec(), |name| {
            Some(Group::from_name(str::from_utf8(name).ok()?).ok()??.gid.as_raw())
        })
    }
}

fn remember<Question: Eq + Hash, Answer>(
    answers: &mut HashMap<Question, Answer>,
    question: Question,
    ask: impl FnOnce(&Question) -> Answer,
) -> &Answer {
    if answers.len() >= REMEMBERED && !answers.contains_key(&question) {
        answers.clear();
    }
    match answers.entry(question) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => {
            let answer = ask(unknown.key());
            unknown.insert(answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_of_root_are_known_and_others_are_empty() {
        let (mut names, mut numbers) = (NameCache::default(), NumberCache::default());
        assert_eq!((names.user(0), names.group(0)), (b"root".to_vec(), b"root".to_vec()));
        assert_eq!((numbers.user(b"root"), numbers.group(b"root")), (Some(0), Some(0)));
        assert_eq!((names.user(3_999_999_999), names.group(3_999_999_999)), (Vec::new(), Vec::new()));
        assert_eq!((numbers.user(b"no such user"), numbers.group(b"\xff")), (None, None));
    }

    #[test]
    fn names_of_an_unchanged_entry_become_those_of_now() {
        let mut names = NameCache::default();
        let refreshed = |names: &mut NameCache, uid, owner: &[u8], group: &[u8]| {
            let (owner, group) = (owner.to_vec(), group.to_vec());
            let mut attributes = Attributes { uid, gid: 0, owner, group, ..Attributes::default() };
            let is_new = names.refresh(&mut attributes);
            (is_new, attributes.owner, attributes.group)
        };
        let (root, none) = (b"root".to_vec(), Vec::new());
        assert_eq!(refreshed(&mut names, 0, b"root", b"root"), (false, root.clone(), root.clone()));
        assert_eq!(refreshed(&mut names, 0, b"admin", b"root"), (true, root.clone(), root.clone()));
        assert_eq!(refreshed(&mut names, 0, b"root", b""), (true, root.clone(), root.clone()));
        assert_eq!(refreshed(&mut names, 3_999_999_999, b"gone", b"root"), (true, none.clone(), root.clone()));
        names.users.insert(7, None);
        assert_eq!(refreshed(&mut names, 7, b"ldap", b"root"), (false, b"ldap".to_vec(), root));
        assert_eq!(names.user(7), none, "a new entry goes without");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut answers = HashMap::new();
        for question in 0..3 * REMEMBERED {
            assert_eq!(*remember(&mut answers, question, |question| question + 1), question + 1);
            assert!(answers.len() <= REMEMBERED);
        }
    }
}
