//! From extents to the content of a file: in the entry if they are few, else in nodes of their own.
//!
//! A list node ends after a chunk whose content hash, its first 8 bytes little-endian, is below 2^64 / 256, if it has
//! 64 extents by then, and at 1,024 in any case; the levels above are built likewise (`pyramid`). So a change within a
//! large file changes one node and those above it. Memory is one unfinished node a level.

use super::entry::{Body, Extent, FileContent};
use super::extents::{ExtentList, SubList};
use super::node::{Node, NodeRef};
use super::pyramid::{Part, Pyramid};
use super::{EXTENT_LIST_MAX, EXTENT_LIST_MEAN, EXTENT_LIST_MIN, EXTENTS_INLINE_MAX};

// Else a list could have gone to a node that should stand in the entry.
const _: () = assert!(EXTENTS_INLINE_MAX < EXTENT_LIST_MIN);

impl Part for SubList {
    const MEAN_BITS: u32 = EXTENT_LIST_MEAN.ilog2();
    const LEAST: usize = EXTENT_LIST_MIN;
    const MOST: usize = EXTENT_LIST_MAX;
    const WEIGHT_MAX: usize = 0;

    fn node(lists: Vec<Self>) -> Node {
        Node::Extents(ExtentList::Lists(lists))
    }

    fn above(node: NodeRef, lists: &[Self]) -> Self {
        SubList { node, bytes: lists.iter().fold(0, |sum, list| sum.saturating_add(list.bytes)) }
    }

    fn weight(&self) -> usize {
        0
    }
}

/// Collects the extents of one file, in order.
///
/// Nodes that are whole go to a `sink`, as those of a tree do. After an error of the sink the builder is of no use.
#[derive(Clone, Debug)]
pub struct ExtentListBuilder {
    bytes: u64,
    extents: Vec<Extent>,
    lists: Pyramid<SubList>,
    has_lists: bool,
}

impl Default for ExtentListBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ExtentListBuilder {
    /// The start of a file.
    pub fn new() -> Self {
        Self { bytes: 0, extents: vec![], lists: Pyramid::new(), has_lists: false }
    }

    /// How long the file is so far, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next extent.
    pub fn push<E>(&mut self, extent: Extent, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(), E> {
        self.bytes = self.bytes.saturating_add(extent.bytes());
        self.extents.push(extent);
        let marked = boundary_hash(&extent) < u64::MAX / EXTENT_LIST_MEAN as u64;
        let count = self.extents.len();
        if count >= EXTENT_LIST_MAX || marked && count >= EXTENT_LIST_MIN {
            self.end_list(sink)?;
        }
        Ok(())
    }

    /// The content of the file. It is empty without extents; more than 32 are in nodes.
    pub fn finish<E>(mut self, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<FileContent, E> {
        let bytes = self.bytes;
        if self.extents.is_empty() && !self.has_lists {
            return Ok(FileContent { bytes, body: Body::Empty });
        }
        if self.extents.len() <= EXTENTS_INLINE_MAX && !self.has_lists {
            return Ok(FileContent { bytes, body: Body::Extents(self.extents) });
        }
        if !self.extents.is_empty() {
            self.end_list(sink)?;
        }
        let root = self.lists.finish(sink)?;
        let body = root.map_or(Body::Empty, |root| Body::List(root.node));
        Ok(FileContent { bytes, body })
    }

    fn end_list<E>(&mut self, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(), E> {
        let extents = std::mem::take(&mut self.extents);
        let hash = extents.last().map_or(u64::MAX, boundary_hash);
        let bytes = extents.iter().fold(0u64, |sum, extent| sum.saturating_add(extent.bytes()));
        let node = sink(Node::Extents(ExtentList::Extents(extents)))?;
        self.has_lists = true;
        self.lists.push(SubList { node, bytes }, hash, sink)
    }
}

/// Zeros and holes end no list.
fn boundary_hash(extent: &Extent) -> u64 {
    match extent {
        Extent::Data(chunk) => u64::from_le_bytes(std::array::from_fn(|at| chunk.content.expose()[at])),
        Extent::Zeros { .. } | Extent::Hole { .. } => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Memory, chunk};
    use super::*;

    #[test]
    fn no_choice_of_chunks_makes_a_list_too_small() {
        let is_marked = |chunk: &super::super::ChunkRef| boundary_hash(&Extent::Data(*chunk)) < u64::MAX / 1000;
        let marked = (0..).map(|seed| chunk(seed, 9)).find(is_marked).unwrap();
        let mut memory = Memory::default();
        let mut builder = ExtentListBuilder::new();
        let mut lengths = vec![];
        for _ in 0..2 * EXTENT_LIST_MIN + 10 {
            let mut sink = |node: Node| {
                if let Node::Extents(ExtentList::Extents(extents)) = &node {
                    lengths.push(extents.len());
                }
                memory.put(node)
            };
            builder.push(Extent::Data(marked), &mut sink).unwrap();
        }
        assert_eq!(lengths, [EXTENT_LIST_MIN; 2]);
    }
}
