//! What the footers of packs say, read as docs/format.md has them: without a key, and without our reader.

use std::fs;
use std::path::{Path, PathBuf};

const RECORD_BYTES: usize = 92;
const TRAILER_BYTES: usize = 104;

/// A record of a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterLine {
    /// Where the record itself begins in the pack.
    pub offset: u64,
    /// Who brought it; 0 in a pack of second copies.
    pub host: u32,
    /// 0 for a chunk.
    pub height: u8,
}

/// The packs of a repository, sorted.
pub fn packs(repository: &Path) -> Vec<PathBuf> {
    let list = |place: &Path| fs::read_dir(place).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let mut packs: Vec<_> = list(&repository.join("packs")).iter().flat_map(|directory| list(directory)).collect();
    packs.sort();
    packs
}

/// The footer of a pack.
pub fn footer(pack: &Path) -> Vec<FooterLine> {
    let bytes = fs::read(pack).unwrap();
    let (before, trailer) = bytes.split_at(bytes.len() - TRAILER_BYTES);
    let count = u64::from_le_bytes(trailer[..8].try_into().unwrap()) as usize;
    let lines = before[before.len() - RECORD_BYTES * count..].chunks(RECORD_BYTES);
    lines
        .map(|line| FooterLine {
            offset: u64::from_le_bytes(line[64..72].try_into().unwrap()),
            host: u32::from_le_bytes(line[76..80].try_into().unwrap()),
            height: line[87],
        })
        .collect()
}
