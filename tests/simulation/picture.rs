//! How a directory looks, to be compared later: all that the tests of this folder change in one. Made of what the system
//! says, not of what the agent read. (Everything else that Linux keeps of a file is for `tests/files`.)

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// All entries below a directory, and it itself, by their paths in it.
#[derive(Debug, Default, PartialEq)]
pub struct Picture(BTreeMap<PathBuf, Look>);

#[derive(Debug, PartialEq)]
struct Look {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    what: What,
}

#[derive(Debug, PartialEq)]
enum What {
    Directory,
    File { bytes: u64, hash: blake3::Hash },
    Symlink(PathBuf),
    FurtherNameOf(PathBuf),
}

impl Picture {
    pub fn of(directory: &Path) -> Self {
        let mut picture = Self::default();
        let mut firsts = BTreeMap::new();
        for entry in WalkDir::new(directory).sort_by_file_name() {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(directory).unwrap().to_owned();
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let what = match firsts.get(&metadata.ino()) {
                Some(first) if !metadata.is_dir() => What::FurtherNameOf(PathBuf::clone(first)),
                _ => what(entry.path(), &metadata),
            };
            firsts.entry(metadata.ino()).or_insert_with(|| path.clone());
            let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
            let mtime = (metadata.mtime(), metadata.mtime_nsec());
            picture.0.insert(path, Look { mode, owner, mtime, what });
        }
        picture
    }

    /// Panics with what differs.
    pub fn assert_same(&self, restored: &Self, of: &str) {
        let paths = self.0.keys().chain(restored.0.keys());
        let differ = paths.filter(|path| self.0.get(*path) != restored.0.get(*path));
        let differ: BTreeMap<_, _> = differ.map(|path| (path, (self.0.get(path), restored.0.get(path)))).collect();
        assert!(differ.is_empty(), "{of}: was, restored: {differ:#?}");
    }

    /// Panics unless everything that was restored is as it was: of a checkpoint, which holds the first part only.
    pub fn assert_holds(&self, restored: &Self, of: &str) {
        for (path, look) in &restored.0 {
            assert_eq!(self.0.get(path), Some(look), "{of}: {path:?}");
        }
    }
}

fn what(path: &Path, metadata: &Metadata) -> What {
    match metadata.file_type() {
        kind if kind.is_dir() => What::Directory,
        kind if kind.is_symlink() => What::Symlink(fs::read_link(path).unwrap()),
        _ => What::File { bytes: metadata.len(), hash: blake3::hash(&fs::read(path).unwrap()) },
    }
}
