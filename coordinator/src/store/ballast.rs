//! Room for small objects on a full disk: a file that is given up when there is no other (INV-65).
//!
//! No pack is begun without it. So backups are the first to stop, and on that day a restore can still be recorded in the
//! journal: the record finds the room that the file had. It holds nothing, is no object, and is made again once there is
//! room.

use super::Disk;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const NAME: &str = "ballast";
/// Two thousand records of one block each.
const BYTES_MAX: u64 = 8 << 20;
/// Of a small disk, one byte in so many.
const SHARE: u64 = 16;

/// The file, and whether it is there.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
    held: Mutex<bool>,
}

impl Ballast {
    /// That of a repository; not made yet.
    pub fn of(root: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(root)?;
        let bytes = BYTES_MAX.min(disk.f_blocks.saturating_mul(disk.f_frsize) / SHARE);
        Ok(Self { path: root.join(NAME), bytes, held: Mutex::new(false) })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it unless it is there.
    pub fn hold(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !*held {
            disk.take_room(&self.path, self.bytes)?;
            *held = true;
        }
        Ok(())
    }

    /// Gives its room to others; says whether there was any to give.
    pub fn give_up(&self, disk: &dyn Disk) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let given = *held && disk.remove(&self.path).is_ok();
        *held &= !given;
        given
    }
}

#[cfg(test)]
mod tests {
    use super::super::local::LocalStore;
    use super::super::{Body, LocalDisk, ObjectName, Put, Store, StoreError};
    use super::*;
    use std::fs::{self, File};
    use std::io::Write;
    use std::sync::Arc;

    /// A disk with so much room; only bytes count.
    #[derive(Debug)]
    struct Small(Mutex<u64>);

    impl Small {
        fn take(&self, bytes: u64) -> io::Result<()> {
            let mut room = self.0.lock().unwrap();
            *room = room.checked_sub(bytes).ok_or(io::ErrorKind::StorageFull)?;
            Ok(())
        }
    }

    impl Disk for Small {
        fn create(&self, path: &Path) -> io::Result<File> {
            LocalDisk.create(path)
        }

        fn write(&self, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
            self.take(bytes.len() as u64)?;
            LocalDisk.write(path, file, bytes)
        }

        fn sync_file(&self, _path: &Path, _file: &File) -> io::Result<()> {
            Ok(())
        }

        fn rename_if_absent(&self, from: &Path, to: &Path) -> io::Result<Put> {
            LocalDisk.rename_if_absent(from, to)
        }

        fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
            LocalDisk.rename_over(from, to)
        }

        fn make_directory(&self, path: &Path) -> io::Result<()> {
            LocalDisk.make_directory(path)
        }

        fn sync_directory(&self, _path: &Path) -> io::Result<()> {
            Ok(())
        }

        fn sync_all(&self, _path: &Path) -> io::Result<()> {
            Ok(())
        }

        fn take_room(&self, path: &Path, bytes: u64) -> io::Result<()> {
            self.take(bytes)?;
            File::create(path)?.set_len(bytes)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            *self.0.lock().unwrap() += fs::metadata(path)?.len();
            LocalDisk.remove(path)
        }
    }

    #[test]
    fn inv_65_on_a_full_disk_a_pack_is_refused_and_a_small_object_finds_room() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        drop(LocalStore::create(&root).unwrap());
        fs::remove_file(root.join(NAME)).unwrap();
        let disk = Arc::new(Small(Mutex::new(Ballast::of(&root).unwrap().bytes + 10_000)));
        let store = LocalStore::open_on(disk, &root).unwrap();
        let mut pack = store.spool().unwrap();
        pack.write_all(&[1; 10_000]).unwrap();
        assert!(pack.write_all(&[1]).is_err(), "what is kept is not for packs");
        let record = |number| store.put(&ObjectName::journal(number), Body::Bytes(vec![2; 1000])).unwrap();
        assert_eq!([record(1), record(2)], [Put::Done; 2]);
        assert!(matches!(store.spool(), Err(StoreError::Full { .. })), "what is left of it is not for packs either");
        drop(pack);
        assert!(store.spool().is_ok(), "there is room again, and so there is ballast");
        assert!(root.join(NAME).exists());
    }
}
