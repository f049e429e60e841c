//! A repository on a local disk: one file an object.
//!
//! Put = temporary file in `tmp`, write, fsync, rename to the name if nothing has it, fsync of the directory (INV-2).
//! So under its name an object is complete or absent (INV-7). Temporary files are removed at start-up, never read. A
//! lock on the file `lock` keeps a second process out; that another machine has the same disk is found out by the
//! journal's numbers, not here. On a full disk small objects take the room that `ballast` kept for them.

use super::ballast::Ballast;
use super::name::COPIES;
use super::twice::Intact;
use super::{Body, ByteRange, Disk, LocalDisk, ObjectKind, ObjectName, Put, Spooled, Store, StoreError};
use crate::journal::Dead;
use bytes::Bytes;
use rustix::fs::{Access, FlockOperation, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use walkdir::WalkDir;

const TEMPORARY: &str = "tmp";
const LOCK: &str = "lock";

/// Objects as files below one directory, which this process holds alone while the value lives.
#[derive(Debug)]
pub struct LocalStore {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    next_temporary: AtomicU64,
    durable: Mutex<BTreeSet<PathBuf>>,
    healed: Mutex<Vec<(ObjectName, String)>>,
    ballast: Ballast,
    _lock: File,
}

impl LocalStore {
    /// Makes an empty repository in a directory that is new or empty, durably.
    pub fn create(root: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(|error| StoreError::io("make directory", root, error))?;
        let mut entries = fs::read_dir(root).map_err(|error| StoreError::io("list", root, error))?;
        if entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != "lost+found")) {
            return Err(StoreError::NotEmpty { path: root.into() });
        }
        for directory in directories() {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|error| StoreError::io("make directory", path, error))?;
        }
        let lock = root.join(LOCK);
        File::create_new(&lock).map_err(|error| StoreError::io("make", lock, error))?;
        let sync = |path: &Path| LocalDisk.sync_directory(path).map_err(|error| StoreError::io("fsync", path, error));
        sync(root)?;
        root.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync)?;
        Self::open(root)
    }

    /// Opens a repository, keeps other processes out of it, removes what earlier ones left unfinished, and makes durable
    /// what they finished: from now on, what has a name is durable.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_on(Arc::new(LocalDisk), root)
    }

    /// The same, with every call that changes something going through `disk`.
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, StoreError> {
        refuse_other_directory(root)?;
        if let Err(Errno::ROFS) = rustix::fs::access(root, Access::WRITE_OK) {
            return Err(StoreError::ReadOnly { path: root.into() });
        }
        // A copy may have left them out: the lock is no object, and some file trees know no empty directories.
        for directory in directories() {
            let path = root.join(directory);
            fs::create_dir_all(&path).map_err(|error| StoreError::io("make directory", path, error))?;
        }
        let path = root.join(LOCK);
        let file = File::options().read(true).append(true).create(true).open(&path);
        let lock = file.map_err(|error| StoreError::io("open", path, error))?;
        let store = Self::locked(disk, root, lock)?;
        store.remove_temporary_files()?;
        // An earlier process may have been stopped between a name and its durability, and what is seen is relied on.
        store.disk.sync_all(root).map_err(|error| StoreError::io("sync", root, error))?;
        // Without it one can read and record; the first pack will say what is wrong.
        let _ = store.ballast.hold(store.disk.as_ref());
        Ok(store)
    }

    /// Opens a repository that cannot be written, to read it. Every put fails.
    pub fn open_read_only(root: &Path) -> Result<Self, StoreError> {
        refuse_other_directory(root)?;
        let path = root.join(LOCK);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => File::open(root),
            opened => opened,
        };
        let lock = file.map_err(|error| StoreError::io("open", path, error))?;
        Self::locked(Arc::new(LocalDisk), root, lock)
    }

    fn locked(disk: Arc<dyn Disk>, root: &Path, lock: File) -> Result<Self, StoreError> {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(StoreError::InUse { path: root.into() }),
            Err(error) => return Err(StoreError::io("lock", root, error.into())),
        }
        Ok(Self {
            disk,
            root: root.into(),
            next_temporary: AtomicU64::new(0),
            durable: Mutex::default(),
            healed: Mutex::default(),
            ballast: Ballast::of(root).map_err(|error| StoreError::io("look at", root, error))?,
            _lock: lock,
        })
    }

    /// The directory that holds it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn remove_temporary_files(&self) -> Result<(), StoreError> {
        let directory = self.root.join(TEMPORARY);
        let entries = fs::read_dir(&directory).map_err(|error| StoreError::io("list", &directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| StoreError::io("list", &directory, error))?.path();
            self.disk.remove(&path).map_err(|error| StoreError::io("remove", path, error))?;
        }
        Ok(())
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.root.join(name.path())
    }

    fn open_object(&self, name: &ObjectName) -> Result<(File, u64), StoreError> {
        let path = self.path(name);
        // Whatever lies under the name, a pipe for example, must not make us wait.
        let opened = File::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(&path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound { object: name.clone() },
            _ => StoreError::io("open", &path, error),
        })?;
        let metadata = file.metadata().map_err(|error| StoreError::io("look at", &path, error))?;
        match metadata.is_file() {
            true => Ok((file, metadata.len())),
            false => Err(StoreError::io("open", path, io::Error::other("not a file"))),
        }
    }

    /// The directory that will hold the object, there and durable. That it is there says nothing: whoever made it may have
    /// been stopped before its name was durable.
    fn directory_for(&self, name: &ObjectName) -> Result<PathBuf, StoreError> {
        let path = self.path(name);
        let parent = path.parent().unwrap_or(&self.root).to_path_buf();
        if self.durable().contains(&parent) {
            return Ok(parent);
        }
        match self.disk.make_directory(&parent) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::io("make directory", parent, error)),
        }
        self.sync_directory(parent.parent().unwrap_or(&self.root))?;
        self.durable().insert(parent.clone());
        Ok(parent)
    }

    /// Directories whose names this process has seen made durable: some hundred at most.
    fn durable(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn healed(&self) -> MutexGuard<'_, Vec<(ObjectName, String)>> {
        self.healed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn temporary(&self) -> Result<Spooled, StoreError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(TEMPORARY).join(number.to_string());
        Spooled::at(self.disk.clone(), path.clone()).map_err(|error| StoreError::io("make", path, error))
    }

    fn put_bytes(&self, name: &ObjectName, bytes: &[u8]) -> Result<Put, StoreError> {
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(|error| StoreError::io("write", self.path(name), error))?;
        self.put_file(name, &file)
    }

    fn own_file<'s>(&self, name: &ObjectName, spooled: &'s Spooled) -> Result<(&'s File, &'s Path), StoreError> {
        spooled.as_file().ok_or_else(|| {
            let error = io::Error::other("the temporary file is of another store");
            StoreError::io("put", self.path(name), error)
        })
    }

    fn put_file(&self, name: &ObjectName, spooled: &Spooled) -> Result<Put, StoreError> {
        let (file, temporary) = self.own_file(name, spooled)?;
        self.disk.sync_file(temporary, file).map_err(|error| StoreError::io("fsync", temporary, error))?;
        let directory = self.directory_for(name)?;
        let path = self.path(name);
        let put = self.disk.rename_if_absent(temporary, &path).map_err(|error| StoreError::io("put", path, error))?;
        // Also when the name was taken: whoever put that object may have been stopped just before this line.
        self.sync_directory(&directory)?;
        Ok(put)
    }

    fn list_below(&self, directory: &Path) -> Result<Vec<ObjectName>, StoreError> {
        let mut names = Vec::new();
        if matches!(directory.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            return Ok(names);
        }
        for entry in WalkDir::new(directory).max_depth(2).sort_by_file_name() {
            let entry = entry.map_err(|error| {
                let path = error.path().unwrap_or(&self.root).to_path_buf();
                StoreError::io("list", path, error.into())
            })?;
            if entry.file_type().is_dir() {
                continue;
            }
            let relative = entry.path().strip_prefix(&self.root).ok().and_then(Path::to_str);
            match relative.and_then(ObjectName::from_path) {
                Some(name) => names.push(name),
                None => tracing::warn!(path = %entry.path().display(), "not an object of ours, left alone"),
            }
        }
        Ok(names)
    }

    /// The greatest number among the names in one directory.
    fn greatest_in(&self, kind: ObjectKind, directory: &Path) -> Result<Option<u64>, StoreError> {
        let failed = |error| StoreError::io("list", directory, error);
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(failed)?,
        };
        let mut greatest = None;
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().and_then(|name| ObjectName::new(kind, name));
            greatest = greatest.max(name.and_then(|name| name.as_number()));
        }
        Ok(greatest)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), StoreError> {
        self.disk.sync_directory(path).map_err(|error| StoreError::io("fsync", path, error))
    }
}

/// What a repository consists of, also while it is empty.
fn directories() -> impl Iterator<Item = String> {
    let twice = ObjectKind::ALL.into_iter().filter(|kind| kind.is_twice());
    let copies = twice.map(|kind| format!("{COPIES}/{}", kind.directory()));
    ObjectKind::ALL.map(ObjectKind::directory).into_iter().chain([TEMPORARY]).map(str::to_owned).chain(copies)
}

/// A repository has a journal; anything else may be the mount point of a disk that is missing.
fn refuse_other_directory(root: &Path) -> Result<(), StoreError> {
    let journal = ObjectKind::Journal.directory();
    match root.join(journal).is_dir() {
        true => Ok(()),
        false => Err(StoreError::NoRepository { path: root.into(), why: format!("it has no directory {journal:?}") }),
    }
}

impl Store for LocalStore {
    fn spool(&self) -> Result<Spooled, StoreError> {
        let held = self.ballast.hold(self.disk.as_ref());
        held.map_err(|error| StoreError::io("make", self.ballast.path(), error))?;
        self.temporary()
    }

    fn put(&self, name: &ObjectName, body: Body) -> Result<Put, StoreError> {
        match body {
            Body::Spooled(spooled) => self.put_file(name, &spooled),
            Body::Bytes(bytes) => match self.put_bytes(name, &bytes) {
                Err(StoreError::Full { .. }) if self.ballast.give_up(self.disk.as_ref()) => {
                    self.put_bytes(name, &bytes)
                }
                done => done,
            },
        }
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Bytes, StoreError> {
        let (file, size_bytes) = self.open_object(name)?;
        let outside = || StoreError::OutOfRange { object: name.clone(), size_bytes, range };
        let (offset, length) = range.within(size_bytes).ok_or_else(outside)?;
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| outside())?];
        file.read_exact_at(&mut bytes, offset).map_err(|error| StoreError::io("read", self.path(name), error))?;
        Ok(bytes.into())
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.open_object(name).map(|(_, bytes)| bytes)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        self.list_below(&self.root.join(kind.directory()))
    }

    fn list_copies(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        self.list_below(&self.root.join(COPIES).join(kind.directory()))
    }

    fn greatest_number(&self, kind: ObjectKind) -> Result<Option<u64>, StoreError> {
        let first = self.greatest_in(kind, &self.root.join(kind.directory()))?;
        let copy = self.greatest_in(kind, &self.root.join(COPIES).join(kind.directory()))?;
        Ok(first.max(copy))
    }

    fn heal(&self, intact: &Intact) -> Result<(), StoreError> {
        let path = self.path(intact.name());
        let mut file = self.temporary()?;
        file.write_all(intact.bytes()).map_err(|error| StoreError::io("write", &path, error))?;
        let directory = self.directory_for(intact.name())?;
        let (file, temporary) = self.own_file(intact.name(), &file)?;
        let synced = self.disk.sync_file(temporary, file);
        synced.map_err(|error| StoreError::io("fsync", temporary, error))?;
        self.disk.rename_over(temporary, &path).map_err(|error| StoreError::io("replace", path, error))?;
        self.sync_directory(&directory)?;
        self.healed().push((intact.name().clone(), intact.problem().to_owned()));
        Ok(())
    }

    fn take_healed(&self) -> Vec<(ObjectName, String)> {
        std::mem::take(&mut self.healed())
    }

    fn puts_wait(&self) -> bool {
        self.disk.is_slow()
    }

    fn location(&self, kind: ObjectKind) -> String {
        self.root.join(kind.directory()).display().to_string()
    }

    fn delete(&self, dead: Dead) -> Result<(), StoreError> {
        let path = self.path(dead.object());
        match self.disk.remove(&path) {
            Ok(()) => self.sync_directory(path.parent().unwrap_or(&self.root)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(StoreError::io("delete", path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn inv_08_the_local_store_conforms() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&directory.path().join("repository")).unwrap();
        super::super::conformance::check(&store);
    }

    #[test]
    fn inv_07_what_was_not_finished_is_removed_at_start_up_and_never_seen() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        let store = LocalStore::create(&root).unwrap();
        let mut spooled = store.spool().unwrap();
        spooled.write_all(b"half").unwrap();
        std::mem::forget(spooled); // A crash drops nothing.
        drop(store);
        let store = LocalStore::open(&root).unwrap();
        assert_eq!(fs::read_dir(root.join(TEMPORARY)).unwrap().count(), 0);
        assert!(ObjectKind::ALL.iter().all(|kind| store.list(*kind).unwrap().is_empty()));
    }

    #[test]
    fn a_second_process_and_a_directory_that_is_no_repository_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        assert!(matches!(LocalStore::open(&root), Err(StoreError::NoRepository { .. })));
        let _first = LocalStore::create(&root).unwrap();
        assert!(matches!(LocalStore::open(&root), Err(StoreError::InUse { .. })));
        assert!(matches!(LocalStore::create(&root), Err(StoreError::NotEmpty { .. })));
    }

    #[test]
    fn a_copy_without_lock_and_empty_directories_is_a_repository() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        let store = LocalStore::create(&root).unwrap();
        store.put(&ObjectName::journal(1), Body::Bytes(b"batch".to_vec())).unwrap();
        drop(store);
        let all = || ObjectKind::ALL.map(ObjectKind::directory).into_iter().chain([TEMPORARY]);
        fs::remove_file(root.join(LOCK)).unwrap();
        all().for_each(|name| drop(fs::remove_dir(root.join(name))));
        let read_only = LocalStore::open_read_only(&root).unwrap();
        assert_eq!(read_only.list(ObjectKind::Pack).unwrap(), []);
        assert_eq!(read_only.list(ObjectKind::Journal).unwrap(), [ObjectName::journal(1)]);
        assert!(!root.join(LOCK).exists() && !root.join(TEMPORARY).exists(), "reading changes nothing");
        drop(read_only);
        let store = LocalStore::open(&root).unwrap();
        assert!(all().all(|name| root.join(name).is_dir()));
        assert_eq!(store.put(&ObjectName::journal(2), Body::Bytes(b"batch".to_vec())).unwrap(), Put::Done);
        assert!(matches!(LocalStore::open(&root), Err(StoreError::InUse { .. })));
    }

    #[test]
    fn a_directory_without_a_journal_is_refused_and_stays_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for open in [LocalStore::open, LocalStore::open_read_only] {
            assert!(matches!(open(directory.path()), Err(StoreError::NoRepository { .. })));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn inv_28_what_is_no_file_cannot_be_read_and_is_not_absent() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&directory.path().join("repository")).unwrap();
        let name = ObjectName::journal(1);
        store.put(&name, Body::Bytes(b"one".to_vec())).unwrap();
        let path = store.root().join(name.path());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        for error in [store.size(&name).unwrap_err(), store.get(&name, ByteRange::Whole).unwrap_err()] {
            assert!(!error.is_about_the_object(), "{error:?}");
        }
        fs::remove_dir(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(!store.size(&name).unwrap_err().is_about_the_object(), "and it does not wait for a writer");
    }

    #[test]
    fn what_is_not_an_object_is_neither_listed_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::create(&directory.path().join("repository")).unwrap();
        let stranger = store.root().join("journal/notes.txt");
        fs::write(&stranger, b"hello").unwrap();
        assert_eq!(store.list(ObjectKind::Journal).unwrap(), []);
        assert!(stranger.exists());
    }
}
