//! From leaves to the root: the inner levels of a tree.
//!
//! Leaves come in the order of their paths, made anew or taken over from an older tree; what comes out depends on
//! them alone. Where leaves end is for `boundary`; memory is one unfinished node a level.

use super::inner::{Child, Inner, Totals};
use super::leaf::Leaf;
use super::node::{Node, NodeRef};
use super::pyramid::{Part, Pyramid};
use super::{LEAF_ENTRIES_MEAN, NODE_ENTRIES_MAX, NODE_METADATA_BYTES_MAX};
use crate::key::ScopeKeys;

impl Part for Child {
    const MEAN_BITS: u32 = LEAF_ENTRIES_MEAN.ilog2();
    const LEAST: usize = 2;
    const MOST: usize = NODE_ENTRIES_MAX;
    const WEIGHT_MAX: usize = NODE_METADATA_BYTES_MAX;

    fn node(children: Vec<Self>) -> Node {
        Node::Inner(Inner { children })
    }

    fn above(node: NodeRef, children: &[Self]) -> Self {
        let last_path = children.last().map(|child| child.last_path.clone()).unwrap_or_default();
        Child { node, last_path, totals: Totals::sum(children.iter().map(|child| child.totals)) }
    }

    fn weight(&self) -> usize {
        self.last_path.len()
    }
}

/// Builds a tree from its leaves.
///
/// Nodes that are whole go to a `sink`, which seals and sends them, and gives the reference under which they are
/// found. After an error of the sink the builder is of no use.
#[derive(Clone, Debug)]
pub struct TreeBuilder<'a> {
    keys: &'a ScopeKeys,
    pyramid: Pyramid<Child>,
    totals: Totals,
}

impl<'a> TreeBuilder<'a> {
    /// A tree without leaves.
    pub fn new(keys: &'a ScopeKeys) -> Self {
        Self { keys, pyramid: Pyramid::new(), totals: Totals::default() }
    }

    /// How much is in the tree so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Takes the next leaf. One without entries adds nothing.
    pub fn push_leaf<E>(&mut self, leaf: Leaf, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(), E> {
        let totals = leaf.totals();
        let Some(last_path) = leaf.entries.last().map(|entry| entry.path.clone()) else {
            return Ok(());
        };
        let node = sink(Node::Leaf(leaf))?;
        self.push(Child { node, last_path, totals }, sink)
    }

    /// Takes the next leaf, which is sealed already: all its paths are greater than those of the leaf before.
    pub fn push<E>(&mut self, leaf: Child, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(), E> {
        self.totals = self.totals.plus(leaf.totals);
        let hash = self.keys.boundary_hash(&leaf.last_path);
        self.pyramid.push(leaf, hash, sink)
    }

    /// The root of what there is so far, as if it were all. The build goes on afterwards as if nothing had been.
    pub fn checkpoint<E>(&self, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(NodeRef, Totals), E> {
        self.clone().finish(sink)
    }

    /// The root. It is the leaf if there is one only, and an empty leaf if there is none.
    pub fn finish<E>(self, sink: &mut impl FnMut(Node) -> Result<NodeRef, E>) -> Result<(NodeRef, Totals), E> {
        let root = match self.pyramid.finish(sink)? {
            Some(root) => root.node,
            None => sink(Node::Leaf(Leaf::default()))?,
        };
        Ok((root, self.totals))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Memory, any_entries, build, file, keys, sorted};
    use super::super::{PATH_BYTES_MAX, TreeReader, compare_paths};
    use super::*;
    use crate::FormatError;
    use proptest::prelude::*;

    fn read(memory: &mut Memory, root: NodeRef) -> Vec<super::super::Entry> {
        TreeReader::new(memory, root).collect::<Result<_, FormatError>>().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn inv_56_a_tree_holds_every_entry_once_in_order(entries in any_entries(300)) {
            let (mut memory, root) = build(&entries);
            prop_assert_eq!(read(&mut memory, root), entries);
        }
    }

    #[test]
    fn a_tree_of_nothing_is_an_empty_leaf_and_one_leaf_is_its_own_root() {
        let (mut memory, root) = build(&[]);
        assert_eq!((root.height, memory.node_count()), (1, 1));
        assert_eq!(read(&mut memory, root), []);
        let (memory, root) = build(&[file("a", 1)]);
        assert_eq!((root.height, memory.node_count()), (1, 1));
    }

    #[test]
    fn totals_count_names_files_and_bytes() {
        let keys = keys();
        let mut memory = Memory::default();
        let mut builder = TreeBuilder::new(&keys);
        let entries = vec![file("a", 5), file("b", 7)];
        builder.push_leaf(Leaf { entries }, &mut |node| memory.put(node)).unwrap();
        let totals = Totals { entries: 2, files: 2, bytes: 12 };
        assert_eq!(builder.finish(&mut |node| memory.put(node)).unwrap().1, totals);
    }

    #[test]
    fn inv_19_checkpoints_do_not_change_the_tree_and_are_trees_themselves() {
        let keys = keys();
        let entries = sorted((0..3_000).map(|number| file(&format!("d{}/{number}", number % 7), number)));
        let (_, root) = build(&entries);
        let mut memory = Memory::default();
        let mut builder = TreeBuilder::new(&keys);
        let mut done = 0;
        for leaf in super::super::testing::leaves(&entries) {
            done += leaf.entries.len();
            builder.push_leaf(leaf, &mut |node| memory.put(node)).unwrap();
            let (so_far, totals) = builder.checkpoint(&mut |node| memory.put(node)).unwrap();
            assert_eq!((totals.entries, so_far), (done as u64, build(&entries[..done]).1));
        }
        assert_eq!(builder.finish(&mut |node| memory.put(node)).unwrap().0, root);
    }

    #[test]
    fn the_longest_paths_make_nodes_that_can_be_sealed_and_read() {
        let path = |last: u8| [&b"dir/".repeat(PATH_BYTES_MAX / 4)[..PATH_BYTES_MAX - 2], b"x", &[last]].concat();
        let entries: Vec<_> = (b'a'..b'f').map(|last| file(std::str::from_utf8(&path(last)).unwrap(), 1)).collect();
        assert!(entries.is_sorted_by(|a, b| compare_paths(&a.path, &b.path).is_lt()));
        let (mut memory, root) = build(&entries);
        assert!(memory.largest_plaintext() < crate::seal::NODE_BYTES_MAX);
        assert_eq!(read(&mut memory, root), entries);
    }
}
