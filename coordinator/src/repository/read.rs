//! Reading sealed bytes back, checked without a key on every read (INV-11), and how much there is.

use super::Coordinator;
use crate::index::{IndexError, Place};
use crate::store::{ByteRange, ObjectName, StoreError};
use bytes::Bytes;
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId, PackId};
use lifeboat_format::link::Target;

/// Why sealed bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No row: it was never here, or is lost.
    #[error("{} is not in the repository", shown(.target))]
    Unknown {
        /// What was asked for.
        target: Target,
    },
    /// The bytes are not those that were put, or gone.
    #[error("{} in pack {pack} {what}", shown(.target))]
    Damaged {
        /// What was asked for.
        target: Target,
        /// Where it should be.
        pack: PackId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The store failed; nothing is known of the bytes.
    #[error("cannot read pack {pack}")]
    Store {
        /// The pack.
        pack: PackId,
        /// Why.
        source: StoreError,
    },
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

pub(super) fn shown(target: &Target) -> String {
    match target {
        Target::Chunk(id) => format!("chunk {id}"),
        Target::Node(id) => format!("node {id}"),
    }
}

/// Where sealed bytes lie: sort these to read in the order of the packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What they are.
    pub target: Target,
    /// Where.
    pub place: Place,
    digest: Digest,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Hosts, whatever their state.
    pub hosts: u64,
    /// Snapshots that are live or in the trash.
    pub snapshots: u64,
    /// Packs that are not dead.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Chunks in the index, estimated.
    pub chunks: u64,
    /// Nodes in the index, estimated.
    pub nodes: u64,
    /// Batches of the journal.
    pub journal_batches: u64,
}

impl Coordinator {
    /// The sealed forms of a chunk or node, in the order in which a reader on behalf of `host` (whose snapshot it is)
    /// tries them: the host's own, witnessed ones, others; what cannot be read last. Empty if there is none.
    pub fn locate(&self, target: Target, host: HostId) -> Result<Vec<Found>, IndexError> {
        let mut found: Vec<Found> = match target {
            Target::Chunk(id) => self.shared.index.chunk(&id)?.map_or(Vec::new(), |row| {
                let bodies = row.preferred(host).into_iter();
                bodies.map(|body| Found { target, place: body.place, digest: body.digest }).collect()
            }),
            Target::Node(id) => {
                let digest = Digest::from_bytes(*id.as_bytes());
                let places = self.shared.index.node(&id)?.map_or(Vec::new(), |row| row.places);
                places.into_iter().map(|place| Found { target, place, digest }).collect()
            }
        };
        // A failing disk answers slowly: what lies in packs that cannot be read comes last.
        found.sort_by_key(|found| !self.shared.index.is_readable(found.place.pack));
        Ok(found)
    }

    /// The sealed bytes at a place, checked. What cannot be read is read a second time before that is believed; then
    /// hosts are asked again for what is in that pack, until it can be read again.
    pub fn read_at(&self, found: &Found) -> Result<Bytes, ReadError> {
        let first = self.read_once(found);
        if !matches!(first, Err(ReadError::Damaged { .. } | ReadError::Store { .. })) {
            return first;
        }
        let second = self.read_once(found);
        if let Err(error @ (ReadError::Damaged { pack, .. } | ReadError::Store { pack, .. })) = &second {
            self.note_unreadable(*pack, &lifeboat_proto::status::with_causes(error))?;
        }
        second
    }

    fn read_once(&self, found: &Found) -> Result<Bytes, ReadError> {
        let Found { target, place, digest } = *found;
        let pack = self.shared.index.pack_id(place.pack)?;
        let range = ByteRange::At { offset: place.offset.into(), bytes: place.sealed_bytes.into() };
        let damaged = |what| Err(ReadError::Damaged { target, pack, what });
        match self.shared.store.get(&ObjectName::pack(pack), range) {
            Ok(bytes) if digest.matches(&bytes) => Ok(bytes),
            Ok(_) => damaged("does not match its digest"),
            Err(StoreError::NotFound { .. }) => damaged("is gone: the pack is missing"),
            Err(StoreError::OutOfRange { .. }) => damaged("is gone: the pack was cut"),
            Err(source) => Err(ReadError::Store { pack, source }),
        }
    }

    /// The record of a node, checked against its id.
    pub fn read_node(&self, id: &NodeId) -> Result<Bytes, ReadError> {
        self.read_first(Target::Node(*id), HostId::WITNESSED)
    }

    /// The sealed bytes of a chunk for a snapshot of `host`; the next form where one is damaged. Whoever opens it
    /// checks its content hash, and may try the others of [`Coordinator::locate`].
    pub fn read_chunk(&self, id: &ChunkId, host: HostId) -> Result<Bytes, ReadError> {
        self.read_first(Target::Chunk(*id), host)
    }

    fn read_first(&self, target: Target, host: HostId) -> Result<Bytes, ReadError> {
        let mut first_error = None;
        for found in self.locate(target, host)? {
            match self.read_at(&found) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(ReadError::Unknown { target }))
    }

    /// How much there is.
    pub fn stats(&self) -> Result<Stats, IndexError> {
        let (chunks, nodes) = self.shared.index.estimated_rows()?;
        let journal_batches = self.head().map_or(0, |head| head.head().number);
        let state = self.shared.lock();
        let packs = state.catalog.packs();
        let bytes = |(pack, _): &(PackId, _)| self.shared.index.pack(pack).map_or(0, |(_, entry)| entry.bytes);
        Ok(Stats {
            hosts: state.catalog.hosts().count() as u64,
            snapshots: state.catalog.snapshots().count() as u64,
            packs: packs.len() as u64,
            pack_bytes: packs.iter().map(bytes).fold(0, u64::saturating_add),
            chunks,
            nodes,
            journal_batches,
        })
    }
}
