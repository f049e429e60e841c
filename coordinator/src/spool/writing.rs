//! The thread that owns one open pack: writes records into its temporary file, and hands it on when it is closed.

use super::{Append, Order, Ticket};
use crate::shared::Shared;
use crate::store::{Spooled, StoreError};
use lifeboat_format::pack::{Finished, PackWriteError, PackWriter};
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

/// Owns the open pack.
pub(super) struct Writer {
    shared: Arc<Shared>,
    log_key: SigningKey,
    closed: SyncSender<Closed>,
    open: Option<(Ticket, PackWriter<BufWriter<Spooled>>)>,
    /// The last pack that was thrown away; what still comes for it is dropped.
    failed: Option<Ticket>,
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("cannot make a temporary file")]
    Spool(#[from] StoreError),
    #[error(transparent)]
    Pack(#[from] PackWriteError),
    #[error("cannot write the pack")]
    Io(#[from] io::Error),
    #[error("it was closed without a record")]
    Empty,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, log_key: &SigningKey, closed: SyncSender<Closed>) -> Self {
        Self { shared, log_key: log_key.clone(), closed, open: None, failed: None }
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
        let mut pack = match self.open.take() {
            Some((ticket, pack)) if ticket == append.ticket => pack,
            _ => PackWriter::begin(BufWriter::with_capacity(PIECE_BYTES, self.shared.store.spool()?))?,
        };
        pack.add(&append.record, &append.bytes)?;
        self.open = Some((append.ticket, pack));
        Ok(())
    }

    fn close(&mut self, ticket: Ticket) -> Result<(), WriteError> {
        if self.failed == Some(ticket) {
            return Ok(());
        }
        let Some((_, pack)) = self.open.take().filter(|(open, _)| *open == ticket) else {
            return Err(WriteError::Empty);
        };
        let (finished, buffered) = pack.finish(&self.log_key)?;
        let file = buffered.into_inner().map_err(|error| WriteError::Io(error.into_error()))?;
        // Fails only when the other thread has stopped, on the way out.
        let _ = self.closed.send(Closed { ticket, finished, file });
        Ok(())
    }
}
