//! Names of users and groups, and back, remembered: to ask costs a search through `/etc/passwd`, or the network.

use nix::unistd::{Gid, Group, Uid, User};
use std::collections::HashMap;
use std::hash::Hash;

/// How many answers are remembered; then all are forgotten, so that memory has a bound.
const REMEMBERED: usize = 4096;

/// Numbers to names. An owner without a name has an empty one.
#[derive(Debug, Default)]
pub struct NameCache {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
}

impl NameCache {
    /// The name of a user.
    pub fn user(&mut self, uid: u32) -> Vec<u8> {
        remember(&mut self.users, uid, |uid| {
            let user = User::from_uid(Uid::from_raw(*uid)).ok().flatten();
            user.map(|user| user.name.into_bytes()).unwrap_or_default()
        })
    }

    /// The name of a group.
    pub fn group(&mut self, gid: u32) -> Vec<u8> {
        remember(&mut self.groups, gid, |gid| {
            let group = Group::from_gid(Gid::from_raw(*gid)).ok().flatten();
            group.map(|group| group.name.into_bytes()).unwrap_or_default()
        })
    }
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
        remember(&mut self.users, name.to_vec(), |name| {
            Some(User::from_name(str::from_utf8(name).ok()?).ok()??.uid.as_raw())
        })
    }

    /// The number of a group; None if there is none of that name.
    pub fn group(&mut self, name: &[u8]) -> Option<u32> {
        remember(&mut self.groups, name.to_vec(), |name| {
            Some(Group::from_name(str::from_utf8(name).ok()?).ok()??.gid.as_raw())
        })
    }
}

fn remember<Question: Eq + Hash, Answer: Clone>(
    answers: &mut HashMap<Question, Answer>,
    question: Question,
    ask: impl FnOnce(&Question) -> Answer,
) -> Answer {
    if let Some(answer) = answers.get(&question) {
        return answer.clone();
    }
    if answers.len() >= REMEMBERED {
        answers.clear();
    }
    let answer = ask(&question);
    answers.insert(question, answer.clone());
    answer
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
    fn what_is_remembered_has_a_bound() {
        let mut answers = HashMap::new();
        for question in 0..3 * REMEMBERED {
            assert_eq!(remember(&mut answers, question, |question| question + 1), question + 1);
            assert!(answers.len() <= REMEMBERED);
        }
    }
}
