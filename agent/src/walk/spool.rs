//! A file without a name for what does not fit in memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes appended to an unlinked temporary file, read anywhere, given back from the end. Gone with the process.
#[derive(Debug)]
pub struct Spool {
    file: File,
    end: u64,
}

impl Spool {
    /// An empty one on the disk of `scratch`, a directory that should not lie in memory (tmpfs).
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self { file: tempfile::tempfile_in(scratch)?, end: 0 })
    }

    /// Where the next bytes will stand.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Appends, and says where.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<Range<u64>> {
        self.file.write_all_at(bytes, self.end)?;
        let start = self.end;
        self.end += bytes.len() as u64;
        Ok(start..self.end)
    }

    /// Fills `bytes` from `offset` on.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }

    /// Forgets everything from `end` on; its place on disk is used again.
    pub fn give_back(&mut self, end: u64) {
        self.end = self.end.min(end);
    }
}
