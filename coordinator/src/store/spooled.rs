//! A temporary file of a store: what an open pack is written into, until it is put or thrown away.
//!
//! Not truth. After a failed write it is dropped, never written again (INV-6).

use super::StoreError;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

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
    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self(Place::File { file, temporary: Temporary(path) }))
    }

    /// The file and its path, if it is one.
    pub(super) fn as_file(&self) -> Option<(&File, &Path)> {
        match &self.0 {
            Place::File { file, temporary } => Some((file, &temporary.0)),
            Place::Memory(_) => None,
        }
    }

    /// All that was written, read back if it is a file.
    pub(super) fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Place::File { temporary, .. } => std::fs::read(&temporary.0),
            Place::Memory(bytes) => Ok(bytes),
        }
    }
}

impl Write for Spooled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            // The file is named here: whoever writes through a buffer knows it no more.
            Place::File { file, temporary } => file
                .write(bytes)
                .map_err(|error| io::Error::new(error.kind(), StoreError::io("write", &temporary.0, error))),
            Place::Memory(all) => all.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A path that is removed when this is dropped; after a rename there is nothing left to remove.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed now is removed at the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}
