//! Reads the content of one file: its data, its holes, and whether it held still meanwhile.

use super::GapReason;
use super::held::{Held, open_quietly};
use super::stat::{Stat, stat_open};
use lifeboat_format::tree::Time;
use rustix::fs::{FileType, OFlags, SeekFrom, seek};
use rustix::io::{Errno, pread};
use rustix::time::{ClockId, clock_gettime};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

/// How far a stamp may be ahead of the coarse clock, where the kernel gives finer ones: some ticks.
const STAMP_AHEAD_NANOS: i64 = 20_000_000;
/// How often a file that is being written to is looked at, a millisecond apart, until a tick passes without a write.
const LOOKS_MAX: u32 = 50;

/// A regular file, open for reading.
#[derive(Debug)]
pub struct OpenFile {
    file: Held,
    before: Stat,
    /// Whether any write after `before` leaves other times.
    is_settled: bool,
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
    let (before, is_settled) = look_settled(&file).map_err(|error| GapReason::of("look at it", error))?;
    if before.kind != FileType::RegularFile || !before.is_same_file(seen) {
        return Err(GapReason::Replaced);
    }
    Ok(OpenFile { file: Held::of_open(file), before, is_settled })
}

/// Looks at a file at a moment when the clock that stamps files has moved on since its last change, so that any later
/// write leaves another time. Before Linux 6.13 that clock ticks every 1 to 10 ms. False: it was written to in each tick.
fn look_settled(file: impl AsFd) -> rustix::io::Result<(Stat, bool)> {
    for _ in 0..LOOKS_MAX {
        // Before the look: what is stamped after it is stamped no earlier than this.
        let clock = clock_gettime(ClockId::RealtimeCoarse);
        let stat = stat_open(&file)?;
        if stat.kind != FileType::RegularFile || !is_young(stat.ctime, clock.tv_sec, clock.tv_nsec) {
            return Ok((stat, true));
        }
        sleep(Duration::from_millis(1));
    }
    Ok((stat_open(&file)?, false))
}

/// Whether a change made at this moment of the coarse clock could leave `ctime`. One that lies further ahead comes from
/// a clock that was set back.
fn is_young(ctime: Time, seconds: i64, nanos: i64) -> bool {
    let age = i128::from(seconds - ctime.seconds) * 1_000_000_000 + i128::from(nanos - i64::from(ctime.nanos));
    (-i128::from(STAMP_AHEAD_NANOS)..=0).contains(&age)
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
        match self.read_up_to(offset, buffer)? {
            filled if filled < buffer.len() => Err(GapReason::Changed),
            _ => Ok(()),
        }
    }

    /// Fills `buffer` with the bytes from `offset` on, as far as the file goes, whatever its size; returns how many.
    pub fn read_up_to(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, GapReason> {
        let mut filled = 0;
        while filled < buffer.len() {
            match pread(&self.file, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(Errno::INTR) => {}
                Err(error) => return Err(GapReason::of("read it", error)),
            }
        }
        Ok(filled)
    }

    /// When it changed last, as it is now.
    pub fn last_change(&self) -> Result<Time, GapReason> {
        let stat = stat_open(&self.file).map_err(|error| GapReason::of("look at it", error))?;
        Ok(stat.mtime.max(stat.ctime))
    }

    /// To be asked after the last read: did the file hold still? If not, what was read is of no use.
    ///
    /// A write stamps the file before it moves its bytes. So one call that was under way when the file was opened, and
    /// made it no longer, cannot be seen, nor can a write to a mapped page that was changed before. If the last change that
    /// shows is young, the file is racy by its [`Signature`](super::Signature), and the next backup reads it again. A file that was written to in each tick of the clock counts as changed: nothing shows
    /// otherwise.
    pub fn check_unchanged(&self) -> Result<(), GapReason> {
        let after = stat_open(&self.file).map_err(|error| GapReason::of("look at it", error))?;
        let times = |stat: &Stat| (stat.bytes, stat.mtime, stat.ctime);
        match self.is_settled && times(&after) == times(&self.before) {
            true => Ok(()),
            false => Err(GapReason::Changed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_young_until_the_clock_that_stamped_it_moves_on() {
        let ctime = Time { seconds: 100, nanos: 500_000_000 };
        assert!(is_young(ctime, 100, 500_000_000), "the same tick");
        assert!(is_young(ctime, 100, 499_000_000), "a stamp finer than the tick");
        assert!(!is_young(ctime, 100, 500_000_001));
        assert!(!is_young(ctime, 101, 0));
        assert!(!is_young(ctime, 40, 0), "a clock that was set back");
    }

    /// Whatever kernel this is: a write right after a settled look always shows.
    #[test]
    fn inv_17_a_write_after_a_settled_look_leaves_another_time() {
        use std::os::unix::fs::FileExt;
        let directory = tempfile::tempdir().unwrap();
        let file = std::fs::File::create_new(directory.path().join("file")).unwrap();
        for round in 0..300_u32 {
            file.write_all_at(&round.to_le_bytes(), 0).unwrap();
            let seen = super::super::stat_at(std::fs::File::open(directory.path()).unwrap(), b"file").unwrap();
            let open = open_file(std::fs::File::open(directory.path()).unwrap(), b"file", &seen).unwrap();
            assert!(open.is_settled && open.check_unchanged().is_ok());
            file.write_all_at(&(round + 1).to_le_bytes(), 0).unwrap();
            assert!(open.check_unchanged().is_err(), "round {round}");
        }
    }
}
