//! What a backup could not read: each named, with the reason, and with what became of it (INV-17).
//!
//! A reason begins with `left out: ` if the path, or what is in the directory, is not in the snapshot, and with `kept: ` if
//! it is, though not as it stands on disk: perhaps with parts of different moments, or without an attribute.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

/// How many gaps are remembered by name; more are counted.
const NAMED_MAX: usize = 10_000;

/// Gaps of one backup, collected by all its threads.
#[derive(Debug, Default)]
pub struct Gaps(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    left_out: u64,
    named: Vec<(Vec<u8>, String)>,
}

impl Gaps {
    /// Something below the source that is not in the snapshot, and why.
    pub fn add(&self, path: &[u8], reason: impl Display) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.left_out += 1;
        inner.add(path, format!("left out: {reason}"));
    }

    /// Something that is in the snapshot, but not as it stands on disk, and why.
    pub fn add_kept(&self, path: &[u8], reason: impl Display) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(path, format!("kept: {reason}"));
    }

    /// How many of them are not in the snapshot.
    pub fn left_out(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).left_out
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }

    /// Gives each named gap, by path, until `take` has enough.
    pub fn name_all(&self, mut take: impl FnMut(&[u8], &str) -> bool) {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner).named.clone();
        named.sort();
        let _all_taken = named.iter().all(|(path, reason)| take(path, reason));
    }
}

impl Inner {
    fn add(&mut self, path: &[u8], reason: String) {
        self.count += 1;
        if self.named.len() < NAMED_MAX {
            self.named.push((path.to_vec(), reason));
        }
    }
}
