//! Puts the records of a durable pack into the rows: after it was sealed, or when the index is rebuilt.

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
    chunks: HashMap<ChunkId, ChunkRow>,
    nodes: HashMap<NodeId, NodeRow>,
    changes: Changes,
}

impl Index {
    /// Begins to fill in records of a pack. Whoever fills holds the lock until it is written.
    pub fn fill(&self, pack: PackNumber) -> Filling<'_> {
        Filling { index: self, pack, chunks: HashMap::new(), nodes: HashMap::new(), changes: Changes::default() }
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
        if !self.nodes.contains_key(&id) && self.index.node(&id)?.is_none() {
            let height = record.record.height;
            self.nodes.insert(id, NodeRow { mark: Mark::NONE, place, height, home: None, shared: false });
        }
        Ok(())
    }

    /// Writes all of it at once.
    pub fn write(mut self) -> Result<(), IndexError> {
        for (id, row) in &self.chunks {
            self.index.set_chunk(&mut self.changes, id, row)?;
        }
        for (id, row) in &self.nodes {
            self.index.set_node(&mut self.changes, id, Some(row))?;
        }
        self.index.write(self.changes)
    }
}
