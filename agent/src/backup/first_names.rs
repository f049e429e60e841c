//! What became of the first names of hard links.
//!
//! A later name is a link to the first one and is not read. But the first one is read by a worker, perhaps at this very
//! moment, and may turn out unreadable or gone; then the later name is the file. So who comes upon a later name asks
//! here, and waits until the leaf of the first name is done. Jobs are taken in order, so this never waits in a circle.
//!
//! Where a number is no proof that both are one file, the first name leaves a [`Proof`] here for the later ones.

use super::proof::Proof;
use crate::walk::FirstName;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Lost first names that are remembered, by a hash of their path. If there are more, each later name is read as a file.
const LOST_MAX: usize = 100_000;
/// Proofs that are remembered. If there are more, later names are kept as files of their own.
const PROOFS_MAX: usize = 100_000;

/// Shared by the workers of one pass.
#[derive(Debug, Default)]
pub struct FirstNames {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// All jobs before this one are finished.
    next: u64,
    /// And these after it.
    finished: BTreeSet<u64>,
    lost: HashSet<[u8; 16]>,
    proofs: HashMap<[u8; 16], Proof>,
}

/// A job that is being done; dropped, it is finished, however it ended.
#[derive(Debug)]
pub struct Running<'a> {
    names: &'a FirstNames,
    job: u64,
}

impl FirstNames {
    /// This job is being done.
    pub fn begin(&self, job: u64) -> Running<'_> {
        Running { names: self, job }
    }

    /// An entry with several names is not in the tree.
    pub fn lose(&self, path: &[u8]) {
        let mut state = self.state();
        if state.lost.len() <= LOST_MAX {
            state.lost.insert(short_hash(path));
        }
    }

    /// What later names of this entry have to match.
    pub fn prove(&self, path: &[u8], proof: Proof) {
        let mut state = self.state();
        if state.proofs.len() < PROOFS_MAX {
            state.proofs.insert(short_hash(path), proof);
        }
    }

    /// Whether an entry with this proof, found within the job `own`, is the file of the first name. Waits until that is
    /// known.
    pub fn is_same(&self, first: &FirstName, proof: Proof, own: u64) -> bool {
        !self.is_lost(first, own) && self.state().proofs.get(&short_hash(&first.path)) == Some(&proof)
    }

    /// Whether this first name is not in the tree, asked from within the job `own`. Waits until that is known.
    pub fn is_lost(&self, first: &FirstName, own: u64) -> bool {
        let mut state = self.state();
        // The walk may have held the first name back for the leaf after the one that it was on.
        for job in [first.job, first.job + 1].into_iter().filter(|job| *job < own) {
            while !state.is_finished(job) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.lost.len() > LOST_MAX || state.lost.contains(&short_hash(&first.path))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_finished(&self, job: u64) -> bool {
        job < self.next || self.finished.contains(&job)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.names.state();
        let State { next, finished, .. } = &mut *state;
        finished.insert(self.job);
        while finished.remove(next) {
            *next += 1;
        }
        drop(state);
        self.names.changed.notify_all();
    }
}

fn short_hash(path: &[u8]) -> [u8; 16] {
    let hash = *blake3::hash(path).as_bytes();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    fn first(job: u64) -> FirstName {
        FirstName { path: b"first".to_vec(), job }
    }

    #[test]
    fn the_fate_of_a_first_name_is_waited_for_and_within_one_job_known_at_once() {
        let names = FirstNames::default();
        let jobs = [0, 1, 2].map(|job| names.begin(job));
        assert!(!names.is_lost(&first(5), 5), "the same job");
        thread::scope(|scope| {
            let later = scope.spawn(|| names.is_lost(&first(1), 9));
            thread::sleep(Duration::from_millis(30));
            assert!(!later.is_finished());
            names.lose(b"first");
            let [zero, one, two] = jobs;
            drop(two);
            thread::sleep(Duration::from_millis(30));
            assert!(!later.is_finished(), "job 1 is still being done");
            drop(one);
            assert!(later.join().unwrap());
            drop(zero);
        });
        let state = names.state();
        assert_eq!((state.next, state.finished.len()), (3, 0));
        drop(state);
        assert!(!names.is_lost(&FirstName { path: b"other".to_vec(), job: 0 }, 9));
    }

    #[test]
    fn a_later_name_is_a_link_only_to_a_first_one_of_the_same_proof() {
        let names = FirstNames::default();
        names.prove(b"first", [1; 16]);
        assert!(names.is_same(&first(0), [1; 16], 0));
        assert!(!names.is_same(&first(0), [2; 16], 0));
        assert!(!names.is_same(&FirstName { path: b"other".to_vec(), job: 0 }, [1; 16], 0));
        names.lose(b"first");
        assert!(!names.is_same(&first(0), [1; 16], 0));
    }

    #[test]
    fn of_too_many_none_is_relied_on() {
        let names = FirstNames::default();
        (0..=LOST_MAX as u64).for_each(|at| names.lose(&at.to_le_bytes()));
        assert!(names.is_lost(&first(0), 0));
    }
}
