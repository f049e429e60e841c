//! How far a restore has come, for whoever shows it; and whether it is to go on.

use lifeboat_proto::status::{ErrorClass, Failure};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counts that any thread may read while the restore runs.
#[derive(Debug, Default)]
pub struct Progress {
    files: AtomicU64,
    written: AtomicU64,
    reused: AtomicU64,
    fetched: AtomicU64,
    stop: AtomicBool,
}

impl Progress {
    /// Asks the restore to end soon. What it has written stays, and another one goes on there.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A failure if it was asked to end.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match self.is_stopped() {
            true => Err(Failure::new(ErrorClass::Busy, "the restore was stopped before its end")
                .hint("what was restored stays, and the same restore goes on where it was")),
            false => Ok(()),
        }
    }

    /// A file is what it should be.
    pub(super) fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// So much content was written.
    pub(super) fn wrote(&self, bytes: u64) {
        add(&self.written, bytes);
    }

    /// So much content was there already.
    pub(super) fn reused(&self, bytes: u64) {
        add(&self.reused, bytes);
    }

    /// Chunks of so much content were fetched.
    pub(super) fn fetched(&self, bytes: u64) {
        add(&self.fetched, bytes);
    }

    /// Files with content that are what they should be.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes of content that are in their place: written, or there before.
    pub fn bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed).saturating_add(self.reused_bytes())
    }

    /// Bytes of content that were there before.
    pub fn reused_bytes(&self) -> u64 {
        self.reused.load(Ordering::Relaxed)
    }

    /// Bytes of the chunks that were fetched, before compression. Of a small file the whole bundle is fetched.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }
}

/// Sizes come from snapshots: a few sparse files together can have more bytes than a number of 64 bits holds (INV-9).
fn add(to: &AtomicU64, bytes: u64) {
    let sum = |sum: u64| Some(sum.saturating_add(bytes));
    let _ = to.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_09_files_of_more_than_64_bits_of_content_have_a_total() {
        let progress = Progress::default();
        (0..3).for_each(|_| progress.wrote(i64::MAX as u64));
        (0..3).for_each(|_| progress.reused(i64::MAX as u64));
        assert_eq!((progress.bytes(), progress.reused_bytes()), (u64::MAX, u64::MAX));
    }
}
