//! The extents of a file, one after the other, from wherever they are kept.
//!
//! Sub-lists before an offset are passed over by their totals, unopened. Each list that is opened must be as long as
//! the list above says, and stand lower; what was read to its end must be as long as the file. Memory is one opened
//! node a level.

use super::cursor::NodeSource;
use super::entry::{Body, Extent, FileContent};
use super::extents::{ExtentList, SubList};
use super::node::{Node, NodeRef};
use crate::error::FormatError;

const WHAT: &str = "extent list";

/// Reads the extents of one file in order; after an error it has ended. A bundled file has none: its bytes are a range
/// of its bundle.
pub struct ExtentReader<S> {
    source: S,
    levels: Vec<Level>,
    offset: u64,
    seek: u64,
    file_bytes: u64,
    ended: bool,
}

enum Level {
    Extents(std::vec::IntoIter<Extent>),
    Lists(std::vec::IntoIter<SubList>),
}

/// What comes next at some level.
enum Next {
    Extent(Extent),
    List(SubList),
    Nothing,
}

impl<S: NodeSource> ExtentReader<S> {
    /// At the start of a file. For a bundled one the first call of `next` is an error.
    pub fn new(source: S, content: &FileContent) -> Result<Self, S::Error> {
        let mut reader = Self { source, levels: vec![], offset: 0, seek: 0, file_bytes: content.bytes, ended: false };
        match &content.body {
            Body::Empty | Body::Bundled { .. } => {}
            Body::Extents(extents) => reader.levels.push(Level::Extents(extents.clone().into_iter())),
            Body::List(root) => reader.open(root, content.bytes)?,
        }
        Ok(reader)
    }

    /// Passes over all extents that end at or before `offset`, in bytes of the file. There is no way back.
    pub fn seek(&mut self, offset: u64) {
        self.seek = self.seek.max(offset);
    }

    fn step(&mut self) -> Result<Option<(u64, Extent)>, S::Error> {
        loop {
            let next = match self.levels.last_mut() {
                Some(Level::Extents(extents)) => extents.next().map_or(Next::Nothing, Next::Extent),
                Some(Level::Lists(lists)) => lists.next().map_or(Next::Nothing, Next::List),
                None => return self.check_end().map(|()| None).map_err(S::Error::from),
            };
            match next {
                Next::Nothing => drop(self.levels.pop()),
                Next::Extent(extent) => {
                    let begin = self.pass(extent.bytes());
                    if self.offset > self.seek {
                        return Ok(Some((begin, extent)));
                    }
                }
                Next::List(list) if self.offset.saturating_add(list.bytes) <= self.seek => {
                    self.pass(list.bytes);
                }
                Next::List(list) => self.open(&list.node, list.bytes)?,
            }
        }
    }

    /// Where what is passed begins.
    fn pass(&mut self, bytes: u64) -> u64 {
        let begin = self.offset;
        self.offset = self.offset.saturating_add(bytes);
        begin
    }

    fn open(&mut self, reference: &NodeRef, bytes: u64) -> Result<(), S::Error> {
        let node = self.source.node(reference)?;
        let height = node.height();
        let Node::Extents(list) = node else {
            return Err(FormatError::field(WHAT, "node", "of another kind", "extents or lists").into());
        };
        let found = list.bytes()?;
        if found != bytes || height != reference.height {
            let found = format!("{found} bytes at height {height}");
            return Err(FormatError::field(WHAT, "node", found, format!("{bytes} bytes, as named above it")).into());
        }
        self.levels.push(match list {
            ExtentList::Extents(extents) => Level::Extents(extents.into_iter()),
            ExtentList::Lists(lists) => Level::Lists(lists.into_iter()),
        });
        Ok(())
    }

    fn check_end(&self) -> Result<(), FormatError> {
        if self.offset != self.file_bytes {
            return Err(FormatError::field(WHAT, "length of the extents", self.offset, self.file_bytes));
        }
        Ok(())
    }
}

impl<S: NodeSource> Iterator for ExtentReader<S> {
    /// Where the extent begins in the file, in bytes, and the extent.
    type Item = Result<(u64, Extent), S::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.step().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Memory, any_extent, chunk};
    use super::super::{EXTENT_LIST_MAX, EXTENTS_INLINE_MAX, ExtentListBuilder};
    use super::*;
    use proptest::prelude::*;

    fn build(extents: &[Extent]) -> (Memory, FileContent) {
        let mut memory = Memory::default();
        let mut builder = ExtentListBuilder::new();
        let mut sink = |node| memory.put(node);
        for extent in extents {
            builder.push(*extent, &mut sink).unwrap();
        }
        let content = builder.finish(&mut sink).unwrap();
        (memory, content)
    }

    /// Which of `extents` end after `offset`, and where they begin.
    fn from_offset(extents: &[Extent], offset: u64) -> Vec<(u64, Extent)> {
        let mut end = 0;
        let placed = extents.iter().map(|extent| {
            end += extent.bytes();
            (end - extent.bytes(), *extent)
        });
        placed.filter(|(begin, extent)| begin + extent.bytes() > offset).collect()
    }

    fn distinct(count: u64) -> Vec<Extent> {
        (0..count).map(|seed| Extent::Data(chunk(seed, 100_000))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn extents_read_back_from_any_offset(
            few in prop::collection::vec(any_extent(), 0..40), times in 1usize..200, at: prop::sample::Index,
        ) {
            let extents = few.repeat(times);
            let (mut memory, content) = build(&extents);
            prop_assert_eq!(content.check(), Ok(()));
            prop_assert_eq!(matches!(content.body, Body::List(_)), extents.len() > EXTENTS_INLINE_MAX);
            let offset = if content.bytes == 0 { 0 } else { at.index(content.bytes as usize) as u64 };
            let mut reader = ExtentReader::new(&mut memory, &content).unwrap();
            reader.seek(offset);
            let read: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(read, from_offset(&extents, offset));
        }
    }

    #[test]
    fn a_change_within_a_large_file_changes_one_list_and_those_above_it() {
        let before = distinct(50_000);
        let mut after = before.clone();
        after[20_000] = Extent::Data(chunk(1 << 40, 77));
        after.insert(30_000, Extent::Zeros { bytes: 5 });
        let (before, _) = build(&before);
        let (after, content) = build(&after);
        assert!(before.node_count() > 100);
        assert!(after.new_since(&before) <= 12, "{}", after.new_since(&before));
        assert!(matches!(content.body, Body::List(root) if root.height <= 3));
    }

    #[test]
    fn a_seek_opens_one_node_a_level() {
        let extents = distinct(50_000);
        let (mut memory, content) = build(&extents);
        let mut reader = ExtentReader::new(&mut memory, &content).unwrap();
        reader.seek(3_000_000_000);
        assert_eq!(reader.next().unwrap().unwrap(), (3_000_000_000, extents[30_000]));
        drop(reader);
        assert!(memory.opened <= 4, "{}", memory.opened);
    }

    #[test]
    fn one_chunk_repeated_makes_no_tall_tree() {
        let marked = (0..).map(|seed| chunk(seed, 9)).find(|chunk| chunk.content.expose()[6..8] == [0, 0]).unwrap();
        let (_, content) = build(&vec![Extent::Data(marked); 20 * EXTENT_LIST_MAX]);
        assert!(matches!(content.body, Body::List(root) if root.height <= 4), "{content:?}");
    }

    #[test]
    fn a_list_that_is_not_as_long_as_named_is_refused() {
        let (mut memory, mut content) = build(&distinct(500));
        content.bytes += 1;
        assert!(ExtentReader::new(&mut memory, &content).is_err());
        let bundled = Body::Bundled { chunk: chunk(1, 10), offset: 0, hash: [0; 16] };
        let mut reader = ExtentReader::new(&mut memory, &FileContent { bytes: 1, body: bundled }).unwrap();
        assert!(reader.next().unwrap().is_err());
    }
}
