//! What is in the open packs: rows that live in memory only (INV-5). Pure; the lock around it is the caller's.
//!
//! A *ticket* names an open pack until it has become an object. It is sealed in the order: open, closing (full, or a
//! commit asked), then sealed or failed; both of the last forget it. Runs remember the tickets they wait for.

use crate::index::ChunkRow;
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId};
use lifeboat_format::journal::event::Holds;
use std::collections::{BTreeSet, HashMap};

/// Names an open pack within this process. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A sealed form of a chunk in an open pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenBody {
    /// Who brought it; [`HostId::WITNESSED`] once a second host brought the same bytes.
    pub host: HostId,
    /// The BLAKE3 of the sealed bytes.
    pub digest: Digest,
    /// The pack.
    pub ticket: Ticket,
}

impl OpenBody {
    /// Whether this host may rely on it, once its pack is sealed.
    pub fn is_offered_to(&self, host: HostId) -> bool {
        self.host == host || self.host == HostId::WITNESSED
    }
}

/// The kinds of packs that hold nodes: all of them, and second copies of root and inner nodes (INV-79).
pub const NODE_PACKS: [Holds; 2] = [Holds::Nodes, Holds::NodeCopies];

/// A node in an open pack, or in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenNode {
    /// The node's height.
    pub height: u8,
    /// The packs, in the order of [`NODE_PACKS`]; at least one.
    pub tickets: [Option<Ticket>; 2],
}

impl OpenNode {
    /// The node is no longer in this open pack; returns whether it is in another one.
    fn leaves(&mut self, left: Ticket) -> bool {
        for ticket in &mut self.tickets {
            *ticket = ticket.filter(|ticket| *ticket != left);
        }
        self.tickets.iter().any(Option::is_some)
    }
}

/// Where an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The pack.
    pub ticket: Ticket,
    /// Whether the pack is full with it, and was closed: the writer must be told.
    pub full: bool,
}

/// The open packs: one for chunks, one for nodes, one for second copies of nodes, and those on their way to be objects.
#[derive(Debug)]
pub struct OpenPacks {
    pack_bytes: u64,
    next: u64,
    chunks: HashMap<ChunkId, Vec<OpenBody>>,
    nodes: HashMap<NodeId, OpenNode>,
    filling: [Option<Filling>; 3],
    unfinished: BTreeSet<Ticket>,
}

/// A pack that takes records.
#[derive(Clone, Copy, Debug)]
struct Filling {
    ticket: Ticket,
    bytes: u64,
    records: u64,
}

/// A pack of many tiny records is closed before its footer outgrows it.
const RECORDS_MAX: u64 = 1 << 17;
const _: () = assert!(RECORDS_MAX <= lifeboat_format::pack::RECORDS_MAX);

fn slot(holds: Holds) -> usize {
    match holds {
        Holds::Chunks => 0,
        Holds::Nodes => 1,
        Holds::NodeCopies => 2,
    }
}

impl OpenPacks {
    /// None is open. A pack is full once its records have `pack_bytes`.
    pub fn new(pack_bytes: u64) -> Self {
        Self {
            pack_bytes,
            next: 1,
            chunks: HashMap::new(),
            nodes: HashMap::new(),
            filling: [None; 3],
            unfinished: BTreeSet::new(),
        }
    }

    /// The forms of this chunk that are not in the index yet.
    pub fn chunk(&self, id: &ChunkId) -> &[OpenBody] {
        self.chunks.get(id).map_or(&[], Vec::as_slice)
    }

    /// The node, if it is not in the index yet.
    pub fn node(&self, id: &NodeId) -> Option<OpenNode> {
        self.nodes.get(id).copied()
    }

    /// Adds a chunk to the open pack.
    pub fn append_chunk(&mut self, id: ChunkId, host: HostId, digest: Digest, sealed_bytes: usize) -> Placed {
        let placed = self.append(Holds::Chunks, sealed_bytes);
        self.chunks.entry(id).or_default().push(OpenBody { host, digest, ticket: placed.ticket });
        placed
    }

    /// Adds a node to the open pack of one of the [`NODE_PACKS`].
    pub fn append_node(&mut self, kind: usize, id: NodeId, height: u8, sealed_bytes: usize) -> Placed {
        let placed = self.append(NODE_PACKS[kind], sealed_bytes);
        let node = self.nodes.entry(id).or_insert(OpenNode { height, tickets: [None; 2] });
        node.tickets[kind] = Some(placed.ticket);
        placed
    }

    fn append(&mut self, holds: Holds, sealed_bytes: usize) -> Placed {
        let mut filling = self.filling[slot(holds)].unwrap_or_else(|| {
            let ticket = Ticket(self.next);
            self.next += 1;
            self.unfinished.insert(ticket);
            Filling { ticket, bytes: 0, records: 0 }
        });
        filling.bytes += sealed_bytes as u64;
        filling.records += 1;
        let full = filling.bytes >= self.pack_bytes || filling.records >= RECORDS_MAX;
        self.filling[slot(holds)] = (!full).then_some(filling);
        Placed { ticket: filling.ticket, full }
    }

    /// A second host brought the bytes with this digest.
    pub fn witness(&mut self, id: &ChunkId, digest: &Digest) {
        let bodies = self.chunks.get_mut(id).map(Vec::as_mut_slice).unwrap_or_default();
        for body in bodies.iter_mut().filter(|body| body.digest == *digest) {
            body.host = HostId::WITNESSED;
        }
    }

    /// Closes the pack that a commit waits for, if it is still being filled; then the writer must be told.
    pub fn close(&mut self, ticket: Ticket) -> Option<Holds> {
        let holds = [Holds::Chunks, Holds::Nodes, Holds::NodeCopies]
            .into_iter()
            .find(|holds| self.filling[slot(*holds)].is_some_and(|filling| filling.ticket == ticket))?;
        self.filling[slot(holds)] = None;
        Some(holds)
    }

    /// Whether the pack is not an object yet.
    pub fn is_unfinished(&self, ticket: Ticket) -> bool {
        self.unfinished.contains(&ticket)
    }

    /// The packs that are not objects yet.
    pub fn unfinished(&self) -> Vec<Ticket> {
        self.unfinished.iter().copied().collect()
    }

    /// Who vouches for a body whose pack is an object now, and forgets it here: its row is in the index.
    pub fn take_chunk(&mut self, ticket: Ticket, id: &ChunkId, digest: &Digest) -> Option<HostId> {
        let bodies = self.chunks.get_mut(id)?;
        let at = bodies.iter().position(|body| body.ticket == ticket && body.digest == *digest)?;
        let host = bodies.swap_remove(at).host;
        if bodies.is_empty() {
            self.chunks.remove(id);
        }
        Some(host)
    }

    /// Forgets the place of a node whose row is in the index now.
    pub fn take_node(&mut self, ticket: Ticket, id: &NodeId) {
        if self.nodes.get_mut(id).is_some_and(|node| !node.leaves(ticket)) {
            self.nodes.remove(id);
        }
    }

    /// The pack is an object, or thrown away: nothing is in it any more as far as this table knows.
    pub fn finish(&mut self, ticket: Ticket) {
        self.close(ticket);
        self.unfinished.remove(&ticket);
        self.nodes.retain(|_, node| node.leaves(ticket));
        self.chunks.retain(|_, bodies| {
            bodies.retain(|body| body.ticket != ticket);
            !bodies.is_empty()
        });
    }
}

/// Whether this host may rely on a chunk, and on which open pack that depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is in the index: durable.
    Durable,
    /// Once this pack is sealed.
    Open(Ticket),
    /// Not at all: "send".
    Missing,
}

/// Whether a host may rely on a chunk with these bodies and this row.
pub fn offer(host: HostId, open: &[OpenBody], row: Option<&ChunkRow>) -> Offer {
    if row.is_some_and(|row| row.is_offered_to(host)) {
        return Offer::Durable;
    }
    let body = open.iter().find(|body| body.is_offered_to(host));
    body.map_or(Offer::Missing, |body| Offer::Open(body.ticket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(byte: u8) -> (ChunkId, Digest) {
        (ChunkId::from_bytes([byte; 32]), Digest::from_bytes([byte; 32]))
    }

    #[test]
    fn a_pack_is_closed_when_it_is_full_and_the_next_record_opens_another() {
        let mut open = OpenPacks::new(100);
        let host = HostId::new(1);
        let place = |open: &mut OpenPacks, byte| open.append_chunk(chunk(byte).0, host, chunk(byte).1, 60);
        let (first, second, third) = (place(&mut open, 1), place(&mut open, 2), place(&mut open, 3));
        assert_eq!((first.full, second.full, third.full), (false, true, false));
        assert_eq!(first.ticket, second.ticket);
        assert_ne!(second.ticket, third.ticket);
        assert_eq!(open.close(first.ticket), None, "closed already");
        assert_eq!(open.close(third.ticket), Some(Holds::Chunks));
        open.finish(first.ticket);
        assert!(!open.is_unfinished(first.ticket) && open.is_unfinished(third.ticket));
        assert!(open.chunk(&chunk(1).0).is_empty() && !open.chunk(&chunk(3).0).is_empty());
    }

    #[test]
    fn inv_79_a_node_is_known_as_open_until_both_of_its_packs_are_objects() {
        let id = NodeId::from_bytes([1; 32]);
        let mut open = OpenPacks::new(1000);
        let [first, copy] = [0, 1].map(|kind| open.append_node(kind, id, 2, 10).ticket);
        assert_ne!(first, copy);
        assert_eq!([first, copy].map(|ticket| open.close(ticket)), NODE_PACKS.map(Some));
        open.take_node(first, &id);
        assert_eq!(open.node(&id), Some(OpenNode { height: 2, tickets: [None, Some(copy)] }));
        open.finish(copy);
        assert_eq!(open.node(&id), None);
    }

    #[test]
    fn inv_44_bytes_of_another_host_are_offered_only_once_two_have_brought_them() {
        let mut open = OpenPacks::new(1000);
        let (id, digest) = chunk(1);
        let (a, b, c) = (HostId::new(1), HostId::new(2), HostId::new(3));
        let placed = open.append_chunk(id, a, digest, 10);
        assert_eq!(offer(a, open.chunk(&id), None), Offer::Open(placed.ticket));
        assert_eq!(offer(b, open.chunk(&id), None), Offer::Missing);
        open.witness(&id, &Digest::from_bytes([9; 32]));
        assert_eq!(offer(b, open.chunk(&id), None), Offer::Missing, "other bytes bear no witness");
        open.witness(&id, &digest);
        assert_eq!(offer(c, open.chunk(&id), None), Offer::Open(placed.ticket));
        assert_eq!(open.take_chunk(placed.ticket, &id, &digest), Some(HostId::WITNESSED));
    }
}
