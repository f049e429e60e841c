//! Inner nodes: runs of leaves, or of inner nodes, each named with the last path below it.
//!
//! The body is the number of children, then for each: how many bytes its last path has in common with the one before
//! (varint), the rest of that path (length and bytes), the totals below it (three varints), the code of its node. So a
//! reader finds a path, and counts what is below a directory, without opening what it does not need.

use super::entry::{Entry, EntryKind, within};
use super::node::NodeRef;
use super::path::{check_path, compare_paths, shared_prefix};
use super::table::{TableReader, TableWriter};
use super::{NODE_ENTRIES_MAX, NODE_METADATA_BYTES_MAX, PATH_BYTES_MAX};
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use std::cmp::Ordering;

const WHAT: &str = "inner node";

/// A run of 1 to [`NODE_ENTRIES_MAX`] children, sorted by their last paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// In the order of their paths.
    pub children: Vec<Child>,
}

/// A node and what can be known of it from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The node.
    pub node: NodeRef,
    /// The greatest path below it.
    pub last_path: Vec<u8>,
    /// How much is below it.
    pub totals: Totals,
}

/// How much is in a tree, or in a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All paths.
    pub entries: u64,
    /// Regular files; further names of one file are not counted.
    pub files: u64,
    /// The lengths of those files together.
    pub bytes: u64,
}

impl Totals {
    /// What one entry adds.
    pub fn of(entry: &Entry) -> Self {
        match &entry.kind {
            EntryKind::File(content) => Self { entries: 1, files: 1, bytes: content.bytes },
            _ => Self { entries: 1, files: 0, bytes: 0 },
        }
    }

    /// Both together; no more than 64 bits hold, which is far more than any disk.
    pub fn plus(self, other: Self) -> Self {
        Self {
            entries: self.entries.saturating_add(other.entries),
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// What is left without a part.
    pub fn minus(self, part: Self) -> Self {
        Self {
            entries: self.entries.saturating_sub(part.entries),
            files: self.files.saturating_sub(part.files),
            bytes: self.bytes.saturating_sub(part.bytes),
        }
    }

    /// All together.
    pub fn sum(parts: impl IntoIterator<Item = Self>) -> Self {
        parts.into_iter().fold(Self::default(), Self::plus)
    }
}

impl Inner {
    /// Whether the children are sorted and keep the limits.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        let children = &self.children;
        within("number of children", children.len() as u64, 1, NODE_ENTRIES_MAX as u64)?;
        children.iter().try_for_each(|child| check_path(&child.last_path))?;
        children.iter().try_for_each(|child| within("entries of a child", child.totals.entries, 1, u64::MAX))?;
        if !children.is_sorted_by(|a, b| compare_paths(&a.last_path, &b.last_path) == Ordering::Less) {
            return Err(FormatError::field(WHAT, "children", "out of order", "sorted by path, each once"));
        }
        let path_bytes = children.iter().map(|child| child.last_path.len()).sum::<usize>();
        check_path_bytes(children.len(), path_bytes)
    }
}

/// Two children of any paths are allowed, so that every tree can be built.
fn check_path_bytes(children: usize, path_bytes: usize) -> Result<(), FormatError> {
    if children > 2 && path_bytes > NODE_METADATA_BYTES_MAX {
        return Err(FormatError::field(WHAT, "paths", path_bytes, format!("at most {NODE_METADATA_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// Writes the body.
pub(super) fn encode(inner: &Inner, table: &mut TableWriter, out: &mut Encoder) {
    out.varint(inner.children.len() as u64);
    let mut before: &[u8] = b"";
    for Child { node, last_path, totals } in &inner.children {
        let shared = shared_prefix(before, last_path);
        out.varint(shared as u64).bytes(&last_path[shared..]);
        out.varint(totals.entries).varint(totals.files).varint(totals.bytes);
        out.varint(table.node(node));
        before = last_path;
    }
}

/// Reads the body.
pub(super) fn decode(table: &mut TableReader, decoder: &mut Decoder<'_>) -> Result<Inner, FormatError> {
    let count = decoder.bounded("children", NODE_ENTRIES_MAX as u64)?;
    let mut children: Vec<Child> = Vec::new();
    let mut path_bytes = 0;
    for _ in 0..count {
        let before = children.last().map_or(&[][..], |child| &child.last_path);
        let last_path = decode_path(before, decoder)?;
        path_bytes += last_path.len();
        check_path_bytes(children.len() + 1, path_bytes)?;
        let entries = decoder.varint("entries")?;
        let totals = Totals { entries, files: decoder.varint("files")?, bytes: decoder.varint("bytes")? };
        children.push(Child { node: table.node(decoder.varint("child")?)?, last_path, totals });
    }
    Ok(Inner { children })
}

fn decode_path(before: &[u8], decoder: &mut Decoder<'_>) -> Result<Vec<u8>, FormatError> {
    let shared = decoder.bounded("shared prefix", before.len() as u64)?;
    let rest = decoder.bytes("path", PATH_BYTES_MAX as u64)?;
    Ok([&before[..shared as usize], rest].concat())
}
