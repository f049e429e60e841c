//! A place in a tree: what stands at it, on to the next, or down into a node.
//!
//! Everything that reads trees does it with a cursor, so what must be checked across nodes is checked here: heights
//! fall, each child ends at the path and has the totals that its parent says, and begins after the child before. It
//! holds one opened node a level, and a tree has at most 16.

use super::entry::Entry;
use super::inner::{Child, Totals};
use super::node::{Node, NodeRef};
use super::path::compare_paths;
use crate::error::FormatError;
use std::cmp::Ordering;

const WHAT: &str = "tree";

/// Where nodes come from: fetched, opened and decoded.
pub trait NodeSource {
    /// Why a node cannot be had.
    type Error: From<FormatError>;

    /// The node that `reference` names, checked against its id and its content hash.
    fn node(&mut self, reference: &NodeRef) -> Result<Node, Self::Error>;
}

impl<S: NodeSource> NodeSource for &mut S {
    type Error = S::Error;

    fn node(&mut self, reference: &NodeRef) -> Result<Node, Self::Error> {
        (**self).node(reference)
    }
}

/// What stands at a cursor.
pub(super) enum Head<'a> {
    /// An entry.
    Entry(&'a Entry),
    /// A node that was not opened.
    Node(&'a Child),
}

/// A place in a tree. It only moves on.
pub(super) struct Cursor {
    levels: Vec<Level>,
    /// The greatest path that was passed.
    last_path: Option<Vec<u8>>,
    /// How much was passed, opened or not.
    passed: Totals,
}

enum Level {
    Inner(std::vec::IntoIter<Child>),
    Leaf(std::vec::IntoIter<Entry>),
}

impl Cursor {
    /// The start of the tree below `root`, which is opened.
    pub fn open<S: NodeSource>(source: &mut S, root: &NodeRef) -> Result<Self, S::Error> {
        let mut cursor = Self { levels: vec![], last_path: None, passed: Totals::default() };
        let node = source.node(root)?;
        let level = cursor.level(root, node)?;
        cursor.levels.extend(level);
        Ok(cursor)
    }

    /// What stands here; nothing at the end of the tree.
    pub fn head(&self) -> Option<Head<'_>> {
        self.levels.last().and_then(Level::head)
    }

    /// How much of the tree stands before this place.
    pub fn passed(&self) -> Totals {
        self.passed
    }

    /// Goes past what stands here, and takes it if it is an entry.
    pub fn pass(&mut self) -> Option<Entry> {
        let entry = match self.levels.last_mut()? {
            Level::Leaf(entries) => entries.next(),
            Level::Inner(children) => {
                let child = children.next()?;
                self.passed = self.passed.plus(child.totals);
                self.last_path = Some(child.last_path);
                None
            }
        };
        if let Some(entry) = &entry {
            self.last_path.get_or_insert_default().clone_from(&entry.path);
            self.passed = self.passed.plus(Totals::of(entry));
        }
        self.leave_ended();
        entry
    }

    /// Opens the node that stands here, if it is one: its first member stands here then. After an error still it does.
    pub fn descend<S: NodeSource>(&mut self, source: &mut S) -> Result<(), S::Error> {
        let Some(Head::Node(child)) = self.head() else { return Ok(()) };
        let node = source.node(&child.node)?;
        check_child(child, &node)?;
        let level = self.level(&child.node, node)?;
        if let Some(Level::Inner(children)) = self.levels.last_mut() {
            children.next();
        }
        self.leave_ended();
        self.levels.extend(level);
        Ok(())
    }

    /// What is in a node that comes next; none if nothing is.
    fn level(&self, reference: &NodeRef, node: Node) -> Result<Option<Level>, FormatError> {
        if node.height() != reference.height {
            return Err(FormatError::field(WHAT, "height", node.height(), reference.height));
        }
        let level = match node {
            Node::Leaf(leaf) => Level::Leaf(leaf.entries.into_iter()),
            Node::Inner(inner) => Level::Inner(inner.children.into_iter()),
            Node::Extents(_) => return Err(FormatError::field(WHAT, "node", "an extent list", "inner or leaf")),
        };
        let first = match level.head() {
            Some(Head::Entry(entry)) => &entry.path,
            Some(Head::Node(child)) => &child.last_path,
            None => return Ok(None),
        };
        if self.last_path.as_ref().is_some_and(|last| compare_paths(last, first) != Ordering::Less) {
            return Err(FormatError::field(WHAT, "first path of a node", "out of order", "after the node before"));
        }
        Ok(Some(level))
    }

    fn leave_ended(&mut self) {
        while self.levels.last().is_some_and(|level| level.head().is_none()) {
            self.levels.pop();
        }
    }
}

impl Level {
    fn head(&self) -> Option<Head<'_>> {
        match self {
            Level::Inner(children) => children.as_slice().first().map(Head::Node),
            Level::Leaf(entries) => entries.as_slice().first().map(Head::Entry),
        }
    }
}

/// Whether a node is what its parent says of it.
fn check_child(child: &Child, node: &Node) -> Result<(), FormatError> {
    let (last_path, totals) = match node {
        Node::Leaf(leaf) => (leaf.entries.last().map(|entry| &entry.path), leaf.totals()),
        Node::Inner(inner) => {
            let totals = Totals::sum(inner.children.iter().map(|child| child.totals));
            (inner.children.last().map(|child| &child.last_path), totals)
        }
        Node::Extents(_) => (None, Totals::default()),
    };
    if last_path != Some(&child.last_path) {
        return Err(FormatError::field(WHAT, "last path of a node", "another one", "the one that its parent names"));
    }
    if totals != child.totals {
        return Err(FormatError::field(WHAT, "totals of a node", "others", "those that its parent names"));
    }
    Ok(())
}
