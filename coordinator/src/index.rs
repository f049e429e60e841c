//! The index: from the id of a chunk or node to its place. RocksDB is opened here and nowhere else.
//!
//! A cache: derived from pack footers and the journal by [`rebuild`], and it may be deleted at any time (INV-3).
//! Writes are not synced; after a power cut a prefix of them is there, and start-up replays what is missing. Who may
//! rely on a row is for [`crate::run`]; this module stores and finds, and callers that change a row hold the lock that
//! makes reading and writing it one step.
//!
//! # Invariants
//! * INV-5: rows name packs by a [`PackNumber`], and only a pack that is a durable object is given one.
//! * Only the clean-up's marks, homes, and what runs sent are here and nowhere else: all may be lost.

mod counts;
mod fill;
mod packs;
pub mod rebuild;
mod row;
mod sent;
mod tables;
mod unreadable;
mod walked;
mod whole;
mod witnessed;

pub use counts::Counted;
pub use fill::Filling;
pub use packs::PackEntry;
pub use row::{Body, ChunkRow, Mark, NodeRow, PackNumber, Place, SentRow};
pub use tables::IndexMemory;
pub use unreadable::{Harm, Unreadable};
pub use walked::{WalkId, Walked};
pub use whole::{BATCH_ROWS, Seen};

use lifeboat_format::FormatError;
use lifeboat_format::id::{ChunkId, NodeId};
use packs::Packs;
use rocksdb::{ColumnFamily, DB, IteratorMode, WriteBatch};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tables::{CHUNKS, META, NODES};
use witnessed::Waiting;

/// Why the index could not answer. The repository is not touched by any of these.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IndexError {
    /// RocksDB failed: the disk, or the files are damaged.
    #[error("cannot {action} the index; if its disk is sound, restart the service: a damaged index is rebuilt")]
    Database {
        /// What was tried.
        action: &'static str,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// A row does not decode, or contradicts another one.
    #[error("the index holds an invalid row; restart the service: the index is rebuilt")]
    Row(#[from] FormatError),
    /// A table or a pack number is missing.
    #[error("the index lacks {what}; restart the service: the index is rebuilt")]
    Missing {
        /// What should be there.
        what: String,
    },
    /// The start was ended.
    #[error(transparent)]
    Interrupted(#[from] crate::watch::Interrupted),
    /// The directory itself.
    #[error("cannot {action} the index directory {path}")]
    Directory {
        /// What was tried.
        action: &'static str,
        /// The index.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
}

/// The open index.
pub struct Index {
    database: DB,
    packs: RwLock<Packs>,
    waiting: Mutex<Waiting>,
    condemned: AtomicBool,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Index at {}", self.database.path().display())
    }
}

/// Changes that are made together, or after a crash not at all.
#[derive(Default)]
pub struct Changes(WriteBatch);

impl Index {
    /// Opens the index in this directory, or makes an empty one.
    pub fn open(path: &Path, memory: IndexMemory) -> Result<Self, IndexError> {
        let made = std::fs::create_dir_all(path);
        made.map_err(|source| IndexError::Directory { action: "make", path: path.into(), source: source.into() })?;
        Self::refuse_remains(path)?;
        let database = DB::open_cf_descriptors(&tables::database(memory), path, tables::tables(memory));
        let database = database.map_err(|source| IndexError::Database { action: "open", source })?;
        let (packs, waiting) = (RwLock::default(), Mutex::default());
        let mut index = Self { database, packs, waiting, condemned: AtomicBool::new(false) };
        index.packs = RwLock::new(index.load_packs()?);
        index.waiting = Mutex::new(index.load_waiting()?);
        Ok(index)
    }

    /// Removes the index in this directory, which nobody has open.
    pub fn delete(path: &Path) -> Result<(), IndexError> {
        match std::fs::remove_dir_all(path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(IndexError::Directory { action: "remove", path: path.into(), source: source.into() })
            }
            _ => Ok(()),
        }
    }

    /// An error of the database. If it proves that the index is damaged, the next start rebuilds it.
    fn failed(&self, action: &'static str) -> impl FnOnce(rocksdb::Error) -> IndexError + '_ {
        move |source| {
            let error = IndexError::Database { action, source };
            self.condemn(&error);
            error
        }
    }

    /// The same of a row that does not decode.
    fn invalid(&self, source: FormatError) -> IndexError {
        let error = IndexError::Row(source);
        self.condemn(&error);
        error
    }

    fn table(&self, name: &'static str) -> Result<&ColumnFamily, IndexError> {
        self.database.cf_handle(name).ok_or_else(|| IndexError::Missing { what: format!("the table {name:?}") })
    }

    fn get<T>(
        &self,
        table: &'static str,
        key: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    ) -> Result<Option<T>, IndexError> {
        let value = self.database.get_pinned_cf(self.table(table)?, key).map_err(self.failed("read"))?;
        value.map(|value| decode(&value)).transpose().map_err(|error| self.invalid(error))
    }

    /// Rows for many keys, in the order of the keys; asked in sorted order, which RocksDB answers much faster.
    fn get_many<T, const N: usize>(
        &self,
        table: &'static str,
        keys: &[[u8; N]],
        decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    ) -> Result<Vec<Option<T>>, IndexError> {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by_key(|at| &keys[*at]);
        let table = self.table(table)?;
        let values = self.database.batched_multi_get_cf(table, order.iter().map(|at| &keys[*at]), true);
        let mut rows: Vec<Option<T>> = keys.iter().map(|_| None).collect();
        for (at, value) in order.into_iter().zip(values) {
            let row = value.map_err(self.failed("read"))?.map(|value| decode(&value)).transpose();
            rows[at] = row.map_err(|error| self.invalid(error))?;
        }
        Ok(rows)
    }

    /// The row of a chunk.
    pub fn chunk(&self, id: &ChunkId) -> Result<Option<ChunkRow>, IndexError> {
        self.get(CHUNKS, id.as_bytes(), ChunkRow::decode)
    }

    /// The rows of many chunks, in the order of `ids`.
    pub fn chunks(&self, ids: &[ChunkId]) -> Result<Vec<Option<ChunkRow>>, IndexError> {
        let keys: Vec<[u8; 32]> = ids.iter().map(|id| *id.as_bytes()).collect();
        self.get_many(CHUNKS, &keys, ChunkRow::decode)
    }

    /// The row of a node.
    pub fn node(&self, id: &NodeId) -> Result<Option<NodeRow>, IndexError> {
        self.get(NODES, id.as_bytes(), NodeRow::decode)
    }

    /// The rows of many nodes, in the order of `ids`.
    pub fn nodes(&self, ids: &[NodeId]) -> Result<Vec<Option<NodeRow>>, IndexError> {
        let keys: Vec<[u8; 32]> = ids.iter().map(|id| *id.as_bytes()).collect();
        self.get_many(NODES, &keys, NodeRow::decode)
    }

    /// Every chunk row, in the order of ids, until `visit` answers `false`.
    pub fn each_chunk(&self, mut visit: impl FnMut(ChunkId, ChunkRow) -> bool) -> Result<(), IndexError> {
        self.each(CHUNKS, |key, value| Ok(visit(ChunkId::from_bytes(key), ChunkRow::decode(value)?)))
    }

    /// Every node row, in the order of ids, until `visit` answers `false`.
    pub fn each_node(&self, mut visit: impl FnMut(NodeId, NodeRow) -> bool) -> Result<(), IndexError> {
        self.each(NODES, |key, value| Ok(visit(NodeId::from_bytes(key), NodeRow::decode(value)?)))
    }

    fn each(
        &self,
        table: &'static str,
        mut visit: impl FnMut([u8; 32], &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        for row in self.database.iterator_cf(self.table(table)?, IteratorMode::Start) {
            let (key, value) = row.map_err(self.failed("read"))?;
            // Marks have keys of other lengths.
            let Ok(key) = key.as_ref().try_into() else { continue };
            if !visit(key, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// About how many rows there are: chunks, nodes. RocksDB's own estimate.
    pub fn estimated_rows(&self) -> Result<(u64, u64), IndexError> {
        let count = |table| -> Result<u64, IndexError> {
            let count = self.database.property_int_value_cf(self.table(table)?, "rocksdb.estimate-num-keys");
            Ok(count.map_err(self.failed("read"))?.unwrap_or(0))
        };
        Ok((count(CHUNKS)?, count(NODES)?))
    }

    /// Makes the changes.
    pub fn write(&self, changes: Changes) -> Result<(), IndexError> {
        self.database.write(changes.0).map_err(self.failed("write"))
    }

    /// Sets or replaces the row of a chunk; without bodies it goes.
    pub fn set_chunk(&self, changes: &mut Changes, id: &ChunkId, row: &ChunkRow) -> Result<(), IndexError> {
        let table = self.table(CHUNKS)?;
        match row.bodies.is_empty() {
            true => changes.0.delete_cf(table, id.as_bytes()),
            false => changes.0.put_cf(table, id.as_bytes(), row.encode()),
        }
        Ok(())
    }

    /// Sets or replaces the row of a node; without places it goes.
    pub fn set_node(&self, changes: &mut Changes, id: &NodeId, row: &NodeRow) -> Result<(), IndexError> {
        let table = self.table(NODES)?;
        match row.places.is_empty() {
            true => changes.0.delete_cf(table, id.as_bytes()),
            false => changes.0.put_cf(table, id.as_bytes(), row.encode()),
        }
        Ok(())
    }

    fn meta_number(&self, key: &[u8]) -> Result<u64, IndexError> {
        let number = self.get(META, key, |value| {
            let mut from = lifeboat_format::codec::Decoder::new("number in the index", value);
            let number = from.u64("number")?;
            from.end().map(|()| number)
        })?;
        Ok(number.unwrap_or(0))
    }

    fn set_meta_number(&self, key: &[u8], number: u64) -> Result<(), IndexError> {
        self.database.put_cf(self.table(META)?, key, number.to_le_bytes()).map_err(self.failed("write"))
    }

    /// The epoch `E` of clean-up.
    pub fn epoch(&self) -> Result<u64, IndexError> {
        self.meta_number(b"epoch")
    }

    /// Moves the epoch on, as every start does, and answers the new one.
    pub fn next_epoch(&self) -> Result<u64, IndexError> {
        let next = self.epoch()? + 1;
        self.set_meta_number(b"epoch", next)?;
        Ok(next)
    }

    fn packs_mut(&self) -> std::sync::RwLockWriteGuard<'_, Packs> {
        self.packs.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn packs(&self) -> std::sync::RwLockReadGuard<'_, Packs> {
        self.packs.read().unwrap_or_else(PoisonError::into_inner)
    }
}
