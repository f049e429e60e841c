//! Walks the granted tree and fills the files, several at once.
//!
//! One thread walks and makes entries; for each batch of small files it asks for their chunks at once (a bundle that
//! several files share once), so they are on their way while workers open and write the batches before. A large file
//! is a job of its own, read piece by piece. The queue is short: what is in memory is a few batches, however many
//! files there are. A chunk that is lost costs the files that need it; a coordinator that is lost ends the restore.

use super::of_disk;
use crate::cli::content::{self, Piece};
use crate::cli::reading::{Opened, failed};
use indicatif::ProgressBar;
use lifeboat_agent::restore::fetch::{FetchError, GrantReader, PendingChunks};
use lifeboat_agent::restore::{FileSlot, Report, Step, WriteError, Writer};
use lifeboat_format::FormatError;
use lifeboat_format::id::ChunkId;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{Body, ChunkRef, Entry, EntryKind, Extent, FileContent, is_within, name};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes of distinct chunks at which a batch is closed.
const BATCH_BYTES: u64 = 4 << 20;
/// Files at which a batch is closed: each holds a descriptor.
const BATCH_FILES: usize = 256;
/// Longer files are read piece by piece.
const SMALL_BYTES: u64 = 1 << 20;
/// Jobs that wait for a worker.
const JOBS_WAITING: usize = 2;
/// More workers than this bring nothing: opening is fast, the disk is not.
const WORKERS_MAX: usize = 8;

/// Restores a directory and all below it; the target takes its place.
pub fn directory(opened: &Opened, writer: Writer, bar: &ProgressBar) -> Result<Report, Failure> {
    with_workers(&opened.reader, writer, bar, |walk| {
        let path = &opened.address.path;
        let mut tree = opened.tree();
        for entry in tree.subtree(path) {
            let mut entry = entry.map_err(failed)?;
            let outside = rebase(&mut entry, path);
            walk.add(entry, outside, opened)?;
        }
        Ok(())
    })
}

/// Restores one entry that is no directory, under its name.
pub fn single(opened: &Opened, mut entry: Entry, writer: Writer, bar: &ProgressBar) -> Result<Report, Failure> {
    with_workers(&opened.reader, writer, bar, |walk| {
        let first = match &entry.kind {
            EntryKind::HardLink { to } => Some(to.clone()),
            _ => None,
        };
        entry.path = name(&entry.path).to_vec();
        walk.add(entry, first, opened)
    })
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

/// Small files whose chunks are on their way, or one large file.
enum Job {
    Batch(Vec<(FileSlot, FileContent)>, PendingChunks),
    Large(FileSlot, FileContent),
}

/// Makes entries, and hands files to the workers.
struct Walk<'a> {
    reader: &'a GrantReader,
    writer: Writer,
    jobs: SyncSender<Job>,
    stopped: &'a Mutex<Option<Failure>>,
    files: Vec<(FileSlot, FileContent)>,
    chunks: HashMap<ChunkId, ChunkRef>,
    chunk_bytes: u64,
    /// Files outside the restore that got a name in it: which one. Only files with several names are here.
    outside: HashMap<Vec<u8>, Vec<u8>>,
}

fn with_workers(
    reader: &GrantReader,
    writer: Writer,
    bar: &ProgressBar,
    walk_all: impl FnOnce(&mut Walk<'_>) -> Result<(), Failure>,
) -> Result<Report, Failure> {
    let (jobs, queue) = sync_channel(JOBS_WAITING);
    let (queue, stopped) = (Mutex::new(queue), Mutex::new(None));
    let workers = thread::available_parallelism().map_or(2, |count| count.get().clamp(2, WORKERS_MAX));
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| work(&queue, reader, bar, &stopped));
        }
        let (files, chunks, outside) = Default::default();
        let mut walk = Walk { reader, writer, jobs, stopped: &stopped, files, chunks, chunk_bytes: 0, outside };
        let walked = walk_all(&mut walk).and_then(|()| walk.close_batch());
        let Walk { writer, jobs, files, .. } = walk;
        drop((jobs, files));
        let report = writer.finish().map_err(|error| of_disk(&error));
        walked?;
        match stopped.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure),
            None => report,
        }
    })
}

impl Walk<'_> {
    /// Makes an entry whose path lies below the target. `first` names the file in the whole tree that it is a further
    /// name of, if that file is not in the restore.
    fn add(&mut self, entry: Entry, first: Option<Vec<u8>>, opened: &Opened) -> Result<(), Failure> {
        if let Some(failure) = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failure);
        }
        let entry = match first {
            Some(first) => self.named_here(entry, first, opened)?,
            None => entry,
        };
        let (path, kind) = (entry.path.clone(), entry.kind.clone());
        match (self.writer.add(entry), kind) {
            (Step::Content(slot), EntryKind::File(content)) => self.fill(slot, content),
            // Its first name was not restored, which is in the report. This one still can be.
            (Step::FirstIsAbsent, EntryKind::HardLink { to }) => {
                let first = in_tree(&to, &opened.address.path);
                let file = self.file_of(&first, opened)?;
                match (self.writer.add(Entry { path, ..file.clone() }), file.kind) {
                    (Step::Content(slot), EntryKind::File(content)) => self.fill(slot, content),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn file_of(&self, first: &[u8], opened: &Opened) -> Result<Entry, Failure> {
        let missing =
            || Failure::new(ErrorClass::Damaged, "a further name of a file leads nowhere: the tree is damaged");
        opened.tree().lookup(first).map_err(failed)?.ok_or_else(missing)
    }

    /// A further name of a file outside the restore: its first name in here is the file, the others are links to it.
    fn named_here(&mut self, entry: Entry, first: Vec<u8>, opened: &Opened) -> Result<Entry, Failure> {
        if let Some(here) = self.outside.get(&first) {
            return Ok(Entry { kind: EntryKind::HardLink { to: here.clone() }, ..entry });
        }
        let file = self.file_of(&first, opened)?;
        self.outside.insert(first, entry.path.clone());
        Ok(Entry { path: entry.path, ..file })
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
        if self.chunk_bytes >= BATCH_BYTES || self.files.len() >= BATCH_FILES {
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

/// The chunks of a file without an extent list of its own.
fn small_chunks(content: &FileContent) -> Option<Vec<&ChunkRef>> {
    match &content.body {
        Body::Empty => Some(Vec::new()),
        Body::Bundled { chunk, .. } => Some(vec![chunk]),
        Body::Extents(extents) => Some(extents.iter().filter_map(data).collect()),
        Body::List(_) => None,
    }
}

fn data(extent: &Extent) -> Option<&ChunkRef> {
    match extent {
        Extent::Data(chunk) => Some(chunk),
        Extent::Zeros { .. } | Extent::Hole { .. } => None,
    }
}

/// Why a file was not filled.
#[derive(Debug, thiserror::Error)]
enum FillError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{0}: {cause}", cause = .0.source)]
    Write(#[from] WriteError),
}

type Found = HashMap<ChunkId, Result<Vec<u8>, FetchError>>;

/// Takes jobs until there are none.
fn work(queue: &Mutex<Receiver<Job>>, reader: &GrantReader, bar: &ProgressBar, stopped: &Mutex<Option<Failure>>) {
    let mut opener = Opener::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let ended = match job {
            Ok(Job::Batch(files, pending)) => write_batch(files, pending, &mut opener, bar),
            Ok(Job::Large(slot, content)) => write_large(slot, &content, reader, bar),
            Err(_) => return,
        };
        if let Err(failure) = ended {
            stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}

fn write_batch(
    files: Vec<(FileSlot, FileContent)>,
    pending: PendingChunks,
    opener: &mut Opener,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let ids: Vec<ChunkId> = pending.refs().iter().map(|chunk| chunk.id).collect();
    let found: Found = match pending.wait(opener) {
        Ok(chunks) => ids.into_iter().zip(chunks).collect(),
        Err(error) => {
            files.into_iter().for_each(|(slot, _)| slot.fail(&error));
            return Err(failed(error));
        }
    };
    for (slot, content) in files {
        let filled = fill(&slot, &content, &found);
        settle(slot, filled, content.bytes, bar)?;
    }
    Ok(())
}

fn fill(slot: &FileSlot, content: &FileContent, found: &Found) -> Result<(), FillError> {
    let bytes_of = |chunk: &ChunkRef| match found.get(&chunk.id) {
        Some(Ok(bytes)) => Ok(bytes.as_slice()),
        Some(Err(error)) => Err(error.clone()),
        None => Err(FormatError::Broken { what: "chunk", check: "that all answers come" }.into()),
    };
    match &content.body {
        Body::Bundled { chunk, offset, .. } => {
            let bundle = bytes_of(chunk)?;
            slot.write_at(0, content::bundled(bundle, *offset, content.bytes)?)?;
        }
        Body::Extents(extents) => {
            let mut at = 0;
            for extent in extents {
                at += match extent {
                    Extent::Data(chunk) => {
                        let bytes = bytes_of(chunk)?;
                        slot.write_at(at, bytes)?;
                        bytes.len() as u64
                    }
                    Extent::Zeros { bytes } => {
                        slot.write_zeros(at, *bytes)?;
                        *bytes
                    }
                    Extent::Hole { bytes } => *bytes,
                };
            }
        }
        Body::Empty | Body::List(_) => {}
    }
    Ok(())
}

fn write_large(slot: FileSlot, content: &FileContent, reader: &GrantReader, bar: &ProgressBar) -> Result<(), Failure> {
    let filled = content::read(reader, content, |offset, piece| -> Result<(), FillError> {
        match piece {
            Piece::Data(bytes) => {
                bar.inc(bytes.len() as u64);
                slot.write_at(offset, bytes)?;
            }
            Piece::Zeros(bytes) => slot.write_zeros(offset, bytes)?,
            Piece::Hole(_) => {}
        }
        Ok(())
    });
    settle(slot, filled, 0, bar)
}

/// Finishes a file, or says why it is not restored. Only a coordinator that cannot be asked, or a full disk, ends the
/// restore.
fn settle(slot: FileSlot, filled: Result<(), FillError>, bytes: u64, bar: &ProgressBar) -> Result<(), Failure> {
    match filled {
        Ok(()) => {
            bar.inc(bytes);
            // A failure is in the report.
            let _ = slot.finish();
            Ok(())
        }
        Err(FillError::Fetch(FetchError::Coordinator(failure))) => {
            slot.fail(&failure);
            Err(failure)
        }
        Err(FillError::Write(error)) => {
            let failure = of_disk(&error.source);
            slot.fail(FillError::Write(error));
            if failure.class == ErrorClass::Full { Err(failure) } else { Ok(()) }
        }
        Err(error) => {
            slot.fail(error);
            Ok(())
        }
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
