//! One snapshot of the mount: opened when somebody first looks into it, and opened anew when its coordinator was away.
//!
//! Reading blocks. Whatever the coordinator does, an answer or an error comes within [`PATIENCE`] for what is asked and
//! as long again for a new grant: within a minute.

use super::cache::{Lately, Shared};
use crate::cli::reading::{Opened, RESTORE, Snapshots};
use lifeboat_agent::restore::content::bundled;
use lifeboat_agent::restore::fetch::{FetchError, GrantReader, NodeReader};
use lifeboat_format::id::{ChunkId, NodeId};
use lifeboat_format::tree::{
    Attributes, Body, ChunkRef, Completeness, Entry, EntryKind, Extent, ExtentReader, FileContent, Node, NodeRef,
    NodeSource, TreeReader, child_towards, is_within, parent,
};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::SnapshotInfo;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long one answer of the coordinator is waited for.
pub const PATIENCE: Duration = Duration::from_secs(25);
/// How long nobody asks a coordinator that did not answer.
const SILENT_FOR: Duration = Duration::from_secs(5);
/// Nodes that are remembered of a snapshot, at most some ten KiB each.
const NODES_MAX: u64 = 256;
/// Entries that are remembered of a snapshot.
const ENTRIES_MAX: u64 = 1_000;
/// Content that is remembered of all snapshots, in bytes.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// How far is read ahead where a file is read from one end to the other: at first, and at most.
const AHEAD_BYTES: std::ops::RangeInclusive<u64> = 256 << 10..=4 << 20;
/// The kernel asks a little out of order.
const SEQUENCE_SLACK: u64 = 1 << 20;
/// Files of which it is known how they are read.
const FOLLOWED_MAX: u64 = 256;

/// The content that was read lately, of all snapshots.
pub type Chunks = Shared<ChunkId, Vec<u8>>;

/// What all snapshots of a mount have in common.
pub struct Source {
    /// Opens them.
    pub snapshots: tokio::sync::Mutex<Snapshots>,
    /// Where async work runs.
    pub runtime: Handle,
    chunks: Chunks,
    /// When the coordinator, though it was there, did not answer.
    silent_at: Mutex<Option<Instant>>,
}

impl Source {
    /// With nothing read yet.
    pub fn new(snapshots: Snapshots, runtime: Handle) -> Self {
        let (chunks, silent_at) = (Chunks::new(CHUNK_BYTES_MAX), Mutex::default());
        Self { snapshots: tokio::sync::Mutex::new(snapshots), runtime, chunks, silent_at }
    }

    fn open(&self, snapshot: &SnapshotInfo) -> Result<Opened, Failure> {
        let opened = async { self.snapshots.lock().await.open(snapshot, b"", "mount", RESTORE).await };
        let opened = self.runtime.block_on(async { timeout(PATIENCE, opened).await });
        opened.unwrap_or_else(|_| {
            *lock(&self.silent_at) = Some(Instant::now());
            Err(silent())
        })
    }

    /// Who has just waited in vain asks again, for less: that must not take as long once more.
    fn check(&self) -> Result<(), Failure> {
        let is_silent = lock(&self.silent_at).is_some_and(|at| at.elapsed() < SILENT_FOR);
        if is_silent { Err(silent()) } else { Ok(()) }
    }
}

fn silent() -> Failure {
    Failure::new(ErrorClass::Unreachable, "the coordinator does not answer")
}

/// A snapshot that can be looked into.
pub struct Snapshot {
    /// What is known of it without opening it.
    pub info: SnapshotInfo,
    source: Arc<Source>,
    reading: Mutex<Option<Arc<Reading>>>,
}

/// A grant, and what was read with it.
struct Reading {
    reader: GrantReader,
    nodes: Arc<Mutex<Lately<NodeId, Arc<Node>>>>,
    entries: Mutex<Lately<u64, Arc<Entry>>>,
    followed: Mutex<Lately<u64, Followed>>,
}

/// How a file was read last.
#[derive(Clone, Copy, Default)]
struct Followed {
    end: u64,
    ahead: u64,
}

/// Nodes, of which the last ones are remembered.
struct Nodes {
    reader: NodeReader,
    lately: Arc<Mutex<Lately<NodeId, Arc<Node>>>>,
}

impl NodeSource for Nodes {
    type Error = FetchError;

    fn node(&mut self, reference: &NodeRef) -> Result<Node, FetchError> {
        if let Some(node) = lock(&self.lately).get(&reference.id) {
            return Ok(Node::clone(&node));
        }
        let node = self.reader.node(reference)?;
        lock(&self.lately).keep(reference.id, Arc::new(node.clone()), 1);
        Ok(node)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reading {
    fn nodes(&self) -> Nodes {
        Nodes { reader: self.reader.nodes(), lately: self.nodes.clone() }
    }

    fn tree(&self) -> TreeReader<Nodes> {
        TreeReader::new(self.nodes(), self.reader.root())
    }

    fn entry(&self, number: u64) -> Result<Option<Arc<Entry>>, FetchError> {
        if let Some(entry) = lock(&self.entries).get(&number) {
            return Ok(Some(entry));
        }
        let mut tree = self.tree();
        tree.seek_number(number);
        let entry = tree.next().transpose()?.map(Arc::new);
        if let Some(entry) = &entry {
            lock(&self.entries).keep(number, entry.clone(), 1);
        }
        Ok(entry)
    }

    /// The reader forgets sooner where parts of the tree hang than this remembers the parts.
    fn forget(&self) {
        lock(&self.nodes).clear();
        lock(&self.entries).clear();
    }

    /// How far to read ahead of a read.
    fn ahead(&self, number: u64, offset: u64, end: u64) -> u64 {
        let mut followed = lock(&self.followed);
        let before = followed.get(&number).unwrap_or_default();
        let goes_on = before.end > 0 && offset.abs_diff(before.end) <= SEQUENCE_SLACK;
        let ahead = if goes_on { (before.ahead * 2).clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end()) } else { 0 };
        let end = if goes_on { end.max(before.end) } else { end };
        followed.keep(number, Followed { end, ahead }, 1);
        ahead
    }
}

/// Entries right in a directory, and whether some are missing because the tree is damaged there.
pub struct Children {
    /// With their numbers; the last ones of the directory if there are fewer than were asked for.
    pub entries: Vec<(u64, Entry)>,
    /// Parts of the tree that could not be read.
    pub damage: Vec<FetchError>,
}

impl Snapshot {
    /// One that nobody has looked into.
    pub fn new(info: SnapshotInfo, source: Arc<Source>) -> Self {
        Self { info, source, reading: Mutex::default() }
    }

    /// Does something with the tree; again with a new grant if the old one is not good any more or its coordinator was
    /// away.
    fn with<R>(&self, work: impl Fn(&Reading) -> Result<R, FetchError>) -> Result<R, FetchError> {
        self.source.check()?;
        let reading = self.reading(None)?;
        let done = work(&reading);
        match &done {
            Err(FetchError::NotLinked { .. }) => {
                reading.forget();
                work(&reading)
            }
            Err(FetchError::Coordinator(failure))
                if matches!(failure.class, ErrorClass::NotFound | ErrorClass::Refused | ErrorClass::Unreachable) =>
            {
                work(&*self.reading(Some(&reading))?)
            }
            _ => done,
        }
    }

    /// What it is read with; something new if it is still what did not work.
    fn reading(&self, failed: Option<&Arc<Reading>>) -> Result<Arc<Reading>, FetchError> {
        let mut reading = lock(&self.reading);
        match (&*reading, failed) {
            (Some(current), None) => return Ok(current.clone()),
            (Some(current), Some(failed)) if !Arc::ptr_eq(current, failed) => return Ok(current.clone()),
            _ => {}
        }
        let reader = self.source.open(&self.info)?.reader.with_patience(PATIENCE);
        let nodes = Arc::new(Mutex::new(Lately::new(NODES_MAX)));
        let (entries, followed) = (Mutex::new(Lately::new(ENTRIES_MAX)), Mutex::new(Lately::new(FOLLOWED_MAX)));
        let new = Arc::new(Reading { reader, nodes, entries, followed });
        *reading = Some(new.clone());
        Ok(new)
    }

    /// The entry before which there are so many others.
    pub fn entry(&self, number: u64) -> Result<Option<Arc<Entry>>, FetchError> {
        self.with(|reading| reading.entry(number))
    }

    /// The entry at a path, and how many are before it.
    pub fn lookup(&self, path: &[u8]) -> Result<Option<(u64, Entry)>, FetchError> {
        self.with(|reading| {
            let mut tree = reading.tree();
            let found = tree.lookup(path)?;
            Ok(found.map(|entry| (tree.number(), entry)))
        })
    }

    /// The root of the tree.
    pub fn root(&self) -> Result<Entry, FetchError> {
        let none = || {
            let attributes = Attributes { mode: 0o755, ..Attributes::default() };
            Entry { path: Vec::new(), kind: EntryKind::Directory(Completeness::ANCESTOR), attributes }
        };
        Ok(self.lookup(b"")?.map_or_else(none, |(_, entry)| entry))
    }

    /// At most `count` of the entries right in a directory, in order: from its first on, or those after the one with the
    /// number `after`.
    pub fn children(&self, directory: &[u8], after: Option<u64>, count: usize) -> Result<Children, FetchError> {
        self.with(|reading| {
            let mut tree = reading.tree();
            match after {
                None => tree.seek(directory),
                Some(number) => tree.seek_number(number),
            }
            let mut children = Children { entries: Vec::new(), damage: Vec::new() };
            while children.entries.len() < count {
                match tree.next() {
                    None => break,
                    Some(Ok(entry)) if entry.path == directory => {}
                    Some(Ok(entry)) if parent(&entry.path) == Some(directory) => {
                        tree.skip_subtree(&entry.path);
                        let number = tree.number();
                        if after != Some(number) {
                            children.entries.push((number, entry));
                        }
                    }
                    Some(Ok(entry)) if is_within(&entry.path, directory) => {
                        // The directory that it is in was in a part that cannot be read.
                        let lost = child_towards(&entry.path, directory).unwrap_or(&entry.path);
                        tree.skip_subtree(lost);
                    }
                    Some(Ok(_)) => break,
                    Some(Err(error @ (FetchError::Lost { .. } | FetchError::Format(_)))) => {
                        if tree.pass_over_broken().is_none() {
                            return Err(error);
                        }
                        children.damage.push(error);
                    }
                    Some(Err(error)) => return Err(error),
                }
            }
            Ok(children)
        })
    }

    /// Bytes of a file from `offset` on, fewer only at its end.
    pub fn read(&self, number: u64, offset: u64, bytes: u64) -> Result<Vec<u8>, FetchError> {
        self.with(|reading| {
            let entry = reading.entry(number)?;
            let Some(EntryKind::File(file)) = entry.as_ref().map(|entry| &entry.kind) else { return Ok(Vec::new()) };
            let end = offset.saturating_add(bytes).min(file.bytes);
            if offset >= end {
                return Ok(Vec::new());
            }
            let ahead = reading.ahead(number, offset, end);
            self.content(reading, file, offset..end, ahead)
        })
    }

    fn content(
        &self,
        reading: &Reading,
        file: &FileContent,
        range: std::ops::Range<u64>,
        ahead: u64,
    ) -> Result<Vec<u8>, FetchError> {
        if let Body::Bundled { chunk, offset, .. } = &file.body {
            let chunks = self.chunks(reading, &[*chunk], &[])?;
            let bytes = chunks.first().map(|bundle| bundled(bundle, *offset, file.bytes)).transpose()?;
            let within = range.start as usize..range.end as usize;
            return Ok(bytes.and_then(|bytes| bytes.get(within)).unwrap_or_default().to_vec());
        }
        let mut extents = ExtentReader::new(reading.nodes(), file)?;
        extents.seek(range.start);
        let (mut wanted, mut later) = (Vec::new(), Vec::new());
        for extent in extents {
            match extent? {
                (begin, _) if begin >= range.end.saturating_add(ahead) => break,
                (begin, Extent::Data(chunk)) if begin < range.end => wanted.push((begin, chunk)),
                (_, Extent::Data(chunk)) => later.push(chunk),
                (_, Extent::Zeros { .. } | Extent::Hole { .. }) => {}
            }
        }
        let refs: Vec<ChunkRef> = wanted.iter().map(|(_, chunk)| *chunk).collect();
        let mut bytes = vec![0; (range.end - range.start) as usize];
        for ((begin, _), chunk) in wanted.iter().zip(self.chunks(reading, &refs, &later)?) {
            let from = range.start.saturating_sub(*begin) as usize;
            let to = begin.saturating_sub(range.start) as usize;
            let piece = chunk.get(from..).unwrap_or_default();
            let length = piece.len().min(bytes.len().saturating_sub(to));
            bytes[to..to + length].copy_from_slice(&piece[..length]);
        }
        Ok(bytes)
    }

    fn chunks(
        &self,
        reading: &Reading,
        wanted: &[ChunkRef],
        ahead: &[ChunkRef],
    ) -> Result<Vec<Arc<Vec<u8>>>, FetchError> {
        let ids = |chunks: &[ChunkRef]| chunks.iter().map(|chunk| chunk.id).collect::<Vec<_>>();
        let refs: HashMap<ChunkId, ChunkRef> = wanted.iter().chain(ahead).map(|chunk| (chunk.id, *chunk)).collect();
        self.source.chunks.get(&ids(wanted), &ids(ahead), |missing| {
            let missing = missing.iter().filter_map(|id| refs.get(id).copied()).collect();
            let fetched = reading.reader.chunks(missing)?;
            Ok(fetched
                .into_iter()
                .map(|chunk| {
                    let weight = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                    (chunk.map(Arc::new), weight)
                })
                .collect())
        })
    }

    /// The first place from `offset` on that is a hole, or that is none; none if there is no such place. Each file ends
    /// with a hole.
    pub fn seek(&self, number: u64, offset: u64, hole: bool) -> Result<Option<u64>, FetchError> {
        self.with(|reading| {
            let entry = reading.entry(number)?;
            let Some(EntryKind::File(file)) = entry.as_ref().map(|entry| &entry.kind) else { return Ok(None) };
            if offset >= file.bytes {
                return Ok(None);
            }
            if let Body::Extents(_) | Body::List(_) = &file.body {
                let mut extents = ExtentReader::new(reading.nodes(), file)?;
                extents.seek(offset);
                for extent in extents {
                    let (begin, extent) = extent?;
                    if matches!(extent, Extent::Hole { .. }) == hole {
                        return Ok(Some(begin.max(offset)));
                    }
                }
                return Ok(hole.then_some(file.bytes));
            }
            Ok(Some(if hole { file.bytes } else { offset }))
        })
    }
}
