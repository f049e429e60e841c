//! Reads the content of one file: a small one into memory, to be bundled, a larger one through the window.
//!
//! A file that changes while it is read is read again where that is likely to help ([`Motion`]). What is then still not
//! whole is kept as it was read, and named (INV-17).

use super::bench::Window;
use super::{BackupError, Surroundings};
use crate::walk::{GapReason, OpenFile, Piece};
use lifeboat_format::cut::{Segment, Segmenter, Sizes};
use lifeboat_format::tree::{Body, Extent, ExtentListBuilder, FileContent, SMALL_FILE_BYTES};
use std::sync::atomic::Ordering;

/// How much of a large file is read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// How often a file is read before it is kept as it is.
const READS_MAX: u32 = 3;
/// A file of so many bytes is read again without much thought.
const CHEAP_BYTES: u64 = 1 << 20;
/// How far a file is read beyond its size. What goes on for longer is no file that ends.
const UNSTATED_BYTES_MAX: u64 = 64 << 30;

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

/// What was read of a file.
pub struct Read {
    /// Its content.
    pub content: Content,
    /// How long that is.
    pub bytes: u64,
    /// Whether it is less than the size of the file.
    pub is_short: bool,
}

/// Reads a file that was just opened, whole. Where its size may not be that of its content, it is read up to its end.
pub fn read(
    window: &mut Window<'_>,
    file: &OpenFile,
    sizes: bool,
    around: &Surroundings<'_>,
) -> Result<Read, ReadError> {
    let stated = file.stat().bytes;
    // An empty file on a disk has no blocks, or such as were set aside for later.
    let is_sure = sizes && (stated > 0 || file.stat().allocated_bytes == 0);
    if stated < SMALL_FILE_BYTES
        && let Some(read) = read_small(file, stated, is_sure)?
    {
        return Ok(read);
    }
    let mut extents = Extents::new(window);
    let mut read = 0;
    let mut has_ended = false;
    while !has_ended && let Some(piece) = piece_at(file, read)? {
        match piece {
            Piece::Hole { bytes, .. } => {
                extents.push(Extent::Hole { bytes })?;
                read += bytes;
            }
            Piece::Data { bytes, .. } => {
                let found = data(&mut extents, file, read, Some(bytes), around)?;
                read += found;
                has_ended = found < bytes;
            }
        }
    }
    let is_short = read < stated;
    if !is_sure && !is_short {
        read += data(&mut extents, file, read, None, around)?;
    }
    let content = match read {
        0 => Content::Cut(Body::Empty),
        _ => Content::Cut(extents.finish()?.body),
    };
    Ok(Read { content, bytes: read, is_short })
}

/// The next piece; none where the file has ended, be it before its size.
fn piece_at(file: &OpenFile, offset: u64) -> Result<Option<Piece>, ReadError> {
    match file.piece_at(offset) {
        Err(GapReason::Changed) => Ok(None),
        piece => Ok(piece?),
    }
}

/// Reads a small file at once; none if it has holes, or proves to be larger.
fn read_small(file: &OpenFile, stated: u64, is_sure: bool) -> Result<Option<Read>, ReadError> {
    let small = |content: Vec<u8>, is_short| {
        let bytes = content.len() as u64;
        let content = if content.is_empty() { Content::Cut(Body::Empty) } else { Content::Small(content) };
        Ok(Some(Read { content, bytes, is_short }))
    };
    if is_sure && stated == 0 {
        return small(Vec::new(), false);
    }
    if is_sure && piece_at(file, 0)? != Some(Piece::Data { offset: 0, bytes: stated }) {
        return Ok(None);
    }
    let room = if is_sure { stated } else { SMALL_FILE_BYTES };
    let mut content = vec![0; room as usize];
    let found = file.read_up_to(0, &mut content)?;
    content.truncate(found);
    match (found as u64) < room {
        false if !is_sure => Ok(None),
        _ => {
            content.shrink_to_fit();
            small(content, (found as u64) < stated)
        }
    }
}

/// Cuts one run of data of this many bytes, or up to the end of the file, through a buffer; returns how many there are.
fn data(
    extents: &mut Extents<'_, '_>,
    file: &OpenFile,
    start: u64,
    bytes: Option<u64>,
    around: &Surroundings<'_>,
) -> Result<u64, ReadError> {
    let segmenter = Segmenter::new(extents.window.keys(), Sizes::NORMAL);
    let mut buffer = std::mem::take(&mut extents.buffer);
    buffer.clear();
    let (mut taken, mut read) = (0, 0_u64);
    loop {
        buffer.drain(..taken);
        taken = 0;
        let room = BUFFER_BYTES - buffer.len().min(BUFFER_BYTES);
        let wanted = bytes.map_or(room, |bytes| room.min(usize::try_from(bytes - read).unwrap_or(usize::MAX)));
        let filled = buffer.len();
        buffer.resize(filled + wanted, 0);
        let found = file.read_up_to(start + read, &mut buffer[filled..])?;
        around.progress.beat();
        buffer.truncate(filled + found);
        read += found as u64;
        let has_ended = found < wanted || bytes == Some(read);
        while let Some(segment) = segmenter.next(&buffer[taken..], has_ended) {
            let content = &buffer[taken..taken + segment.bytes()];
            let extent = match segment {
                Segment::Zeros(bytes) => Extent::Zeros { bytes: bytes as u64 },
                Segment::Chunk(_) => Extent::Data(extents.window.add(content)?),
            };
            extents.push(extent)?;
            taken += segment.bytes();
        }
        if has_ended {
            break;
        }
        if bytes.is_none() && read > UNSTATED_BYTES_MAX {
            return Err(GapReason::Endless { stated: start, read: start + read }.into());
        }
        if around.stop.load(Ordering::Relaxed) {
            return Err(BackupError::Stopped.into());
        }
    }
    extents.buffer = buffer;
    Ok(read)
}

/// How a file moved that changed while it was read.
#[derive(Debug, Clone, Copy)]
pub struct Motion {
    /// How much was read.
    pub bytes: u64,
    /// How long that took.
    pub took_ns: i128,
    /// How long before its end the file had last changed.
    pub still_ns: i128,
    /// The size that the file states, if that does not show that it changed, and yet it is not the right one.
    pub stated: Option<u64>,
}

impl Motion {
    /// Why there is a gap.
    pub fn reason(&self) -> GapReason {
        self.stated.map_or(GapReason::Changed, |stated| GapReason::Short { stated, read: self.bytes })
    }

    /// Whether a file that was read so often is read once more, in the hope that it holds still. A small one costs
    /// nothing; a large one is read again once, and only if for half of the time of reading nothing was written.
    pub fn is_worth_another_read(&self, reads: u32) -> bool {
        match self.bytes {
            ..=CHEAP_BYTES => reads < READS_MAX,
            _ => reads < 2 && self.still_ns * 2 >= self.took_ns,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_that_does_not_rest_is_read_once() {
        let motion = |bytes, still_ns| Motion { bytes, took_ns: 1000, still_ns, stated: None };
        for (motion, reads, again) in [
            (motion(5000, 1), 1, true),
            (motion(5000, 1), 2, true),
            (motion(5000, 1), 3, false),
            (motion(60 << 20, 1), 1, false),
            (motion(60 << 20, 500), 1, true),
            (motion(60 << 20, 1000), 2, false),
        ] {
            assert_eq!(motion.is_worth_another_read(reads), again, "{motion:?} after {reads}");
        }
    }
}
