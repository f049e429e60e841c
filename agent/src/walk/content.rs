//! Reads the content of one file: its data, its holes, and whether it held still meanwhile.

use super::GapReason;
use super::held::{Held, open_quietly};
use super::stat::{Stat, stat_open};
use rustix::fs::{FileType, OFlags, SeekFrom, seek};
use rustix::io::{Errno, pread};
use std::os::fd::AsFd;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    file: Held,
    before: Stat,
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Bytes to be read.
    Data {
        /// Where they begin.
        offset: u64,
        /// How many they are.
        bytes: u64,
    },
    /// A hole: zeros that take no place.
    Hole {
        /// Where it begins.
        offset: u64,
        /// How many bytes it spans.
        bytes: u64,
    },
}

/// Opens a file that the walk found, without leaving a trace in its access time.
///
/// What stands under the name now must be the file that was seen, else it counts as replaced; so no FIFO or device
/// that somebody put there is ever read.
pub fn open_file(directory: impl AsFd, name: &[u8], seen: &Stat) -> Result<OpenFile, GapReason> {
    let file = open_quietly(directory, name, OFlags::RDONLY | OFlags::NONBLOCK).map_err(|error| match error {
        Errno::LOOP | Errno::NXIO => GapReason::Replaced,
        error => GapReason::of("open it", error),
    })?;
    let before = stat_open(&file).map_err(|error| GapReason::of("look at it", error))?;
    if before.kind != FileType::RegularFile || !before.is_same_file(seen) {
        return Err(GapReason::Replaced);
    }
    Ok(OpenFile { file: Held::of_open(file), before })
}

impl OpenFile {
    /// What `statx` said when it was opened. Its size is how far [`OpenFile::piece_at`] goes.
    pub fn stat(&self) -> &Stat {
        &self.before
    }

    /// What it is held by, to read its attributes.
    pub fn held(&self) -> &Held {
        &self.file
    }

    /// The piece that begins at `offset`; None at the end. One system call for a file without holes.
    pub fn piece_at(&self, offset: u64) -> Result<Option<Piece>, GapReason> {
        let end = self.before.bytes;
        if offset >= end {
            return Ok(None);
        }
        let unreadable = |error: Errno| GapReason::of("look for holes in it", error);
        let hole = match seek(&self.file, SeekFrom::Hole(offset)) {
            Ok(hole) => hole.min(end),
            Err(Errno::INVAL) => end, // A file system that knows of no holes.
            Err(Errno::NXIO) => return Err(GapReason::Changed), // It shrank.
            Err(error) => return Err(unreadable(error)),
        };
        if hole > offset {
            return Ok(Some(Piece::Data { offset, bytes: hole - offset }));
        }
        let data = match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => data.min(end),
            Err(Errno::NXIO) => end,
            Err(error) => return Err(unreadable(error)),
        };
        // Data may have come to where a hole was a moment ago.
        let bytes = if data > offset { data - offset } else { end - offset };
        Ok(Some(if data > offset { Piece::Hole { offset, bytes } } else { Piece::Data { offset, bytes } }))
    }

    /// Fills `buffer` with the bytes from `offset` on. A file that ends before counts as changed.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), GapReason> {
        let mut filled = 0;
        while filled < buffer.len() {
            match pread(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => return Err(GapReason::Changed),
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => {}
                Err(error) => return Err(GapReason::of("read it", error)),
            }
        }
        Ok(())
    }

    /// To be asked after the last read: did the file hold still? If not, what was read is of no use.
    ///
    /// A write stamps the file before it moves its bytes. One call that is under way from before the file was opened
    /// to after the last read cannot be seen; such a file is racy by its [`Signature`](super::Signature), so the next
    /// backup reads it again.
    pub fn check_unchanged(&self) -> Result<(), GapReason> {
        let after = stat_open(&self.file).map_err(|error| GapReason::of("look at it", error))?;
        let times = |stat: &Stat| (stat.bytes, stat.mtime, stat.ctime);
        if times(&after) == times(&self.before) { Ok(()) } else { Err(GapReason::Changed) }
    }
}
