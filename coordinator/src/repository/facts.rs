//! Facts: what is written into the journal, and then taken into memory and the index, in this order.

use super::Coordinator;
use crate::catalog::CatalogError;
use crate::index::{IndexError, PackNumber, Seen};
use crate::journal::{Appended, Journal, JournalError};
use crate::shared::{State, Written};
use lifeboat_format::journal::event::AddedPack;
use lifeboat_format::journal::{Act, Batch, Decision, Event, Principal};
use std::ops::Range;

/// Of what became witnessed, so much goes into one batch.
const WITNESSED_MAX: usize = 100_000;
/// An event names so many packs at most, and a batch as many as fit beside the rest.
const PACKS_MAX: usize = 1 << 16;
const _: () = assert!(PACKS_MAX as u64 <= lifeboat_format::layout::LIST_ITEMS_MAX);
const PACKS_IN_BATCH_MAX: usize = 2 * PACKS_MAX;

/// A fact could not be recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FactError {
    /// Not written, or nobody knows.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Written, but not understood: a fault of ours. Restart, and report it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Written, but the index could not follow; a restart makes it.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The thread that was to write it has failed: a fault of ours.
    #[error("nobody knows whether this was recorded; restart the service, and report this")]
    NotAnswered,
    /// There is no batch yet.
    #[error("the journal has no batch yet")]
    NoHead,
}

impl Coordinator {
    /// Records acts, in order, in one batch. On success they are facts, and in the catalog; answers the sequences
    /// that they have.
    pub fn record(&self, acts: Vec<Act>) -> Result<Range<u64>, FactError> {
        self.record_entry(Box::new(acts))?.ok_or(FactError::NotAnswered)
    }

    /// Finds out what became of a batch with unknown outcome, before anything else is decided (INV-6).
    pub(crate) fn settle(&self) -> Result<(), FactError> {
        // Whoever writes just now holds the journal, perhaps for seconds, and nobody needs to wait for that.
        let standing = self.shared.lock().written;
        match standing.is_lost || standing.is_unsettled {
            true => self.settle_with(&mut self.journal()),
            false => Ok(()),
        }
    }

    pub(super) fn settle_with(&self, journal: &mut Journal) -> Result<(), FactError> {
        let settled = journal.settle();
        self.shared.lock().written = Written::of(journal);
        match settled? {
            Some(appended) => self.apply(journal, &appended),
            None => Ok(()),
        }
    }

    /// Appends a batch: first the packs that were put and what was witnessed since the last one, then `acts`, whose
    /// sequences it answers. With nothing to say, nothing is written.
    pub(crate) fn append_with_facts(&self, journal: &mut Journal, acts: Vec<Act>) -> Result<Range<u64>, FactError> {
        loop {
            let witnessed = self.shared.index.witnessed_not_journalled(WITNESSED_MAX)?;
            let packs = self.pending_packs();
            let more = witnessed.len() == WITNESSED_MAX || packs.len() == PACKS_IN_BATCH_MAX;
            let mut batch = self.pending_acts(&packs, &witnessed)?;
            let first = journal.next_sequence() + batch.len() as u64;
            if !more {
                batch.extend(acts.iter().cloned());
            }
            if !batch.is_empty() {
                let appended = journal.append(batch);
                self.shared.lock().written = Written::of(journal);
                self.apply(journal, &appended?)?;
            }
            if !more {
                return Ok(first..journal.next_sequence());
            }
        }
    }

    /// The packs that the next batch names.
    fn pending_packs(&self) -> Vec<AddedPack> {
        let mut packs = self.shared.lock().not_journalled.clone();
        // Two threads put packs, and either may be first: that must not show (INV-19).
        packs.sort_unstable_by_key(|added| added.pack);
        packs.truncate(PACKS_IN_BATCH_MAX);
        packs
    }

    fn pending_acts(&self, packs: &[AddedPack], witnessed: &[(PackNumber, u32)]) -> Result<Vec<Act>, IndexError> {
        let mut events = Vec::new();
        events.extend(packs.chunks(PACKS_MAX).map(|packs| Event::PacksAdded { packs: packs.to_vec() }));
        for of_pack in witnessed.chunk_by(|(a, _), (b, _)| a == b) {
            let pack = self.shared.index.pack_id(of_pack[0].0)?;
            let records = of_pack.iter().map(|(_, record)| *record).collect();
            events.push(Event::Witnessed { pack, records });
        }
        let time_ns = self.shared.clock.now_ns();
        Ok(events.into_iter().map(|event| own_act(time_ns, "keep", event)).collect())
    }

    /// Takes a durable batch into memory and the index.
    fn apply(&self, journal: &Journal, appended: &Appended) -> Result<(), FactError> {
        let number = appended.batch.signed_head().head().number;
        {
            let mut state = self.shared.lock();
            appended.batch.records().iter().try_for_each(|record| state.catalog.apply(record))?;
            let State { not_journalled, catalog, .. } = &mut *state;
            not_journalled.retain(|added| !catalog.knows_pack(&added.pack));
        }
        // In order, also those that the index could not take when they were written.
        let seen = self.shared.index.journal_seen()?.map_or(0, |seen| seen.number);
        for earlier in seen + 1..number {
            self.take_into_index(&journal.batch(earlier)?)?;
        }
        self.take_into_index(&appended.batch)
    }

    fn take_into_index(&self, batch: &Batch) -> Result<(), FactError> {
        let index = &self.shared.index;
        let mut state = self.shared.lock();
        let mut witnessed = Vec::new();
        for record in batch.records() {
            match &record.act.event {
                Event::Witnessed { pack, records } => {
                    let number = index.pack(pack).map(|(number, _)| number);
                    witnessed.extend(number.into_iter().flat_map(|pack| records.iter().map(move |at| (pack, *at))));
                }
                Event::Loss { pack, records } => {
                    index.lose(*pack, records)?;
                    state.distrust_all_homes();
                }
                Event::LossWithdrawn { pack, .. } => {
                    index.set_pack_not_indexed(pack)?;
                    state.distrust_all_homes();
                }
                _ => {}
            }
        }
        index.forget_witnessed(&witnessed)?;
        let number = batch.signed_head().head().number;
        Ok(index.set_journal_seen(Seen { number, hash: batch.signed_head().hash() })?)
    }
}

/// Something that the coordinator does by itself.
pub(super) fn own_act(time_ns: i64, verb: &str, event: Event) -> Act {
    Act {
        time_ns,
        principal: Principal::Coordinator,
        verb: verb.into(),
        object: "repository".into(),
        decision: Decision::Done,
        event,
    }
}
