//! Puts the records of a durable pack into the rows: after it was sealed, or when the index is rebuilt.

use super::tables::{CHUNKS, NODES};
use super::{Body, Changes, ChunkRow, Index, IndexError, Mark, NodeRow, PackNumber, Place};
use lifeboat_format::FormatError;
use lifeboat_format::id::{ChunkId, HostId, NodeId};
use lifeboat_format::link::Target;
use lifeboat_format::pack::FooterRecord;
use std::collections::HashMap;

/// Rows of one pack on their way into the index. Nothing is written before [`Filling::write`].
pub struct Filling<'i> {
    index: &'i Index,
    pack: PackNumber,
    batch: u32,
    chunks: HashMap<ChunkId, ChunkRow>,
    nodes: HashMap<NodeId, NodeRow>,
    changes: Changes,
}

impl Index {
    /// Begins to fill in one batch of records of a pack: those from `batch` × [`super::BATCH_ROWS`] on. The caller holds
    /// the lock until it is written.
    pub fn fill(&self, pack: PackNumber, batch: u32) -> Filling<'_> {
        let (chunks, nodes) = (HashMap::new(), HashMap::new());
        Filling { index: self, pack, batch, chunks, nodes, changes: Changes::default() }
    }
}

impl Filling<'_> {
    /// Adds record number `at` of the pack, vouched for by `host`: whom the footer names, or
    /// [`HostId::WITNESSED`] if a second one brought the same bytes before the pack was sealed; that is noted for the
    /// journal. What is there already stays as it is.
    pub fn add(&mut self, record: &FooterRecord, at: u32, host: HostId) -> Result<(), IndexError> {
        let place = self.place(record, at)?;
        match record.record.target {
            Target::Chunk(id) => self.add_chunk(id, record, place, host),
            Target::Node(id) => self.add_node(id, record, place),
        }
    }

    fn place(&self, record: &FooterRecord, at: u32) -> Result<Place, IndexError> {
        let offset = u32::try_from(record.place.offset)
            .map_err(|_| FormatError::field("pack", "offset", record.place.offset, "below 4 GiB"))?;
        Ok(Place { pack: self.pack, record: at, offset, sealed_bytes: record.place.length })
    }

    fn add_chunk(&mut self, id: ChunkId, record: &FooterRecord, place: Place, host: HostId) -> Result<(), IndexError> {
        let row = match self.chunks.remove(&id) {
            Some(row) => Some(row),
            None => self.index.chunk(&id)?,
        };
        let mut row = row.unwrap_or(ChunkRow { mark: Mark::NONE, bodies: Vec::new() });
        let record = &record.record;
        row.add(Body { host, place, digest: record.digest, scope: record.scope, encoder: record.encoder });
        self.chunks.insert(id, row);
        if host == HostId::WITNESSED && record.host != HostId::WITNESSED {
            self.index.note_witnessed(&mut self.changes, place.pack, place.record)?;
        }
        Ok(())
    }

    fn add_node(&mut self, id: NodeId, record: &FooterRecord, place: Place) -> Result<(), IndexError> {
        let row = match self.nodes.remove(&id) {
            Some(row) => Some(row),
            None => self.index.node(&id)?,
        };
        let height = record.record.height;
        let mut row =
            row.unwrap_or(NodeRow { mark: Mark::NONE, places: Vec::new(), height, home: None, shared: false });
        row.add(place);
        self.nodes.insert(id, row);
        Ok(())
    }

    /// Writes all of it at once.
    pub fn write(mut self) -> Result<(), IndexError> {
        for (id, row) in &self.chunks {
            self.index.set_chunk(&mut self.changes, id, row)?;
        }
        for (id, row) in &self.nodes {
            self.index.set_node(&mut self.changes, id, row)?;
        }
        // A pack holds chunks or nodes, and the mark lies beside their rows.
        let table = if self.nodes.is_empty() { CHUNKS } else { NODES };
        self.index.mark_filled(&mut self.changes, table, self.pack, self.batch)?;
        self.index.write(self.changes)
    }
}
