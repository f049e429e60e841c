//! Collects sealed records in the open packs; makes a pack an object when it is full or a commit asks.
//!
//! A thread owns the open pack for chunks, another the one for nodes, a third the one for second copies of root and inner
//! nodes; one more for each puts the pack that was closed last while the next one fills, at most one at a time. So the
//! packs that a commit waits for are put side by side. Others hand records over; how many bytes may be under way is
//! bounded, so a slow disk slows the agents instead of filling memory. What is in the open packs stands in
//! [`OpenPacks`], under the one lock of [`crate::shared`].
//!
//! # Invariants
//! * Not truth: after a crash or a failed put it is thrown away, and the runs that waited for it are void (INV-6).
//! * Put, then index, then tell who waits. A crash in between leaves bytes that nobody refers to; the other order
//!   would leave a promise without bytes (INV-2, INV-5).

mod budget;
mod open;
mod sealing;
mod writing;

pub use budget::{Budget, Permit};
pub use open::{NODE_PACKS, Offer, OpenBody, OpenNode, OpenPacks, Placed, Ticket, offer};

use crate::shared::Shared;
use lifeboat_format::journal::event::Holds;
use lifeboat_format::pack::Record;
use lifeboat_format::sign::SigningKey;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;

/// The spool has stopped: one of its threads is gone, which only happens on the way out, or by a fault of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is stopping; try again when it is back")]
pub struct Stopped;

/// Sealed bytes on their way into an open pack.
#[derive(Debug)]
pub struct Append {
    /// Which pack, as [`OpenPacks`] placed it.
    pub ticket: Ticket,
    /// What the bytes are; checked by the caller.
    pub record: Record,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Their share of what may be under way.
    pub permit: Permit,
}

/// What a writer is told, in order.
#[derive(Debug)]
enum Order {
    Append(Box<Append>),
    Close(Ticket),
}

/// The way into the open packs. Orders must be given under the lock that holds [`OpenPacks`], in its order.
#[derive(Debug)]
pub struct Spool {
    budget: Budget,
    orders: [Sender<Order>; 3],
}

/// The threads behind a [`Spool`]; they end when it is dropped, and this waits for them.
#[derive(Debug)]
pub struct SpoolThreads(Vec<JoinHandle<()>>);

impl Spool {
    /// Starts the threads. At most `under_way_bytes` are handed over and not yet written.
    pub fn start(
        shared: &Arc<Shared>,
        log_key: &SigningKey,
        under_way_bytes: usize,
    ) -> std::io::Result<(Self, SpoolThreads)> {
        let mut threads = Vec::new();
        let mut start = |holds| -> std::io::Result<Sender<Order>> {
            let (order, orders) = mpsc::channel();
            // Without room for a second one: while a pack is put, the next may fill, and the one after waits.
            let (closed, to_seal) = mpsc::sync_channel(0);
            let writer = writing::Writer::new(shared.clone(), holds, log_key, closed);
            let sealer = sealing::Sealer::new(shared.clone(), holds);
            let named = |what: &str| std::thread::Builder::new().name(format!("{what} {holds:?}"));
            threads.push(named("write").spawn(move || writer.work(&orders))?);
            threads.push(named("seal").spawn(move || sealer.work(&to_seal))?);
            Ok(order)
        };
        let orders = [start(Holds::Chunks)?, start(Holds::Nodes)?, start(Holds::NodeCopies)?];
        Ok((Self { budget: Budget::new(under_way_bytes), orders }, SpoolThreads(threads)))
    }

    /// Waits until so many bytes may be handed over. Never call it with the lock held.
    pub fn reserve(&self, bytes: usize) -> Permit {
        self.budget.reserve(bytes)
    }

    /// Hands a record over.
    pub fn append(&self, holds: Holds, append: Append) -> Result<(), Stopped> {
        self.order(holds, Order::Append(Box::new(append)))
    }

    /// Has the pack made an object, after all records handed over for it.
    pub fn close(&self, holds: Holds, ticket: Ticket) -> Result<(), Stopped> {
        self.order(holds, Order::Close(ticket))
    }

    fn order(&self, holds: Holds, order: Order) -> Result<(), Stopped> {
        let orders = match holds {
            Holds::Chunks => &self.orders[0],
            Holds::Nodes => &self.orders[1],
            Holds::NodeCopies => &self.orders[2],
        };
        orders.send(order).map_err(|_| Stopped)
    }
}

impl SpoolThreads {
    /// Waits for the threads; the [`Spool`] must be dropped.
    pub fn join(self) {
        for thread in self.0 {
            if thread.join().is_err() {
                tracing::error!("a thread of the spool had panicked");
            }
        }
    }
}
