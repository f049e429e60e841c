//! What a backup could not read: each named, with the reason (INV-17).

use std::sync::{Mutex, PoisonError};

/// How many gaps are remembered by name; more are counted.
const NAMED_MAX: usize = 10_000;

/// Gaps of one backup, collected by all its threads.
#[derive(Debug, Default)]
pub struct Gaps(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    named: Vec<(Vec<u8>, String)>,
}

impl Gaps {
    /// Something below the source that is not in the snapshot as it should be, and why.
    pub fn add(&self, path: &[u8], reason: impl Into<String>) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.count += 1;
        if inner.named.len() < NAMED_MAX {
            inner.named.push((path.to_vec(), reason.into()));
        }
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
