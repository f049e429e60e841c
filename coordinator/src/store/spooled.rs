//! A temporary file of a store: what an open pack is written into, until it is put or thrown away.
//!
//! Not truth. After a failed write it is dropped, never written again (INV-6).

use super::{Disk, StoreError};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes on their way to be an object. Dropping it removes it.
#[derive(Debug)]
pub struct Spooled(Place);

#[derive(Debug)]
enum Place {
    File { file: File, temporary: Temporary },
    Memory(Vec<u8>),
}

impl Spooled {
    /// In memory, for stores that have no disk.
    pub(super) fn in_memory() -> Self {
        Self(Place::Memory(Vec::new()))
    }

    /// A new file; the path must not exist.
    pub(super) fn at(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<Self> {
        let file = disk.create(&path)?;
        Ok(Self(Place::File { file, temporary: Temporary { disk, path } }))
    }

    /// The file and its path, if it is one.
    pub(super) fn as_file(&self) -> Option<(&File, &Path)> {
        match &self.0 {
            Place::File { file, temporary } => Some((file, &temporary.path)),
            Place::Memory(_) => None,
        }
    }

    /// All that was written, read back if it is a file.
    pub(super) fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Place::File { temporary, .. } => std::fs::read(&temporary.path),
            Place::Memory(bytes) => Ok(bytes),
        }
    }
}

impl Write for Spooled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            // The file is named here: whoever writes through a buffer knows it no more.
            Place::File { file, temporary: Temporary { disk, path } } => disk
                .write(path, file, bytes)
                .map_err(|error| io::Error::new(error.kind(), StoreError::io("write", &*path, error))),
            Place::Memory(all) => all.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A path that is removed when this is dropped; after a rename there is nothing left to remove.
#[derive(Debug)]
struct Temporary {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = self.disk.remove(&self.path);
    }
}
