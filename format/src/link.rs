//! What a node names in clear: its links, each a chunk or a node further down.
//!
//! The coordinator walks trees by links alone, without a key; the reader's keys bind them, since they are associated
//! data of the node that they stand in (INV-13). What a link means within a file or a directory is for `tree`.
//!
//! # Layout
//! A list of links is a count (`u32`), then 37 bytes a link: height (`u8`), scope (`u32`), id (32 bytes). A chunk has
//! height 0. A node has 1 + the greatest height among its links, 1 if it has none, and at most 16: so a walk ends
//! even in a tree that somebody forged.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{ChunkId, NodeId, Scope};

/// How many bytes a link takes.
pub const LINK_BYTES: usize = 37;

/// How many links a node may have.
pub const LINKS_MAX: usize = 65_536;

/// How high a node may stand above the chunks of its files. Sixteen levels of a dozen links each hold more paths than
/// fit into memory that exists; real trees have four or five.
pub const HEIGHT_MAX: u8 = 16;

const WHAT: &str = "link list";

/// A reference from a node to what lies below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// 0 for a chunk, else the height of the node that it leads to.
    pub height: u8,
    /// Whose keys sealed what it leads to.
    pub scope: Scope,
    /// The bytes of a chunk id or of a node id, as the height says.
    pub id: [u8; 32],
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A sealed chunk.
    Chunk(ChunkId),
    /// A sealed node.
    Node(NodeId),
}

impl Link {
    /// A link to a chunk.
    pub fn chunk(scope: Scope, id: ChunkId) -> Self {
        Self { height: 0, scope, id: *id.as_bytes() }
    }

    /// A link to a node of this `height`, which is at least 1.
    pub fn node(scope: Scope, id: NodeId, height: u8) -> Self {
        Self { height, scope, id: *id.as_bytes() }
    }

    /// What it leads to.
    pub fn target(&self) -> Target {
        match self.height {
            0 => Target::Chunk(ChunkId::from_bytes(self.id)),
            _ => Target::Node(NodeId::from_bytes(self.id)),
        }
    }

    /// Appends its 37 bytes.
    pub fn encode(&self, encoder: &mut Encoder) {
        encoder.u8(self.height).u32(self.scope.get()).raw(&self.id);
    }

    /// Takes 37 bytes. A height from which no node could be made is refused.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let height = decoder.u8("link height")?;
        if height >= HEIGHT_MAX {
            return Err(FormatError::field(decoder.what(), "link height", height, format!("below {HEIGHT_MAX}")));
        }
        let scope = Scope::new(decoder.u32("link scope")?);
        Ok(Self { height, scope, id: decoder.array("link id")? })
    }
}

/// The height of a node with these links, 1 to 16. More links than a node may have, or a link of a height above 15,
/// are refused.
pub fn node_height(links: &[Link]) -> Result<u8, FormatError> {
    check_count(WHAT, links.len())?;
    let highest = links.iter().map(|link| link.height).max().unwrap_or(0);
    if highest >= HEIGHT_MAX {
        return Err(FormatError::field(WHAT, "link height", highest, format!("below {HEIGHT_MAX}")));
    }
    Ok(highest + 1)
}

/// Appends count and links. The caller has checked them with [`node_height`].
pub(crate) fn encode_links(links: &[Link], encoder: &mut Encoder) {
    encoder.u32(links.len() as u32);
    links.iter().for_each(|link| link.encode(encoder));
}

/// Takes count and links; allocates only for links that are there.
pub(crate) fn decode_links(decoder: &mut Decoder<'_>) -> Result<Vec<Link>, FormatError> {
    let count = usize::try_from(decoder.u32("link count")?).unwrap_or(usize::MAX);
    check_count(decoder.what(), count)?;
    let mut table = Decoder::new(decoder.what(), decoder.raw("links", count * LINK_BYTES)?);
    (0..count).map(|_| Link::decode(&mut table)).collect()
}

fn check_count(what: &'static str, count: usize) -> Result<(), FormatError> {
    if count > LINKS_MAX {
        return Err(FormatError::field(what, "link count", count, format!("at most {LINKS_MAX}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn any_link() -> impl Strategy<Value = Link> {
        (0..HEIGHT_MAX, any::<u32>(), any::<[u8; 32]>()).prop_map(|(height, scope, id)| Link {
            height,
            scope: Scope::new(scope),
            id,
        })
    }

    proptest! {
        #[test]
        fn links_read_back(links in proptest::collection::vec(any_link(), 0..20)) {
            let mut encoder = Encoder::new();
            encode_links(&links, &mut encoder);
            let bytes = encoder.finish();
            prop_assert_eq!(bytes.len(), 4 + links.len() * LINK_BYTES);
            let mut decoder = Decoder::new("t", &bytes);
            prop_assert_eq!(decode_links(&mut decoder), Ok(links));
            prop_assert_eq!(decoder.end(), Ok(()));
        }

        #[test]
        fn inv_09_no_bytes_make_the_reader_of_links_panic(bytes: Vec<u8>) {
            let _ = decode_links(&mut Decoder::new("t", &bytes));
        }
    }

    #[test]
    fn a_node_stands_one_above_its_highest_link_and_at_most_at_sixteen() {
        let id = NodeId::from_bytes([7; 32]);
        let link = |height| Link::node(Scope::new(1), id, height);
        assert_eq!(node_height(&[]), Ok(1));
        assert_eq!(node_height(&[Link::chunk(Scope::new(1), ChunkId::from_bytes([7; 32]))]), Ok(1));
        assert_eq!(node_height(&[link(2), link(15), link(1)]), Ok(16));
        assert!(node_height(&[link(16)]).is_err());
        assert!(node_height(&vec![link(1); LINKS_MAX]).is_ok());
        assert!(node_height(&vec![link(1); LINKS_MAX + 1]).is_err());
    }

    #[test]
    fn a_link_of_height_sixteen_and_a_count_beyond_the_limit_are_refused_before_they_are_read() {
        let mut encoder = Encoder::new();
        Link { height: 16, scope: Scope::new(1), id: [0; 32] }.encode(&mut encoder);
        assert!(Link::decode(&mut Decoder::new("t", &encoder.finish())).is_err());
        let count = (LINKS_MAX as u32 + 1).to_le_bytes();
        let refused = decode_links(&mut Decoder::new("t", &count));
        assert!(matches!(refused, Err(FormatError::Field { field: "link count", .. })));
    }
}
