//! What the coordinator's parts share: store, index, time and chance, and the one lock.
//!
//! The lock guards everything that is in memory and changes: runs, open packs, the catalog. It makes reading a row of
//! the index and changing it one step, and it is the gate between runs and whoever ends them. It is never held across
//! I/O of the store; the journal's own lock is taken before it, never after.

use crate::catalog::Catalog;
use crate::clock::{Clock, Random};
use crate::index::{Harm, Index};
use crate::journal::Journal;
use crate::run::Runs;
use crate::run::decide::Home;
use crate::spool::{OpenPacks, Ticket};
use crate::store::Store;
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::SignedHead;
use lifeboat_format::journal::event::AddedPack;
use lifeboat_proto::status::with_causes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The parts, for all threads.
pub struct Shared {
    /// The repository.
    pub store: Arc<dyn Store>,
    /// Where everything lies.
    pub index: Index,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Told whenever a run, a pack or a commit gets further.
    pub changed: Condvar,
    state: Mutex<State>,
}

/// What is in memory, and changes.
#[derive(Debug)]
pub struct State {
    /// The active runs.
    pub runs: Runs,
    /// What is in the open packs.
    pub open: OpenPacks,
    /// What the journal says.
    pub catalog: Catalog,
    /// How far the journal is written.
    pub written: Written,
    /// Snapshots that cannot be restored as a whole: they give no homes.
    pub damaged: BTreeMap<SnapshotNumber, Harm>,
    /// Up to this snapshot none gives homes: a problem was found, and it is not known yet which trees it is in.
    pub distrusted: Option<SnapshotNumber>,
    /// Snapshots that are committed and whose nodes do not have their homes yet.
    pub settling: BTreeSet<SnapshotNumber>,
    /// Packs that are objects, to be named in the next batch.
    pub not_journalled: Vec<AddedPack>,
    /// How many open packs were thrown away.
    pub packs_thrown_away: u64,
    /// How often problems of packs were found: what was computed across one of them is computed again.
    pub losses_found: u64,
}

/// How far the journal is written, for whoever must not wait until it is free.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// The last head, signed; none before the first batch.
    pub head: Option<SignedHead>,
    /// Whether nobody knows yet what became of the last batch.
    pub is_unsettled: bool,
    /// Whether another coordinator has taken over.
    pub is_lost: bool,
}

impl Written {
    /// As this journal stands.
    pub fn of(journal: &Journal) -> Self {
        Self { head: journal.head().copied(), is_unsettled: journal.is_unsettled(), is_lost: journal.is_lost() }
    }
}

impl State {
    /// The snapshot as the home of a node; none if there is no such snapshot.
    pub fn home(&self, number: SnapshotNumber) -> Option<Home> {
        let snapshot = self.catalog.snapshot(number)?;
        let is_damaged = self.damaged.contains_key(&number) || self.distrusted >= Some(number);
        Some(Home::of(number, snapshot, is_damaged))
    }

    /// Something cannot be read, or can be again, and it is not known yet which trees hold it: until then no snapshot
    /// gives homes.
    pub fn distrust_all_homes(&mut self) {
        self.losses_found += 1;
        self.distrusted = self.catalog.snapshots().next_back().map(|(number, _)| number).max(self.distrusted);
    }

    /// Sequence and previous manifest that the next snapshot of a source set must carry.
    pub fn next_of(&self, host: HostId, source_set: &str) -> (u64, Option<SnapshotId>) {
        let last = self.catalog.source_set(host, source_set).and_then(|set| set.last.as_ref());
        last.map_or((1, None), |(sequence, id, _)| (sequence + 1, Some(*id)))
    }
}

impl Shared {
    /// Puts the parts together.
    pub fn new(
        store: Arc<dyn Store>,
        index: Index,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        state: State,
    ) -> Self {
        Self { store, index, clock, random, changed: Condvar::new(), state: Mutex::new(state) }
    }

    /// Takes the lock.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock away until something has changed, or this long at most.
    pub fn wait<'s>(&self, state: MutexGuard<'s, State>, at_most: Option<Duration>) -> MutexGuard<'s, State> {
        // Without a limit too, looks again now and then: a change that nobody told must not stop a commit for ever.
        let at_most = at_most.unwrap_or(Duration::from_secs(1));
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Throws an open pack away, and with it the runs that wait for it (INV-6).
    pub fn throw_away(&self, ticket: Ticket, why: &dyn std::error::Error) {
        let mut state = self.lock();
        state.open.finish(ticket);
        state.packs_thrown_away += 1;
        let cause: Arc<str> = with_causes(why).into();
        let void = state.runs.void_waiting_for(ticket, &cause);
        drop(state);
        self.changed.notify_all();
        tracing::error!(%cause, runs = void.len(), "a pack was thrown away, and the runs that waited for it");
        for run in void {
            // Rows of ended runs only take space, and a start forgets them.
            let _ = self.index.forget_run(&run);
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared over {:?}", self.index)
    }
}
