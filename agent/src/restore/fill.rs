//! Fills files with what was fetched for them: the workers of a restore.
//!
//! What is there already is compared first, and only what differs is fetched. A chunk that cannot be had costs the files
//! that need it; a coordinator that cannot be asked ends the restore, and so does a full disk.

use super::compare::{self, CompareError};
use super::content::{self, Piece};
use super::existing::{Adopted, Existing, Source};
use super::fetch::{FetchError, GrantReader, PendingChunks};
use super::{FileSlot, Progress, WriteError, of_disk};
use crate::walk::Held;
use lifeboat_format::FormatError;
use lifeboat_format::id::ChunkId;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{Body, ChunkRef, Extent, FileContent};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

/// What a worker is to do.
pub enum Job {
    /// Small files, with all their chunks.
    Batch(Vec<(FileSlot, FileContent)>, PendingChunks),
    /// Small files that are there; what they lack is asked for when it is known.
    Compare(Vec<(Existing, FileContent)>),
    /// A large file, read piece by piece.
    Large(FileSlot, FileContent),
    /// A large file that is there.
    CompareLarge(Existing, FileContent),
}

/// The chunks of a file without an extent list of its own.
pub fn small_chunks(content: &FileContent) -> Option<Vec<&ChunkRef>> {
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
    #[error(transparent)]
    Compare(#[from] CompareError),
}

/// What every worker needs.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Where content comes from.
    pub reader: &'a GrantReader,
    /// Whom to tell.
    pub progress: &'a Progress,
    /// Why the restore ends early, once it does.
    pub stopped: &'a Mutex<Option<Failure>>,
}

/// Takes jobs until there are none.
pub fn work(queue: &Mutex<Receiver<Job>>, around: Surroundings<'_>) {
    let mut opener = Opener::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if around.stopped.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            put_off(job);
            continue;
        }
        let ended = match job {
            Job::Batch(files, pending) => write_batch(files, pending, &mut opener, around),
            Job::Compare(files) => compare_batch(files, &mut opener, around),
            Job::Large(slot, content) => write_large(slot, &content, None, around),
            Job::CompareLarge(existing, content) => compare_large(existing, &content, around),
        };
        if let Err(failure) = ended {
            around.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}

/// The restore has ended early: what was begun is left for the next one.
fn put_off(job: Job) {
    const WHY: &str = "the restore ended before";
    match job {
        Job::Batch(files, _) => files.into_iter().for_each(|(slot, _)| slot.put_off(WHY)),
        Job::Compare(files) => files.into_iter().for_each(|(existing, _)| existing.fail(WHY)),
        Job::Large(slot, _) => slot.put_off(WHY),
        Job::CompareLarge(existing, _) => existing.fail(WHY),
    }
}

fn write_batch(
    files: Vec<(FileSlot, FileContent)>,
    pending: PendingChunks,
    opener: &mut Opener,
    around: Surroundings<'_>,
) -> Result<(), Failure> {
    let refs = pending.refs().to_vec();
    around.progress.fetched(refs.iter().map(|chunk| u64::from(chunk.bytes)).fold(0, u64::saturating_add));
    let found: Found = match pending.wait(opener) {
        Ok(chunks) => refs.iter().map(|chunk| chunk.id).zip(chunks).collect(),
        Err(error) => {
            files.into_iter().for_each(|(slot, _)| slot.put_off(&error));
            return Err(error.into());
        }
    };
    for (slot, content) in files {
        let filled = fill(&slot, &content, &found);
        settle(slot, filled, content.bytes, around)?;
    }
    Ok(())
}

type Found = HashMap<ChunkId, Result<Vec<u8>, FetchError>>;

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

/// Leaves the files that are what they should be, and writes the others anew.
fn compare_batch(
    files: Vec<(Existing, FileContent)>,
    opener: &mut Opener,
    around: Surroundings<'_>,
) -> Result<(), Failure> {
    let mut missing = Vec::new();
    for (existing, content) in files {
        if let Some((slot, _)) = compare_one(existing, &content, around)? {
            missing.push((slot, content));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut chunks: Vec<ChunkRef> =
        missing.iter().filter_map(|(_, content)| small_chunks(content)).flatten().copied().collect();
    chunks.sort_by_key(|chunk| chunk.id);
    chunks.dedup_by_key(|chunk| chunk.id);
    let pending = around.reader.request(chunks);
    write_batch(missing, pending, opener, around)
}

/// A slot for a file that must be written anew, and the file that is there.
fn compare_one(
    existing: Existing,
    content: &FileContent,
    around: Surroundings<'_>,
) -> Result<Option<(FileSlot, Held)>, Failure> {
    let existing = match compare::is_equal(around.reader, &existing, content) {
        Ok(true) => match existing.adopt() {
            Adopted::Settled => {
                around.progress.reused(content.bytes);
                around.progress.file();
                return Ok(None);
            }
            Adopted::MustBeWritten(existing) => existing,
        },
        Ok(false) => existing,
        Err(CompareError::Fetch(FetchError::Coordinator(failure))) => {
            existing.fail(&failure);
            return Err(failure);
        }
        Err(error @ CompareError::Fetch(FetchError::Lost { .. } | FetchError::Format(_))) => {
            existing.lose(error);
            return Ok(None);
        }
        Err(error) => {
            existing.fail(error);
            return Ok(None);
        }
    };
    Ok(existing.rewrite())
}

fn compare_large(existing: Existing, content: &FileContent, around: Surroundings<'_>) -> Result<(), Failure> {
    match compare_one(existing, content, around)? {
        Some((slot, there)) => write_large(slot, content, Some(&there), around),
        None => Ok(()),
    }
}

/// Writes a large file. What an earlier restore has written of it stays; what the file that is `there` has at the same
/// place is taken from it; the rest is fetched.
fn write_large(
    slot: FileSlot,
    content: &FileContent,
    there: Option<&Held>,
    around: Surroundings<'_>,
) -> Result<(), Failure> {
    let Surroundings { reader, progress, .. } = around;
    let is_missing = |offset: u64, chunk: &ChunkRef| -> Result<bool, FillError> {
        progress.check().map_err(FetchError::from)?;
        let of = |source: Source<'_>| compare::take(reader, source, offset, chunk).map_err(CompareError::from);
        let is_left = slot.left().map(of).transpose()?.flatten().is_some();
        if !is_left {
            let Some(bytes) = there.map(|there| of(Source(there))).transpose()?.flatten() else { return Ok(true) };
            slot.write_at(offset, &bytes)?;
        }
        progress.reused(chunk.bytes.into());
        Ok(false)
    };
    let filled = content::read(reader, content, is_missing, |offset, piece| -> Result<(), FillError> {
        match piece {
            Piece::Data(bytes) => {
                progress.fetched(bytes.len() as u64);
                progress.wrote(bytes.len() as u64);
                slot.write_at(offset, bytes)?;
            }
            Piece::Zeros(bytes) => slot.write_zeros(offset, bytes)?,
            Piece::Hole(bytes) => slot.leave_hole(offset, bytes)?,
        }
        Ok(())
    });
    settle(slot, filled, 0, around)
}

/// Finishes a file, or says why it is not restored. Only a coordinator that cannot be asked, or a full disk, ends the
/// restore; then what is there of a large file stays for the next one.
fn settle(slot: FileSlot, filled: Result<(), FillError>, bytes: u64, around: Surroundings<'_>) -> Result<(), Failure> {
    match filled {
        Ok(()) => {
            around.progress.wrote(bytes);
            around.progress.file();
            // A failure is in the report.
            let _ = slot.finish();
            Ok(())
        }
        Err(
            FillError::Fetch(FetchError::Coordinator(failure))
            | FillError::Compare(CompareError::Fetch(FetchError::Coordinator(failure))),
        ) => {
            slot.put_off(&failure);
            Err(failure)
        }
        Err(FillError::Write(error)) => {
            let failure = of_disk(&error.source);
            if failure.class == ErrorClass::Full {
                slot.put_off(FillError::Write(error));
                return Err(failure);
            }
            slot.fail(FillError::Write(error));
            Ok(())
        }
        Err(
            error @ (FillError::Fetch(FetchError::Lost { .. } | FetchError::Format(_))
            | FillError::Compare(CompareError::Fetch(FetchError::Lost { .. } | FetchError::Format(_)))),
        ) => {
            slot.lose(error);
            Ok(())
        }
        Err(error) => {
            slot.fail(error);
            Ok(())
        }
    }
}
