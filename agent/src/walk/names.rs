//! The names in one directory, sorted, in a fixed budget of memory.
//!
//! Names are collected in memory; when they outgrow it, sorted runs go to the spool, and are merged there into one.
//! Directories are left in the reverse order of entering them, so the spool is a stack: who leaves gives back.

use super::spool::Spool;
use rustix::fs::{FileType, RawDir};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::AsFd;

/// What a run is read in while runs are merged, and a merged one while it is walked.
const READ_BYTES: usize = 8 << 10;
/// What a directory is read in: some hundred names a call.
const DIRENT_BYTES: usize = 64 << 10;

/// How much memory names may take.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// While one directory is read and sorted.
    pub reading_bytes: usize,
    /// For the sorted names of all directories that the walk is in.
    pub held_bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { reading_bytes: 1 << 20, held_bytes: 4 << 20 }
    }
}

/// Reads directories; keeps its buffers from one to the next.
#[derive(Debug)]
pub struct NameReader {
    budget: Budget,
    held_bytes: usize,
    dirents: Vec<MaybeUninit<u8>>,
    list: NameList,
}

impl NameReader {
    pub fn new(budget: Budget) -> Self {
        let dirents = vec![MaybeUninit::uninit(); DIRENT_BYTES];
        Self { budget, held_bytes: 0, dirents, list: NameList::default() }
    }

    /// Reads all names of a directory that was just opened, but `.` and `..`.
    pub fn read(&mut self, directory: impl AsFd, spool: &mut Spool) -> io::Result<Names> {
        match self.read_some(directory, &[], |_, _| true, spool)? {
            (names, None) => Ok(names),
            (_, Some(error)) => Err(error),
        }
    }

    /// Reads the names of a directory that `keep` takes, and adds those that are `known`. The error is why not all of
    /// the directory could be read; the names before it are kept.
    pub fn read_some(
        &mut self,
        directory: impl AsFd,
        known: &[&[u8]],
        mut keep: impl FnMut(&[u8], FileType) -> bool,
        spool: &mut Spool,
    ) -> io::Result<(Names, Option<io::Error>)> {
        let spool_start = spool.end();
        self.list.clear();
        known.iter().for_each(|name| self.list.push(name));
        let (mut runs, mut failed) = (Vec::new(), None);
        let mut dirents = RawDir::new(directory, &mut self.dirents);
        while let Some(dirent) = dirents.next() {
            let dirent = match dirent {
                Ok(dirent) => dirent,
                Err(error) => {
                    failed = Some(error.into());
                    break;
                }
            };
            let name = dirent.file_name().to_bytes();
            if matches!(name, b"." | b"..") || !keep(name, dirent.file_type()) {
                continue;
            }
            self.list.push(name);
            if self.list.memory_bytes() > self.budget.reading_bytes {
                runs.push(self.list.spill(spool)?);
            }
        }
        Ok((self.settle(runs, spool, spool_start)?, failed))
    }

    /// Takes names that are known already.
    pub fn take(&mut self, names: &[&[u8]], spool: &mut Spool) -> io::Result<Names> {
        self.list.clear();
        names.iter().for_each(|name| self.list.push(name));
        let spool_start = spool.end();
        self.settle(Vec::new(), spool, spool_start)
    }

    /// Gives back what names took.
    pub fn leave(&mut self, names: &Names, spool: &mut Spool) {
        if let Source::Memory { list, .. } = &names.source {
            self.held_bytes -= list.memory_bytes();
        }
        spool.give_back(names.spool_start);
    }

    fn settle(&mut self, mut runs: Vec<Range<u64>>, spool: &mut Spool, spool_start: u64) -> io::Result<Names> {
        let fits = self.held_bytes + self.list.memory_bytes() <= self.budget.held_bytes;
        let source = if runs.is_empty() && fits {
            self.list.sort();
            let list = self.list.clone();
            self.held_bytes += list.memory_bytes();
            Source::Memory { list, next: 0 }
        } else {
            runs.push(self.list.spill(spool)?);
            Source::Spool(if runs.len() == 1 { Run::new(runs.remove(0)) } else { merge(runs, spool)? })
        };
        Ok(Names { source, spool_start })
    }
}

/// What is left of the names of a directory, in order.
#[derive(Debug)]
pub struct Names {
    source: Source,
    spool_start: u64,
}

#[derive(Debug)]
enum Source {
    Memory { list: NameList, next: usize },
    Spool(Run),
}

impl Names {
    /// Puts the next name into `name`; false when there is none.
    pub fn next(&mut self, spool: &Spool, name: &mut Vec<u8>) -> io::Result<bool> {
        match &mut self.source {
            Source::Memory { list, next } => {
                let Some(found) = list.get(*next) else { return Ok(false) };
                name.clear();
                name.extend_from_slice(found);
                *next += 1;
                Ok(true)
            }
            Source::Spool(run) => run.next(spool, name),
        }
    }

    /// Gives back what can be read again; to be called before the walk goes deeper.
    pub fn rest(&mut self) {
        if let Source::Spool(run) = &mut self.source {
            run.rest();
        }
    }
}

/// Names back to back, each with a zero byte at its end, and where each begins.
#[derive(Debug, Default, Clone)]
struct NameList {
    bytes: Vec<u8>,
    starts: Vec<u32>,
}

impl NameList {
    fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    fn push(&mut self, name: &[u8]) {
        self.starts.push(self.bytes.len() as u32);
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
    }

    fn get(&self, index: usize) -> Option<&[u8]> {
        self.starts.get(index).map(|start| name_at(&self.bytes, *start))
    }

    fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.starts.len() * size_of::<u32>()
    }

    /// Sorts, and drops what a directory that changed under us showed twice.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        self.starts.sort_unstable_by(|a, b| name_at(bytes, *a).cmp(name_at(bytes, *b)));
        self.starts.dedup_by(|a, b| name_at(bytes, *a) == name_at(bytes, *b));
    }

    /// Moves the names to the spool as one sorted run.
    fn spill(&mut self, spool: &mut Spool) -> io::Result<Range<u64>> {
        self.sort();
        let mut out = RunWriter::new(spool);
        (0..self.starts.len()).filter_map(|index| self.get(index)).try_for_each(|name| out.push(name))?;
        let run = out.finish()?;
        self.clear();
        Ok(run)
    }
}

fn name_at(bytes: &[u8], start: u32) -> &[u8] {
    CStr::from_bytes_until_nul(&bytes[start as usize..]).map_or(b"", CStr::to_bytes)
}

/// Writes names to the spool: length (2 bytes), name.
struct RunWriter<'a> {
    spool: &'a mut Spool,
    start: u64,
    buffer: Vec<u8>,
}

impl<'a> RunWriter<'a> {
    fn new(spool: &'a mut Spool) -> Self {
        let start = spool.end();
        Self { spool, start, buffer: Vec::with_capacity(DIRENT_BYTES) }
    }

    fn push(&mut self, name: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(&(name.len() as u16).to_le_bytes());
        self.buffer.extend_from_slice(name);
        if self.buffer.len() >= DIRENT_BYTES {
            self.spool.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn finish(self) -> io::Result<Range<u64>> {
        self.spool.append(&self.buffer)?;
        Ok(self.start..self.spool.end())
    }
}

/// A sorted run in the spool, read piece by piece.
#[derive(Debug)]
struct Run {
    rest: Range<u64>,
    buffer: Vec<u8>,
    used: usize,
}

impl Run {
    fn new(place: Range<u64>) -> Self {
        Self { rest: place, buffer: Vec::new(), used: 0 }
    }

    fn next(&mut self, spool: &Spool, name: &mut Vec<u8>) -> io::Result<bool> {
        let mut length = [0; 2];
        if !self.copy(spool, &mut length)? {
            return Ok(false);
        }
        name.resize(u16::from_le_bytes(length).into(), 0);
        self.copy(spool, name)
    }

    /// Fills `out`; false at the end.
    fn copy(&mut self, spool: &Spool, out: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < out.len() {
            if self.used == self.buffer.len() && !self.refill(spool)? {
                return Ok(false);
            }
            let step = (out.len() - filled).min(self.buffer.len() - self.used);
            out[filled..filled + step].copy_from_slice(&self.buffer[self.used..self.used + step]);
            self.used += step;
            filled += step;
        }
        Ok(true)
    }

    fn refill(&mut self, spool: &Spool) -> io::Result<bool> {
        let length = (self.rest.end - self.rest.start).min(READ_BYTES as u64) as usize;
        self.buffer.resize(length, 0);
        self.used = 0;
        spool.read(self.rest.start, &mut self.buffer)?;
        self.rest.start += length as u64;
        Ok(length > 0)
    }

    fn rest(&mut self) {
        self.rest.start -= (self.buffer.len() - self.used) as u64;
        self.buffer = Vec::new();
        self.used = 0;
    }
}

/// Merges sorted runs into one at the end of the spool.
fn merge(runs: Vec<Range<u64>>, spool: &mut Spool) -> io::Result<Run> {
    let mut runs: Vec<Run> = runs.into_iter().map(Run::new).collect();
    let mut heads = BinaryHeap::new();
    for (index, run) in runs.iter_mut().enumerate() {
        let mut name = Vec::new();
        if run.next(spool, &mut name)? {
            heads.push(Reverse((name, index)));
        }
    }
    let mut out = RunWriter::new(spool);
    let mut last: Option<Vec<u8>> = None;
    while let Some(Reverse((name, index))) = heads.pop() {
        let mut next = Vec::new();
        if runs[index].next(out.spool, &mut next)? {
            heads.push(Reverse((next, index)));
        }
        if last.as_ref() != Some(&name) {
            out.push(&name)?;
        }
        last = Some(name);
    }
    Ok(Run::new(out.finish()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn all(names: &mut Names, spool: &Spool) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut name = Vec::new();
        while names.next(spool, &mut name).unwrap() {
            found.push(name.clone());
            names.rest();
        }
        found
    }

    #[test]
    fn three_hundred_thousand_names_are_sorted_in_little_memory() {
        let scratch = tempfile::tempdir().unwrap();
        let mut expected: Vec<Vec<u8>> = (0..300_000_u64)
            .map(|number| blake3::hash(&number.to_le_bytes()).to_hex()[..(number % 30 + 8) as usize].into())
            .collect();
        let mut reader = NameReader::new(Budget { reading_bytes: 100_000, held_bytes: 100_000 });
        let mut spool = Spool::new(scratch.path()).unwrap();
        let mut runs = Vec::new();
        for name in &expected {
            reader.list.push(name);
            if reader.list.memory_bytes() > 100_000 {
                runs.push(reader.list.spill(&mut spool).unwrap());
            }
        }
        assert!(runs.len() > 50);
        let mut names = reader.settle(runs, &mut spool, 0).unwrap();
        expected.sort();
        expected.dedup();
        assert!(all(&mut names, &spool) == expected);
        reader.leave(&names, &mut spool);
        assert_eq!((spool.end(), reader.held_bytes), (0, 0));
    }

    #[test]
    fn a_directory_beyond_the_budget_is_read_as_one_within() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let mut expected: Vec<Vec<u8>> = (0..3000).map(|number| format!("{}", number * 7919 % 3001).into()).collect();
        for name in &expected {
            File::create(directory.path().join(str::from_utf8(name).unwrap())).unwrap();
        }
        expected.sort();
        for budget in [Budget::default(), Budget { reading_bytes: 500, held_bytes: 100 }] {
            let mut reader = NameReader::new(budget);
            let mut spool = Spool::new(scratch.path()).unwrap();
            let mut names = reader.read(File::open(directory.path()).unwrap(), &mut spool).unwrap();
            assert!(all(&mut names, &spool) == expected);
            reader.leave(&names, &mut spool);
            assert_eq!((spool.end(), reader.held_bytes), (0, 0));
        }
    }
}
