//! What another thread sees of a start that reads a long journal, and how it ends it early.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Shared by the thread that opens a repository and the one that waits for it. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    is_stopped: AtomicBool,
    batches: AtomicU64,
    packs: AtomicU64,
    packs_total: AtomicU64,
}

/// The start was told to end before it was complete. Nothing is wrong with the repository.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the start was ended before it was complete")]
pub struct Interrupted;

impl Watch {
    /// Ends the start: it fails with [`Interrupted`] at the next batch or pack.
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
    }

    /// An error if the start should end.
    pub fn check(&self) -> Result<(), Interrupted> {
        match self.0.is_stopped.load(Ordering::Relaxed) {
            true => Err(Interrupted),
            false => Ok(()),
        }
    }

    /// This batch is read next.
    pub(crate) fn batch(&self, number: u64) -> Result<(), Interrupted> {
        self.0.batches.store(number, Ordering::Relaxed);
        self.check()
    }

    /// `done` of all `total` packs were examined.
    pub(crate) fn packs(&self, done: u64, total: u64) -> Result<(), Interrupted> {
        self.0.packs.store(done, Ordering::Relaxed);
        self.0.packs_total.store(total, Ordering::Relaxed);
        self.check()
    }

    /// How far the start is, for people.
    pub fn status(&self) -> String {
        let [batches, packs, total] =
            [&self.0.batches, &self.0.packs, &self.0.packs_total].map(|count| count.load(Ordering::Relaxed));
        match (batches, total) {
            (0, _) => "opening the repository".to_owned(),
            (batch, 0) => format!("opening: reading journal batch {batch}"),
            _ => format!("opening: filling the index, {packs} of {total} packs"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_is_stopped_ends_at_the_next_batch_or_pack() {
        let watch = Watch::default();
        assert_eq!(watch.status(), "opening the repository");
        assert!(watch.batch(7).is_ok());
        assert_eq!(watch.status(), "opening: reading journal batch 7");
        assert!(watch.packs(1, 3).is_ok());
        assert_eq!(watch.status(), "opening: filling the index, 1 of 3 packs");
        watch.clone().stop();
        assert!(watch.check().is_err() && watch.batch(8).is_err() && watch.packs(2, 3).is_err());
    }
}
