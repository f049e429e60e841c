//! Walks the granted tree and fills the files, several at once.
//!
//! One thread walks and makes entries; for each batch of small files it asks for their chunks at once (a bundle that
//! several files share once), so they are on their way while workers open and write the batches before. A large file
//! is a job of its own, read piece by piece. The queue is short: what is in memory is a few batches, however many
//! files there are. A chunk that is lost costs the files that need it; a coordinator that is lost ends the restore.

use super::fetch::{GrantReader, NodeReader};
use super::fill::{self, Job, Surroundings, small_chunks};
use super::{Existing, FileSlot, Progress, Report, Step, Writer, of_disk};
use crate::descriptors;
use lifeboat_format::id::ChunkId;
use lifeboat_format::tree::{Body, ChunkRef, Entry, EntryKind, FileContent, TreeReader, is_within, name};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes of distinct chunks at which a batch is closed.
const BATCH_BYTES: u64 = 4 << 20;
/// Files at which a batch is closed, at most.
const BATCH_FILES_MAX: usize = 256;
/// Each holds a descriptor, and its directory another.
const DESCRIPTORS_PER_FILE: u64 = 2;
/// Batches that are being collected, and one that a worker has just taken.
const BATCHES_COLLECTED: usize = 3;
/// What else is open: directories that lead to where the walk is, connections, the program.
const DESCRIPTORS_APART: u64 = 200;
/// Longer files are read piece by piece.
const SMALL_BYTES: u64 = 1 << 20;
/// Jobs that wait for a worker.
const JOBS_WAITING: usize = 2;
/// More workers than this bring nothing: opening is fast, the disk is not.
const WORKERS_MAX: usize = 8;

/// Restores the entry at a path: a directory takes the target's place, with all below it; anything else goes into the
/// target under its name.
///
/// # Errors
/// The coordinator cannot be asked, or the disk is full. What is lost otherwise is in the report.
pub fn restore(reader: &GrantReader, root: Entry, writer: Writer, progress: &Progress) -> Result<Report, Failure> {
    match root.kind {
        EntryKind::Directory => directory(reader, &root.path, writer, progress),
        _ => single(reader, root, writer, progress),
    }
}

fn directory(reader: &GrantReader, path: &[u8], writer: Writer, progress: &Progress) -> Result<Report, Failure> {
    with_workers(reader, path, writer, progress, |walk| {
        let mut tree = tree(reader);
        for entry in tree.subtree(path) {
            let mut entry = entry?;
            let outside = rebase(&mut entry, path);
            walk.add(entry, outside)?;
        }
        Ok(())
    })
}

fn single(reader: &GrantReader, mut entry: Entry, writer: Writer, progress: &Progress) -> Result<Report, Failure> {
    with_workers(reader, b"", writer, progress, |walk| {
        let first = match &entry.kind {
            EntryKind::HardLink { to } => Some(to.clone()),
            _ => None,
        };
        entry.path = name(&entry.path).to_vec();
        walk.add(entry, first)
    })
}

fn tree(reader: &GrantReader) -> TreeReader<NodeReader> {
    TreeReader::new(reader.nodes(), reader.root())
}

/// Puts the entry below the target. If it is a further name of a file outside `root`, says which file.
fn rebase(entry: &mut Entry, root: &[u8]) -> Option<Vec<u8>> {
    let below = |path: &[u8]| match root.len() {
        0 => path.to_vec(),
        bytes => path.get(bytes + 1..).unwrap_or_default().to_vec(),
    };
    entry.path = below(&entry.path);
    match &mut entry.kind {
        EntryKind::HardLink { to } if is_within(to, root) => {
            *to = below(to);
            None
        }
        EntryKind::HardLink { to } => Some(to.clone()),
        _ => None,
    }
}

/// A path below the target, as it stands in the whole tree.
fn in_tree(path: &[u8], root: &[u8]) -> Vec<u8> {
    if root.is_empty() { path.to_vec() } else { [root, b"/", path].concat() }
}

/// Makes entries, and hands files to the workers.
struct Walk<'a> {
    reader: &'a GrantReader,
    /// The directory of the tree whose place the target takes.
    root: &'a [u8],
    writer: Writer,
    jobs: SyncSender<Job>,
    stopped: &'a Mutex<Option<Failure>>,
    /// So many files make a batch.
    batch_files: usize,
    files: Vec<(FileSlot, FileContent)>,
    chunks: HashMap<ChunkId, ChunkRef>,
    chunk_bytes: u64,
    /// Small files that are there already.
    there: Vec<(Existing, FileContent)>,
    there_bytes: u64,
    /// Files outside the restore that got a name in it: which one. Only files with several names are here.
    outside: HashMap<Vec<u8>, Vec<u8>>,
}

fn with_workers(
    reader: &GrantReader,
    root: &[u8],
    writer: Writer,
    progress: &Progress,
    walk_all: impl FnOnce(&mut Walk<'_>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let (jobs, queue) = sync_channel(JOBS_WAITING);
    let (queue, stopped) = (Mutex::new(queue), Mutex::new(None));
    let workers = thread::available_parallelism().map_or(2, |count| count.get().clamp(2, WORKERS_MAX));
    thread::scope(|scope| {
        for _ in 0..workers {
            let around = Surroundings { reader, progress, stopped: &stopped };
            let queue = &queue;
            scope.spawn(move || fill::work(queue, around));
        }
        let (files, chunks, there, outside) = Default::default();
        let batch_files = batch_files(descriptors::limit(), workers);
        let stopped = &stopped;
        let mut walk = Walk {
            reader,
            root,
            writer,
            jobs,
            stopped,
            batch_files,
            files,
            chunks,
            chunk_bytes: 0,
            there,
            there_bytes: 0,
            outside,
        };
        let walked = walk_all(&mut walk).and_then(|()| walk.close_batches());
        let Walk { writer, jobs, files, there, .. } = walk;
        drop((jobs, files, there));
        if let Err(failure) = walked {
            writer.stop();
            return Err(failure);
        }
        writer.wait();
        let failure = stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(failure) => {
                writer.stop();
                Err(failure)
            }
            None => writer.finish().map_err(|error| of_disk(&error)),
        }
    })
}

/// So many files that with all batches which wait, are written and are collected the limit is not reached.
fn batch_files(descriptors: u64, workers: usize) -> usize {
    let batches = (workers + JOBS_WAITING + BATCHES_COLLECTED) as u64;
    let fitting = descriptors.saturating_sub(DESCRIPTORS_APART) / (batches * DESCRIPTORS_PER_FILE);
    fitting.clamp(1, BATCH_FILES_MAX as u64) as usize
}

impl Walk<'_> {
    /// Makes an entry whose path lies below the target. `first` names the file in the whole tree that it is a further
    /// name of, if that file is not in the restore.
    fn add(&mut self, entry: Entry, first: Option<Vec<u8>>) -> Result<(), Failure> {
        if let Some(failure) = &*self.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure.clone());
        }
        let entry = match first {
            None => Some(entry),
            Some(first) => self.named_here(entry, first)?,
        };
        let Some(entry) = entry else { return Ok(()) };
        let (path, kind) = (entry.path.clone(), entry.kind.clone());
        match (self.writer.add(entry), kind) {
            // Its first name was not restored, which is in the report. This one still can be.
            (Step::FirstIsAbsent, EntryKind::HardLink { to }) => {
                let Some(file) = self.file_of(&in_tree(&to, self.root), &path)? else { return Ok(()) };
                let step = self.writer.add(Entry { path, ..file.clone() });
                self.go_on(step, file.kind)
            }
            (step, kind) => self.go_on(step, kind),
        }
    }

    fn go_on(&mut self, step: Step, kind: EntryKind) -> Result<(), Failure> {
        match (step, kind) {
            (Step::Content(slot), EntryKind::File(content)) => self.fill(slot, content),
            (Step::Compare(existing), EntryKind::File(content)) => self.compare(existing, content),
            _ => Ok(()),
        }
    }

    /// The file that `path` is a further name of. If there is none, the tree is damaged there, and the report says so.
    fn file_of(&mut self, first: &[u8], path: &[u8]) -> Result<Option<Entry>, Failure> {
        let found = tree(self.reader).lookup(first)?;
        if found.is_none() {
            self.writer.fail(path, "the file that it is a name of is not in the snapshot");
        }
        Ok(found)
    }

    /// A further name of a file outside the restore: its first name in here is the file, the others are links to it.
    fn named_here(&mut self, entry: Entry, first: Vec<u8>) -> Result<Option<Entry>, Failure> {
        if let Some(here) = self.outside.get(&first) {
            return Ok(Some(Entry { kind: EntryKind::HardLink { to: here.clone() }, ..entry }));
        }
        let Some(file) = self.file_of(&first, &entry.path)? else { return Ok(None) };
        self.outside.insert(first, entry.path.clone());
        Ok(Some(Entry { path: entry.path, ..file }))
    }

    fn compare(&mut self, existing: Existing, content: FileContent) -> Result<(), Failure> {
        if content.bytes > SMALL_BYTES || small_chunks(&content).is_none() {
            return self.send(Job::CompareLarge(existing, content));
        }
        self.there_bytes += content.bytes;
        self.there.push((existing, content));
        if self.there_bytes >= BATCH_BYTES || self.there.len() >= self.batch_files {
            return self.close_comparison();
        }
        Ok(())
    }

    fn close_comparison(&mut self) -> Result<(), Failure> {
        self.there_bytes = 0;
        match std::mem::take(&mut self.there) {
            files if files.is_empty() => Ok(()),
            files => self.send(Job::Compare(files)),
        }
    }

    fn close_batches(&mut self) -> Result<(), Failure> {
        self.close_comparison()?;
        self.close_batch()
    }

    fn fill(&mut self, slot: FileSlot, content: FileContent) -> Result<(), Failure> {
        if content.bytes > SMALL_BYTES && !matches!(content.body, Body::Bundled { .. }) {
            return self.send(Job::Large(slot, content));
        }
        match small_chunks(&content) {
            None => return self.send(Job::Large(slot, content)),
            Some(chunks) => {
                for chunk in chunks {
                    if self.chunks.insert(chunk.id, *chunk).is_none() {
                        self.chunk_bytes += u64::from(chunk.bytes);
                    }
                }
            }
        }
        self.files.push((slot, content));
        if self.chunk_bytes >= BATCH_BYTES || self.files.len() >= self.batch_files {
            return self.close_batch();
        }
        Ok(())
    }

    fn close_batch(&mut self) -> Result<(), Failure> {
        let files = std::mem::take(&mut self.files);
        let chunks: BTreeSet<ChunkId> = self.chunks.keys().copied().collect();
        let mut known = std::mem::take(&mut self.chunks);
        self.chunk_bytes = 0;
        if files.is_empty() {
            return Ok(());
        }
        let chunks = chunks.iter().filter_map(|id| known.remove(id)).collect();
        let pending = self.reader.request(chunks);
        self.send(Job::Batch(files, pending))
    }

    fn send(&self, job: Job) -> Result<(), Failure> {
        let gone = |_| Failure::new(ErrorClass::Internal, "the restore's workers have stopped");
        self.jobs.send(job).map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::tree::Attributes;

    fn link(path: &str, to: &str) -> Entry {
        let time = lifeboat_format::tree::Time { seconds: 0, nanos: 0 };
        let attributes = Attributes {
            mode: 0o644,
            uid: 0,
            gid: 0,
            owner: Vec::new(),
            group: Vec::new(),
            mtime: time,
            btime: None,
            xattrs: Vec::new(),
            flags: 0,
        };
        Entry { path: path.into(), kind: EntryKind::HardLink { to: to.into() }, attributes }
    }

    #[test]
    fn the_files_of_all_batches_stay_within_the_limit_of_descriptors() {
        for (descriptors, workers) in [(256, 2), (1024, 2), (1024, 8), (8192, 8), (1 << 20, 2)] {
            let open = (workers + JOBS_WAITING + BATCHES_COLLECTED) as u64
                * batch_files(descriptors, workers) as u64
                * DESCRIPTORS_PER_FILE;
            assert!(open + DESCRIPTORS_APART <= descriptors, "{descriptors}, {workers}: {open}");
        }
        assert_eq!(batch_files(8192, 8), 256);
    }

    #[test]
    fn a_subtree_takes_the_place_of_the_target_with_its_links() {
        let mut inside = link("etc/ssl/b", "etc/ssl/a");
        assert_eq!(rebase(&mut inside, b"etc/ssl"), None);
        assert_eq!(inside, link("b", "a"));
        let mut whole = link("etc/ssl/b", "etc/ssl/a");
        assert_eq!(rebase(&mut whole, b""), None);
        assert_eq!(whole, link("etc/ssl/b", "etc/ssl/a"));
    }

    #[test]
    fn a_link_to_a_file_outside_the_restore_is_told_apart() {
        let mut outside = link("etc/ssl/b", "etc/ssl-old/a");
        assert_eq!(rebase(&mut outside, b"etc/ssl"), Some(b"etc/ssl-old/a".to_vec()));
        assert_eq!(outside.path, b"b");
    }
}
