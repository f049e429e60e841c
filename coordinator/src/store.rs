//! The only door to the repository: objects, put whole and never changed.
//!
//! Everything durable passes here; nothing else opens a file of the repository. What the objects mean is for the
//! modules above: [`crate::spool`] for packs, [`crate::journal`] for the chain. Implementations: [`local`] for a
//! [`Disk`], [`memory`] for tests and simulation, [`overlay`] for a disk that is read-only, and later a bucket. All of
//! them pass [`conformance`] (INV-8).

mod ballast;
pub mod conformance;
mod disk;
pub mod faulty;
pub mod local;
pub mod memory;
mod name;
pub mod overlay;
#[cfg(test)]
pub(crate) mod power;
mod spooled;
pub mod twice;

pub use disk::{Disk, LocalDisk};
pub use name::{ObjectKind, ObjectName};
pub use spooled::Spooled;

use crate::journal::Dead;
use bytes::Bytes;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use twice::Intact;

/// Objects, put whole and never changed (INV-7).
pub trait Store: Send + Sync {
    /// A new temporary file in the store's own area. It is not an object, and gone when dropped or after a crash.
    fn spool(&self) -> Result<Spooled, StoreError>;
    /// Durably, unless the name is taken. After an error nothing is known: read it back ([`put_settled`]).
    /// `Taken` means that the object which has the name is durable.
    fn put(&self, name: &ObjectName, body: Body) -> Result<Put, StoreError>;
    /// Exactly the bytes of the range, never fewer.
    fn get(&self, name: &ObjectName, range: ByteRange) -> Result<Bytes, StoreError>;
    /// How many bytes the object has.
    fn size(&self, name: &ObjectName) -> Result<u64, StoreError>;
    /// Finds more; never shows that something is gone (INV-28). Sorted by name.
    fn list(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError>;
    /// The second copies of objects of this kind, likewise.
    fn list_copies(&self, kind: ObjectKind) -> Result<Vec<ObjectName>, StoreError>;
    /// The greatest number that an object of this kind has as its name, in whichever copy; none if none is listed. Like a
    /// list, it finds more and proves no absence; it takes no memory for what it passes.
    fn greatest_number(&self, kind: ObjectKind) -> Result<Option<u64>, StoreError> {
        let names = self.list(kind)?.into_iter().chain(self.list_copies(kind)?);
        Ok(names.filter_map(|name| name.as_number()).max())
    }
    /// Durably puts these bytes in place of whatever has the name, or of nothing: they were found to be the object's.
    fn heal(&self, intact: &Intact) -> Result<(), StoreError>;
    /// What was healed since this was asked last, and what had been wrong with it.
    fn take_healed(&self) -> Vec<(ObjectName, String)> {
        Vec::new()
    }
    /// Whether a put waits for a disk, so that several are better done at once.
    fn puts_wait(&self) -> bool {
        false
    }
    /// Where objects of this kind lie, to be shown.
    fn location(&self, kind: ObjectKind) -> String {
        kind.directory().to_owned()
    }
    /// Removes an object that the journal named dead: only [`crate::journal`] can make a [`Dead`]. What is gone
    /// already is no error.
    fn delete(&self, dead: Dead) -> Result<(), StoreError>;
}

/// What an object is made of.
#[derive(Debug)]
pub enum Body {
    /// Bytes in memory: for small objects.
    Bytes(Vec<u8>),
    /// A temporary file of the same store.
    Spooled(Spooled),
}

/// How a put ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is durable under its name.
    Done,
    /// There is an object of this name already; it was left as it is.
    Taken,
}

/// Which bytes of an object to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it.
    Whole,
    /// So many bytes from an offset.
    At {
        /// The first byte, from 0.
        offset: u64,
        /// How many.
        bytes: u64,
    },
    /// The last so many bytes.
    Last(u64),
}

impl ByteRange {
    /// Offset and length within an object of `size` bytes; `None` if it reaches beyond its ends.
    pub fn within(self, size: u64) -> Option<(u64, u64)> {
        match self {
            Self::Whole => Some((0, size)),
            Self::At { offset, bytes } => (offset.checked_add(bytes)? <= size).then_some((offset, bytes)),
            Self::Last(bytes) => Some((size.checked_sub(bytes)?, bytes)),
        }
    }
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is not there. Only this says so; every other error leaves it open (INV-28).
    #[error("{object} is not in the repository")]
    NotFound {
        /// The object that was asked for.
        object: ObjectName,
    },
    /// The object is shorter than what was asked for: it was cut, or the asker is mistaken.
    #[error("{object} has {size_bytes} bytes, which does not hold the range {range:?}")]
    OutOfRange {
        /// The object that was asked for.
        object: ObjectName,
        /// How many bytes it has.
        size_bytes: u64,
        /// What was asked for.
        range: ByteRange,
    },
    /// No space, or the quota is used up.
    #[error("no space left in the repository (at {path}); free space there or enlarge it, then try again")]
    Full {
        /// The file that was written.
        path: PathBuf,
    },
    /// The disk, the file system or the network failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or object.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Nothing can be written: the disk, its mount or the service's sandbox is read-only.
    #[error("the repository {path} is on a read-only file system")]
    ReadOnly {
        /// The repository, or the file in it that was written.
        path: PathBuf,
    },
    /// Another process works on this repository.
    #[error("the repository {path} is in use by another process; stop it first")]
    InUse {
        /// The repository.
        path: PathBuf,
    },
    /// There is no repository.
    #[error("{path} is not a repository ({why}); is the right disk mounted?")]
    NoRepository {
        /// Where one was looked for.
        path: PathBuf,
        /// What is missing.
        why: String,
    },
    /// There is something already.
    #[error("{path} is not empty, so no repository was made in it; name a new or empty directory")]
    NotEmpty {
        /// Where a repository was to be made.
        path: PathBuf,
    },
}

impl StoreError {
    /// Says what failed on which file; a full disk is told apart.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>, error: io::Error) -> Self {
        let path = path.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            _ => Self::Io { action, path, source: Arc::new(error) },
        }
    }

    /// Whether this says something of the object: that it is not there, or cut. Every other error leaves that open.
    pub fn is_about_the_object(&self) -> bool {
        matches!(self, Self::NotFound { .. } | Self::OutOfRange { .. })
    }

    /// Whether this says for certain that the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// How a put ended whose error was looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The object is durable under its name, with these bytes, whoever put it.
    There,
    /// Another object has the name.
    Other,
}

/// Puts small bytes, and after an error reads back what happened (INV-6).
///
/// `Err` with [`StoreError::NotFound`] never leaves here: an error means either that the object is certainly not
/// there (`absent` is true) or that nobody knows.
pub fn put_settled(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<Settled, Unsettled> {
    let first = match store.put(name, Body::Bytes(bytes.to_vec())) {
        Ok(Put::Done) => return Ok(Settled::There),
        Ok(Put::Taken) => None,
        Err(error) => Some(error),
    };
    match (read_back(store, name, bytes), first) {
        (Ok(true), None) => Ok(Settled::There),
        (Ok(false), _) => Ok(Settled::Other),
        // It is there, but the put said otherwise: only a put that answers makes certain that it is durable.
        (Ok(true), Some(_)) => match store.put(name, Body::Bytes(bytes.to_vec())) {
            Ok(_) => Ok(Settled::There),
            Err(error) => Err(Unsettled { absent: false, source: error }),
        },
        (Err(error), Some(first)) if error.is_not_found() => Err(Unsettled { absent: true, source: first }),
        (Err(error), first) => Err(Unsettled { absent: false, source: first.unwrap_or(error) }),
    }
}

fn read_back(store: &dyn Store, name: &ObjectName, bytes: &[u8]) -> Result<bool, StoreError> {
    if store.size(name)? != bytes.len() as u64 {
        return Ok(false);
    }
    Ok(store.get(name, ByteRange::Whole)? == bytes)
}

/// A put that failed, and what reading back has shown.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", if *.absent { "the object was not written" } else { "nobody knows whether the object was written" })]
pub struct Unsettled {
    /// Whether the object is certainly not there.
    pub absent: bool,
    /// Why the put failed.
    pub source: StoreError,
}
