//! Trees to test with: entries of every kind, paths that sort in surprising ways.

use super::*;
use crate::FormatError;
use crate::id::{ChunkId, NodeId, Scope};
use crate::key::{ContentHash, GroupSecret, ScopeKeys};
use crate::link::{Link, node_height};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::HashMap;

const NAMES: &[&[u8]] = &[b"a", b"a-b", b"a.b", b"a!", b"b", b"\x01", b"ab", b"\xff", b"...", b"a b"];

/// A chunk that is another one for each `seed`, with a content hash that is spread evenly.
pub(super) fn chunk(seed: u64, bytes: u32) -> ChunkRef {
    let hash = *blake3::hash(&seed.to_le_bytes()).as_bytes();
    ChunkRef { id: ChunkId::from_bytes(hash), scope: Scope::new(1), content: ContentHash::from_bytes(hash), bytes }
}

/// A node, likewise.
pub(super) fn node_ref(seed: u64, height: u8) -> NodeRef {
    let ChunkRef { id, scope, content, .. } = chunk(seed, 1);
    NodeRef { id: NodeId::from_bytes(*id.as_bytes()), scope, content, height }
}

/// Short paths of few names, the root among them; their names sort before and after '/'.
pub(super) fn any_path() -> impl Strategy<Value = Vec<u8>> {
    vec(select(NAMES), 0..5).prop_map(|names| names.join(&b'/'))
}

/// An entry that passes its check.
pub(super) fn any_entry() -> impl Strategy<Value = Entry> {
    (any_path(), any_kind(), any_attributes()).prop_map(|(path, kind, attributes)| match kind {
        EntryKind::HardLink { .. } if path.is_empty() => Entry { path, kind: EntryKind::Fifo, attributes },
        EntryKind::HardLink { .. } => {
            let to = parent(&path).unwrap_or_default().to_vec();
            Entry { path, kind: EntryKind::HardLink { to }, attributes: Attributes::default() }
        }
        kind => Entry { path, kind, attributes },
    })
}

fn any_kind() -> impl Strategy<Value = EntryKind> {
    let device = || (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Device { major, minor });
    prop_oneof![
        (0u8..32).prop_map(|bits| EntryKind::Directory(Completeness::from_bits(bits))),
        any_content().prop_map(EntryKind::File),
        vec(1u8.., 1..9).prop_map(|target| EntryKind::Symlink { target }),
        Just(EntryKind::Fifo),
        Just(EntryKind::Socket),
        device().prop_map(EntryKind::CharDevice),
        device().prop_map(EntryKind::BlockDevice),
        Just(EntryKind::HardLink { to: vec![] }),
    ]
}

fn any_content() -> impl Strategy<Value = FileContent> {
    let bundled = (0u64..5, 0u32..50_000, 1u64..16_384, any::<[u8; 16]>()).prop_map(|(seed, offset, bytes, hash)| {
        FileContent { bytes, body: Body::Bundled { chunk: chunk(seed, 70_000), offset, hash } }
    });
    let extents = vec(any_extent(), 1..=EXTENTS_INLINE_MAX).prop_map(|extents| FileContent {
        bytes: extents.iter().map(Extent::bytes).sum(),
        body: Body::Extents(extents),
    });
    let list = (1..1u64 << 50, 0u64..3, 1u8..4)
        .prop_map(|(bytes, seed, height)| FileContent { bytes, body: Body::List(node_ref(seed, height)) });
    prop_oneof![Just(FileContent { bytes: 0, body: Body::Empty }), bundled, extents, list]
}

/// One of few chunks, or zeros, or a hole.
pub(super) fn any_extent() -> impl Strategy<Value = Extent> {
    prop_oneof![
        (0u64..9).prop_map(|seed| Extent::Data(chunk(seed, 70_000 + seed as u32))),
        (1..1u64 << 40).prop_map(|bytes| Extent::Zeros { bytes }),
        (1..1u64 << 40).prop_map(|bytes| Extent::Hole { bytes }),
    ]
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let time = || (any::<i64>(), 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Time { seconds, nanos });
    let owner = (0u32..3, select(vec!["", "root", "www-data"]), 0u32..2);
    let names = prop::collection::btree_map("user\\.[a-c]", vec(any::<u8>(), 0..5), 0..3);
    (0u16..0o10000, owner, time(), prop::option::of(time()), names).prop_map(|(mode, owner, mtime, btime, xattrs)| {
        let (number, name, flags) = owner;
        let xattr = |(name, value): (String, _)| Xattr { name: name.into_bytes(), value };
        Attributes {
            mode,
            uid: number,
            gid: number,
            owner: name.into(),
            group: name.into(),
            mtime,
            btime,
            xattrs: xattrs.into_iter().map(xattr).collect(),
            flags,
        }
    })
}

/// Up to `most` entries, sorted, each path once.
pub(super) fn any_entries(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(any_entry(), 0..=most).prop_map(sorted)
}

/// A node of any kind that passes its check.
pub(super) fn any_node() -> impl Strategy<Value = Node> {
    let leaf = || any_entries(20).prop_map(|entries| Node::Leaf(Leaf { entries }));
    let inner = any_entries(20).prop_map(|entries| {
        let children = entries.into_iter().enumerate().map(|(at, entry)| Child {
            node: node_ref(at as u64, 1 + at as u8 % 3),
            totals: Totals::of(&entry),
            last_path: entry.path,
        });
        Node::Inner(Inner { children: children.collect() })
    });
    let inner = inner.prop_filter("not empty", |node| node.check().is_ok());
    let extents = vec(any_extent(), 1..50).prop_map(|list| Node::Extents(ExtentList::Extents(list)));
    let list = (0u64..5, 1..1u64 << 50).prop_map(|(seed, bytes)| SubList { node: node_ref(seed, 2), bytes });
    let lists = vec(list, 1..50).prop_map(|lists| Node::Extents(ExtentList::Lists(lists)));
    prop_oneof![leaf(), leaf(), inner, extents, lists]
}

/// Keys, always the same.
pub(super) fn keys() -> ScopeKeys {
    let secret = GroupSecret::from_bytes([7; 32]);
    ScopeKeys::derive(&secret, &secret)
}

/// A file of so many bytes at `path`.
pub(super) fn file(path: &str, bytes: u64) -> Entry {
    let body = if bytes == 0 { Body::Empty } else { Body::Extents(vec![Extent::Hole { bytes }]) };
    let kind = EntryKind::File(FileContent { bytes, body });
    Entry { path: path.into(), kind, attributes: Attributes::default() }
}

/// In the order of a tree; of equal paths the first stays.
pub(super) fn sorted(entries: impl IntoIterator<Item = Entry>) -> Vec<Entry> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by(|a, b| compare_paths(&a.path, &b.path));
    entries.dedup_by(|a, b| a.path == b.path);
    entries
}

/// The leaves of a tree of these entries.
pub(super) fn leaves(entries: &[Entry]) -> Vec<Leaf> {
    let keys = keys();
    let mut cutter = LeafCutter::new(&keys);
    let mut leaves: Vec<Leaf> = vec![];
    for entry in entries {
        if cutter.begins_leaf(&entry.path, entry.metadata_bytes()) {
            leaves.push(Leaf::default());
        }
        leaves.last_mut().unwrap().entries.push(entry.clone());
    }
    leaves
}

/// A tree of these entries, and where it is kept.
pub(super) fn build(entries: &[Entry]) -> (Memory, NodeRef) {
    let keys = keys();
    let mut memory = Memory::default();
    let mut builder = TreeBuilder::new(&keys);
    for leaf in leaves(entries) {
        builder.push_leaf(leaf, &mut |node| memory.put(node)).unwrap();
    }
    let (root, _) = builder.finish(&mut |node| memory.put(node)).unwrap();
    (memory, root)
}

/// Keeps nodes encoded, not sealed, and counts how often one is opened.
#[derive(Default)]
pub(super) struct Memory {
    nodes: HashMap<NodeId, (Vec<Link>, Vec<u8>)>,
    pub opened: usize,
}

impl Memory {
    pub fn put(&mut self, node: Node) -> Result<NodeRef, FormatError> {
        node.check()?;
        let (links, plaintext) = node.encode();
        let hash = *blake3::hash(&plaintext).as_bytes();
        let id = NodeId::from_bytes(hash);
        let height = node_height(&links)?;
        self.nodes.insert(id, (links, plaintext));
        Ok(NodeRef { id, scope: Scope::new(1), content: ContentHash::from_bytes(hash), height })
    }

    /// Loses every `nth` node but this root.
    pub fn lose(&mut self, nth: usize, root: &NodeRef) {
        let mut ids: Vec<_> = self.nodes.keys().copied().filter(|id| *id != root.id).collect();
        ids.sort();
        ids.iter().step_by(nth).for_each(|id| drop(self.nodes.remove(id)));
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn largest_plaintext(&self) -> usize {
        self.nodes.values().map(|(_, plaintext)| plaintext.len()).max().unwrap_or(0)
    }

    pub fn merge(&mut self, other: Self) {
        self.nodes.extend(other.nodes);
    }

    pub fn new_since(&self, before: &Self) -> usize {
        self.nodes.keys().filter(|id| !before.nodes.contains_key(id)).count()
    }
}

impl NodeSource for Memory {
    type Error = FormatError;

    fn node(&mut self, reference: &NodeRef) -> Result<Node, FormatError> {
        self.opened += 1;
        let missing = FormatError::Broken { what: "tree node", check: "existence" };
        let (links, plaintext) = self.nodes.get(&reference.id).ok_or(missing)?;
        Node::decode(links, plaintext)
    }
}
