//! The coordinator's heart, without network and command line: what handlers, tests and simulations call.
//!
//! All calls block; over gRPC they run on threads for blocking work. What a run may do is in [`crate::run`]; this
//! module opens the repository, keeps the facts, and reads back. No store is handed out, so nobody who serves an
//! agent can delete (INV-8).

mod checkpoints;
mod counts;
mod facts;
mod group;
mod losses;
mod open;
mod read;
mod rebuild;
mod runs;
mod salvage;
mod survey;
mod verify;

pub use facts::FactError;
pub(crate) use group::Entry;
pub use open::{Config, OpenError, Parts, create};
pub use read::{Found, ReadError, Stats};
pub use runs::{BeginError, Begun};
pub use verify::{Damage, VerifyError, VerifyProgress, gathered};

use self::checkpoints::Checkpoints;
use self::group::Queue;
use crate::catalog::Catalog;
use crate::index::Harm;
use crate::index::rebuild::CaughtUp;
use crate::journal::Journal;
use crate::shared::Shared;
use crate::spool::{Spool, SpoolThreads};
use lifeboat_format::FormatError;
use lifeboat_format::id::{HostId, RepositoryId, SnapshotNumber};
use lifeboat_format::journal::{SignedHead, Standing};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One open repository, its index, and the runs in it. Dropping it stops the threads; open packs are thrown away.
#[derive(Debug)]
pub struct Coordinator {
    pub(crate) shared: Arc<Shared>,
    config: Config,
    journal: Mutex<Journal>,
    queue: Queue,
    // Taken only when this is dropped: the threads end once the spool is gone.
    spool: Option<Spool>,
    threads: Option<SpoolThreads>,
    caught_up: CaughtUp,
    // Taken before all others, by whoever walks the trees of all snapshots.
    surveying: Mutex<()>,
    // When packs that cannot be read were last looked at again.
    rechecked: Mutex<Option<Duration>>,
    // Taken before all others, to write a checkpoint of the journal.
    checkpoints: Mutex<Checkpoints>,
}

impl Coordinator {
    /// Which repository this is.
    pub fn repository(&self) -> RepositoryId {
        self.config.repository
    }

    /// Asks the catalog. Be brief: everything else waits meanwhile.
    pub fn catalog<T>(&self, ask: impl FnOnce(&Catalog) -> T) -> T {
        ask(&self.shared.lock().catalog)
    }

    /// What is wrong with a snapshot, as far as is known; none if it can be restored as a whole.
    pub fn harm(&self, snapshot: SnapshotNumber) -> Option<Harm> {
        self.shared.lock().damaged.get(&snapshot).copied()
    }

    /// Whether the index was proven wrong while it was in use: the next start rebuilds it.
    pub fn is_index_condemned(&self) -> bool {
        self.shared.index.is_condemned()
    }

    /// The journal's last head, signed; for every reply to an agent.
    pub fn head(&self) -> Option<SignedHead> {
        self.shared.lock().written.head
    }

    /// Where a head that an agent shows stands. Unless it is known here, the repository was rolled back or forked:
    /// backups go on, restore orders and deletion stop (INV-53).
    pub fn standing(&self, shown: &SignedHead) -> Result<Standing, FormatError> {
        self.journal().standing(shown)
    }

    /// Whether another coordinator has taken the repository over: then this one is over (INV-38).
    pub fn is_lost(&self) -> bool {
        self.shared.lock().written.is_lost
    }

    /// What the start had to fill in.
    pub fn caught_up(&self) -> &CaughtUp {
        &self.caught_up
    }

    /// Remembers nodes as served to this session of a restore: it may read their links now.
    pub fn set_served(
        &self,
        session: &[u8; 16],
        nodes: &[lifeboat_format::id::NodeId],
    ) -> Result<(), crate::index::IndexError> {
        self.shared.index.set_served(session, nodes)
    }

    /// Whether this node was served to this session.
    pub fn was_served(
        &self,
        session: &[u8; 16],
        node: &lifeboat_format::id::NodeId,
    ) -> Result<bool, crate::index::IndexError> {
        self.shared.index.was_served(session, node)
    }

    /// The session has ended.
    pub fn forget_session(&self, session: &[u8; 16]) -> Result<(), crate::index::IndexError> {
        self.shared.index.forget_session(session)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The journal's own lock: taken before the one in [`Shared`], never after.
    pub(crate) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn surveying(&self) -> MutexGuard<'_, ()> {
        self.surveying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("it is taken only in drop, which has the value alone")
    }

    pub(crate) fn host_name(&self, host: HostId) -> String {
        let state = self.shared.lock();
        state.catalog.host(host).map_or_else(|| format!("host {host}"), |host| host.enrolled.name.clone())
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.spool.take());
        if let Some(threads) = self.threads.take() {
            threads.join();
        }
    }
}

#[cfg(test)]
mod tests;
