//! What one grant lets its holder read: the granted root, and links of nodes that were served before. Nothing else.
//!
//! A read names a node and numbers of its links, never an id of its own choosing, so the coordinator needs no key to
//! tell what belongs to the tree (INV-42). Which nodes were served is remembered in the index, so a session of any
//! size needs no memory; the links of the last few are kept here, those of others are read again. Pure: reading is
//! for `restore`.

use lifeboat_format::id::{HostId, NodeId};
use lifeboat_format::journal::event::GrantTarget;
use lifeboat_format::link::{Link, Target};
use lifeboat_format::manifest::RootRef;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Nodes whose links are kept.
const NODES_KEPT: usize = 256;
/// Links that are kept, of all these nodes together: some 330 KiB.
const LINKS_KEPT: usize = 8192;

/// A grant that was opened for reading.
#[derive(Debug)]
pub struct Session {
    /// Who may read.
    pub target: GrantTarget,
    /// Whose snapshot it is: what this host brought itself is read first.
    pub owner: HostId,
    /// The granted root.
    pub root: RootRef,
    /// When it ends: nanoseconds since 1970, UTC.
    pub expires_ns: i64,
    links: HashMap<NodeId, Arc<Vec<Link>>>,
    order: VecDeque<NodeId>,
    link_count: usize,
}

/// A read that the grant does not cover, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadDenied {
    /// The time is over.
    #[error("the grant has ended; order a new one")]
    Expired,
    /// The node was not served in this session.
    #[error("links_of.node {node} was not read under this grant")]
    NotServed {
        /// Which.
        node: NodeId,
    },
    /// The node has no such link.
    #[error("links_of.links holds {link}, and node {node} has {links} links")]
    NoSuchLink {
        /// Which node.
        node: NodeId,
        /// Which link was asked for.
        link: u32,
        /// How many it has.
        links: usize,
    },
}

/// Where the links of a node are to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Here.
    Links(Arc<Vec<Link>>),
    /// In its record, if the index says that it was served.
    AskIndex,
}

impl Session {
    /// Nothing was read yet.
    pub fn new(target: GrantTarget, owner: HostId, root: RootRef, expires_ns: i64) -> Self {
        Self { target, owner, root, expires_ns, links: HashMap::new(), order: VecDeque::new(), link_count: 0 }
    }

    /// Whether the grant still holds.
    pub fn check_time(&self, now_ns: i64) -> Result<(), ReadDenied> {
        if now_ns < self.expires_ns { Ok(()) } else { Err(ReadDenied::Expired) }
    }

    /// The links of a node, if it is one of the last that were served.
    pub fn links_of(&self, node: &NodeId) -> Known {
        self.links.get(node).cloned().map_or(Known::AskIndex, Known::Links)
    }

    /// This node was served, or its links read again.
    pub fn keep(&mut self, node: NodeId, links: Arc<Vec<Link>>) {
        let count = links.len();
        if self.links.insert(node, links).is_some() {
            return;
        }
        self.order.push_back(node);
        self.link_count += count;
        while self.order.len() > NODES_KEPT || (self.link_count > LINKS_KEPT && self.order.len() > 1) {
            let oldest = self.order.pop_front().and_then(|oldest| self.links.remove(&oldest));
            self.link_count -= oldest.map_or(0, |links| links.len());
        }
    }
}

/// The link of this number.
pub fn link(node: NodeId, links: &[Link], number: u32) -> Result<Target, ReadDenied> {
    let found = usize::try_from(number).ok().and_then(|at| links.get(at));
    found.map(Link::target).ok_or(ReadDenied::NoSuchLink { node, link: number, links: links.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{ChunkId, Scope};

    fn session() -> Session {
        let root = RootRef { id: NodeId::from_bytes([1; 32]), height: 2, scope: Scope::new(1) };
        Session::new(GrantTarget::LocalClient, HostId::new(1), root, 1_000)
    }

    fn node(number: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        NodeId::from_bytes(bytes)
    }

    #[test]
    fn inv_42_a_link_is_named_by_its_place_in_a_node() {
        let chunk = ChunkId::from_bytes([7; 32]);
        let links = [Link::chunk(Scope::new(1), chunk)];
        assert_eq!(link(node(1), &links, 0), Ok(Target::Chunk(chunk)));
        assert_eq!(link(node(1), &links, 1), Err(ReadDenied::NoSuchLink { node: node(1), link: 1, links: 1 }));
    }

    #[test]
    fn inv_42_a_grant_ends() {
        assert_eq!(session().check_time(999), Ok(()));
        assert_eq!(session().check_time(1_000), Err(ReadDenied::Expired));
    }

    #[test]
    fn links_are_kept_for_the_last_nodes_only() {
        let mut session = session();
        for number in 0..2 * NODES_KEPT as u32 {
            session.keep(node(number), Arc::new(Vec::new()));
        }
        assert_eq!((session.links.len(), session.order.len()), (NODES_KEPT, NODES_KEPT));
        assert_eq!(session.links_of(&node(0)), Known::AskIndex);
        assert_eq!(session.links_of(&node(2 * NODES_KEPT as u32 - 1)), Known::Links(Arc::new(Vec::new())));
        let many = Arc::new(vec![Link::chunk(Scope::new(1), ChunkId::from_bytes([7; 32])); LINKS_KEPT - 1]);
        for number in 1_000..1_003 {
            session.keep(node(number), many.clone());
        }
        assert_eq!((session.links.len(), session.link_count), (1, LINKS_KEPT - 1));
    }
}
