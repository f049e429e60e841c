//! What a backup needs of its coordinator, and nothing of how it is reached.
//!
//! The pipeline talks to a [`Run`] from plain threads; each call blocks. Over the network `connection` fulfils it with
//! gRPC; in one process the coordinator's own functions do. What may be asked and what is promised stands in
//! `lifeboat/v1/backup.proto` and is the same for both.
//!
//! # Invariants
//! * What one thread uploads is processed in the order in which it was given; a node comes after its chunks.
//! * An error ends the run: nothing it promised holds any longer (INV-26). The next run finds what was durable.

use lifeboat_format::id::{ChunkId, Digest, NodeId, RunId, Scope, SnapshotId, SnapshotNumber};
use lifeboat_proto::convert::backup::Suspicion;
use std::sync::mpsc;

/// Opens runs. One for each coordinator that the agent knows.
pub trait Uplink: Send + Sync {
    /// Starts a run; an earlier one of this host and source set is over with it.
    fn begin(&self, source_set: &str, job: &str) -> Result<Box<dyn Run>, UplinkError>;
}

/// One upload, from Begin to Commit.
pub trait Run: Send + Sync {
    /// What the coordinator answered to Begin.
    fn begun(&self) -> &Begun;
    /// For each id whether it need not be sent, at most [`ASK_MAX`] at once. "Have" holds until the run ends.
    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>, UplinkError>;
    /// Hands a batch over; blocks while too much is under way. The receipt tells what became of it.
    fn upload(&self, batch: Batch) -> Result<Receipt, UplinkError>;
    /// Asks for the snapshot. Everything uploaded before is waited for first.
    fn commit(&self, manifest: Vec<u8>, envelope: Vec<u8>) -> Result<Answer, UplinkError>;
    /// Ends the run without a snapshot.
    fn abort(&self) -> Result<(), UplinkError>;
}

/// Most ids in one question.
pub const ASK_MAX: usize = 4096;

/// The coordinator's answer to Begin.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The run's name.
    pub run: RunId,
    /// The number in its source set that the next manifest must carry, from 1.
    pub next_sequence: u64,
    /// The manifest before it; none if `next_sequence` is 1.
    pub previous: Option<SnapshotId>,
}

/// Chunks, then nodes that may link to them.
#[derive(Debug, Default)]
pub struct Batch {
    /// Sealed chunks.
    pub chunks: Vec<OutgoingChunk>,
    /// Sealed nodes, children before parents.
    pub nodes: Vec<OutgoingNode>,
}

impl Batch {
    /// How many sealed bytes it carries.
    pub fn sealed_bytes(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.sealed.len()).sum();
        chunks + self.nodes.iter().map(|node| node.record.len()).sum::<usize>()
    }
}

/// A sealed chunk on its way.
#[derive(Debug)]
pub struct OutgoingChunk {
    /// Its name.
    pub id: ChunkId,
    /// Whose keys sealed it.
    pub scope: Scope,
    /// Over `sealed`.
    pub digest: Digest,
    /// The ciphertext.
    pub sealed: Vec<u8>,
}

/// A sealed node on its way.
#[derive(Debug)]
pub struct OutgoingNode {
    /// Its name.
    pub id: NodeId,
    /// Whose keys sealed it.
    pub scope: Scope,
    /// Links in clear, then the ciphertext.
    pub record: Vec<u8>,
}

/// A node was not admitted, or a commit not accepted, because of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which node was refused; none where Commit misses the root itself.
    pub node: Option<NodeId>,
    /// Chunks that are to be sent.
    pub chunks: Vec<ChunkId>,
    /// Nodes that are to be sent.
    pub nodes: Vec<NodeId>,
}

/// What became of a batch. May be dropped by who does not care: an error shows at the next call too.
#[derive(Debug)]
pub struct Receipt(mpsc::Receiver<Result<Vec<Refused>, UplinkError>>);

impl Receipt {
    /// The receipt, and where to put its answer.
    pub fn pending() -> (mpsc::SyncSender<Result<Vec<Refused>, UplinkError>>, Self) {
        let (answer, receipt) = mpsc::sync_channel(1);
        (answer, Self(receipt))
    }

    /// Waits until the batch was taken; returns the nodes that were refused.
    pub fn wait(self) -> Result<Vec<Refused>, UplinkError> {
        self.0.recv().unwrap_or_else(|_| Err(UplinkError::lost("the upload ended before its answer came")))
    }
}

/// The answer to Commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The snapshot stands.
    Committed {
        /// Its name.
        snapshot: SnapshotId,
        /// Its place in the journal.
        number: SnapshotNumber,
        /// Why the coordinator keeps it as suspect, if it does.
        suspect: Option<Suspicion>,
    },
    /// Nothing was committed; these are to be sent first.
    Refused(Vec<Refused>),
}

/// The run is over, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct UplinkError {
    /// What happened, and what to do.
    pub message: String,
    /// Whether the same backup may be tried again soon (the network, a restart), or needs somebody first.
    pub retry: bool,
    /// Whether the coordinator only has no place now: ask again soon.
    pub busy: bool,
}

impl UplinkError {
    /// The connection or the coordinator went away: try again.
    pub fn lost(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: true, busy: false }
    }

    /// The coordinator refused, and will again.
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), retry: false, busy: false }
    }
}
