//! Where each part of the tree hangs: which node that was read leads to it, by which of its links.
//!
//! Kept for the nodes that were read last, apart for each height: while the many leaves below an inner node are read,
//! that inner node must not be forgotten for them.

use lifeboat_format::id::NodeId;
use lifeboat_format::link::{Link, Target};
use lifeboat_format::tree::NodeRef;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Links remembered for each height: about 6 MiB.
const LINKS_MAX: usize = 64 << 10;

/// A place that the coordinator serves: a link of a node that it served before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Home {
    /// The node.
    pub node: NodeId,
    /// Which of its links, from 0.
    pub link: u32,
}

/// The homes of everything that the nodes read last lead to.
#[derive(Debug, Default)]
pub struct Homes {
    by_target: HashMap<[u8; 32], Home>,
    by_node: HashMap<NodeId, Vec<[u8; 32]>>,
    nodes_below: HashMap<NodeId, Vec<Option<NodeId>>>,
    heights: BTreeMap<u8, Height>,
}

#[derive(Debug, Default)]
struct Height {
    oldest_first: VecDeque<NodeId>,
    links: usize,
}

impl Homes {
    /// Where this chunk or node hangs.
    pub fn of(&self, target: &[u8; 32]) -> Option<Home> {
        self.by_target.get(target).copied()
    }

    /// The node at a link of another one.
    pub fn node_at(&self, node: NodeId, link: u32) -> Option<(NodeId, Home)> {
        let below = *self.nodes_below.get(&node)?.get(link as usize)?;
        below.map(|id| (id, Home { node, link }))
    }

    /// A node was read.
    pub fn remember(&mut self, node: &NodeRef, links: &[Link]) {
        if self.by_node.contains_key(&node.id) {
            return;
        }
        for (link, target) in (0_u32..).zip(links) {
            self.by_target.insert(target.id, Home { node: node.id, link });
        }
        let below = |link: &Link| match link.target() {
            Target::Node(id) => Some(id),
            Target::Chunk(_) => None,
        };
        self.by_node.insert(node.id, links.iter().map(|link| link.id).collect());
        self.nodes_below.insert(node.id, links.iter().map(below).collect());
        let height = self.heights.entry(node.height).or_default();
        height.oldest_first.push_back(node.id);
        height.links += links.len();
        self.forget_oldest(node.height);
    }

    /// Keeps within the limit; the node that came last always stays.
    fn forget_oldest(&mut self, height: u8) {
        let Some(height) = self.heights.get_mut(&height) else { return };
        while height.links > LINKS_MAX && height.oldest_first.len() > 1 {
            let Some(oldest) = height.oldest_first.pop_front() else { return };
            self.nodes_below.remove(&oldest);
            let targets = self.by_node.remove(&oldest).unwrap_or_default();
            height.links -= targets.len();
            for target in targets {
                if self.by_target.get(&target).is_some_and(|home| home.node == oldest) {
                    self.by_target.remove(&target);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::Scope;
    use lifeboat_format::key::ContentHash;

    fn node(number: u32, height: u8) -> NodeRef {
        let mut id = [height; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        let content = ContentHash::from_bytes([0; 32]);
        NodeRef { id: NodeId::from_bytes(id), scope: Scope::new(1), content, height }
    }

    fn chunk(number: u32) -> [u8; 32] {
        let mut id = [0xcc; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        id
    }

    fn chunk_links(numbers: std::ops::Range<u32>) -> Vec<Link> {
        numbers.map(|number| Link { height: 0, scope: Scope::new(1), id: chunk(number) }).collect()
    }

    #[test]
    fn memory_is_bounded_and_an_inner_node_outlives_many_leaves() {
        let mut homes = Homes::default();
        let leaf = node(7, 1);
        let up = Link { height: 1, scope: Scope::new(1), id: *leaf.id.as_bytes() };
        homes.remember(&node(0, 2), &[up]);
        for number in 0..1000 {
            homes.remember(&node(1000 + number, 1), &chunk_links(256 * number..256 * (number + 1)));
        }
        assert!(homes.by_target.len() <= LINKS_MAX + 1);
        assert_eq!(homes.of(leaf.id.as_bytes()), Some(Home { node: node(0, 2).id, link: 0 }));
        assert_eq!(homes.node_at(node(0, 2).id, 0).map(|(id, _)| id), Some(leaf.id));
        assert_eq!(homes.of(&chunk(0)), None);
        assert_eq!(homes.of(&chunk(256 * 1000 - 1)), Some(Home { node: node(1999, 1).id, link: 255 }));
        assert_eq!(homes.node_at(node(1999, 1).id, 0), None, "a chunk is no node");
    }
}
