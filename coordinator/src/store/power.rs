//! What a power cut leaves of a local repository: for tests.
//!
//! [`Recorder`] does what a disk is asked, and writes it down. [`left_after_cut`] takes the first so many of these calls
//! and makes the worst of them that POSIX allows: of a file, what was written since its last fsync is there, in part,
//! zero, or not; of a directory, each change of names since its last fsync has happened or not, whatever became of the
//! others. Nothing that was synced is ever missing.

use super::{Disk, LocalDisk, Put};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A call that changed something. Paths are relative to the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new file.
    Create(PathBuf),
    /// More bytes at the end of a file.
    Write(PathBuf, Vec<u8>),
    /// A file's bytes are durable.
    SyncFile(PathBuf),
    /// A file has another name.
    Rename(PathBuf, PathBuf),
    /// A new directory.
    MakeDirectory(PathBuf),
    /// A directory's names are durable.
    SyncDirectory(PathBuf),
    /// Everything is durable.
    SyncAll,
    /// A file is gone.
    Remove(PathBuf),
}

impl Change {
    /// Whether something is seen under a name that was not there before, temporary files apart.
    pub fn is_name(&self) -> bool {
        matches!(self, Self::Rename(..) | Self::MakeDirectory(_))
    }
}

/// Does what it is asked, below `root`, and writes it down.
#[derive(Debug)]
pub struct Recorder {
    root: PathBuf,
    changes: Mutex<Vec<Change>>,
    /// So many new names will appear until the process is killed.
    names_left: Mutex<usize>,
}

impl Recorder {
    /// Nothing has happened yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), changes: Mutex::default(), names_left: Mutex::new(usize::MAX) }
    }

    /// All that happened so far.
    pub fn changes(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is killed as soon as so many further names have appeared: nothing it asks for is done any more.
    pub fn kill_after_names(&self, names: usize) {
        *self.names_left() = names;
    }

    /// Whether it was killed.
    pub fn is_killed(&self) -> bool {
        *self.names_left() == 0
    }

    fn names_left(&self) -> MutexGuard<'_, usize> {
        self.names_left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened is written down before anybody can see it, so that the order of two threads is the true one.
    fn record<T>(&self, change: Change, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut changes = self.changes();
        if self.is_killed() {
            return Err(io::Error::other("the process was killed"));
        }
        let done = act()?;
        if change.is_name() {
            *self.names_left() -= 1;
        }
        changes.push(change);
        Ok(done)
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).map_or_else(|_| path.to_owned(), Path::to_owned)
    }
}

impl Disk for Recorder {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.record(Change::Create(self.relative(path)), || LocalDisk.create(path))
    }

    fn write(&self, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        let change = Change::Write(self.relative(path), bytes.to_vec());
        self.record(change, || file.write_all(bytes).map(|()| bytes.len()))
    }

    fn sync_file(&self, path: &Path, _file: &File) -> io::Result<()> {
        self.record(Change::SyncFile(self.relative(path)), || Ok(()))
    }

    fn rename_if_absent(&self, from: &Path, to: &Path) -> io::Result<Put> {
        let taken = || io::Error::from(io::ErrorKind::AlreadyExists);
        let renamed = self.record(Change::Rename(self.relative(from), self.relative(to)), || {
            match LocalDisk.rename_if_absent(from, to)? {
                Put::Done => Ok(Put::Done),
                Put::Taken => Err(taken()),
            }
        });
        match renamed {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Taken),
            other => other,
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        let renamed = Change::Rename(self.relative(from), self.relative(to));
        self.record(renamed, || LocalDisk.rename_over(from, to))
    }

    /// What is written down must have one order.
    fn is_slow(&self) -> bool {
        false
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.record(Change::MakeDirectory(self.relative(path)), || LocalDisk.make_directory(path))
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.record(Change::SyncDirectory(self.relative(path)), || Ok(()))
    }

    fn sync_all(&self, _path: &Path) -> io::Result<()> {
        self.record(Change::SyncAll, || Ok(()))
    }

    /// Takes none: what holds nothing cannot be lost.
    fn take_room(&self, _path: &Path, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.record(Change::Remove(self.relative(path)), || LocalDisk.remove(path))
    }
}

/// A file's bytes, and how many of them are durable.
#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: usize,
}

/// What a name in a directory stands for.
type Entry = Option<Node>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    File(usize),
    Directory,
}

/// The disk as processes see it, and what of it is durable.
#[derive(Debug, Default)]
struct Model {
    inodes: Vec<Inode>,
    /// As processes see it: path to file.
    seen: BTreeMap<PathBuf, usize>,
    /// Durable names, by directory.
    durable: BTreeMap<PathBuf, Node>,
    /// Changes of names since the last fsync of their directory, in order.
    pending: Vec<(PathBuf, Entry)>,
}

/// What is left on the disk if the power fails after `changes`: the content of each file, and the directories made.
///
/// `chance` decides what became of everything that was not durable: numbers below the one that it is given.
pub fn left_after_cut(
    changes: &[Change],
    chance: &mut dyn FnMut(usize) -> usize,
) -> (BTreeMap<PathBuf, Vec<u8>>, BTreeSet<PathBuf>) {
    let mut model = Model::default();
    changes.iter().for_each(|change| model.apply(change));
    let mut names = model.durable.clone();
    for (path, entry) in &model.pending {
        if chance(2) == 0 {
            match entry {
                Some(node) => names.insert(path.clone(), *node),
                None => names.remove(path),
            };
        }
    }
    let directories: BTreeSet<PathBuf> =
        names.iter().filter(|(_, node)| **node == Node::Directory).map(|(path, _)| path.clone()).collect();
    let made: BTreeSet<&PathBuf> = changes.iter().filter_map(made_directory).collect();
    let mut files = BTreeMap::new();
    for (path, node) in names {
        // A directory whose own name was lost takes all that is in it along.
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        if let Node::File(inode) = node
            && (directories.contains(&parent) || !made.contains(&parent))
        {
            files.insert(path, worst(&model.inodes[inode], chance));
        }
    }
    (files, directories)
}

fn made_directory(change: &Change) -> Option<&PathBuf> {
    match change {
        Change::MakeDirectory(path) => Some(path),
        _ => None,
    }
}

/// The durable bytes, and the rest as it may be: there, in part, zero, or not at all.
fn worst(inode: &Inode, chance: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
    let rest = inode.bytes.len() - inode.durable;
    let mut bytes = inode.bytes.clone();
    match chance(4) {
        _ if rest == 0 => {}
        0 => {}
        1 => bytes.truncate(inode.durable + chance(rest)),
        2 => bytes[inode.durable..].fill(0),
        _ => bytes.truncate(inode.durable),
    }
    bytes
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(path) => {
                self.inodes.push(Inode::default());
                let inode = self.inodes.len() - 1;
                self.seen.insert(path.clone(), inode);
                self.pending.push((path.clone(), Some(Node::File(inode))));
            }
            Change::Write(path, bytes) => {
                if let Some(inode) = self.seen.get(path) {
                    self.inodes[*inode].bytes.extend_from_slice(bytes);
                }
            }
            Change::SyncFile(path) => {
                if let Some(inode) = self.seen.get(path).map(|inode| &mut self.inodes[*inode]) {
                    inode.durable = inode.bytes.len();
                }
            }
            Change::Rename(from, to) => {
                if let Some(inode) = self.seen.remove(from) {
                    self.seen.insert(to.clone(), inode);
                    self.pending.push((to.clone(), Some(Node::File(inode))));
                    self.pending.push((from.clone(), None));
                }
            }
            Change::MakeDirectory(path) => self.pending.push((path.clone(), Some(Node::Directory))),
            Change::Remove(path) => {
                if self.seen.remove(path).is_some() {
                    self.pending.push((path.clone(), None));
                }
            }
            Change::SyncDirectory(directory) => self.settle(|path| path.parent().unwrap_or(Path::new("")) == directory),
            Change::SyncAll => {
                self.inodes.iter_mut().for_each(|inode| inode.durable = inode.bytes.len());
                self.settle(|_| true);
            }
        }
    }

    /// The names that `durable` takes are so now.
    fn settle(&mut self, durable: impl Fn(&Path) -> bool) {
        let (settled, pending) = std::mem::take(&mut self.pending).into_iter().partition(|(path, _)| durable(path));
        self.pending = pending;
        let settled: Vec<(PathBuf, Entry)> = settled;
        for (path, entry) in settled {
            match entry {
                Some(node) => self.durable.insert(path, node),
                None => self.durable.remove(&path),
            };
        }
    }
}

/// Puts a state on a real disk: `root` holds a repository as it was before the first change.
pub fn materialise(root: &Path, (files, directories): &(BTreeMap<PathBuf, Vec<u8>>, BTreeSet<PathBuf>)) {
    for directory in directories {
        fs::create_dir_all(root.join(directory)).expect("a directory of a test");
    }
    for (path, bytes) in files {
        fs::write(root.join(path), bytes).expect("a file of a test");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> PathBuf {
        text.into()
    }

    fn put(name: &str, upto: usize) -> Vec<Change> {
        let temporary = path("tmp/1");
        let all = [
            Change::Create(temporary.clone()),
            Change::Write(temporary.clone(), b"content".to_vec()),
            Change::SyncFile(temporary.clone()),
            Change::MakeDirectory(path("d/aa")),
            Change::SyncDirectory(path("d")),
            Change::Rename(temporary, path(name)),
            Change::SyncDirectory(path("d/aa")),
        ];
        all[..upto].to_vec()
    }

    #[test]
    fn what_was_synced_is_there_and_the_rest_is_as_bad_as_chance_makes_it() {
        let left = |changes: &[Change], chance: usize| left_after_cut(changes, &mut |below| chance.min(below - 1)).0;
        for chance in 0..4 {
            let whole = left(&put("d/aa/x", 7), chance);
            assert_eq!(whole.get(&path("d/aa/x")).map(Vec::as_slice), Some(&b"content"[..]), "{chance}");
        }
        assert_eq!(left(&put("d/aa/x", 6), 1).get(&path("d/aa/x")), None, "its directory was not synced");
        assert_eq!(left(&put("d/aa/x", 6), 0)[&path("d/aa/x")], b"content");
        let mut unsynced_file = put("d/aa/x", 7);
        unsynced_file.remove(2);
        assert_eq!(left(&unsynced_file, 3)[&path("d/aa/x")], b"", "a name of a file that never arrived");
        assert_eq!(left(&unsynced_file, 2)[&path("d/aa/x")], [0; 7]);
        let mut unsynced_parent = put("d/aa/x", 7);
        unsynced_parent.remove(4);
        assert_eq!(left(&unsynced_parent, 1).get(&path("d/aa/x")), None, "lost with its directory");
    }
}
