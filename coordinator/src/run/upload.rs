//! Asking and sending: every way in which a run comes to rely on something before it commits.
//!
//! What may be relied on is decided in [`super::decide`]. Rows of the index are read without the lock where that is
//! safe: a row without a mark, read while its run is active, cannot be deleted before the run ends. A mark is cleared
//! under the lock, on the row as it is then (INV-22).

use super::copies::{Needed, may_be_copied_later, packs_needed};
use super::decide::{AcquireNode, PutChunk, acquire_node, put_chunk};
use super::{RunError, RunRef};
use crate::index::{Changes, ChunkRow, IndexError, Mark, SentRow};
use crate::repository::Coordinator;
use crate::shared::State;
use crate::spool::{Append, Offer, Permit, Stopped, offer};
use lifeboat_format::FormatError;
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId, Scope};
use lifeboat_format::journal::event::Holds;
use lifeboat_format::link::{Link, Target, node_height};
use lifeboat_format::pack::Record;
use lifeboat_format::seal::{SEALED_CHUNK_BYTES_MAX, parse_links};

/// A sealed chunk that came in.
#[derive(Clone, Debug)]
pub struct IncomingChunk {
    /// Its name, as the host says.
    pub id: ChunkId,
    /// Whose keys sealed it, as the host says.
    pub scope: Scope,
    /// The encoder that made it.
    pub encoder: u16,
    /// Over `sealed`.
    pub digest: Digest,
    /// At most [`SEALED_CHUNK_BYTES_MAX`].
    pub sealed: Vec<u8>,
}

/// A node that came in.
#[derive(Clone, Debug)]
pub struct IncomingNode {
    /// The BLAKE3 of `record`.
    pub id: NodeId,
    /// Whose keys sealed it, as the host says.
    pub scope: Scope,
    /// The encoder that made it.
    pub encoder: u16,
    /// Links in clear, then ciphertext.
    pub record: Vec<u8>,
}

/// A node was not admitted, or a commit not accepted, because of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which node; none where a commit misses the root itself.
    pub node: Option<NodeId>,
    /// Chunks that must be sent.
    pub chunks: Vec<ChunkId>,
    /// Nodes that must be sent.
    pub nodes: Vec<NodeId>,
}

/// Why asking or sending failed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The run may not do this.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The bytes of a chunk are not those of its digest, or too many.
    #[error("chunk {chunk} came damaged: {what}; send it again")]
    Chunk {
        /// The chunk.
        chunk: ChunkId,
        /// What does not hold.
        what: &'static str,
    },
    /// A node is not what it says.
    #[error("node {node} came damaged, or is not one; send it again")]
    Node {
        /// The node.
        node: NodeId,
        /// What does not hold.
        source: FormatError,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The coordinator is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The links of a node that a run may not rely on.
#[derive(Debug, Default)]
pub(super) struct MissingLinks {
    pub chunks: Vec<ChunkId>,
    pub nodes: Vec<NodeId>,
}

impl MissingLinks {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.nodes.is_empty()
    }

    pub fn of(self, node: NodeId) -> Refused {
        Refused { node: Some(node), chunks: self.chunks, nodes: self.nodes }
    }
}

impl Coordinator {
    /// For each chunk whether it need not be sent. Each "have" is safe until the run ends.
    pub fn has(&self, caller: RunRef, ids: &[ChunkId]) -> Result<Vec<bool>, UploadError> {
        let mut have = vec![false; ids.len()];
        {
            let mut state = self.shared.lock();
            let State { runs, open, .. } = &mut *state;
            let run = runs.call(caller, self.shared.clock.monotonic())?;
            for (have, id) in have.iter_mut().zip(ids) {
                if let Offer::Open(ticket) = offer(caller.host, open.chunk(id), None) {
                    run.waits.insert(ticket);
                    *have = true;
                }
            }
        }
        // In this order: a chunk that becomes durable in between is found in one of the two.
        let asked: Vec<usize> = (0..ids.len()).filter(|at| !have[*at]).collect();
        let rows = self.shared.index.chunks(&asked.iter().map(|at| ids[*at]).collect::<Vec<_>>())?;
        for (at, row) in asked.into_iter().zip(rows) {
            let offered = row.map(|row| self.shared.index.usable(row)).filter(|row| row.is_offered_to(caller.host));
            have[at] = match offered {
                None => false,
                Some(row) if row.mark == Mark::NONE => true,
                Some(_) => self.acquire_marked(caller.host, &ids[at])?,
            };
        }
        Ok(have)
    }

    /// Clears the mark of a chunk on its row as it is now; `false` if the row no longer serves this host.
    pub(super) fn acquire_marked(&self, host: HostId, id: &ChunkId) -> Result<bool, IndexError> {
        let _state = self.shared.lock();
        let index = &self.shared.index;
        let row = index.chunk(id)?.filter(|row| index.usable(row.clone()).is_offered_to(host));
        row.map_or(Ok(false), |row| self.clear_mark(id, row).map(|()| true))
    }

    /// Under the lock.
    fn clear_mark(&self, id: &ChunkId, mut row: ChunkRow) -> Result<(), IndexError> {
        if row.mark == Mark::NONE {
            return Ok(());
        }
        row.mark = Mark::NONE;
        let mut changes = Changes::default();
        self.shared.index.set_chunk(&mut changes, id, &row)?;
        self.shared.index.write(changes)
    }

    /// Takes chunks, then nodes in order; answers which nodes were refused. What is taken is received, not yet
    /// durable: that is for the commit.
    pub fn upload(
        &self,
        caller: RunRef,
        chunks: Vec<IncomingChunk>,
        nodes: Vec<IncomingNode>,
    ) -> Result<Vec<Refused>, UploadError> {
        chunks.iter().try_for_each(check_chunk)?;
        self.shared.lock().runs.call(caller, self.shared.clock.monotonic())?;
        let bytes = chunks.iter().map(|chunk| chunk.sealed.len()).sum();
        let mut permit = self.spool().reserve(bytes);
        for chunk in chunks {
            self.take_chunk(caller, chunk, &mut permit)?;
        }
        // Whoever waits for room must hold none: what was not needed goes back before the nodes ask.
        drop(permit);
        let mut refused = Vec::new();
        for node in nodes {
            refused.extend(self.take_node(caller, node)?);
        }
        Ok(refused)
    }

    fn take_chunk(&self, caller: RunRef, chunk: IncomingChunk, permit: &mut Permit) -> Result<(), UploadError> {
        let IncomingChunk { id, scope, encoder, digest, sealed } = chunk;
        let host = caller.host;
        let mut state = self.shared.lock();
        state.runs.get(caller)?;
        let row = self.shared.index.chunk(&id)?;
        let usable = row.clone().map(|row| self.shared.index.usable(row));
        match put_chunk(host, &digest, state.open.chunk(&id), usable.as_ref()) {
            PutChunk::Drop => {}
            PutChunk::Witness => self.witness(&mut state, &id, &digest, row.as_ref())?,
            PutChunk::Append => {
                let record = Record { target: Target::Chunk(id), height: 0, digest, host, scope, encoder };
                let placed = state.open.append_chunk(id, host, digest, sealed.len());
                let permit = permit.split(sealed.len());
                self.spool().append(Holds::Chunks, Append { ticket: placed.ticket, record, bytes: sealed, permit })?;
                if placed.full {
                    self.spool().close(Holds::Chunks, placed.ticket)?;
                }
            }
        }
        self.acquire_taken(&mut state, caller, &id)
    }

    /// Whoever sent a chunk may rely on it now, as after "have".
    fn acquire_taken(&self, state: &mut State, caller: RunRef, id: &ChunkId) -> Result<(), UploadError> {
        let row = self.shared.index.chunk(id)?;
        let usable = row.clone().map(|row| self.shared.index.usable(row));
        match (offer(caller.host, state.open.chunk(id), usable.as_ref()), row) {
            (Offer::Open(ticket), _) => {
                state.runs.get(caller)?.waits.insert(ticket);
            }
            (Offer::Durable, Some(row)) => self.clear_mark(id, row)?,
            (Offer::Durable | Offer::Missing, _) => {
                return Err(UploadError::Chunk { chunk: *id, what: "it was lost at once" });
            }
        }
        Ok(())
    }

    /// A second host brought the same bytes: from now on they serve every host.
    fn witness(
        &self,
        state: &mut State,
        id: &ChunkId,
        digest: &Digest,
        row: Option<&ChunkRow>,
    ) -> Result<(), IndexError> {
        state.open.witness(id, digest);
        let Some(mut row) = row.cloned() else { return Ok(()) };
        let mut changes = Changes::default();
        for body in row.bodies.iter_mut().filter(|body| body.digest == *digest) {
            body.host = HostId::WITNESSED;
            self.shared.index.note_witnessed(&mut changes, body.place.pack, body.place.record)?;
        }
        self.shared.index.set_chunk(&mut changes, id, &row)?;
        self.shared.index.write(changes)
    }

    fn take_node(&self, caller: RunRef, node: IncomingNode) -> Result<Option<Refused>, UploadError> {
        let wrong = |source| UploadError::Node { node: node.id, source };
        if Digest::of(&node.record).as_bytes() != node.id.as_bytes() {
            return Err(wrong(FormatError::Broken { what: "node", check: "id" }));
        }
        let links = parse_links(&node.record).map_err(wrong)?;
        let height = node_height(&links).map_err(wrong)?;
        let missing = self.acquire_links(caller, node.id, &links)?;
        if !missing.is_empty() {
            return Ok(Some(missing.of(node.id)));
        }
        let permit = self.spool().reserve(node.record.len() * packs_needed(height));
        self.admit(caller, node, height, permit).map(|()| None)
    }

    /// All links of the node are acquired: it is sent, and everything below it complete, by induction.
    fn admit(&self, caller: RunRef, node: IncomingNode, height: u8, permit: Permit) -> Result<(), UploadError> {
        let id = node.id;
        let index = &self.shared.index;
        let mut state = self.shared.lock();
        state.runs.get(caller)?;
        let row = index.node(&id)?;
        if let Some(mut row) = row.clone().filter(|row| row.mark != Mark::NONE && index.is_usable(row)) {
            row.mark = Mark::NONE;
            let mut changes = Changes::default();
            index.set_node(&mut changes, &id, &row)?;
            index.write(changes)?;
        }
        let last_leaf = may_be_copied_later(&node, height).then(|| node.clone());
        // A node that comes again makes up for a copy that is missing.
        let needed = Needed { packs: packs_needed(height), host: caller.host, height };
        let waits = self.append_node(&mut state, node, needed, row.as_ref(), permit)?;
        let run = state.runs.get(caller)?;
        run.waits.extend(waits);
        run.last_leaf = last_leaf;
        index.set_sent(&caller.run, &[(id, SentRow { validated: 0, witnessed_below: false })])?;
        Ok(())
    }

    /// Acquires what a node links to; answers what the run may not rely on.
    fn acquire_links(&self, caller: RunRef, node: NodeId, links: &[Link]) -> Result<MissingLinks, UploadError> {
        let mut missing = MissingLinks::default();
        let (chunks, nodes) = split(links);
        let have = self.has(caller, &chunks)?;
        missing.chunks = chunks.into_iter().zip(have).filter(|(_, have)| !have).map(|(id, _)| id).collect();
        let ids: Vec<NodeId> = nodes.iter().map(|(id, _)| *id).collect();
        let found = self.acquire_nodes(caller, &ids)?;
        for ((id, height), found) in nodes.into_iter().zip(found) {
            match found {
                None => missing.nodes.push(id),
                Some(real) if real == height => {}
                Some(real) => {
                    let source = FormatError::field("node", "height of a link", height, real);
                    return Err(UploadError::Node { node, source });
                }
            }
        }
        Ok(missing)
    }

    /// Acquires nodes: for each its height, or none if the run may not rely on it. One place that can be read is enough,
    /// also for a node that should have two: it restores, and to have it sent again would have the host send everything
    /// above it too. What makes up for a missing copy is in [`super::copies`].
    pub(super) fn acquire_nodes(&self, caller: RunRef, ids: &[NodeId]) -> Result<Vec<Option<u8>>, UploadError> {
        let index = &self.shared.index;
        let sent = index.sent_many(&caller.run, ids)?;
        let mut state = self.shared.lock();
        let mut found = Vec::with_capacity(ids.len());
        // After the lock is taken: a row that moves from an open pack into the index is seen in one of the two.
        for ((id, sent), row) in ids.iter().zip(sent).zip(index.nodes(ids)?) {
            let row = row.filter(|row| index.is_usable(row));
            let home = row.as_ref().and_then(|row| row.home).and_then(|home| state.home(home));
            let height = row.as_ref().map(|row| row.height).or(state.open.node(id).map(|node| node.height));
            found.push(match acquire_node(caller.host, sent.is_some(), row.as_ref(), home) {
                AcquireNode::Missing => None,
                AcquireNode::Sent => height,
                AcquireNode::Pin(snapshot) => {
                    state.runs.get(caller)?.pins.insert(snapshot);
                    height
                }
            });
        }
        Ok(found)
    }
}

/// Chunks and nodes (with the height that the link claims), each once.
pub(crate) fn split(links: &[Link]) -> (Vec<ChunkId>, Vec<(NodeId, u8)>) {
    let (mut chunks, mut nodes) = (Vec::new(), Vec::new());
    for link in links {
        match link.target() {
            Target::Chunk(id) => chunks.push(id),
            Target::Node(id) => nodes.push((id, link.height)),
        }
    }
    chunks.sort_unstable();
    chunks.dedup();
    nodes.sort_unstable();
    nodes.dedup();
    (chunks, nodes)
}

fn check_chunk(chunk: &IncomingChunk) -> Result<(), UploadError> {
    let wrong = |what| Err(UploadError::Chunk { chunk: chunk.id, what });
    match chunk.sealed.len() {
        0 => wrong("it is empty"),
        bytes if bytes > SEALED_CHUNK_BYTES_MAX => wrong("it is too long"),
        _ if !chunk.digest.matches(&chunk.sealed) => wrong("its digest does not hold"),
        _ => Ok(()),
    }
}
