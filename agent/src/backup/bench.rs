//! What all workers of a backup share: the run, the keys, the sealers, the counts.

use super::error::BackupError;
use super::idle::IdleCores;
use crate::uplink::{ASK_MAX, Batch, OutgoingChunk, OutgoingNode, Receipt, Run};
use lifeboat_format::id::{ChunkId, Digest, Scope};
use lifeboat_format::key::{ContentHash, ScopeKeys};
use lifeboat_format::seal::{Check, SealError, Sealer};
use lifeboat_format::tree::{ChunkRef, Node, NodeRef};
use rayon::prelude::*;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts of a running backup, for whoever shows progress.
#[derive(Debug, Default)]
pub struct Progress {
    /// Entries that the walk has met.
    pub entries: AtomicU64,
    /// Content bytes read from files.
    pub read_bytes: AtomicU64,
    /// Sealed bytes handed to the coordinator.
    pub sent_bytes: AtomicU64,
    /// Counts up with each step that the other counts do not show.
    beats: AtomicU64,
}

impl Progress {
    /// Shows that the backup is not stuck.
    pub fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes whenever anything has moved.
    pub fn sum(&self) -> u64 {
        let counts = [&self.entries, &self.read_bytes, &self.sent_bytes, &self.beats];
        counts.iter().fold(0, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)))
    }

    /// Adds to one of the counts.
    pub(super) fn add(count: &AtomicU64, more: usize) {
        count.fetch_add(more as u64, Ordering::Relaxed);
    }
}

/// The sealing part of a backup: CPU-bound, shared by the workers, so that one huge file keeps all cores busy.
pub struct Sealery {
    keys: ScopeKeys,
    scope: Scope,
    level: i32,
    unused: Mutex<Vec<Sealer>>,
    idle_cores: IdleCores,
    pool: Option<rayon::ThreadPool>,
}

impl Sealery {
    /// For `processors` threads; with none, everything is sealed on the calling thread, in order.
    pub fn new(keys: ScopeKeys, scope: Scope, level: i32, processors: usize) -> Result<Self, BackupError> {
        let pool = match processors {
            0 => None,
            count => Some(
                rayon::ThreadPoolBuilder::new()
                    .num_threads(count)
                    .thread_name(|number| format!("seal-{number}"))
                    .build()
                    .map_err(|error| BackupError::local("cannot start threads for sealing", error))?,
            ),
        };
        Ok(Self { keys, scope, level, unused: Mutex::default(), idle_cores: IdleCores::default(), pool })
    }

    /// The keys of the scope in which this backup writes.
    pub fn keys(&self) -> &ScopeKeys {
        &self.keys
    }

    /// The scope in which this backup writes.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Seals a tree node; names what it will be called.
    pub fn seal_node(&self, node: &Node) -> Result<(NodeRef, OutgoingNode), SealError> {
        let (links, plaintext) = node.encode();
        let sealed = self.with_sealer(|sealer| sealer.seal_node(&self.keys, self.scope, &links, &plaintext))?;
        let reference = NodeRef { id: sealed.id, scope: self.scope, content: sealed.content, height: sealed.height };
        Ok((reference, OutgoingNode { id: sealed.id, scope: self.scope, record: sealed.record }))
    }

    fn seal_chunk(&self, piece: &Piece, bytes: &[u8]) -> Result<OutgoingChunk, SealError> {
        let plaintext = &bytes[piece.start..piece.end];
        let sealed = self.with_sealer(|sealer| sealer.seal_chunk(&self.keys, self.scope, &piece.content, plaintext))?;
        Ok(OutgoingChunk { id: piece.id, scope: self.scope, digest: Digest::of(&sealed), sealed })
    }

    fn seal_chunks(&self, pieces: &[&Piece], bytes: &[u8]) -> Result<Vec<OutgoingChunk>, SealError> {
        match &self.pool {
            None => pieces.iter().map(|piece| self.seal_chunk(piece, bytes)).collect(),
            Some(pool) => pool.install(|| pieces.par_iter().map(|piece| self.seal_chunk(piece, bytes)).collect()),
        }
    }

    fn with_sealer<T>(&self, work: impl FnOnce(&mut Sealer) -> Result<T, SealError>) -> Result<T, SealError> {
        let unused = self.unused.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut sealer = unused.map_or_else(|| Sealer::new(self.level, Check::OneInEight), Ok)?;
        let spare = self.pool.is_some() && self.idle_cores.are_there();
        sealer.set_check(if spare { Check::Always } else { Check::OneInEight });
        let result = work(&mut sealer);
        self.unused.lock().unwrap_or_else(PoisonError::into_inner).push(sealer);
        result
    }
}

/// A piece of plaintext in a window, hashed and named.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    id: ChunkId,
    content: ContentHash,
}

/// One worker's way to the coordinator: collects plaintext, asks for many chunks at once, seals and sends what is missing.
///
/// # Invariants
/// * Nothing is sealed before the coordinator was asked for it.
/// * A node goes out after every chunk that was added before it.
pub struct Window<'a> {
    sealery: &'a Sealery,
    run: &'a dyn Run,
    progress: &'a Progress,
    limit: usize,
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    named: HashSet<ChunkId>,
    receipts: Vec<Receipt>,
}

impl<'a> Window<'a> {
    /// A window that asks and sends when it holds `limit` bytes.
    pub fn new(sealery: &'a Sealery, run: &'a dyn Run, progress: &'a Progress, limit: usize) -> Self {
        let bytes = Vec::with_capacity(limit);
        Self { sealery, run, progress, limit, bytes, pieces: Vec::new(), named: HashSet::new(), receipts: Vec::new() }
    }

    /// The keys that name and cut.
    pub fn keys(&self) -> &'a ScopeKeys {
        self.sealery.keys()
    }

    /// Adds one chunk and says how to refer to it. It is sent with the window, if the coordinator lacks it.
    pub fn add(&mut self, plaintext: &[u8]) -> Result<ChunkRef, BackupError> {
        let content = self.keys().open_keys().content_hash(plaintext);
        let id = self.keys().chunk_id(&content);
        if self.named.insert(id) {
            if self.bytes.len() + plaintext.len() > self.limit || self.pieces.len() == ASK_MAX {
                self.flush()?;
                self.named.insert(id);
            }
            let start = self.bytes.len();
            self.bytes.extend_from_slice(plaintext);
            self.pieces.push(Piece { start, end: self.bytes.len(), id, content });
        }
        let bytes = u32::try_from(plaintext.len()).map_err(|error| BackupError::local("a chunk is too long", error))?;
        Ok(ChunkRef { id, scope: self.sealery.scope(), content, bytes })
    }

    /// Which of these the coordinator would have to be sent.
    pub fn missing(&self, ids: &[ChunkId]) -> Result<HashSet<ChunkId>, BackupError> {
        let mut missing = HashSet::new();
        for ids in ids.chunks(ASK_MAX) {
            let have = self.run.has(ids)?;
            self.progress.beat();
            missing.extend(ids.iter().zip(have).filter(|(_, have)| !have).map(|(id, _)| *id));
        }
        Ok(missing)
    }

    /// Asks for everything in the window, seals and sends what is missing, and starts again empty.
    pub fn flush(&mut self) -> Result<(), BackupError> {
        let chunks = self.seal_missing()?;
        if !chunks.is_empty() {
            self.send(Batch { chunks, nodes: Vec::new() })?;
        }
        Ok(())
    }

    /// Seals and sends a node; everything that was added before goes first.
    pub fn send_node(&mut self, node: &Node) -> Result<NodeRef, BackupError> {
        let chunks = self.seal_missing()?;
        let (reference, outgoing) = self.sealery.seal_node(node)?;
        let receipt = self.send(Batch { chunks, nodes: vec![outgoing] })?;
        self.receipts.push(receipt);
        Ok(reference)
    }

    fn seal_missing(&mut self) -> Result<Vec<OutgoingChunk>, BackupError> {
        let ids: Vec<_> = self.pieces.iter().map(|piece| piece.id).collect();
        let missing = self.missing(&ids)?;
        let wanted: Vec<_> = self.pieces.iter().filter(|piece| missing.contains(&piece.id)).collect();
        let chunks = self.sealery.seal_chunks(&wanted, &self.bytes)?;
        self.bytes.clear();
        self.pieces.clear();
        self.named.clear();
        Ok(chunks)
    }

    /// The receipts of the nodes that were sent since the last call.
    pub fn take_receipts(&mut self) -> Vec<Receipt> {
        std::mem::take(&mut self.receipts)
    }

    fn send(&self, batch: Batch) -> Result<Receipt, BackupError> {
        Progress::add(&self.progress.sent_bytes, batch.sealed_bytes());
        Ok(self.run.upload(batch)?)
    }
}
