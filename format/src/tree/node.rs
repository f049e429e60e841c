//! A node: what every one of them has in common, and the bytes that are sealed.
//!
//! # Layout
//! | bytes | field   | value                                                                                   |
//! | ----- | ------- | --------------------------------------------------------------------------------------- |
//! | 1     | kind    | 1 leaf, 2 inner, 3 extents of a file, 4 lists of extents                                  |
//! | 1     | version | 1                                                                                       |
//! | …     | table   | what the reader of this node needs to open each of its links (`table`)                  |
//! | …     | body    | by kind: `leaf`, `inner`, `extents`                                                     |
//!
//! There is one encoding for each node, and the decoder refuses every other, by encoding again what it has read.

use super::extents::{self, ExtentList};
use super::inner::{self, Inner};
use super::leaf::{self, Leaf};
use super::table::{TableReader, TableWriter};
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{ChunkId, NodeId, Scope};
use crate::key::ContentHash;
use crate::link::Link;

const WHAT: &str = "tree node";
const VERSION: u8 = 1;
const LEAF: u8 = 1;
const INNER: u8 = 2;
const EXTENTS: u8 = 3;
const LISTS: u8 = 4;

/// All that is needed to fetch one chunk, open it and check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkRef {
    /// Its name.
    pub id: ChunkId,
    /// Whose keys sealed it.
    pub scope: Scope,
    /// The hash of its plaintext, which opens it.
    pub content: ContentHash,
    /// The length of its plaintext, 1 to `CHUNK_BYTES_MAX`.
    pub bytes: u32,
}

/// All that is needed to fetch one node, open it and check it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeRef {
    /// Its name.
    pub id: NodeId,
    /// Whose keys sealed it.
    pub scope: Scope,
    /// The hash of its plaintext, which opens it.
    pub content: ContentHash,
    /// 1 + the greatest height among its links, 1 if it has none; at most 16.
    pub height: u8,
}

/// One node of a tree, open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A run of entries.
    Leaf(Leaf),
    /// A run of leaves or of inner nodes.
    Inner(Inner),
    /// A run of extents of one large file, or of lists of them.
    Extents(ExtentList),
}

impl Node {
    /// Its links, in the order of their first use, and its plaintext. To be readable it must pass [`Node::check`].
    pub fn encode(&self) -> (Vec<Link>, Vec<u8>) {
        let mut table = TableWriter::default();
        let mut body = Encoder::new();
        let kind = match self {
            Node::Leaf(leaf) => {
                leaf::encode(leaf, &mut table, &mut body);
                LEAF
            }
            Node::Inner(inner) => {
                inner::encode(inner, &mut table, &mut body);
                INNER
            }
            Node::Extents(ExtentList::Extents(list)) => {
                extents::encode_extents(list, &mut table, &mut body);
                EXTENTS
            }
            Node::Extents(ExtentList::Lists(lists)) => {
                extents::encode_lists(lists, &mut table, &mut body);
                LISTS
            }
        };
        let mut plaintext = Encoder::new();
        plaintext.u8(kind).u8(VERSION);
        let links = table.finish(&mut plaintext);
        plaintext.raw(&body.finish());
        (links, plaintext.finish())
    }

    /// Reads a node that was opened. Whatever does not pass [`Node::check`], or has another encoding than the one
    /// that [`Node::encode`] makes, is refused.
    pub fn decode(links: &[Link], plaintext: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new(WHAT, plaintext);
        let kind = decoder.u8("kind")?;
        let version = decoder.u8("version")?;
        if version != VERSION {
            return Err(FormatError::Version { what: WHAT, found: version.into(), known: "1" });
        }
        let mut table = TableReader::read(links, &mut decoder)?;
        let mut has_more = false;
        let node = match kind {
            LEAF => {
                let (leaf, has_further_fields) = leaf::decode(&mut table, &mut decoder)?;
                has_more = has_further_fields;
                Node::Leaf(leaf)
            }
            INNER => Node::Inner(inner::decode(&mut table, &mut decoder)?),
            EXTENTS => Node::Extents(extents::decode_extents(&mut table, &mut decoder)?),
            LISTS => Node::Extents(extents::decode_lists(&mut table, &mut decoder)?),
            unknown => return Err(FormatError::field(WHAT, "kind", unknown, "1 to 4")),
        };
        decoder.end()?;
        node.check()?;
        // What a later version put into further fields is gone from `node`.
        if has_more {
            return Ok(node);
        }
        let (same_links, same_plaintext) = node.encode();
        if same_links != links || same_plaintext != plaintext {
            return Err(FormatError::field(WHAT, "encoding", "another one", "the one that its content has"));
        }
        Ok(node)
    }

    /// Whether it keeps every limit and every rule that can be checked on it alone.
    pub fn check(&self) -> Result<(), FormatError> {
        match self {
            Node::Leaf(leaf) => leaf.check(),
            Node::Inner(inner) => inner.check(),
            Node::Extents(list) => list.check(),
        }
    }

    /// 1 + the greatest height among its links, 1 if it has none.
    pub fn height(&self) -> u8 {
        let below = match self {
            Node::Leaf(leaf) => leaf.entries.iter().filter_map(|entry| entry.list()).map(|list| list.height).max(),
            Node::Inner(inner) => inner.children.iter().map(|child| child.node.height).max(),
            Node::Extents(ExtentList::Extents(_)) => None,
            Node::Extents(ExtentList::Lists(lists)) => lists.iter().map(|list| list.node.height).max(),
        };
        below.unwrap_or(0).saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Extent;
    use super::super::testing::{any_node, chunk};
    use super::*;
    use crate::link::node_height;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_node_reads_back_and_stands_where_its_links_say(node in any_node()) {
            prop_assert_eq!(node.check(), Ok(()));
            let (links, plaintext) = node.encode();
            prop_assert_eq!(node_height(&links), Ok(node.height()));
            prop_assert_eq!(Node::decode(&links, &plaintext), Ok(node));
        }

        #[test]
        fn inv_09_no_plaintext_makes_the_decoder_panic(kind in 0u8..6, bytes: Vec<u8>) {
            let plaintext = [vec![kind, VERSION], bytes].concat();
            let _ = Node::decode(&[], &plaintext);
        }

        #[test]
        fn inv_09_changed_bytes_are_refused_or_are_the_one_encoding_of_another_node(
            node in any_node(), at: prop::sample::Index, change: u8, cut: bool,
        ) {
            let (links, mut plaintext) = node.encode();
            let at = at.index(plaintext.len());
            if cut {
                plaintext.truncate(at);
            } else {
                plaintext[at] = plaintext[at].wrapping_add(change);
            }
            if let Ok(other) = Node::decode(&links, &plaintext) {
                prop_assert_eq!(other.encode(), (links, plaintext));
            }
        }

        #[test]
        fn inv_13_links_that_are_not_those_of_the_plaintext_are_refused(node in any_node(), at: prop::sample::Index) {
            let (mut links, plaintext) = node.encode();
            prop_assert!(Node::decode(&[links.clone(), vec![Link::chunk(Scope::new(1), ChunkId::from_bytes([9; 32]))]].concat(), &plaintext).is_err());
            if !links.is_empty() {
                links.remove(at.index(links.len()));
                prop_assert!(Node::decode(&links, &plaintext).is_err());
            }
        }
    }

    #[test]
    fn inv_55_an_unknown_version_or_kind_is_refused() {
        assert!(matches!(Node::decode(&[], &[LEAF, 2]), Err(FormatError::Version { found: 2, .. })));
        assert!(matches!(Node::decode(&[], &[5, VERSION]), Err(FormatError::Field { field: "kind", .. })));
    }

    #[test]
    fn inv_19_a_node_that_names_one_chunk_by_two_links_is_refused() {
        let chunk = chunk(1, 5);
        let node = Node::Extents(ExtentList::Extents(vec![Extent::Data(chunk); 2]));
        let laid_out = |links: usize, codes: [u8; 2]| {
            let table = [chunk.content.expose().repeat(links), vec![5; links]].concat();
            let plaintext = [&[EXTENTS, VERSION], &table[..], &[2], &codes].concat();
            Node::decode(&vec![Link::chunk(chunk.scope, chunk.id); links], &plaintext)
        };
        assert_eq!(laid_out(1, [2, 3]), Ok(node));
        assert!(matches!(laid_out(2, [2, 2]), Err(FormatError::Field { field: "encoding", .. })));
    }
}
