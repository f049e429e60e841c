//! The thread that makes a closed pack an object, then indexes it, then tells who waits: in this order (INV-2).

use super::Ticket;
use super::writing::Closed;
use crate::index::{BATCH_ROWS, IndexError, PackNumber};
use crate::shared::Shared;
use crate::store::{Body, ObjectName, StoreError};
use lifeboat_format::journal::event::{AddedPack, Holds};
use lifeboat_format::link::Target;
use lifeboat_format::pack::FooterRecord;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Puts packs.
pub(super) struct Sealer {
    shared: Arc<Shared>,
    holds: Holds,
}

#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("cannot put the pack")]
    Put(#[from] StoreError),
    #[error("cannot index the pack")]
    Index(#[from] IndexError),
}

impl Sealer {
    pub fn new(shared: Arc<Shared>, holds: Holds) -> Self {
        Self { shared, holds }
    }

    /// Takes packs until nobody can bring one any more.
    pub fn work(self, closed: &Receiver<Closed>) {
        for pack in closed {
            let ticket = pack.ticket;
            if let Err(error) = self.seal(pack) {
                self.shared.throw_away(ticket, &error);
            }
        }
    }

    fn seal(&self, pack: Closed) -> Result<(), SealError> {
        let Closed { ticket, finished, file } = pack;
        // A name that is taken has the same footer, so the same records: it is the hash of them.
        self.shared.store.put(&ObjectName::pack(finished.id), Body::Spooled(file))?;
        let index = &self.shared.index;
        let number = index.register_pack(finished.id)?;
        for (batch, records) in (0..).zip(finished.records.chunks(BATCH_ROWS)) {
            self.move_rows(ticket, number, batch, records)?;
        }
        index.set_pack_indexed(number, finished.records.len() as u32, finished.bytes)?;
        // One of this name may have been missing; now it is there and whole.
        index.set_readable(&finished.id)?;
        let mut state = self.shared.lock();
        state.not_journalled.push(AddedPack { pack: finished.id, holds: self.holds });
        state.open.finish(ticket);
        state.runs.release(ticket);
        drop(state);
        self.shared.changed.notify_all();
        tracing::debug!(pack = ?finished.id, bytes = finished.bytes, records = finished.records.len(), "sealed");
        Ok(())
    }

    /// From memory into the index. Whoever holds the lock sees a row in one of them at least.
    fn move_rows(
        &self,
        ticket: Ticket,
        number: PackNumber,
        batch: u32,
        records: &[FooterRecord],
    ) -> Result<(), IndexError> {
        let index = &self.shared.index;
        let mut state = self.shared.lock();
        let mut filling = index.fill(number, batch);
        for (record, at) in records.iter().zip(batch * BATCH_ROWS as u32..) {
            let witnessed = match record.record.target {
                Target::Chunk(id) => state.open.take_chunk(ticket, &id, &record.record.digest),
                Target::Node(id) => {
                    state.open.take_node(ticket, &id);
                    None
                }
            };
            let host = witnessed.unwrap_or(record.record.host);
            filling.add(record, at, host)?;
        }
        filling.write()
    }
}
