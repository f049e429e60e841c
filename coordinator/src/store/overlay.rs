//! A repository that cannot be written: its objects, and what is written meanwhile in memory, until the process ends.
//!
//! So a coordinator lists and restores from a read-only disk with the code it always runs; what it records of that is in
//! its log alone. Nobody may back up to it: the service opens no door to agents then.

use super::local::LocalStore;
use super::memory::MemoryStore;
use super::twice::Intact;
use super::{Body, ByteRange, ObjectKind, ObjectName, Put, Spooled, Store, StoreError};
use crate::journal::Dead;
use bytes::Bytes;

/// Objects on a disk, which are only read, and objects in memory.
#[derive(Debug)]
pub struct Overlay {
    disk: LocalStore,
    memory: MemoryStore,
}

impl Overlay {
    /// Nothing is in memory yet.
    pub fn over(disk: LocalStore) -> Self {
        Self { disk, memory: MemoryStore::new() }
    }
}

impl Store for Overlay {
    fn spool(&self) -> Result<Spooled, StoreError> {
        self.memory.spool()
    }

    fn put(&self, name: &ObjectName, body: Body) -> Result<Put, StoreError> {
        match self.disk.size(name) {
            Ok(_) => Ok(Put::Taken),
            Err(error) if error.is_not_found() => self.memory.put(name, body),
            Err(error) => Err(error),
        }
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Bytes, StoreError> {
        match self.memory.get(name, range) {
            Err(error) if error.is_not_found() => self.disk.get(name, range),
            held => held,
        }
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        match self.memory.size(name) {
            Err(error) if error.is_not_found() => self.disk.size(name),
            held => held,
        }
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        let mut names = self.disk.list(kind)?;
        names.extend(self.memory.list(kind)?);
        names.sort();
        Ok(names)
    }

    fn list_copies(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        let mut names = self.disk.list_copies(kind)?;
        names.extend(self.memory.list_copies(kind)?);
        names.sort();
        Ok(names)
    }

    fn greatest_number(&self, kind: ObjectKind) -> Result<Option<u64>, StoreError> {
        Ok(self.disk.greatest_number(kind)?.max(self.memory.greatest_number(kind)?))
    }

    fn heal(&self, intact: &Intact) -> Result<(), StoreError> {
        match self.memory.size(intact.name()) {
            Ok(_) => self.memory.heal(intact),
            Err(_) => Err(StoreError::ReadOnly { path: self.disk.root().join(intact.name().path()) }),
        }
    }

    fn location(&self, kind: ObjectKind) -> String {
        self.disk.location(kind)
    }

    /// What lies on the disk stays there.
    fn delete(&self, dead: Dead) -> Result<(), StoreError> {
        self.memory.delete(dead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_08_the_overlay_conforms_and_leaves_the_disk_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repository");
        let disk = LocalStore::create(&root).unwrap();
        let (on_disk, in_memory) = (ObjectName::journal(1_000_001), ObjectName::journal(1_000_002));
        disk.put(&on_disk, Body::Bytes(b"disk".to_vec())).unwrap();
        drop(disk);
        let overlay = Overlay::over(LocalStore::open_read_only(&root).unwrap());
        assert_eq!(overlay.put(&on_disk, Body::Bytes(b"other".to_vec())).unwrap(), Put::Taken);
        assert_eq!(overlay.put(&in_memory, Body::Bytes(b"memory".to_vec())).unwrap(), Put::Done);
        let read = |name| overlay.get(name, ByteRange::Whole).unwrap();
        assert_eq!((&read(&on_disk)[..], &read(&in_memory)[..]), (&b"disk"[..], &b"memory"[..]));
        assert_eq!(overlay.list(ObjectKind::Journal).unwrap(), [on_disk.clone(), in_memory]);
        drop(overlay);
        assert_eq!(LocalStore::open(&root).unwrap().list(ObjectKind::Journal).unwrap(), [on_disk]);

        let empty = directory.path().join("empty");
        drop(LocalStore::create(&empty).unwrap());
        super::super::conformance::check(&Overlay::over(LocalStore::open_read_only(&empty).unwrap()));
    }
}
