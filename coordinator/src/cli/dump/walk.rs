//! Walks what is selected, in order, and gives it to an archive, with the content of small files fetched ahead.

use super::content::{Chunks, Content, Stop};
use lifeboat_agent::restore::fetch::{FetchError, GrantReader, PendingChunks};
use lifeboat_agent::restore::{Attribute, Report, Selection, Visitor, small_chunks, tree, visit};
use lifeboat_format::id::ChunkId;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{ChunkRef, Entry, EntryKind};
use lifeboat_proto::status::Failure;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// Bytes of distinct chunks at which a batch is closed.
const BATCH_BYTES: u64 = 4 << 20;
/// Entries at which a batch is closed.
const BATCH_ENTRIES_MAX: usize = 1_000;
/// Batches that are on their way while one is written.
const BATCHES_AHEAD: usize = 2;
/// Longer files are read piece by piece.
const SMALL_BYTES: u64 = 1 << 20;

/// A stream of entries in some format.
pub trait Archive {
    /// Whether further names of a file can be links to it.
    const HAS_HARD_LINKS: bool;

    /// Adds an entry; a regular file comes with its content. What the format cannot carry of it goes into the report.
    /// False if it is left out altogether.
    fn add(&mut self, entry: &Entry, content: Option<&Content<'_>>, report: &mut Report) -> Result<bool, Stop>;
}

/// Writes all that is selected to an archive. `shown` is called with the report now and then.
///
/// # Errors
/// The coordinator cannot be asked, or the archive cannot be written. What is lost otherwise is in the report.
pub fn walk<A: Archive>(
    reader: &GrantReader,
    selection: &Selection,
    archive: &mut A,
    shown: impl FnMut(&Report),
) -> Result<Report, Failure> {
    let (items, chunks, under_way, outside, left_out, report) = Default::default();
    let mut walk = Walk {
        reader,
        selection,
        archive,
        shown,
        items,
        chunks,
        chunk_bytes: 0,
        under_way,
        outside,
        left_out,
        report,
        opener: Opener::new(),
    };
    visit(reader, selection, &mut walk)?;
    walk.close_batch()?;
    while walk.write_first()? {}
    Ok(walk.report)
}

struct Walk<'a, A, S> {
    reader: &'a GrantReader,
    selection: &'a Selection,
    archive: &'a mut A,
    shown: S,
    items: Vec<Item>,
    /// Those of the small files among the items; a bundle that several share once.
    chunks: BTreeMap<ChunkId, ChunkRef>,
    chunk_bytes: u64,
    under_way: VecDeque<(Vec<Item>, PendingChunks)>,
    /// Files outside the selection that got a name in the archive: which one.
    outside: HashMap<Vec<u8>, Vec<u8>>,
    /// Files that are not in the archive, for links to them.
    left_out: HashSet<Vec<u8>>,
    report: Report,
    opener: Opener,
}

struct Item {
    entry: Entry,
    is_small: bool,
    /// Whether it is one file with another one, which the format cannot say.
    lost_link: bool,
}

impl<A: Archive, S: FnMut(&Report)> Visitor for Walk<'_, A, S> {
    fn way(&mut self, entry: Entry) -> Result<(), Failure> {
        self.push(entry, false)
    }

    fn entry(&mut self, entry: Entry, _in_tree: Vec<u8>) -> Result<(), Failure> {
        let EntryKind::HardLink { to } = &entry.kind else { return self.push(entry, false) };
        let here = match self.selection.has(to) {
            true => self.selection.place(to),
            false => self.outside.get(to).cloned(),
        };
        if let (Some(to), true) = (&here, A::HAS_HARD_LINKS) {
            return self.push(Entry { kind: EntryKind::HardLink { to: to.clone() }, ..entry }, false);
        }
        let Some(file) = tree(self.reader).lookup(to)? else {
            self.report.fail(&entry.path, "the file that it is a name of is not in the snapshot");
            return Ok(());
        };
        self.outside.entry(to.clone()).or_insert_with(|| entry.path.clone());
        self.push(Entry { path: entry.path, ..file }, here.is_some())
    }

    fn lost(&mut self, up_to: &[u8], why: &FetchError) -> Result<(), Failure> {
        self.report.fail(up_to, format_args!("this part of the tree cannot be read: {why}"));
        Ok(())
    }
}

impl<A: Archive, S: FnMut(&Report)> Walk<'_, A, S> {
    fn push(&mut self, entry: Entry, lost_link: bool) -> Result<(), Failure> {
        let mut is_small = false;
        if let EntryKind::File(content) = &entry.kind
            && content.bytes <= SMALL_BYTES
            && let Some(chunks) = small_chunks(content)
        {
            is_small = true;
            for chunk in chunks {
                if self.chunks.insert(chunk.id, *chunk).is_none() {
                    self.chunk_bytes += u64::from(chunk.bytes);
                }
            }
        }
        self.items.push(Item { entry, is_small, lost_link });
        if self.chunk_bytes >= BATCH_BYTES || self.items.len() >= BATCH_ENTRIES_MAX {
            self.close_batch()?;
        }
        Ok(())
    }

    fn close_batch(&mut self) -> Result<(), Failure> {
        let chunks = std::mem::take(&mut self.chunks).into_values().collect();
        self.chunk_bytes = 0;
        self.under_way.push_back((std::mem::take(&mut self.items), self.reader.request(chunks)));
        while self.under_way.len() > BATCHES_AHEAD {
            self.write_first()?;
        }
        Ok(())
    }

    /// Writes the batch that was asked for first; false if there is none.
    fn write_first(&mut self) -> Result<bool, Failure> {
        let Some((items, pending)) = self.under_way.pop_front() else { return Ok(false) };
        let refs = pending.refs().to_vec();
        let chunks: Chunks = refs.iter().map(|chunk| chunk.id).zip(pending.wait(&mut self.opener)?).collect();
        for item in &items {
            self.write(item, &chunks)?;
            (self.shown)(&self.report);
        }
        Ok(true)
    }

    fn write(&mut self, item: &Item, chunks: &Chunks) -> Result<(), Failure> {
        let Item { entry, is_small, lost_link } = item;
        let is_there = match &entry.kind {
            EntryKind::File(file) => {
                let content = Content { reader: self.reader, file, chunks: is_small.then_some(chunks) };
                match content.check() {
                    Err(error @ (FetchError::Lost { .. } | FetchError::Format(_))) => {
                        self.report.damaged(&entry.path);
                        self.report.fail(&entry.path, error);
                        false
                    }
                    checked => {
                        checked?;
                        self.archive.add(entry, Some(&content), &mut self.report)?
                    }
                }
            }
            EntryKind::HardLink { to } if self.left_out.contains(to) => {
                self.report.fail(&entry.path, "the file that it is a name of is not in the archive");
                false
            }
            _ => self.archive.add(entry, None, &mut self.report)?,
        };
        if !is_there {
            self.left_out.insert(entry.path.clone());
        } else if *lost_link {
            self.report.lose(&entry.path, Attribute::HardLink, "a zip holds it once for each name");
        }
        Ok(())
    }
}
