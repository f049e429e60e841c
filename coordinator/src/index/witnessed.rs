//! What became witnessed and is not in the journal yet.
//!
//! Each note has the next number as its key, so the notes that wait lie between two known numbers. A search from the
//! prefix on would pass, at each commit, all notes that were ever removed: RocksDB keeps a mark for each removed key until
//! it compacts the table.

use super::packs::missing;
use super::tables::META;
use super::{Changes, Index, IndexError, PackNumber};
use rocksdb::{IteratorMode, ReadOptions};
use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

const WITNESSED: &[u8] = b"witnessed/";

/// The numbers of the notes that wait: from `first` on, below `next`. Some between them may be gone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waiting {
    first: u64,
    next: u64,
}

/// A record of a pack.
type Witnessed = (PackNumber, u32);

impl Index {
    /// Notes that a record became witnessed, until the journal has it. The caller holds the lock until the changes are
    /// written.
    pub fn note_witnessed(&self, changes: &mut Changes, pack: PackNumber, record: u32) -> Result<(), IndexError> {
        let mut waiting = self.waiting();
        let value = [pack.0.to_be_bytes().as_slice(), &record.to_be_bytes()].concat();
        changes.0.put_cf(self.table(META)?, key(waiting.next), value);
        waiting.next += 1;
        Ok(())
    }

    /// What became witnessed and is not in the journal yet, by pack and record: of the oldest notes, at most `limit`.
    pub fn witnessed_not_journalled(&self, limit: usize) -> Result<Vec<Witnessed>, IndexError> {
        let waiting = *self.waiting();
        let mut noted = Vec::new();
        self.each_note(waiting, |_, witnessed| {
            noted.push(witnessed);
            noted.len() < limit
        })?;
        noted.sort_unstable();
        Ok(noted)
    }

    /// The journal has these now. The caller holds the lock under which notes are made.
    pub fn forget_witnessed(&self, journalled: &[Witnessed]) -> Result<(), IndexError> {
        let mut left: HashSet<&Witnessed> = journalled.iter().collect();
        if left.is_empty() {
            return Ok(());
        }
        let mut waiting = self.waiting();
        let (table, mut changes) = (self.table(META)?, Changes::default());
        let (mut first_kept, mut beyond) = (None, waiting.first);
        self.each_note(*waiting, |number, witnessed| {
            match left.remove(&witnessed) {
                true => changes.0.delete_cf(table, key(number)),
                false => first_kept = first_kept.or(Some(number)),
            }
            beyond = number + 1;
            !left.is_empty()
        })?;
        self.write(changes)?;
        waiting.first = first_kept.unwrap_or(beyond);
        Ok(())
    }

    pub(super) fn load_waiting(&self) -> Result<Waiting, IndexError> {
        let (mut first, mut next) = (None, 0);
        self.each_note(Waiting { first: 0, next: u64::MAX }, |number, _| {
            first = first.or(Some(number));
            next = number + 1;
            true
        })?;
        Ok(Waiting { first: first.unwrap_or(0), next })
    }

    /// Every note that waits, by its number, until `visit` answers `false`.
    fn each_note(&self, waiting: Waiting, mut visit: impl FnMut(u64, Witnessed) -> bool) -> Result<(), IndexError> {
        let mut options = ReadOptions::default();
        options.set_iterate_range(key(waiting.first)..key(waiting.next));
        for row in self.database.iterator_cf_opt(self.table(META)?, options, IteratorMode::Start) {
            let (key, value) = row.map_err(self.failed("read"))?;
            let wrong = || missing("a witnessed record");
            let number = key[WITNESSED.len()..].try_into().map(u64::from_be_bytes).map_err(|_| wrong())?;
            let (pack, record) = value.split_first_chunk::<8>().ok_or_else(wrong)?;
            let record = record.try_into().map(u32::from_be_bytes).map_err(|_| wrong())?;
            if !visit(number, (PackNumber(u64::from_be_bytes(*pack)), record)) {
                break;
            }
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(number: u64) -> Vec<u8> {
    [WITNESSED, &number.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::IndexMemory;
    use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};

    fn open(path: &std::path::Path) -> Index {
        Index::open(path, IndexMemory::SMALL).unwrap()
    }

    fn note(index: &Index, records: &[Witnessed]) {
        let mut changes = Changes::default();
        records.iter().for_each(|(pack, record)| index.note_witnessed(&mut changes, *pack, *record).unwrap());
        index.write(changes).unwrap();
    }

    fn records(pack: u64, of: std::ops::Range<u32>) -> Vec<Witnessed> {
        of.map(|record| (PackNumber(pack), record)).collect()
    }

    #[test]
    fn what_the_journal_has_waits_no_longer_in_whatever_order_it_came() {
        let directory = tempfile::tempdir().unwrap();
        let index = open(directory.path());
        assert_eq!(index.witnessed_not_journalled(9).unwrap(), []);
        note(&index, &records(7, 0..3));
        note(&index, &records(2, 5..7));
        let all = [records(2, 5..7), records(7, 0..3)].concat();
        assert_eq!(index.witnessed_not_journalled(9).unwrap(), all);
        assert_eq!(index.witnessed_not_journalled(3).unwrap(), records(7, 0..3), "the oldest first");
        index.forget_witnessed(&[all[4], all[0]]).unwrap();
        assert_eq!(index.witnessed_not_journalled(9).unwrap(), [all[1], all[2], all[3]]);
        drop(index);
        let index = open(directory.path());
        assert_eq!(index.witnessed_not_journalled(9).unwrap(), [all[1], all[2], all[3]], "after a restart");
        note(&index, &records(1, 0..1));
        index.forget_witnessed(&all).unwrap();
        assert_eq!(index.witnessed_not_journalled(9).unwrap(), records(1, 0..1));
        index.forget_witnessed(&records(1, 0..1)).unwrap();
        assert_eq!(index.witnessed_not_journalled(9).unwrap(), []);
    }

    #[test]
    fn a_commit_does_not_pass_what_was_removed_before() {
        let directory = tempfile::tempdir().unwrap();
        let index = open(directory.path());
        let passed = |index: &Index| {
            set_perf_stats(PerfStatsLevel::EnableCount);
            let mut context = PerfContext::default();
            context.reset();
            assert_eq!(index.witnessed_not_journalled(9).unwrap(), records(9, 0..1));
            context.metric(PerfMetric::InternalDeleteSkippedCount)
        };
        note(&index, &records(4, 0..5000));
        index.forget_witnessed(&records(4, 0..5000)).unwrap();
        note(&index, &records(9, 0..1));
        assert_eq!(passed(&index), 0);
        index.forget_witnessed(&records(9, 0..1)).unwrap();
        drop(index);
        let index = open(directory.path());
        note(&index, &records(9, 0..1));
        assert!(passed(&index) <= 1, "numbers begin again, and what lies beyond the last is not looked at");
    }
}
