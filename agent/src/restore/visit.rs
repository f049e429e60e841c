//! Walks what is selected of a granted tree, in order, and puts each entry to its place below the target.

use super::fetch::{FetchError, GrantReader, NodeReader};
use super::selection::{Fate, Selection};
use lifeboat_format::tree::{Entry, EntryKind, Totals, TreeReader, is_within};
use lifeboat_proto::status::Failure;

/// What is done with the entries. Their paths are those below the target.
pub trait Visitor {
    /// A directory that is on the way to the next entry, and not restored itself.
    fn way(&mut self, entry: Entry) -> Result<(), Failure>;
    /// An entry that is restored; `in_tree` is its path in the tree.
    fn entry(&mut self, entry: Entry, in_tree: Vec<u8>) -> Result<(), Failure>;
    /// A part of the tree that cannot be read, up to a path in the tree.
    fn lost(&mut self, up_to: &[u8], why: &FetchError) -> Result<(), Failure>;
}

/// Reads entries of a granted tree.
pub fn tree(reader: &GrantReader) -> TreeReader<NodeReader> {
    TreeReader::new(reader.nodes(), reader.root())
}

/// A path and the directories above it, from the top; not the root.
pub fn ways(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
    ends.map(|end| &path[..end]).filter(|way| !way.is_empty())
}

/// Whether the tree has something below a path, be it without an entry for the path itself: a directory that could not
/// be read itself is a gap, and what is in it may be there.
pub fn has_below(tree: &mut TreeReader<NodeReader>, path: &[u8]) -> Result<bool, FetchError> {
    tree.seek(path);
    let next = tree.next().transpose()?;
    Ok(next.is_some_and(|entry| is_within(&entry.path, path)))
}

/// How much is selected; patterns may leave out some of it. Costs little, however much it is. Blocks.
pub fn totals(reader: &GrantReader, selection: &Selection) -> Result<Totals, Failure> {
    let mut tree = tree(reader);
    let parts = selection.roots().iter().map(|root| tree.totals(root));
    Ok(Totals::sum(parts.collect::<Result<Vec<_>, _>>()?))
}

/// The same in bytes of content, if the tree tells: with patterns it does not, nor where it is damaged on the way.
pub fn content_bytes(reader: &GrantReader, selection: &Selection) -> Option<u64> {
    (!selection.has_patterns()).then(|| totals(reader, selection).ok())?.map(|totals| totals.bytes)
}

/// Shows a visitor all that is selected.
pub fn visit(reader: &GrantReader, selection: &Selection, visitor: &mut impl Visitor) -> Result<(), Failure> {
    let mut walk = Walk { selection, ways: Vec::new() };
    selection.roots().iter().try_for_each(|root| walk.from(root, reader, visitor))
}

struct Walk<'a> {
    selection: &'a Selection,
    /// Directories on the way to what comes next, at their places.
    ways: Vec<Entry>,
}

impl Walk<'_> {
    fn from(&mut self, root: &[u8], reader: &GrantReader, visitor: &mut impl Visitor) -> Result<(), Failure> {
        let mut tree = tree(reader);
        for end in (0..root.len()).filter(|at| root[*at] == b'/') {
            let above = tree.lookup(&root[..end])?;
            above.into_iter().for_each(|above| self.way(above));
        }
        tree.seek(root);
        while let Some(entry) = tree.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(why @ (FetchError::Lost { .. } | FetchError::Format(_))) => {
                    let Some(last) = tree.pass_over_broken() else { return Err(why.into()) };
                    visitor.lost(&last, &why)?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if !is_within(&entry.path, root) {
                break;
            }
            let is_directory = matches!(entry.kind, EntryKind::Directory(_));
            match self.selection.fate(&entry.path, is_directory) {
                Fate::LeftOut if is_directory => tree.skip_subtree(&entry.path),
                Fate::LeftOut => {}
                Fate::Way => self.way(entry),
                Fate::Restored => self.restored(entry, visitor)?,
            }
        }
        Ok(())
    }

    fn way(&mut self, entry: Entry) {
        if let Some(place) = self.selection.place(&entry.path).filter(|place| !place.is_empty()) {
            self.ways.retain(|way| is_within(&place, &way.path));
            self.ways.push(Entry { path: place, ..entry });
        }
    }

    fn restored(&mut self, mut entry: Entry, visitor: &mut impl Visitor) -> Result<(), Failure> {
        let Some(place) = self.selection.place(&entry.path) else { return Ok(()) };
        for way in std::mem::take(&mut self.ways).into_iter().filter(|way| is_within(&place, &way.path)) {
            visitor.way(way)?;
        }
        let in_tree = std::mem::replace(&mut entry.path, place);
        visitor.entry(entry, in_tree)
    }
}
