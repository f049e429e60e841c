//! Root and inner nodes exist in two packs: the one of all nodes, and one of second copies alone (INV-79).
//!
//! They are small beside everything else, and without one of them everything below it is out of reach. An inner node is
//! known by its height when it comes. That a leaf is a root is known only at the commit: its copy is made from what the
//! run still has in memory, or from the pack that was just put.
//!
//! A missing copy is written again when a host sends the node again, when a root is committed, and by `verify`.
//! Copies name no host ([`HostId::WITNESSED`]): so their pack never has the name of the pack that it copies from, which
//! comes from the same records, and a rebuilt index sees what the pack is.

use super::RunRef;
use super::commit::CommitError;
use super::upload::IncomingNode;
use crate::index::rebuild::read_footer;
use crate::index::{IndexError, NodeRow};
use crate::repository::{Coordinator, Found, ReadError};
use crate::shared::State;
use crate::spool::{Append, NODE_PACKS, Permit, Stopped, Ticket};
use lifeboat_format::id::{Digest, HostId, NodeId, PackId};
use lifeboat_format::journal::event::Holds;
use lifeboat_format::link::Target;
use lifeboat_format::manifest::RootRef;
use lifeboat_format::pack::{Footer, FooterRecord, Record};

/// A leaf of more bytes is not kept in memory in case it is a root; usual ones have half of that.
const LEAF_KEPT_BYTES: usize = 64 << 10;

/// In how many packs a root and an inner node must be.
pub(crate) const TWICE: usize = 2;

/// In how many packs a node of this height must be, whether it is a root or not.
pub(crate) fn packs_needed(height: u8) -> usize {
    if height > 1 { TWICE } else { 1 }
}

/// Whether a node that was just sent is kept until the next one comes: it may be a root that is a leaf.
pub(super) fn may_be_copied_later(node: &IncomingNode, height: u8) -> bool {
    height == 1 && node.record.len() <= LEAF_KEPT_BYTES
}

/// Where a node that is appended is needed, and what its records say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    /// The number of packs that must hold the node.
    pub packs: usize,
    /// Who brought it.
    pub host: HostId,
    /// Its height.
    pub height: u8,
}

/// Decides to which of the [`NODE_PACKS`] a node is appended: it must be in `packs` packs, can be read in `durable` ones,
/// and is in these open ones. An open pack is never one of the durable ones.
fn to_append(packs: usize, durable: usize, open: [bool; 2]) -> [bool; 2] {
    let missing = packs.saturating_sub(durable + open.iter().filter(|is_open| **is_open).count());
    let first = missing > 0 && durable == 0 && !open[0];
    let copy = missing > usize::from(first) && !open[1];
    [first, copy]
}

/// The footer that was read last: several nodes of a pack are read one after the other.
#[derive(Debug, Default)]
pub(crate) struct LastFooter(Option<(PackId, Footer)>);

impl Coordinator {
    /// Under the lock: appends a node that has this row to the open packs in which it is missing. Answers the packs that
    /// must be objects before the node is in as many as it is needed in, also those to which others have appended it.
    pub(crate) fn append_node(
        &self,
        state: &mut State,
        node: IncomingNode,
        needed: Needed,
        row: Option<&NodeRow>,
        mut permit: Permit,
    ) -> Result<Vec<Ticket>, Stopped> {
        let durable = row.map_or(0, |row| self.shared.index.readable_places(row));
        let mut open = state.open.node(&node.id).map_or([None; 2], |open| open.tickets);
        let appended = to_append(needed.packs, durable, open.map(|ticket| ticket.is_some()));
        for kind in (0..NODE_PACKS.len()).filter(|kind| appended[*kind]) {
            open[kind] = Some(self.append_to(state, kind, &node, needed, &mut permit)?);
        }
        Ok(open.into_iter().flatten().take(needed.packs.saturating_sub(durable)).collect())
    }

    fn append_to(
        &self,
        state: &mut State,
        kind: usize,
        node: &IncomingNode,
        needed: Needed,
        permit: &mut Permit,
    ) -> Result<Ticket, Stopped> {
        let IncomingNode { id, scope, encoder, record: bytes } = node.clone();
        let holds = NODE_PACKS[kind];
        let host = if holds == Holds::NodeCopies { HostId::WITNESSED } else { needed.host };
        let digest = Digest::from_bytes(*id.as_bytes());
        let record = Record { target: Target::Node(id), height: needed.height, digest, host, scope, encoder };
        let placed = state.open.append_node(kind, id, needed.height, bytes.len());
        let permit = permit.split(bytes.len());
        self.spool().append(holds, Append { ticket: placed.ticket, record, bytes, permit })?;
        if placed.full {
            self.spool().close(holds, placed.ticket)?;
        }
        Ok(placed.ticket)
    }

    /// Appends the second copy of a root that is the leaf which the run sent last.
    pub(super) fn copy_root_from_memory(&self, caller: RunRef, root: &RootRef) -> Result<(), CommitError> {
        let leaf = self.shared.lock().runs.get(caller)?.last_leaf.take();
        match leaf.filter(|leaf| leaf.id == root.id) {
            Some(leaf) => self.append_root(caller, leaf, root.height),
            None => Ok(()),
        }
    }

    /// Appends the second copy of a root that can be read in one pack only: a leaf that is large, or was not sent last or
    /// not by this run, or a root whose other copy became unreadable. Returns whether it did.
    pub(super) fn copy_root_from_store(&self, caller: RunRef, root: &RootRef) -> Result<bool, CommitError> {
        let row = self.shared.index.node(&root.id)?;
        if row.is_none_or(|row| self.shared.index.readable_places(&row) != 1) {
            return Ok(false);
        }
        let Some((node, _)) = self.read_node_back(&root.id, &mut LastFooter::default())? else {
            // What cannot be read is refused when the tree is checked.
            return Ok(false);
        };
        self.append_root(caller, node, root.height)?;
        Ok(true)
    }

    fn append_root(&self, caller: RunRef, node: IncomingNode, height: u8) -> Result<(), CommitError> {
        let permit = self.spool().reserve(node.record.len() * TWICE);
        let mut state = self.shared.lock();
        state.runs.get(caller)?;
        let row = self.shared.index.node(&node.id)?;
        let needed = Needed { packs: TWICE, host: caller.host, height };
        let waits = self.append_node(&mut state, node, needed, row.as_ref(), permit)?;
        state.runs.get(caller)?.waits.extend(waits);
        Ok(())
    }

    /// A node as it came, with its height, from the first of its places that can be read.
    pub(crate) fn read_node_back(
        &self,
        id: &NodeId,
        footers: &mut LastFooter,
    ) -> Result<Option<(IncomingNode, u8)>, IndexError> {
        for found in self.locate(Target::Node(*id), HostId::WITNESSED)? {
            let record = match self.read_at(&found) {
                Ok(record) => record,
                Err(ReadError::Index(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(node = %id, %error, "one copy of this node cannot be read");
                    continue;
                }
            };
            let Some(FooterRecord { record: known, .. }) = self.footer_record(&found, footers)? else { continue };
            let node = IncomingNode { id: *id, scope: known.scope, encoder: known.encoder, record: record.to_vec() };
            return Ok(Some((node, known.height)));
        }
        Ok(None)
    }

    /// What the footer of a pack says of a record.
    fn footer_record(&self, found: &Found, footers: &mut LastFooter) -> Result<Option<FooterRecord>, IndexError> {
        let pack = self.shared.index.pack_id(found.place.pack)?;
        if footers.0.as_ref().is_none_or(|(last, _)| *last != pack) {
            let log_keys = self.journal().log_keys().to_vec();
            let footer = read_footer(self.shared.store.as_ref(), pack, &log_keys);
            footers.0 = footer.ok().map(|(footer, _)| (pack, footer));
        }
        let footer = footers.0.as_ref().map(|(_, footer)| footer);
        let record = footer.and_then(|footer| footer.records.get(found.place.record as usize));
        Ok(record.filter(|record| record.record.target == found.target).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_79_a_node_goes_into_as_many_packs_as_are_missing_and_into_none_twice() {
        let (none, first, copy, both) = ([false, false], [true, false], [false, true], [true, true]);
        let cases = [
            // packs needed, durable, open, appended to
            (1, 0, none, first),
            (1, 0, first, none),
            (1, 0, copy, none),
            (1, 1, none, none),
            (2, 0, none, both),
            (2, 0, first, copy),
            (2, 0, copy, first),
            (2, 0, both, none),
            (2, 1, none, copy),
            (2, 1, first, none),
            (2, 1, copy, none),
            (2, 2, none, none),
            (2, 3, none, none),
        ];
        for (packs, durable, open, appended) in cases {
            assert_eq!(to_append(packs, durable, open), appended, "{packs} {durable} {open:?}");
        }
        assert_eq!([1, 2, 16].map(packs_needed), [1, 2, 2]);
    }
}
