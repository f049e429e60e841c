//! The content of a file as a list of extents, and the nodes that hold long lists.
//!
//! A list in an entry or in a node is written as one varint an extent: 0 zeros, 1 a hole, then a varint of how many
//! bytes; n + 2 the chunk whose code is n (`table`). In a node the number of extents stands before it. A node of lists
//! is the number of lists, then for each its code and how many bytes of the file are below it.

use super::entry::{Body, Extent, FileContent, within};
use super::node::{ChunkRef, NodeRef};
use super::table::{TableReader, TableWriter};
use super::{EXTENT_LIST_MAX, EXTENTS_INLINE_MAX};
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::seal::CHUNK_BYTES_MAX;

const WHAT: &str = "extent list";
/// The greatest offset in a file that systems know.
const FILE_BYTES_MAX: u64 = i64::MAX as u64;
const ZEROS: u64 = 0;
const HOLE: u64 = 1;
const DATA: u64 = 2;

/// A node of a large file's extents: 1 to [`EXTENT_LIST_MAX`] members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentList {
    /// One after the other.
    Extents(Vec<Extent>),
    /// Lists, one after the other.
    Lists(Vec<SubList>),
}

/// A list within a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubList {
    /// Its node.
    pub node: NodeRef,
    /// How many bytes of the file are below it.
    pub bytes: u64,
}

impl Extent {
    /// How many bytes of the file it is.
    pub fn bytes(&self) -> u64 {
        match self {
            Extent::Data(chunk) => u64::from(chunk.bytes),
            Extent::Zeros { bytes } | Extent::Hole { bytes } => *bytes,
        }
    }

    fn check(&self) -> Result<(), FormatError> {
        match self {
            Extent::Data(chunk) => chunk.check(),
            Extent::Zeros { bytes } | Extent::Hole { bytes } => within("extent's length", *bytes, 1, FILE_BYTES_MAX),
        }
    }
}

impl ChunkRef {
    fn check(&self) -> Result<(), FormatError> {
        within("chunk length", self.bytes.into(), 1, CHUNK_BYTES_MAX as u64)
    }
}

impl FileContent {
    /// Whether the body is in order and has as many bytes as the file.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let least = u64::from(self.body != Body::Empty);
        within("file length", self.bytes, least, FILE_BYTES_MAX)?;
        match &self.body {
            Body::Empty => within("empty file's length", self.bytes, 0, 0),
            Body::Bundled { chunk, offset, .. } => {
                chunk.check()?;
                within("end within the bundle", u64::from(*offset).saturating_add(self.bytes), 1, chunk.bytes.into())
            }
            Body::Extents(extents) => {
                within("number of extents", extents.len() as u64, 1, EXTENTS_INLINE_MAX as u64)?;
                extents.iter().try_for_each(Extent::check)?;
                within("length of the extents", sum(extents.iter().map(Extent::bytes))?, self.bytes, self.bytes)
            }
            Body::List(_) => Ok(()),
        }
    }
}

impl ExtentList {
    /// How many bytes of the file it is. A list that passed [`ExtentList::check`] has such a sum.
    pub fn bytes(&self) -> Result<u64, FormatError> {
        match self {
            ExtentList::Extents(extents) => sum(extents.iter().map(Extent::bytes)),
            ExtentList::Lists(lists) => sum(lists.iter().map(|list| list.bytes)),
        }
    }

    /// Whether each member is in order, and all together are a length that a file can have.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let members = match self {
            ExtentList::Extents(extents) => {
                extents.iter().try_for_each(Extent::check)?;
                extents.len()
            }
            ExtentList::Lists(lists) => {
                lists.iter().try_for_each(|list| within("list's length", list.bytes, 1, FILE_BYTES_MAX))?;
                lists.len()
            }
        };
        within("number of members", members as u64, 1, EXTENT_LIST_MAX as u64)?;
        self.bytes().map(drop)
    }
}

/// All lengths together, if a file can be so long.
pub(super) fn sum(mut lengths: impl Iterator<Item = u64>) -> Result<u64, FormatError> {
    let sum = lengths.try_fold(0u64, |sum, bytes| sum.checked_add(bytes)).filter(|sum| *sum <= FILE_BYTES_MAX);
    sum.ok_or_else(|| FormatError::field(WHAT, "length", "beyond 63 bits", format!("at most {FILE_BYTES_MAX}")))
}

/// Writes one extent after the other.
pub(super) fn encode_each(extents: &[Extent], table: &mut TableWriter, out: &mut Encoder) {
    for extent in extents {
        match extent {
            Extent::Zeros { bytes } => out.varint(ZEROS).varint(*bytes),
            Extent::Hole { bytes } => out.varint(HOLE).varint(*bytes),
            Extent::Data(chunk) => out.varint(table.chunk(chunk) + DATA),
        };
    }
}

/// Reads `count` extents.
pub(super) fn decode_each(
    count: u64,
    table: &mut TableReader,
    decoder: &mut Decoder<'_>,
) -> Result<Vec<Extent>, FormatError> {
    let mut extent = || match decoder.varint("extent")? {
        ZEROS => Ok(Extent::Zeros { bytes: decoder.varint("zeros")? }),
        HOLE => Ok(Extent::Hole { bytes: decoder.varint("hole")? }),
        code => table.chunk(code - DATA).map(Extent::Data),
    };
    (0..count).map(|_| extent()).collect()
}

/// Writes the body of a node of extents.
pub(super) fn encode_extents(extents: &[Extent], table: &mut TableWriter, out: &mut Encoder) {
    out.varint(extents.len() as u64);
    encode_each(extents, table, out);
}

/// Reads the body of a node of extents.
pub(super) fn decode_extents(table: &mut TableReader, decoder: &mut Decoder<'_>) -> Result<ExtentList, FormatError> {
    let count = decoder.bounded("extents", EXTENT_LIST_MAX as u64)?;
    decode_each(count, table, decoder).map(ExtentList::Extents)
}

/// Writes the body of a node of lists.
pub(super) fn encode_lists(lists: &[SubList], table: &mut TableWriter, out: &mut Encoder) {
    out.varint(lists.len() as u64);
    for list in lists {
        out.varint(table.node(&list.node)).varint(list.bytes);
    }
}

/// Reads the body of a node of lists.
pub(super) fn decode_lists(table: &mut TableReader, decoder: &mut Decoder<'_>) -> Result<ExtentList, FormatError> {
    let count = decoder.bounded("lists", EXTENT_LIST_MAX as u64)?;
    let mut list = || {
        let node = table.node(decoder.varint("list")?)?;
        Ok(SubList { node, bytes: decoder.varint("list length")? })
    };
    let lists: Result<_, FormatError> = (0..count).map(|_| list()).collect();
    lists.map(ExtentList::Lists)
}
