//! How long a restore will take: a sample of it is restored beside the target, and thrown away.
//!
//! Small files cost by their number and large ones by their bytes, so there is a sample of either: runs of neighbours, as
//! they come in a restore, and pieces of large files. Which ones is decided by hashes of their paths: the least ones are as
//! good as drawn by lot (bottom-k sampling, Cohen and Kaplan 2007), need one pass, and are the same each time.

use super::engine::restore_these;
use super::fetch::{FetchError, GrantReader};
use super::selection::Selection;
use super::survey::Survey;
use super::visit::{Visitor, tree, visit};
use super::{Options, Progress, Target, Writer, of_disk};
use lifeboat_format::tree::{
    Attributes, Body, EXTENTS_INLINE_MAX, Entry, EntryKind, Extent, ExtentReader, FileContent,
};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Files that are read piece by piece.
const LARGE_BYTES: u64 = 1 << 20;
/// Runs of small entries, and how long one is.
const RUNS: usize = 64;
const RUN_ENTRIES: usize = 256;
/// Large files of which a piece is taken, and how much of each.
const LARGE_FILES: usize = 12;
const PIECE_BYTES: u64 = 12 << 20;

/// How long a restore will take, and what that rests on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// From its beginning to its end.
    pub time: Duration,
    /// Small entries that were restored to find out.
    pub sampled_entries: u64,
    /// Bytes of large files that were.
    pub sampled_bytes: u64,
}

/// Estimates the restore that a survey tells of, which took `surveyed`. `beside` is a directory on the file system of the
/// target: a new one is made in it, and removed. Blocks for some seconds.
pub fn estimate(
    reader: &GrantReader,
    selection: &Selection,
    survey: &Survey,
    surveyed: Duration,
    beside: &Path,
) -> Result<Estimate, Failure> {
    let mut sampler = Sampler::default();
    visit(reader, selection, &mut sampler)?;
    sampler.close_run();
    // The reader may have forgotten by now where their content hangs.
    let look_again = |path: &[u8]| tree(reader).lookup(path).map(|_| ());
    let (mut small, mut pieces) = (Vec::new(), Vec::new());
    for run in sampler.runs.into_values() {
        let ends = run.first().into_iter().chain(run.last());
        ends.into_iter().try_for_each(|(_, in_tree)| look_again(in_tree))?;
        small.extend(run.into_iter().map(|(entry, _)| entry));
    }
    for (content, at, in_tree) in sampler.large.into_values() {
        look_again(&in_tree)?;
        pieces.extend(piece_of(reader, &content, at)?);
    }
    let bytes = |entries: &[Entry]| entries.iter().map(length).fold(0, u64::saturating_add);
    let (sampled_entries, sampled_bytes) = (small.len() as u64, bytes(&pieces));
    // What is there already costs its comparison; only the rest is fetched and written.
    let all_bytes = sampler.small_bytes.saturating_add(sampler.large_bytes);
    let part = if all_bytes == 0 { 1.0 } else { survey.fetch_bytes.min(all_bytes) as f64 / all_bytes as f64 };
    let for_small = timed(reader, selection, small, beside)?.mul_f64(share(sampler.small_entries, sampled_entries));
    let for_large = timed(reader, selection, pieces, beside)?.mul_f64(share(sampler.large_bytes, sampled_bytes));
    // The restore will walk the tree and compare what is there too.
    Ok(Estimate { time: (for_small + for_large).mul_f64(part) + surveyed, sampled_entries, sampled_bytes })
}

fn share(all: u64, sampled: u64) -> f64 {
    if sampled == 0 { 0.0 } else { all as f64 / sampled as f64 }
}

fn length(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File(content) => content.bytes,
        _ => 0,
    }
}

/// Restores entries, one beside the other, into a directory that is gone afterwards.
fn timed(reader: &GrantReader, selection: &Selection, entries: Vec<Entry>, beside: &Path) -> Result<Duration, Failure> {
    if entries.is_empty() {
        return Ok(Duration::ZERO);
    }
    let directory = tempfile::Builder::new().prefix(".lifeboat-sample-").tempdir_in(beside);
    let directory = directory.map_err(|error| of_disk(&error))?;
    let target = Target::open(directory.path()).map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    let writer = Writer::new(target, Options::default()).map_err(|error| of_disk(&error))?;
    let renamed = (0..).zip(entries).map(|(at, entry): (u64, Entry)| {
        // What forbids changes would stay for ever.
        let attributes = Attributes { flags: 0, ..entry.attributes };
        Entry { path: format!("{at:010}").into_bytes(), kind: entry.kind, attributes }
    });
    let begun = Instant::now();
    restore_these(reader, selection, renamed.collect(), writer, &Progress::default())?;
    Ok(begun.elapsed())
}

/// Some chunks of a large file, from `at` on, as files of their own.
fn piece_of(reader: &GrantReader, content: &FileContent, at: u64) -> Result<Vec<Entry>, FetchError> {
    let mut extents = ExtentReader::new(reader.nodes(), content)?;
    extents.seek(at);
    let (mut files, mut body, mut taken) = (Vec::new(), Vec::new(), 0);
    for extent in extents {
        let (_, extent @ Extent::Data(_)) = extent? else { continue };
        taken = u64::saturating_add(taken, extent.bytes());
        body.push(extent);
        if body.len() == EXTENTS_INLINE_MAX {
            files.push(std::mem::take(&mut body));
        }
        if taken >= PIECE_BYTES {
            break;
        }
    }
    files.push(body);
    let file = |extents: Vec<Extent>| {
        let bytes = extents.iter().map(Extent::bytes).fold(0, u64::saturating_add);
        let kind = EntryKind::File(FileContent { bytes, body: Body::Extents(extents) });
        let attributes = Attributes { mode: 0o600, ..Attributes::default() };
        Entry { path: Vec::new(), kind, attributes }
    };
    Ok(files.into_iter().filter(|extents| !extents.is_empty()).map(file).collect())
}

/// Draws the samples, and counts.
#[derive(Default)]
struct Sampler {
    small_entries: u64,
    small_bytes: u64,
    large_bytes: u64,
    /// Runs by the hash of their first path, with the paths in the tree.
    runs: BTreeMap<[u8; 32], Vec<(Entry, Vec<u8>)>>,
    run: Vec<(Entry, Vec<u8>)>,
    /// Large files by the hash of their path: content, where in it the piece begins, the path in the tree.
    large: BTreeMap<[u8; 32], (FileContent, u64, Vec<u8>)>,
}

impl Sampler {
    fn close_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if let Some((first, _)) = run.first() {
            let hash = *blake3::hash(&first.path).as_bytes();
            self.runs.insert(hash, run);
            if self.runs.len() > RUNS {
                self.runs.pop_last();
            }
        }
    }
}

impl Visitor for Sampler {
    fn way(&mut self, _: Entry) -> Result<(), Failure> {
        Ok(())
    }

    fn entry(&mut self, entry: Entry, in_tree: Vec<u8>) -> Result<(), Failure> {
        match &entry.kind {
            EntryKind::File(content)
                if content.bytes > LARGE_BYTES && !matches!(content.body, Body::Bundled { .. }) =>
            {
                self.large_bytes = self.large_bytes.saturating_add(content.bytes);
                let hash = blake3::hash(&entry.path);
                let [low, ..] = hash.as_bytes().as_chunks::<8>().0 else { return Ok(()) };
                let at = u64::from_le_bytes(*low) % content.bytes.saturating_sub(PIECE_BYTES).max(1);
                self.large.insert(*hash.as_bytes(), (content.clone(), at, in_tree));
                if self.large.len() > LARGE_FILES {
                    self.large.pop_last();
                }
            }
            EntryKind::File(_) | EntryKind::Symlink { .. } | EntryKind::Directory(_) => {
                self.small_entries += 1;
                self.small_bytes = self.small_bytes.saturating_add(length(&entry));
                self.run.push((entry, in_tree));
                if self.run.len() == RUN_ENTRIES {
                    self.close_run();
                }
            }
            // A further name costs as much as a small file, about.
            _ => self.small_entries += 1,
        }
        Ok(())
    }

    fn lost(&mut self, _: &[u8], _: &FetchError) -> Result<(), Failure> {
        Ok(())
    }
}
