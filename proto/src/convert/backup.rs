//! The upload of a snapshot: `BackupService`, both directions.

use super::*;
use lifeboat_format::id::{ChunkId, Digest, NodeId, RunId, Scope, SnapshotId, SnapshotNumber};

/// Which run a call belongs to, and the fence that shows that it is still ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunHandle {
    /// The run.
    pub run: RunId,
    /// Rises with every `Begin` of the same host and source set.
    pub fence: u64,
}

impl TryFrom<Option<v1::RunRef>> for RunHandle {
    type Error = ConvertError;

    fn try_from(message: Option<v1::RunRef>) -> Result<Self, ConvertError> {
        let message = required("run", message)?;
        Ok(Self { run: RunId::from_bytes(array("run.run", &message.run)?), fence: message.fence })
    }
}

impl From<RunHandle> for v1::RunRef {
    fn from(handle: RunHandle) -> Self {
        Self { run: Bytes::copy_from_slice(handle.run.as_bytes()), fence: handle.fence }
    }
}

/// A run is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// What will be backed up.
    pub source_set: SourceSetName,
    /// The newest journal head that the agent saw; none before its first backup.
    pub last_head: Option<UncheckedHead>,
    /// The order that is obeyed, if there is one.
    pub job: Option<JobName>,
    /// One a start of the agent: tells it from another machine with the same identity.
    pub instance: [u8; 16],
}

impl TryFrom<v1::BeginRequest> for Begin {
    type Error = ConvertError;

    fn try_from(message: v1::BeginRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            source_set: message.source_set.parse()?,
            last_head: optional_head(message.last_head)?,
            job: optional_job(&message.job)?,
            instance: array("instance", &message.instance)?,
        })
    }
}

impl From<Begin> for v1::BeginRequest {
    fn from(begin: Begin) -> Self {
        Self {
            source_set: begin.source_set.to_string(),
            last_head: begin.last_head.map(Into::into),
            job: begin.job.map(|job| job.to_string()).unwrap_or_default(),
            instance: Bytes::copy_from_slice(&begin.instance),
        }
    }
}

fn optional_job(text: &str) -> Result<Option<JobName>, ConvertError> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

/// A run has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The run, for every further call.
    pub handle: RunHandle,
    /// The number in its source set that the next manifest must carry, from 1.
    pub next_sequence: u64,
    /// The manifest before it; none if `next_sequence` is 1.
    pub previous: Option<SnapshotId>,
    /// The coordinator's newest journal head.
    pub head: UncheckedHead,
}

impl TryFrom<v1::BeginResponse> for Begun {
    type Error = ConvertError;

    fn try_from(message: v1::BeginResponse) -> Result<Self, ConvertError> {
        let previous = optional_array("previous", &message.previous)?.map(SnapshotId::from_bytes);
        if message.next_sequence == 0 || (message.next_sequence == 1) != previous.is_none() {
            return Err(ConvertError::new("next_sequence", "does not go with previous"));
        }
        Ok(Self {
            handle: RunHandle { run: RunId::from_bytes(array("run", &message.run)?), fence: message.fence },
            next_sequence: message.next_sequence,
            previous,
            head: required("head", message.head)?.try_into()?,
        })
    }
}

impl From<Begun> for v1::BeginResponse {
    fn from(begun: Begun) -> Self {
        Self {
            run: Bytes::copy_from_slice(begun.handle.run.as_bytes()),
            fence: begun.handle.fence,
            next_sequence: begun.next_sequence,
            previous: begun.previous.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default(),
            head: Some(begun.head.into()),
        }
    }
}

/// Which of these chunks need not be sent?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Has {
    /// The run that asks.
    pub handle: RunHandle,
    /// At most [`limits::ASKED_IDS_MAX`].
    pub chunks: Vec<ChunkId>,
}

impl TryFrom<v1::HasRequest> for Has {
    type Error = ConvertError;

    fn try_from(message: v1::HasRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            handle: message.run.try_into()?,
            chunks: ids("chunk_ids", &message.chunk_ids, limits::ASKED_IDS_MAX, ChunkId::from_bytes)?,
        })
    }
}

impl From<Has> for v1::HasRequest {
    fn from(has: Has) -> Self {
        Self { run: Some(has.handle.into()), chunk_ids: flat(has.chunks.iter().map(ChunkId::as_bytes)) }
    }
}

/// Packs answers into a bitmap, lowest bit first.
pub fn bitmap(have: &[bool]) -> Bytes {
    let pack = |eight: &[bool]| eight.iter().rev().fold(0_u8, |byte, &bit| byte << 1 | u8::from(bit));
    have.chunks(8).map(pack).collect::<Vec<u8>>().into()
}

/// Unpacks the answer to a question about `asked` chunks.
pub fn from_bitmap(message: &v1::HasResponse, asked: usize) -> Result<Vec<bool>, ConvertError> {
    if message.have.len() != asked.div_ceil(8) {
        let problem = format!("has {} bytes, needs {}", message.have.len(), asked.div_ceil(8));
        return Err(ConvertError::new("have", problem));
    }
    Ok((0..asked).map(|at| message.have[at / 8] >> (at % 8) & 1 == 1).collect())
}

/// A sealed chunk on its way up. The receiver still has to compare the digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkUp {
    /// Its name.
    pub id: ChunkId,
    /// Whose secret sealed it.
    pub scope: Scope,
    /// Which code made it.
    pub encoder: u16,
    /// BLAKE3 of `sealed`.
    pub digest: Digest,
    /// The sealed bytes.
    pub sealed: Bytes,
}

/// A node's record on its way up. The receiver still has to compare the id, and to find its links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUp {
    /// BLAKE3 of `record`.
    pub id: NodeId,
    /// Whose secret sealed it.
    pub scope: Scope,
    /// Which code made it.
    pub encoder: u16,
    /// Links in clear, then ciphertext.
    pub record: Bytes,
}

/// One message of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// In the first message of a stream only.
    pub handle: Option<RunHandle>,
    /// From 1, rising by 1.
    pub sequence: u64,
    /// Taken before the nodes.
    pub chunks: Vec<ChunkUp>,
    /// Admitted in this order.
    pub nodes: Vec<NodeUp>,
}

impl TryFrom<v1::UploadRequest> for Upload {
    type Error = ConvertError;

    fn try_from(message: v1::UploadRequest) -> Result<Self, ConvertError> {
        at_most("chunks", message.chunks.len(), limits::UPLOAD_ITEMS_MAX, "chunks")?;
        at_most("nodes", message.nodes.len(), limits::UPLOAD_ITEMS_MAX, "nodes")?;
        Ok(Self {
            handle: message.run.map(|run| Some(run).try_into()).transpose()?,
            sequence: message.sequence,
            chunks: message.chunks.into_iter().map(ChunkUp::try_from).collect::<Result<_, _>>()?,
            nodes: message.nodes.into_iter().map(NodeUp::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl From<Upload> for v1::UploadRequest {
    fn from(upload: Upload) -> Self {
        Self {
            run: upload.handle.map(Into::into),
            sequence: upload.sequence,
            chunks: upload.chunks.into_iter().map(Into::into).collect(),
            nodes: upload.nodes.into_iter().map(Into::into).collect(),
        }
    }
}

fn encoder(field: &'static str, number: u32) -> Result<u16, ConvertError> {
    number.try_into().map_err(|_| ConvertError::new(field, format!("is {number}, at most 65535 is allowed")))
}

impl TryFrom<v1::Chunk> for ChunkUp {
    type Error = ConvertError;

    fn try_from(message: v1::Chunk) -> Result<Self, ConvertError> {
        Ok(Self {
            id: ChunkId::from_bytes(array("chunks.id", &message.id)?),
            scope: Scope::new(message.scope),
            encoder: encoder("chunks.encoder", message.encoder)?,
            digest: Digest::from_bytes(array("chunks.digest", &message.digest)?),
            sealed: some_bytes("chunks.sealed", message.sealed, limits::SEALED_BYTES_MAX)?,
        })
    }
}

impl From<ChunkUp> for v1::Chunk {
    fn from(chunk: ChunkUp) -> Self {
        Self {
            id: Bytes::copy_from_slice(chunk.id.as_bytes()),
            scope: chunk.scope.get(),
            encoder: chunk.encoder.into(),
            digest: Bytes::copy_from_slice(chunk.digest.as_bytes()),
            sealed: chunk.sealed,
        }
    }
}

impl TryFrom<v1::Node> for NodeUp {
    type Error = ConvertError;

    fn try_from(message: v1::Node) -> Result<Self, ConvertError> {
        Ok(Self {
            id: NodeId::from_bytes(array("nodes.id", &message.id)?),
            scope: Scope::new(message.scope),
            encoder: encoder("nodes.encoder", message.encoder)?,
            record: some_bytes("nodes.record", message.record, limits::RECORD_BYTES_MAX)?,
        })
    }
}

impl From<NodeUp> for v1::Node {
    fn from(node: NodeUp) -> Self {
        Self {
            id: Bytes::copy_from_slice(node.id.as_bytes()),
            scope: node.scope.get(),
            encoder: node.encoder.into(),
            record: node.record,
        }
    }
}

/// What was not taken, and what it would need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The node that was refused. At a commit: none if the root itself is not there.
    pub node: Option<NodeId>,
    /// Chunks that are not there, or no longer to be relied on.
    pub chunks: Vec<ChunkId>,
    /// Nodes, likewise.
    pub nodes: Vec<NodeId>,
}

impl TryFrom<v1::Refused> for Missing {
    type Error = ConvertError;

    fn try_from(message: v1::Refused) -> Result<Self, ConvertError> {
        let max = limits::REFUSED_IDS_MAX;
        Ok(Self {
            node: optional_array("refused.node", &message.node)?.map(NodeId::from_bytes),
            chunks: ids("refused.chunk_ids", &message.chunk_ids, max, ChunkId::from_bytes)?,
            nodes: ids("refused.node_ids", &message.node_ids, max, NodeId::from_bytes)?,
        })
    }
}

impl From<Missing> for v1::Refused {
    fn from(missing: Missing) -> Self {
        Self {
            node: missing.node.map(|id| Bytes::copy_from_slice(id.as_bytes())).unwrap_or_default(),
            chunk_ids: flat(missing.chunks.iter().map(ChunkId::as_bytes)),
            node_ids: flat(missing.nodes.iter().map(NodeId::as_bytes)),
        }
    }
}

/// The refusals of one answer.
pub fn missing(refused: Vec<v1::Refused>) -> Result<Vec<Missing>, ConvertError> {
    refused.into_iter().map(Missing::try_from).collect()
}

/// The snapshot is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The run that ends.
    pub handle: RunHandle,
    /// Signed by the host.
    pub manifest: Bytes,
    /// The manifest's key, for the restore and recovery recipients.
    pub envelope: Bytes,
}

impl TryFrom<v1::CommitRequest> for Commit {
    type Error = ConvertError;

    fn try_from(message: v1::CommitRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            handle: message.run.try_into()?,
            manifest: some_bytes("manifest", message.manifest, limits::MANIFEST_BYTES_MAX)?,
            envelope: some_bytes("envelope", message.envelope, limits::MANIFEST_BYTES_MAX)?,
        })
    }
}

impl From<Commit> for v1::CommitRequest {
    fn from(commit: Commit) -> Self {
        Self { run: Some(commit.handle.into()), manifest: commit.manifest, envelope: commit.envelope }
    }
}

/// Why a snapshot is kept outside `latest` until a person accepts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// For people.
    pub reason: String,
    /// The part of the source set that lost most of its entries, by its id in the manifest, if it is one among several.
    pub part: Option<u64>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Nothing was committed; these have to be sent first.
    Refused(Vec<Missing>),
    /// The snapshot is durable.
    Snapshot {
        /// Its name.
        id: SnapshotId,
        /// Its place in the journal.
        number: SnapshotNumber,
        /// The journal head that holds it.
        head: UncheckedHead,
        /// Why it is suspect, if it is.
        suspect: Option<Suspicion>,
    },
}

impl TryFrom<v1::CommitResponse> for Committed {
    type Error = ConvertError;

    fn try_from(message: v1::CommitResponse) -> Result<Self, ConvertError> {
        if !message.refused.is_empty() {
            return missing(message.refused).map(Self::Refused);
        }
        Ok(Self::Snapshot {
            id: SnapshotId::from_bytes(array("snapshot", &message.snapshot)?),
            number: SnapshotNumber::new(message.snapshot_number),
            head: required("head", message.head)?.try_into()?,
            suspect: match message.suspect {
                true => Some(Suspicion {
                    reason: shown_text("suspect_reason", &message.suspect_reason)?,
                    part: message.suspect_part,
                }),
                false => None,
            },
        })
    }
}

impl From<Committed> for v1::CommitResponse {
    fn from(committed: Committed) -> Self {
        match committed {
            Committed::Refused(missing) => {
                Self { refused: missing.into_iter().map(Into::into).collect(), ..Self::default() }
            }
            Committed::Snapshot { id, number, head, suspect } => Self {
                refused: Vec::new(),
                snapshot: Bytes::copy_from_slice(id.as_bytes()),
                snapshot_number: number.get(),
                head: Some(head.into()),
                suspect: suspect.is_some(),
                suspect_part: suspect.as_ref().and_then(|suspect| suspect.part),
                suspect_reason: suspect.map(|suspect| suspect.reason).unwrap_or_default(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_reads_back_and_one_of_another_length_is_refused() {
        for asked in [0, 1, 7, 8, 9, 64, 65] {
            let have: Vec<bool> = (0..asked).map(|at| at % 3 == 0).collect();
            let message = v1::HasResponse { have: bitmap(&have) };
            assert_eq!(from_bitmap(&message, asked), Ok(have));
            assert!(from_bitmap(&message, asked + 8).is_err());
        }
        assert_eq!(bitmap(&[true, false, true])[..], [0b101]);
    }

    #[test]
    fn an_upload_reads_back_and_one_chunk_too_large_is_refused() {
        let chunk = ChunkUp {
            id: ChunkId::from_bytes([1; 32]),
            scope: Scope::new(7),
            encoder: 1,
            digest: Digest::of(b"x"),
            sealed: Bytes::from_static(b"x"),
        };
        let upload = Upload { handle: None, sequence: 1, chunks: vec![chunk], nodes: Vec::new() };
        assert_eq!(Upload::try_from(v1::UploadRequest::from(upload.clone())), Ok(upload.clone()));
        let mut message = v1::UploadRequest::from(upload);
        message.chunks[0].sealed = vec![0; limits::SEALED_BYTES_MAX + 1].into();
        let error = Upload::try_from(message).unwrap_err();
        assert_eq!(error.to_string(), "chunks.sealed has 1048577 bytes, at most 1048576 are allowed");
    }

    #[test]
    fn a_first_run_has_no_manifest_before_it_and_a_later_one_has() {
        let head = UncheckedHead { head: Bytes::from_static(b"h"), signature: [0; 64] };
        let handle = RunHandle { run: RunId::from_bytes([9; 16]), fence: 3 };
        let begun = Begun { handle, next_sequence: 1, previous: None, head };
        assert_eq!(Begun::try_from(v1::BeginResponse::from(begun.clone())), Ok(begun.clone()));
        assert!(Begun::try_from(v1::BeginResponse::from(Begun { next_sequence: 2, ..begun })).is_err());
    }
}
