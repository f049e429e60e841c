//! Reads a tree: all of it, from a path on, one subtree, one directory, one entry.
//!
//! What lies before the place that is sought is passed over by the last paths in inner nodes, unopened; so is what
//! lies within the subdirectories of a directory that is listed. Memory is one opened node a level.

use super::cursor::{Cursor, Head, NodeSource};
use super::entry::Entry;
use super::inner::Totals;
use super::node::NodeRef;
use super::path::{compare_paths, is_within, parent};
use std::cmp::Ordering;

/// Gives the entries of a tree, in order, each path once (INV-56). After an error it has ended, until a seek.
pub struct TreeReader<S> {
    source: S,
    root: NodeRef,
    /// None before the root was opened.
    cursor: Option<Cursor>,
    bound: Bound,
    /// Whether the cursor stands at a node that could not be read; without a cursor that is the root.
    broken: bool,
}

/// Where to go on: what stands before it is passed over.
enum Bound {
    None,
    At(Vec<u8>),
    AfterSubtree(Vec<u8>),
    Number(u64),
}

impl Bound {
    /// Whether `path`, and so every path before it, stands before the bound; `end` is how many paths that are.
    fn is_after(&self, path: &[u8], end: u64) -> bool {
        let is_less = |bound| compare_paths(path, bound) == Ordering::Less;
        match self {
            Bound::None => false,
            Bound::At(bound) => is_less(bound),
            Bound::AfterSubtree(bound) => is_within(path, bound) || is_less(bound),
            Bound::Number(number) => end <= *number,
        }
    }
}

impl<S: NodeSource> TreeReader<S> {
    /// Stands at the start of the tree below `root`; opens nothing yet.
    pub fn new(source: S, root: NodeRef) -> Self {
        Self { source, root, cursor: None, bound: Bound::None, broken: false }
    }

    /// Goes to the first entry that is not before `path`, forth or back.
    pub fn seek(&mut self, path: &[u8]) {
        self.cursor = None;
        self.bound = Bound::At(path.to_vec());
        self.broken = false;
    }

    /// Goes to the entry before which there are `number` others, forth or back.
    pub fn seek_number(&mut self, number: u64) {
        self.cursor = None;
        self.bound = Bound::Number(number);
        self.broken = false;
    }

    /// How many entries of the tree stand before the one that came last, read or passed over.
    pub fn number(&self) -> u64 {
        self.passed().entries.saturating_sub(1)
    }

    fn passed(&self) -> Totals {
        self.cursor.as_ref().map(Cursor::passed).unwrap_or_default()
    }

    /// How much is at and below `path`. Opened are the two ways from the root to where that begins and ends.
    pub fn totals(&mut self, path: &[u8]) -> Result<Totals, S::Error> {
        self.seek(path);
        let before = self.before_next()?;
        self.seek(path);
        self.skip_subtree(path);
        Ok(self.before_next()?.minus(before))
    }

    /// Reads an entry, and tells how much stands before it.
    fn before_next(&mut self) -> Result<Totals, S::Error> {
        let next = self.next().transpose()?;
        Ok(self.passed().minus(next.as_ref().map(Totals::of).unwrap_or_default()))
    }

    /// Goes on to the first entry after `path` and everything below it; never back.
    pub fn skip_subtree(&mut self, path: &[u8]) {
        self.bound = Bound::AfterSubtree(path.to_vec());
    }

    /// After an error: goes on to the first entry after the node that could not be read. Returns the last path below that
    /// node; none if nothing of the tree can be read, for its root cannot.
    pub fn pass_over_broken(&mut self) -> Option<Vec<u8>> {
        let cursor = self.cursor.as_mut().filter(|_| self.broken)?;
        let Some(Head::Node(child)) = cursor.head() else { return None };
        let last = child.last_path.clone();
        cursor.pass();
        self.broken = false;
        Some(last)
    }

    /// The entry at `path`, if there is one.
    pub fn lookup(&mut self, path: &[u8]) -> Result<Option<Entry>, S::Error> {
        self.seek(path);
        let found = self.next().transpose()?;
        Ok(found.filter(|entry| entry.path == path))
    }

    /// The entry at `path` and all below it, in order.
    pub fn subtree<'a>(&'a mut self, path: &'a [u8]) -> impl Iterator<Item = Result<Entry, S::Error>> + 'a {
        self.seek(path);
        self.take_while(move |entry| entry.as_ref().map_or(true, |entry| is_within(&entry.path, path)))
    }

    /// The entries right in `directory`, in order. What is below those is passed over.
    pub fn list<'a>(&'a mut self, directory: &'a [u8]) -> impl Iterator<Item = Result<Entry, S::Error>> + 'a {
        self.seek(directory);
        std::iter::from_fn(move || self.next_in(directory).transpose())
    }

    fn next_in(&mut self, directory: &[u8]) -> Result<Option<Entry>, S::Error> {
        while let Some(entry) = self.next().transpose()? {
            if !is_within(&entry.path, directory) {
                return Ok(None);
            }
            if let Some(child) = child_towards(&entry.path, directory) {
                self.skip_subtree(child);
            }
            if parent(&entry.path) == Some(directory) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Option<Entry>, S::Error> {
        let cursor = match &mut self.cursor {
            Some(cursor) => cursor,
            none => none.insert(Cursor::open(&mut self.source, &self.root)?),
        };
        let entry = next_after(&self.bound, cursor, &mut self.source)?;
        self.bound = Bound::None;
        Ok(entry)
    }
}

/// The first entry that the bound is not after.
fn next_after<S: NodeSource>(bound: &Bound, cursor: &mut Cursor, source: &mut S) -> Result<Option<Entry>, S::Error> {
    loop {
        let (path, entries, is_entry) = match cursor.head() {
            None => return Ok(None),
            Some(Head::Entry(entry)) => (&entry.path, 1, true),
            Some(Head::Node(child)) => (&child.last_path, child.totals.entries, false),
        };
        if bound.is_after(path, cursor.passed().entries.saturating_add(entries)) {
            cursor.pass();
        } else if is_entry {
            return Ok(cursor.pass());
        } else {
            cursor.descend(source)?;
        }
    }
}

/// The path right in `directory` through which one gets to `path`, which lies within; none to the directory itself.
pub fn child_towards<'a>(path: &'a [u8], directory: &[u8]) -> Option<&'a [u8]> {
    let begin = if directory.is_empty() { 0 } else { directory.len() + 1 };
    let rest = path.get(begin..).filter(|rest| !rest.is_empty())?;
    let length = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    Some(&path[..begin + length])
}

impl<S: NodeSource> Iterator for TreeReader<S> {
    type Item = Result<Entry, S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let next = self.step().transpose();
        self.broken = matches!(next, Some(Err(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Memory, any_entries, any_path, build, file, sorted};
    use super::super::{Child, Inner, Leaf, Node};
    use super::*;
    use crate::FormatError;
    use proptest::prelude::*;

    fn all(entries: impl Iterator<Item = Result<Entry, FormatError>>) -> Vec<Entry> {
        entries.collect::<Result<_, _>>().unwrap()
    }

    fn kept(entries: &[Entry], keep: impl Fn(&[u8]) -> bool) -> Vec<Entry> {
        entries.iter().filter(|entry| keep(&entry.path)).cloned().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn inv_56_reading_a_part_of_a_tree_equals_filtering_the_list(entries in any_entries(400), path in any_path()) {
            let (mut memory, root) = build(&entries);
            let mut reader = TreeReader::new(&mut memory, root);
            let at = entries.iter().find(|entry| entry.path == path).cloned();
            prop_assert_eq!(reader.lookup(&path).unwrap(), at);
            prop_assert_eq!(all(reader.subtree(&path)), kept(&entries, |at| is_within(at, &path)));
            prop_assert_eq!(all(reader.list(&path)), kept(&entries, |at| parent(at) == Some(&path)));
            let totals = Totals::sum(kept(&entries, |at| is_within(at, &path)).iter().map(Totals::of));
            prop_assert_eq!(reader.totals(&path).unwrap(), totals);
            reader.seek(&path);
            let from = |at: &[u8]| compare_paths(at, &path) != Ordering::Less;
            prop_assert_eq!(all(&mut reader), kept(&entries, from));
        }
    }

    #[test]
    fn each_entry_has_a_number_by_which_it_is_found_again() {
        let entries: Vec<_> = (0..20_000).map(|number| file(&format!("d/{number:06}"), 1)).collect();
        let (mut memory, root) = build(&entries);
        let mut reader = TreeReader::new(&mut memory, root);
        for number in [0, 1, 255, 7_777, 19_999] {
            assert_eq!(reader.lookup(&entries[number].path).unwrap().as_ref(), Some(&entries[number]));
            assert_eq!(reader.number(), number as u64);
            reader.seek_number(number as u64);
            assert_eq!(reader.next().unwrap().unwrap(), entries[number]);
            assert_eq!(reader.number(), number as u64);
        }
        reader.seek_number(20_000);
        assert!(reader.next().is_none());
        drop(reader);
        memory.opened = 0;
        let mut reader = TreeReader::new(&mut memory, root);
        reader.seek_number(12_345);
        assert_eq!(reader.next().unwrap().unwrap(), entries[12_345]);
        drop(reader);
        assert!(memory.opened <= 4, "{}", memory.opened);
    }

    #[test]
    fn listing_a_directory_opens_little_of_what_is_below_it() {
        let deep = (0..4).flat_map(|dir| (0..10_000).map(move |number| file(&format!("top/{dir}/{number:05}"), 1)));
        let dirs = (0..4).map(|dir| file(&format!("top/{dir}"), 0));
        let (mut memory, root) = build(&sorted(deep.chain(dirs)));
        assert!(memory.node_count() > 500);
        assert_eq!(all(TreeReader::new(&mut memory, root).list(b"top")).len(), 4);
        assert!(memory.opened < 30, "{}", memory.opened);
        memory.opened = 0;
        assert!(TreeReader::new(&mut memory, root).lookup(b"top/2/07777").unwrap().is_some());
        assert!(memory.opened <= 4, "{}", memory.opened);
        memory.opened = 0;
        let totals = TreeReader::new(&mut memory, root).totals(b"top/2").unwrap();
        assert_eq!(totals, Totals { entries: 10_001, files: 10_001, bytes: 10_000 });
        assert!(memory.opened <= 8, "{}", memory.opened);
    }

    #[test]
    fn what_lies_below_other_nodes_is_read_though_some_are_lost() {
        let entries: Vec<_> = (0..20_000).map(|number| file(&format!("d/{number:06}"), 1)).collect();
        let (mut memory, root) = build(&entries);
        let nodes = memory.node_count();
        memory.lose(7, &root);
        let mut reader = TreeReader::new(&mut memory, root);
        let (mut found, mut lost) = (Vec::new(), 0..0);
        let mut parts = 0;
        loop {
            match reader.next() {
                None => break,
                Some(Ok(entry)) => found.push(entry),
                Some(Err(_)) => {
                    assert!(reader.next().is_none(), "it has ended");
                    let last = reader.pass_over_broken().unwrap();
                    let end = entries.iter().position(|entry| entry.path == last).unwrap() + 1;
                    lost = lost.end.max(found.last().map_or(0, |entry: &Entry| at(&entries, entry) + 1))..end;
                    assert!(!lost.is_empty() && lost.len() < 10_000, "{lost:?}");
                    parts += 1;
                }
            }
        }
        assert!(parts > 10 && found.len() > 10_000, "{parts} parts, {} entries", found.len());
        assert!(found.is_sorted_by(|a, b| a.path < b.path));
        assert_eq!(reader.number(), 19_999, "what is lost counts");
        drop(reader);
        assert!(memory.opened < nodes, "no node is opened again to go on: {} of {nodes}", memory.opened);
        memory.lose(1, &root);
        let mut reader = TreeReader::new(&mut memory, root);
        while reader.next().is_some_and(|entry| entry.is_err()) {
            assert!(reader.pass_over_broken().is_some());
        }
        let (mut none, _) = build(&[]);
        let mut reader = TreeReader::new(&mut none, root);
        assert!(reader.next().is_some_and(|entry| entry.is_err()) && reader.pass_over_broken().is_none());
    }

    fn at(entries: &[Entry], entry: &Entry) -> usize {
        entries.iter().position(|other| other == entry).unwrap()
    }

    #[test]
    fn ten_thousand_levels_are_read_without_recursion() {
        let path = "d/".repeat(10_000);
        let paths = (1..=10_000).step_by(20).map(|depth| file(&path[..2 * depth - 1], 1));
        let entries: Vec<_> = paths.collect();
        let (mut memory, root) = build(&entries);
        let mut reader = TreeReader::new(&mut memory, root);
        assert_eq!(all(&mut reader), entries);
        assert_eq!(all(reader.list(b"d")), []);
        let deep = &path.as_bytes()[..2 * 9_500 - 1];
        assert_eq!(all(reader.subtree(deep)), kept(&entries, |at| is_within(at, deep)));
    }

    /// Reads a tree of two leaves of two files each, with the inner node changed by `change`.
    fn forged(names: [[&str; 2]; 2], change: impl FnOnce(&mut Vec<Child>)) -> Result<Vec<Entry>, FormatError> {
        let mut memory = Memory::default();
        let child = |names: [&str; 2]| {
            let leaf = Leaf { entries: names.map(|name| file(name, 1)).to_vec() };
            let (last_path, totals) = (names[1].into(), leaf.totals());
            Child { node: memory.put(Node::Leaf(leaf)).unwrap(), last_path, totals }
        };
        let mut children = names.map(child).to_vec();
        change(&mut children);
        let root = memory.put(Node::Inner(Inner { children }))?;
        TreeReader::new(&mut memory, root).collect()
    }

    #[test]
    fn inv_56_a_node_that_is_not_what_its_parent_says_is_refused() {
        let forged_child = |change: fn(&mut Vec<Child>)| forged([["a", "b"], ["c", "d"]], change);
        assert_eq!(forged_child(|_| {}).unwrap().len(), 4);
        assert!(forged_child(|children| children[0].last_path = b"a".to_vec()).is_err());
        assert!(forged_child(|children| children[0].last_path = b"bb".to_vec()).is_err());
        assert!(forged_child(|children| children[1].totals.bytes = 9).is_err());
        assert!(forged_child(|children| children[1].node = children[0].node).is_err());
        assert!(forged_child(|children| children[1].node.height = 2).is_err());
    }

    #[test]
    fn inv_56_nodes_that_overlap_are_refused() {
        assert!(forged([["a", "c"], ["b", "d"]], |_| {}).is_err());
        assert!(forged([["a", "c"], ["c", "d"]], |_| {}).is_err());
    }
}
