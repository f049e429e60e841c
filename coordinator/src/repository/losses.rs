//! What becomes of a pack that cannot be read (INV-72).
//!
//! A problem that somebody meets while reading makes the pack *unreadable*: its rows stay, hosts send again what is in
//! it, snapshots that need it give no homes. It is looked at again now and then, and counts again once it can be read.
//! Only `verify`, which reads the pack as a whole and a second time, records that something is *lost*; the rows go then,
//! and come back when the bytes do.
//!
//! A loss is one of a record in a pack. It is recorded also where another pack holds the same chunk or node, so that the
//! bad place stays known after the index was lost; but a snapshot is damaged only where no good place is left.

use super::Coordinator;
use super::facts::{FactError, own_act};
use crate::index::rebuild::read_footer;
use crate::index::{BATCH_ROWS, IndexError, PackNumber, Place, Unreadable};
use lifeboat_format::id::{ChunkId, NodeId, PackId};
use lifeboat_format::journal::Event;
use lifeboat_format::link::Target;
use lifeboat_format::pack::{Footer, FooterRecord};
use std::time::Duration;

/// Loss events hold at most so many records each.
const RECORDS_MAX: usize = 1 << 16;
/// What cannot be read is looked at again after this time.
const RECHECK_EVERY: Duration = Duration::from_secs(60);
/// Then so many packs at most are read as a whole, and it ends after so many that still cannot be read.
const RECHECKED_MAX: usize = 8;

/// Whether losses are recorded or withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Lost,
    Returned,
}

impl Coordinator {
    /// Somebody could not read something in this pack, twice.
    pub(crate) fn note_unreadable(&self, pack: PackId, why: &str) -> Result<(), IndexError> {
        let unreadable = match self.footer_of(pack) {
            Some(_) => Unreadable::Records(why.to_owned()),
            None => Unreadable::Object(why.to_owned()),
        };
        self.set_unreadable(pack, unreadable)
    }

    pub(super) fn set_unreadable(&self, pack: PackId, unreadable: Unreadable) -> Result<(), IndexError> {
        if self.shared.index.set_unreadable(pack, unreadable)? {
            self.shared.lock().distrust_all_homes();
        }
        Ok(())
    }

    /// The pack can be read. If its rows are not in the index, they are filled in.
    pub(super) fn set_readable(&self, pack: PackId, footer: &Footer, bytes: u64) -> Result<(), IndexError> {
        if self.shared.index.set_readable(&pack)? {
            self.shared.lock().distrust_all_homes();
        }
        match self.shared.index.pack(&pack) {
            Some((_, entry)) if entry.indexed => Ok(()),
            _ => self.fill_rows(pack, footer, bytes),
        }
    }

    fn footer_of(&self, pack: PackId) -> Option<(Footer, u64)> {
        let log_keys = self.journal().log_keys().to_vec();
        read_footer(self.shared.store.as_ref(), pack, &log_keys).ok()
    }

    /// Looks again at packs that could not be read, now and then.
    pub(super) fn recheck_unreadable(&self) -> Result<(), IndexError> {
        let unreadable = self.shared.index.unreadable()?;
        if unreadable.is_empty() || !self.is_recheck_due() {
            return Ok(());
        }
        let (mut read, mut failed) = (0, 0);
        for (pack, before) in unreadable {
            let footer = match before {
                Unreadable::Object(_) => self.footer_of(pack),
                Unreadable::Records(_) if read == RECHECKED_MAX => None,
                Unreadable::Records(_) => {
                    read += 1;
                    self.footer_of(pack)
                        .filter(|(footer, _)| self.look_at_records(pack, footer, &mut |_| {}).is_whole())
                }
            };
            match footer {
                Some((footer, bytes)) => self.set_readable(pack, &footer, bytes)?,
                None => failed += 1,
            }
            if failed == RECHECKED_MAX {
                break;
            }
        }
        Ok(())
    }

    fn is_recheck_due(&self) -> bool {
        let now = self.shared.clock.monotonic();
        let mut last = self.rechecked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = last.is_none_or(|last| now.saturating_sub(last) >= RECHECK_EVERY);
        if is_due {
            *last = Some(now);
        }
        is_due
    }

    /// Records that these records of a pack are lost, or are there again.
    pub(super) fn record_fate(&self, pack: PackId, records: &[Target], fate: Fate) -> Result<(), FactError> {
        let time_ns = self.shared.clock.now_ns();
        for records in records.chunks(RECORDS_MAX) {
            let records = records.to_vec();
            self.record(vec![match fate {
                Fate::Lost => own_act(time_ns, "lose", Event::Loss { pack, records }),
                Fate::Returned => own_act(time_ns, "find", Event::LossWithdrawn { pack, records }),
            }])?;
        }
        Ok(())
    }

    /// Fills in the rows of a pack from its footer, but for what is lost.
    pub(super) fn fill_rows(&self, pack: PackId, footer: &Footer, bytes: u64) -> Result<(), IndexError> {
        let number = self.shared.index.register_pack(pack)?;
        for (batch, records) in (0..).zip(footer.records.chunks(BATCH_ROWS)) {
            self.fill_batch(pack, number, batch, records)?;
        }
        self.shared.index.set_pack_indexed(number, footer.records.len() as u32, bytes)
    }

    fn fill_batch(
        &self,
        pack: PackId,
        number: PackNumber,
        batch: u32,
        records: &[FooterRecord],
    ) -> Result<(), IndexError> {
        let state = self.shared.lock();
        let mut filling = self.shared.index.fill(number, batch);
        for (record, at) in records.iter().zip(batch * BATCH_ROWS as u32..) {
            if !state.catalog.is_lost(&pack, &record.record.target) {
                filling.add(record, at, record.record.host)?;
            }
        }
        filling.write()
    }

    /// Compares the rows with a footer, and mends those that are missing or lead elsewhere: that is a fault of the index
    /// and no damage.
    pub(super) fn mend_rows(&self, pack: PackId, footer: &Footer) -> Result<(), IndexError> {
        let Some((number, _)) = self.shared.index.pack(&pack) else { return Ok(()) };
        for (batch, records) in (0..).zip(footer.records.chunks(BATCH_ROWS)) {
            let wrong = self.wrong_rows(pack, number, footer, records)?;
            if !wrong.is_empty() {
                tracing::error!(%pack, rows = wrong.len(), "rows of the index did not match the pack and were mended");
                self.shared.index.lose(pack, &wrong)?;
                self.fill_batch(pack, number, batch, records)?;
                self.shared.lock().distrust_all_homes();
            }
        }
        Ok(())
    }

    /// The records whose rows do not name their place in this pack.
    fn wrong_rows(
        &self,
        pack: PackId,
        number: PackNumber,
        footer: &Footer,
        records: &[FooterRecord],
    ) -> Result<Vec<Target>, IndexError> {
        let index = &self.shared.index;
        let targets: Vec<Target> = {
            let state = self.shared.lock();
            let targets = records.iter().map(|record| record.record.target);
            targets.filter(|target| !state.catalog.is_lost(&pack, target)).collect()
        };
        let (chunks, nodes): (Vec<ChunkId>, Vec<NodeId>) = split_targets(&targets);
        let is_right = |target: Target, place: &Place| {
            let named = footer.records.get(place.record as usize);
            place.pack == number
                && named.is_some_and(|named| {
                    named.record.target == target
                        && named.place.offset == u64::from(place.offset)
                        && named.place.length == place.sealed_bytes
                })
        };
        let mut wrong = Vec::new();
        for (id, row) in chunks.iter().zip(index.chunks(&chunks)?) {
            let places = row.iter().flat_map(|row| &row.bodies).map(|body| &body.place);
            wrong.extend(
                is_wrong(places, number, |place| is_right(Target::Chunk(*id), place)).then_some(Target::Chunk(*id)),
            );
        }
        for (id, row) in nodes.iter().zip(index.nodes(&nodes)?) {
            let places = row.iter().flat_map(|row| &row.places);
            wrong.extend(
                is_wrong(places, number, |place| is_right(Target::Node(*id), place)).then_some(Target::Node(*id)),
            );
        }
        Ok(wrong)
    }

    /// What the rows say is in these packs: one pass over the index.
    pub(super) fn rows_in(&self, pack: PackNumber) -> Result<Vec<Target>, IndexError> {
        let mut targets = Vec::new();
        self.shared.index.each_chunk(|id, row| {
            targets.extend(row.bodies.iter().any(|body| body.place.pack == pack).then_some(Target::Chunk(id)));
            true
        })?;
        self.shared.index.each_node(|id, row| {
            targets.extend(row.places.iter().any(|place| place.pack == pack).then_some(Target::Node(id)));
            true
        })?;
        Ok(targets)
    }
}

/// None of the places in this pack is right, or one is not.
fn is_wrong<'p>(places: impl Iterator<Item = &'p Place>, pack: PackNumber, is_right: impl Fn(&Place) -> bool) -> bool {
    let mut in_pack = places.filter(|place| place.pack == pack).peekable();
    in_pack.peek().is_none() || !in_pack.all(is_right)
}

fn split_targets(targets: &[Target]) -> (Vec<ChunkId>, Vec<NodeId>) {
    let (mut chunks, mut nodes) = (Vec::new(), Vec::new());
    for target in targets {
        match target {
            Target::Chunk(id) => chunks.push(*id),
            Target::Node(id) => nodes.push(*id),
        }
    }
    (chunks, nodes)
}
