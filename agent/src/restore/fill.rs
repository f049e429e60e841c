//! Fills files with what was fetched for them: the workers of a restore.
//!
//! A chunk that cannot be had costs the files that need it; a coordinator that cannot be asked ends the restore, and so
//! does a full disk.

use super::content::{self, Piece};
use super::fetch::{FetchError, GrantReader, PendingChunks};
use super::{FileSlot, Progress, WriteError, of_disk};
use lifeboat_format::FormatError;
use lifeboat_format::id::ChunkId;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{Body, ChunkRef, Extent, FileContent};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};

/// Small files whose chunks are on their way, or one large file.
pub enum Job {
    /// With all their chunks.
    Batch(Vec<(FileSlot, FileContent)>, PendingChunks),
    /// Read piece by piece.
    Large(FileSlot, FileContent),
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
}

type Found = HashMap<ChunkId, Result<Vec<u8>, FetchError>>;

/// Takes jobs until there are none.
pub fn work(queue: &Mutex<Receiver<Job>>, reader: &GrantReader, progress: &Progress, stopped: &Mutex<Option<Failure>>) {
    let mut opener = Opener::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let ended = match job {
            Ok(Job::Batch(files, pending)) => write_batch(files, pending, &mut opener, progress),
            Ok(Job::Large(slot, content)) => write_large(slot, &content, reader, progress),
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
    progress: &Progress,
) -> Result<(), Failure> {
    let ids: Vec<ChunkId> = pending.refs().iter().map(|chunk| chunk.id).collect();
    let found: Found = match pending.wait(opener) {
        Ok(chunks) => ids.into_iter().zip(chunks).collect(),
        Err(error) => {
            files.into_iter().for_each(|(slot, _)| slot.fail(&error));
            return Err(error.into());
        }
    };
    for (slot, content) in files {
        let filled = fill(&slot, &content, &found);
        settle(slot, filled, content.bytes, progress)?;
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

fn write_large(
    slot: FileSlot,
    content: &FileContent,
    reader: &GrantReader,
    progress: &Progress,
) -> Result<(), Failure> {
    let filled = content::read(reader, content, |offset, piece| -> Result<(), FillError> {
        match piece {
            Piece::Data(bytes) => {
                progress.wrote(bytes.len() as u64);
                slot.write_at(offset, bytes)?;
            }
            Piece::Zeros(bytes) => slot.write_zeros(offset, bytes)?,
            Piece::Hole(_) => {}
        }
        Ok(())
    });
    settle(slot, filled, 0, progress)
}

/// Finishes a file, or says why it is not restored. Only a coordinator that cannot be asked, or a full disk, ends the
/// restore.
fn settle(slot: FileSlot, filled: Result<(), FillError>, bytes: u64, progress: &Progress) -> Result<(), Failure> {
    match filled {
        Ok(()) => {
            progress.wrote(bytes);
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
