//! Reads the content of one file: a small one into memory, to be bundled, a larger one through the window.
//!
//! A file that changes while it is read is read again, three times in all. What is then still not whole is kept as it
//! was read, and flagged (INV-17).

use super::bench::Window;
use super::{BackupError, Surroundings};
use crate::walk::{GapReason, OpenFile, Piece};
use lifeboat_format::cut::{Segment, Segmenter, Sizes};
use lifeboat_format::tree::{Body, Extent, ExtentListBuilder, FileContent, SMALL_FILE_BYTES};
use std::sync::atomic::Ordering;

/// How much of a large file is read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Content that was read.
pub enum Content {
    /// Of a small file: to be bundled.
    Small(Vec<u8>),
    /// Cut, and on its way.
    Cut(Body),
}

/// Why content was not read.
pub enum ReadError {
    /// It concerns this file alone.
    Gap(GapReason),
    /// It ends the backup.
    Backup(BackupError),
}

impl From<GapReason> for ReadError {
    fn from(reason: GapReason) -> Self {
        Self::Gap(reason)
    }
}

impl From<BackupError> for ReadError {
    fn from(error: BackupError) -> Self {
        Self::Backup(error)
    }
}

/// Reads a file that was just opened, whole.
pub fn read(window: &mut Window<'_>, file: &OpenFile, around: &Surroundings<'_>) -> Result<Content, ReadError> {
    let bytes = file.stat().bytes;
    if bytes == 0 {
        return Ok(Content::Cut(Body::Empty));
    }
    let whole = Piece::Data { offset: 0, bytes };
    if bytes < SMALL_FILE_BYTES && file.piece_at(0)? == Some(whole) {
        let mut content = vec![0; bytes as usize];
        file.read_at(0, &mut content)?;
        return Ok(Content::Small(content));
    }
    let mut extents = Extents::new(window);
    let mut offset = 0;
    while let Some(piece) = file.piece_at(offset)? {
        match piece {
            Piece::Hole { bytes, .. } => extents.push(Extent::Hole { bytes })?,
            Piece::Data { bytes, .. } => data(&mut extents, file, offset, bytes, around)?,
        }
        offset += match piece {
            Piece::Hole { bytes, .. } | Piece::Data { bytes, .. } => bytes,
        };
    }
    Ok(Content::Cut(extents.finish()?.body))
}

/// Cuts one run of data, through a buffer.
fn data(
    extents: &mut Extents<'_, '_>,
    file: &OpenFile,
    mut offset: u64,
    bytes: u64,
    around: &Surroundings<'_>,
) -> Result<(), ReadError> {
    let end = offset + bytes;
    let segmenter = Segmenter::new(extents.window.keys(), Sizes::NORMAL);
    let mut buffer = std::mem::take(&mut extents.buffer);
    buffer.clear();
    let mut start = 0;
    loop {
        buffer.drain(..start);
        start = 0;
        let more =
            (BUFFER_BYTES - buffer.len().min(BUFFER_BYTES)).min(usize::try_from(end - offset).unwrap_or(usize::MAX));
        let filled = buffer.len();
        buffer.resize(filled + more, 0);
        file.read_at(offset, &mut buffer[filled..])?;
        offset += more as u64;
        while let Some(segment) = segmenter.next(&buffer[start..], offset == end) {
            let taken = &buffer[start..start + segment.bytes()];
            let extent = match segment {
                Segment::Zeros(bytes) => Extent::Zeros { bytes: bytes as u64 },
                Segment::Chunk(_) => Extent::Data(extents.window.add(taken)?),
            };
            extents.push(extent)?;
            start += segment.bytes();
        }
        if offset == end {
            break;
        }
        if around.stop.load(Ordering::Relaxed) {
            return Err(BackupError::Stopped.into());
        }
    }
    extents.buffer = buffer;
    Ok(())
}

/// The extents of one file, as they are cut. Neighbouring zeros become one extent.
struct Extents<'w, 'a> {
    window: &'w mut Window<'a>,
    builder: ExtentListBuilder,
    zeros: u64,
    buffer: Vec<u8>,
}

impl<'w, 'a> Extents<'w, 'a> {
    fn new(window: &'w mut Window<'a>) -> Self {
        Self { window, builder: ExtentListBuilder::new(), zeros: 0, buffer: Vec::with_capacity(BUFFER_BYTES) }
    }

    fn push(&mut self, extent: Extent) -> Result<(), BackupError> {
        if let Extent::Zeros { bytes } = extent {
            self.zeros += bytes;
            return Ok(());
        }
        self.flush_zeros()?;
        let window = &mut *self.window;
        self.builder.push(extent, &mut |node| window.send_node(&node))
    }

    fn flush_zeros(&mut self) -> Result<(), BackupError> {
        let bytes = std::mem::take(&mut self.zeros);
        if bytes == 0 {
            return Ok(());
        }
        let window = &mut *self.window;
        self.builder.push(Extent::Zeros { bytes }, &mut |node| window.send_node(&node))
    }

    fn finish(mut self) -> Result<FileContent, BackupError> {
        self.flush_zeros()?;
        let window = &mut *self.window;
        self.builder.finish(&mut |node| window.send_node(&node))
    }
}
