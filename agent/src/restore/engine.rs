//! Walks the granted tree and fills the files, several at once.
//!
//! One thread walks and makes entries; for each batch of small files it asks for their chunks at once (a bundle that
//! several files share once), so they are on their way while workers open and write the batches before. A large file
//! is a job of its own, read piece by piece. The queue is short: what is in memory is a few batches, however many
//! files there are. A chunk that is lost costs the files that need it; a coordinator that is lost ends the restore.

use super::fetch::{FetchError, GrantReader};
use super::fill::{self, Job, Surroundings, small_chunks};
use super::selection::Selection;
use super::visit::{Visitor, tree, visit};
use super::{Existing, FileSlot, Progress, Report, Step, Writer, of_disk};
use crate::descriptors;
use lifeboat_format::id::ChunkId;
use lifeboat_format::tree::{Body, ChunkRef, Entry, EntryKind, FileContent};
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

/// Restores what is selected of a granted tree.
///
/// # Errors
/// The coordinator cannot be asked, or the disk is full. What is lost otherwise is in the report.
pub fn restore(
    reader: &GrantReader,
    selection: &Selection,
    writer: Writer,
    progress: &Progress,
) -> Result<Report, Failure> {
    with_workers(reader, selection, writer, progress, |walk| visit(reader, selection, walk))
}

/// Restores these entries and no others: they lie side by side in the target.
pub(super) fn restore_these(
    reader: &GrantReader,
    selection: &Selection,
    entries: Vec<Entry>,
    writer: Writer,
    progress: &Progress,
) -> Result<Report, Failure> {
    with_workers(reader, selection, writer, progress, |walk| {
        entries.into_iter().try_for_each(|entry| walk.entry(entry, Vec::new()))
    })
}

/// Makes entries, and hands files to the workers.
struct Walk<'a> {
    reader: &'a GrantReader,
    selection: &'a Selection,
    writer: Writer,
    jobs: SyncSender<Job>,
    stopped: &'a Mutex<Option<Failure>>,
    progress: &'a Progress,
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
    selection: &Selection,
    writer: Writer,
    progress: &Progress,
    walk_all: impl FnOnce(&mut Walk<'_>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let (jobs, queue) = sync_channel(JOBS_WAITING);
    let (queue, stopped) = (Mutex::new(queue), Mutex::new(None));
    let workers = thread::available_parallelism().map_or(2, |count| count.get().clamp(2, WORKERS_MAX));
    thread::scope(|scope| {
        let around = Surroundings { reader, progress, stopped: &stopped };
        let queue = &queue;
        let at_work: Vec<_> = (0..workers).map(|_| scope.spawn(move || fill::work(queue, around))).collect();
        let (files, chunks, there, outside) = Default::default();
        let batch_files = batch_files(descriptors::limit(), workers);
        let stopped = &stopped;
        let mut walk = Walk {
            reader,
            selection,
            writer,
            jobs,
            stopped,
            progress,
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
        // A file may have landed before its worker has said why it failed.
        for worker in at_work {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        let failure = stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure.or_else(|| writer.check_room().err()) {
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

impl Visitor for Walk<'_> {
    fn way(&mut self, entry: Entry) -> Result<(), Failure> {
        self.writer.pass(entry);
        Ok(())
    }

    fn entry(&mut self, entry: Entry, in_tree: Vec<u8>) -> Result<(), Failure> {
        self.progress.check()?;
        self.writer.check_room()?;
        if let Some(failure) = &*self.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure.clone());
        }
        let entry = match &entry.kind {
            EntryKind::HardLink { to } => self.link(to.clone(), entry)?,
            _ => Some(entry),
        };
        let Some(entry) = entry else { return Ok(()) };
        let (path, kind) = (entry.path.clone(), entry.kind.clone());
        match self.writer.add(entry) {
            // Its first name was not restored, which is in the report. This one still can be.
            Step::FirstIsAbsent => {
                let first = tree(self.reader).lookup(&in_tree)?.and_then(|entry| match entry.kind {
                    EntryKind::HardLink { to } => Some(to),
                    _ => None,
                });
                let Some(file) = self.file_of(&first.unwrap_or_default(), &path)? else { return Ok(()) };
                let step = self.writer.add(Entry { path, ..file.clone() });
                self.go_on(step, file.kind)
            }
            step => self.go_on(step, kind),
        }
    }

    fn lost(&mut self, up_to: &[u8], why: &FetchError) -> Result<(), Failure> {
        self.writer.lose_part(up_to, why);
        Ok(())
    }
}

impl Walk<'_> {
    /// A further name of a file: a link to it if it is restored too; else its first name in here is the file, and the
    /// others are links to it. None if the tree is damaged there.
    fn link(&mut self, to: Vec<u8>, entry: Entry) -> Result<Option<Entry>, Failure> {
        let here = match self.selection.has(&to) {
            true => self.selection.place(&to),
            false => self.outside.get(&to).cloned(),
        };
        if let Some(to) = here {
            return Ok(Some(Entry { kind: EntryKind::HardLink { to }, ..entry }));
        }
        let Some(file) = self.file_of(&to, &entry.path)? else { return Ok(None) };
        self.outside.insert(to, entry.path.clone());
        Ok(Some(Entry { path: entry.path, ..file }))
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
        let found = match tree(self.reader).lookup(first) {
            Ok(found) => found,
            Err(why @ (FetchError::Lost { .. } | FetchError::Format(_))) => {
                self.writer.fail(path, format_args!("the file that it is a name of: {why}"));
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if found.is_none() {
            self.writer.fail(path, "the file that it is a name of is not in the snapshot");
        }
        Ok(found)
    }

    fn compare(&mut self, existing: Existing, content: FileContent) -> Result<(), Failure> {
        if content.bytes > SMALL_BYTES || small_chunks(&content).is_none() {
            return self.send(Job::CompareLarge(existing, content));
        }
        self.there_bytes = self.there_bytes.saturating_add(content.bytes);
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
}
