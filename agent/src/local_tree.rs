//! The agent's own copy of the last tree: what was where, and how each file looked to `statx`. A hint, never proof.
//!
//! With it an unchanged file costs one `statx`, and an unchanged leaf is named by its id. Without it, or with a damaged
//! or outdated one, a backup reads more and restores the same (INV-57): every block carries a checksum, a block that
//! does not match is passed over, and what the coordinator no longer has it refuses.
//!
//! The file is a sequence of records in walk order: a *leaf* record holds one leaf of the tree and the signature of each
//! of its entries; a *node* record only names an inner node; a *mark* says that everything before it is part of a
//! committed snapshot. The newest whole tree lies in `SET.tree`. A run writes `SET.partial` beside it and renames it
//! when its snapshot stands; after an interrupted run the next one takes the part before the last mark from there.
//! Stays on the host: here inode and change time may stand, which the repository does not hold.

mod reader;
mod record;
mod writer;

pub use reader::{LastTree, OldLeaf};
pub use record::LeafRecord;
pub use writer::LocalTreeWriter;

use lifeboat_format::tree::check_path;
use std::path::{Path, PathBuf};

/// Where the trees of one source set lie.
#[derive(Debug, Clone)]
pub struct LocalTreeFiles {
    whole: PathBuf,
    partial: PathBuf,
    parts: PathBuf,
}

impl LocalTreeFiles {
    /// The files of `source_set` in `directory`, which must exist.
    pub fn new(directory: &Path, source_set: &str) -> Self {
        let file = |kind: &str| directory.join(format!("{source_set}.{kind}"));
        Self { whole: file("tree"), partial: file("partial"), parts: file("parts") }
    }

    /// The topmost paths of the parts of the last snapshot, as paths of the tree. A hint, as everything here: without it,
    /// a disk that is not mounted any more is noticed only if it is a source path.
    pub fn last_parts(&self) -> Vec<Vec<u8>> {
        let bytes = std::fs::read(&self.parts).unwrap_or_default();
        let paths = bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        paths.filter(|path| check_path(path).is_ok()).map(<[u8]>::to_vec).collect()
    }

    /// Keeps these paths for the next backup.
    pub fn keep_parts<'p>(&self, paths: impl Iterator<Item = &'p [u8]>) -> std::io::Result<()> {
        std::fs::write(&self.parts, paths.collect::<Vec<_>>().join(&0))
    }
}
