//! A repository in memory, for tests and simulation. Clones share it, so a "restart" opens a clone.
//!
//! A put is one step, so there is nothing here that a crash could tear; faults come from [`super::faulty`].

use super::twice::Intact;
use super::{Body, ByteRange, ObjectKind, ObjectName, Put, Spooled, Store, StoreError};
use crate::journal::Dead;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Objects in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    objects: Arc<Mutex<BTreeMap<ObjectName, Bytes>>>,
}

impl MemoryStore {
    /// An empty repository.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes one object behind the store's back, as bit rot would; for tests of damage. `None` removes it.
    pub fn damage(&self, name: &ObjectName, bytes: Option<Bytes>) {
        match bytes {
            Some(bytes) => self.objects().insert(name.clone(), bytes),
            None => self.objects().remove(name),
        };
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectName, Bytes>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        self.objects().get(name).cloned().ok_or_else(|| StoreError::NotFound { object: name.clone() })
    }
}

impl Store for MemoryStore {
    fn spool(&self) -> Result<Spooled, StoreError> {
        Ok(Spooled::in_memory())
    }

    fn put(&self, name: &ObjectName, body: Body) -> Result<Put, StoreError> {
        let bytes = match body {
            Body::Bytes(bytes) => bytes,
            Body::Spooled(spooled) => {
                spooled.into_bytes().map_err(|error| StoreError::io("read", name.path(), error))?
            }
        };
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Ok(Put::Taken);
        }
        objects.insert(name.clone(), bytes.into());
        Ok(Put::Done)
    }

    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Bytes, StoreError> {
        let bytes = self.object(name)?;
        let size_bytes = bytes.len() as u64;
        let (offset, length) = range.within(size_bytes).ok_or_else(|| StoreError::OutOfRange {
            object: name.clone(),
            size_bytes,
            range,
        })?;
        Ok(bytes.slice(offset as usize..(offset + length) as usize))
    }

    fn size(&self, name: &ObjectName) -> Result<u64, StoreError> {
        self.object(name).map(|bytes| bytes.len() as u64)
    }

    fn list(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        Ok(self.objects().keys().filter(|name| name.kind() == kind && !name.is_copy()).cloned().collect())
    }

    fn list_copies(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError> {
        Ok(self.objects().keys().filter(|name| name.kind() == kind && name.is_copy()).cloned().collect())
    }

    fn heal(&self, intact: &Intact) -> Result<(), StoreError> {
        self.objects().insert(intact.name().clone(), intact.bytes().clone());
        Ok(())
    }

    fn delete(&self, dead: Dead) -> Result<(), StoreError> {
        self.objects().remove(dead.object());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_08_the_memory_store_conforms() {
        super::super::conformance::check(&MemoryStore::new());
    }
}
