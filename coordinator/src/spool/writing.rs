//! The thread that owns one open pack: writes records into its temporary file, and hands it on when it is closed.
//!
//! A pack is named by what it holds. So what is sent again after a loss could get the name of the very pack in which it
//! was lost, whose bytes nobody can change. A pack that would be called like one that is lost, in part or whole, or
//! dead, gets its last record once more, which makes it another one (INV-15). So does a pack of second copies whose name is
//! taken: what is in that pack already needs a place in another one (INV-79).

use super::{Append, Order, Ticket};
use crate::index::rebuild::read_footer;
use crate::shared::Shared;
use crate::store::{ByteRange, ObjectName, Spooled, StoreError};
use lifeboat_format::journal::event::Holds;
use lifeboat_format::pack::{Finished, FooterRecord, PackWriteError, PackWriter, Record};
use lifeboat_format::sign::SigningKey;
use std::io::{self, BufWriter};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

/// Writes to disk come in pieces of this size.
const PIECE_BYTES: usize = 1 << 20;

/// A pack that is written, to be put.
#[derive(Debug)]
pub(super) struct Closed {
    pub ticket: Ticket,
    pub finished: Finished,
    pub file: Spooled,
}

/// A pack gets another name so many times at most; a disk that fails has none for it.
const NAMES_MAX: u32 = 8;

/// A pack on its way into a temporary file.
struct Open {
    ticket: Ticket,
    pack: PackWriter<BufWriter<Spooled>>,
    last: (Record, Vec<u8>),
}

/// Owns the open pack.
pub(super) struct Writer {
    shared: Arc<Shared>,
    holds: Holds,
    log_key: SigningKey,
    closed: SyncSender<Closed>,
    open: Option<Open>,
    /// The last pack that was thrown away; what still comes for it is dropped.
    failed: Option<Ticket>,
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("cannot make a temporary file")]
    Spool(#[source] StoreError),
    #[error("under {NAMES_MAX} names there is a pack that cannot be read")]
    Names,
    #[error(transparent)]
    Pack(#[from] PackWriteError),
    #[error("cannot write the pack")]
    Io(#[from] io::Error),
    #[error("it was closed without a record")]
    Empty,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, holds: Holds, log_key: &SigningKey, closed: SyncSender<Closed>) -> Self {
        Self { shared, holds, log_key: log_key.clone(), closed, open: None, failed: None }
    }

    /// Takes orders until nobody can give one any more. An open pack is dropped then: it was nobody's promise.
    pub fn work(mut self, orders: &Receiver<Order>) {
        for order in orders {
            let (ticket, done) = match order {
                Order::Append(append) => (append.ticket, self.append(*append)),
                Order::Close(ticket) => (ticket, self.close(ticket)),
            };
            if let Err(error) = done {
                // Never written to again: thrown away, and its runs with it (INV-6).
                self.open = None;
                self.failed = Some(ticket);
                self.shared.throw_away(ticket, &error);
            }
        }
    }

    fn append(&mut self, append: Append) -> Result<(), WriteError> {
        if self.failed == Some(append.ticket) {
            return Ok(());
        }
        let Append { ticket, record, bytes, .. } = append;
        let mut pack = match self.open.take() {
            Some(open) if open.ticket == ticket => open.pack,
            _ => {
                let file = self.shared.store.spool().map_err(WriteError::Spool)?;
                PackWriter::begin(BufWriter::with_capacity(PIECE_BYTES, file))?
            }
        };
        pack.add(&record, &bytes)?;
        self.open = Some(Open { ticket, pack, last: (record, bytes) });
        Ok(())
    }

    fn close(&mut self, ticket: Ticket) -> Result<(), WriteError> {
        if self.failed == Some(ticket) {
            return Ok(());
        }
        let Some(Open { mut pack, last: (record, bytes), .. }) = self.open.take().filter(|open| open.ticket == ticket)
        else {
            return Err(WriteError::Empty);
        };
        let mut names = 0;
        while self.is_name_spoilt(&ObjectName::pack(pack.id()), pack.records()) {
            names += 1;
            if names > NAMES_MAX {
                return Err(WriteError::Names);
            }
            pack.add(&record, &bytes)?;
        }
        let (finished, buffered) = pack.finish(&self.log_key)?;
        let file = buffered.into_inner().map_err(|error| WriteError::Io(error.into_error()))?;
        // Fails only when the other thread has stopped, on the way out.
        let _ = self.closed.send(Closed { ticket, finished, file });
        Ok(())
    }

    /// Whether the pack of this name, which has these records, is dead, has lost some of them, or is there and cannot be
    /// read as a whole; of second copies, whether it is there.
    fn is_name_spoilt(&self, name: &ObjectName, records: &[FooterRecord]) -> bool {
        let Some(id) = name.as_pack() else { return false };
        {
            let state = self.shared.lock();
            let is_lost = |record: &FooterRecord| state.catalog.is_lost(&id, &record.record.target);
            if state.catalog.is_dead(&id) || records.iter().any(is_lost) {
                return true;
            }
        }
        let store = self.shared.store.as_ref();
        if store.size(name).is_err_and(|error| error.is_not_found()) {
            return false;
        }
        if self.holds == Holds::NodeCopies {
            return true;
        }
        let is_whole = |FooterRecord { record, place }: &FooterRecord| {
            let read = store.get(name, ByteRange::At { offset: place.offset, bytes: place.length.into() });
            read.is_ok_and(|bytes| record.digest.matches(&bytes))
        };
        read_footer(store, id, &[self.log_key.verifying_key()]).is_err() || !records.iter().all(is_whole)
    }
}
