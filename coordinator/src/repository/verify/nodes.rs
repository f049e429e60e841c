//! Gives root and inner nodes their second place again, where one of the two was lost or cannot be read (INV-79).
//!
//! A backup makes up only for nodes that it sends, and an unchanged one sends none. So `verify` looks at all of them, by
//! their rows, and copies from the place that is left. Memory: some thousand nodes' places, and one node.

use super::VerifyError;
use crate::index::{NodeRow, PackNumber, Place};
use crate::repository::Coordinator;
use crate::run::copies::{LastFooter, Needed, TWICE, packs_needed};
use crate::spool::{Stopped, Ticket};
use lifeboat_format::id::{HostId, NodeId, PackId};
use lifeboat_format::journal::event::Holds;
use lifeboat_format::link::Target;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The number of nodes that are copied together, in the order of their packs.
const TOGETHER: usize = 4096;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Of each pack in which nodes are lost or unreadable, how many were written into another one.
    pub by_pack: BTreeMap<PackId, u64>,
    /// Whether everything that was written is durable.
    pub is_durable: bool,
}

/// A pack in which something is wrong.
struct Bad {
    pack: PackId,
    number: Option<PackNumber>,
    is_indexed: bool,
}

/// A pass over all nodes.
struct Mending<'c> {
    coordinator: &'c Coordinator,
    bad: Vec<Bad>,
    waiting: Vec<(Place, NodeId, NodeRow)>,
    tickets: BTreeSet<Ticket>,
    mended: Mended,
}

impl Coordinator {
    /// Copies root and inner nodes that can be read in one pack only. `bad` are the packs in which something is wrong.
    pub(super) fn mend_nodes(&self, bad: &[PackId]) -> Result<Mended, VerifyError> {
        let leaf_roots: HashSet<NodeId> = self.catalog(|catalog| {
            let roots = catalog.snapshots().map(|(_, snapshot)| snapshot.root);
            roots.filter(|root| packs_needed(root.height) < TWICE).map(|root| root.id).collect()
        });
        let mended = Mended { is_durable: true, ..Mended::default() };
        let (waiting, tickets) = (Vec::new(), BTreeSet::new());
        let mut mending = Mending { coordinator: self, bad: self.bad_packs(bad), waiting, tickets, mended };
        let thrown_away = self.shared.lock().packs_thrown_away;
        let mut done = Ok(());
        self.shared.index.each_node(|id, row| {
            if packs_needed(row.height) == TWICE || leaf_roots.contains(&id) {
                done = mending.look_at(id, row);
            }
            done.is_ok()
        })?;
        done?;
        mending.copy_waiting()?;
        let Mending { tickets, mut mended, .. } = mending;
        if !tickets.is_empty() {
            let is_put = self.put_open(&tickets).is_ok();
            mended.is_durable &= is_put && self.shared.lock().packs_thrown_away == thrown_away;
            // So that the journal names the packs.
            self.record(Vec::new())?;
        }
        Ok(mended)
    }

    /// Those that hold nodes.
    fn bad_packs(&self, bad: &[PackId]) -> Vec<Bad> {
        let held: BTreeMap<PackId, Holds> = self.catalog(|catalog| catalog.packs().into_iter().collect());
        let bad = bad.iter().filter(|pack| held.get(pack).is_some_and(|holds| *holds != Holds::Chunks));
        bad.map(|pack| {
            let known = self.shared.index.pack(pack);
            let number = known.map(|(number, _)| number);
            Bad { pack: *pack, number, is_indexed: known.is_some_and(|(_, entry)| entry.indexed) }
        })
        .collect()
    }

    /// Has these open packs made objects, and waits for that.
    fn put_open(&self, tickets: &BTreeSet<Ticket>) -> Result<(), Stopped> {
        let mut state = self.shared.lock();
        for ticket in tickets {
            state.open.close(*ticket).map_or(Ok(()), |holds| self.spool().close(holds, *ticket))?;
        }
        while tickets.iter().any(|ticket| state.open.is_unfinished(*ticket)) {
            state = self.shared.wait(state, None);
        }
        Ok(())
    }
}

impl Mending<'_> {
    fn look_at(&mut self, id: NodeId, row: NodeRow) -> Result<(), VerifyError> {
        let index = &self.coordinator.shared.index;
        let mut readable = row.places.iter().filter(|place| index.is_readable(place.pack));
        if let (Some(left), None) = (readable.next().copied(), readable.next()) {
            self.waiting.push((left, id, row));
        }
        match self.waiting.len() {
            TOGETHER.. => self.copy_waiting(),
            _ => Ok(()),
        }
    }

    fn copy_waiting(&mut self) -> Result<(), VerifyError> {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_unstable_by_key(|(left, ..)| *left);
        let mut footers = LastFooter::default();
        waiting.into_iter().try_for_each(|(_, id, row)| self.copy(id, &row, &mut footers))
    }

    fn copy(&mut self, id: NodeId, row: &NodeRow, footers: &mut LastFooter) -> Result<(), VerifyError> {
        let coordinator = self.coordinator;
        // If it cannot be read after all, the walk over the trees names its snapshots.
        let Some((node, height)) = coordinator.read_node_back(&id, footers)? else { return Ok(()) };
        let permit = coordinator.spool().reserve(node.record.len() * TWICE);
        let index = &coordinator.shared.index;
        let mut state = coordinator.shared.lock();
        let Some(now) = index.node(&id)?.filter(|now| index.is_usable(now)) else { return Ok(()) };
        // With a place left it goes among the second copies, for which no host is named.
        let needed = Needed { packs: TWICE, host: HostId::WITNESSED, height };
        match coordinator.append_node(&mut state, node, needed, Some(&now), permit) {
            Ok(tickets) => self.tickets.extend(tickets),
            Err(Stopped) => self.mended.is_durable = false,
        }
        drop(state);
        self.count(id, row);
        Ok(())
    }

    /// Counts the node for each of the packs in which it is missing.
    fn count(&mut self, id: NodeId, row: &NodeRow) {
        let target = Target::Node(id);
        for Bad { pack, number, is_indexed } in &self.bad {
            let is_in_rows = row.places.iter().any(|place| Some(place.pack) == *number);
            if is_in_rows || !is_indexed || self.coordinator.catalog(|catalog| catalog.is_lost(pack, &target)) {
                *self.mended.by_pack.entry(*pack).or_default() += 1;
            }
        }
    }
}
