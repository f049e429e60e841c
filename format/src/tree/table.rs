//! The table of links: what a node's plaintext says about each, in their order.
//!
//! Links stand in clear before the sealed part (`link`); the plaintext adds the secret half of each: the content hash
//! (32 bytes), all hashes first; then for each chunk the length of its plaintext (a varint). The number of links is
//! the number in clear. Within the node's body a link is named by a *code*: 0 is the next one that was not named yet,
//! 1 the one named first most recently, and so on back. So links stand in the order of their first use.

use super::node::{ChunkRef, NodeRef};
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::key::ContentHash;
use crate::link::{Link, Target};
use crate::seal::CHUNK_BYTES_MAX;
use std::collections::HashMap;

/// A link, its secret, and for chunks the length of the plaintext (0 for nodes).
type Row = (Link, ContentHash, u32);

/// Collects the links of a node that is being encoded.
#[derive(Default)]
pub(super) struct TableWriter {
    rows: Vec<Row>,
    places: HashMap<Row, usize>,
}

impl TableWriter {
    /// The code that names `chunk`.
    pub fn chunk(&mut self, chunk: &ChunkRef) -> u64 {
        self.code((Link::chunk(chunk.scope, chunk.id), chunk.content, chunk.bytes))
    }

    /// The code that names `node`.
    pub fn node(&mut self, node: &NodeRef) -> u64 {
        self.code((Link::node(node.scope, node.id, node.height), node.content, 0))
    }

    fn code(&mut self, row: Row) -> u64 {
        let next = self.rows.len();
        let place = *self.places.entry(row).or_insert(next);
        if place == next {
            self.rows.push(row);
        }
        (next - place) as u64
    }

    /// Writes the table and gives the links that stand in clear.
    pub fn finish(self, encoder: &mut Encoder) -> Vec<Link> {
        for (_, content, _) in &self.rows {
            encoder.raw(content.expose());
        }
        for (link, _, bytes) in &self.rows {
            if link.height == 0 {
                encoder.varint(u64::from(*bytes));
            }
        }
        self.rows.into_iter().map(|(link, ..)| link).collect()
    }
}

/// Gives the links of a node that is being decoded.
pub(super) struct TableReader {
    what: &'static str,
    rows: Vec<Row>,
    named: usize,
}

impl TableReader {
    /// Reads the table of a node with these links.
    pub fn read(links: &[Link], decoder: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let hashes = decoder.raw("content hashes", links.len().saturating_mul(ContentHash::BYTES))?;
        let mut hashes = Decoder::new(decoder.what(), hashes);
        let mut rows = Vec::with_capacity(links.len());
        for link in links {
            let bytes = if link.height == 0 { chunk_bytes(decoder)? } else { 0 };
            rows.push((*link, ContentHash::from_bytes(hashes.array("content hash")?), bytes));
        }
        Ok(Self { what: decoder.what(), rows, named: 0 })
    }

    /// The chunk that `code` names.
    pub fn chunk(&mut self, code: u64) -> Result<ChunkRef, FormatError> {
        let (link, content, bytes) = self.row(code)?;
        match link.target() {
            Target::Chunk(id) => Ok(ChunkRef { id, scope: link.scope, content, bytes }),
            Target::Node(_) => Err(self.wrong("a node", "a chunk")),
        }
    }

    /// The node that `code` names.
    pub fn node(&mut self, code: u64) -> Result<NodeRef, FormatError> {
        let (link, content, _) = self.row(code)?;
        match link.target() {
            Target::Node(id) => Ok(NodeRef { id, scope: link.scope, content, height: link.height }),
            Target::Chunk(_) => Err(self.wrong("a chunk", "a node")),
        }
    }

    fn row(&mut self, code: u64) -> Result<Row, FormatError> {
        let back = usize::try_from(code).unwrap_or(usize::MAX);
        let row = self.named.checked_sub(back).and_then(|place| self.rows.get(place)).copied();
        if row.is_some() && back == 0 {
            self.named += 1;
        }
        row.ok_or_else(|| self.wrong("beyond the table", "one of the node's links"))
    }

    fn wrong(&self, found: &'static str, allowed: &'static str) -> FormatError {
        FormatError::field(self.what, "reference", found, allowed)
    }
}

fn chunk_bytes(decoder: &mut Decoder<'_>) -> Result<u32, FormatError> {
    let bytes = decoder.bounded("chunk length", CHUNK_BYTES_MAX as u64)?;
    Ok(bytes as u32)
}
