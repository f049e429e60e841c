//! Whether the index is whole. RocksDB opens some damaged databases as an older state, or without what was in a lost
//! log, and reports nothing.
//!
//! So each batch of rows of a pack carries a mark that is written with it, in its table: either both are there or
//! neither is. Each table also names the last journal batch whose facts it holds. An index that lacks a mark, or is of
//! another history, is rebuilt. It is moved aside for that, never erased; and only if it is proven wrong: a disk that is
//! full or does not answer proves nothing.

use super::packs::missing;
use super::tables::{ALL, CHUNKS, META, NODES};
use super::{Changes, ChunkRow, Index, IndexError, NodeRow, PackNumber};
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::Digest;
use rocksdb::{Direction, ErrorKind, IteratorMode, ReadOptions};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// Rows of a pack that are written together, with one mark.
pub const BATCH_ROWS: usize = 512;
/// An index up to this size is read as a whole at each start.
const READ_AT_START_BYTES: u64 = 512 << 20;
/// Keys of rows have another length.
const FILLED: &[u8] = b"filled/";
const JOURNAL: &[u8] = b"journal";
/// Where an index that was proven wrong is moved to, within its own directory.
const ASIDE: &str = "damaged";
/// A file that says: proven wrong while it was in use.
const CONDEMNED: &str = "CONDEMNED";

/// A journal batch and the hash of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its number.
    pub number: u64,
    /// The hash of its head.
    pub hash: Digest,
}

impl IndexError {
    /// Whether this proves that the index is wrong, so that it has to be rebuilt.
    pub fn proves_damage(&self) -> bool {
        match self {
            Self::Row(_) | Self::Missing { .. } => true,
            Self::Directory { .. } | Self::Interrupted(_) => false,
            Self::Database { source, .. } => proves_damage(source.kind(), source.as_ref()),
        }
    }
}

fn proves_damage(kind: ErrorKind, text: &str) -> bool {
    let is_gone =
        ["No such file or directory", "Is a directory", "Not a directory"].iter().any(|why| text.contains(why));
    match kind {
        ErrorKind::IOError => is_gone,
        ErrorKind::Corruption => is_gone || !text.contains("IO error"),
        ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::NotSupported => true,
        _ => false,
    }
}

impl Index {
    /// Moves the index in this directory aside; nothing has it open. One that was moved aside before is replaced.
    pub fn set_aside(path: &Path) -> Result<(), IndexError> {
        let failed = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source: std::io::Error| IndexError::Directory { action, path, source: source.into() }
        };
        let aside = path.join(ASIDE);
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(failed("remove", &aside))?;
        }
        fs::create_dir_all(&aside).map_err(failed("make", &aside))?;
        for file in files(path)? {
            let name = file.file_name().unwrap_or_default();
            fs::rename(&file, aside.join(name)).map_err(failed("move aside in", path))?;
        }
        Ok(())
    }

    /// Refuses a directory from which RocksDB would make an empty or partial database although there was one.
    pub(super) fn refuse_remains(path: &Path) -> Result<(), IndexError> {
        let names: Vec<PathBuf> = files(path)?;
        let has = |wanted: &str| names.iter().any(|file| file.file_name().is_some_and(|name| name == wanted));
        match () {
            () if has(CONDEMNED) => Err(missing("what was found damaged while it was in use")),
            () if !names.is_empty() && !has("CURRENT") => Err(missing("the file CURRENT")),
            () => Ok(()),
        }
    }

    /// Remembers durably that the index is proven wrong: the next start rebuilds it.
    pub(super) fn condemn(&self, error: &IndexError) {
        if error.proves_damage() && !self.condemned.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the index is damaged; the next start rebuilds it from the repository");
            // Without the file the next start finds the damage by itself, unless the index is large.
            let _ = fs::write(self.database.path().join(CONDEMNED), b"");
        }
    }

    /// Whether the index was proven wrong while it was in use.
    pub fn is_condemned(&self) -> bool {
        self.condemned.load(Ordering::Relaxed)
    }

    /// Adds the mark of one batch of rows of a pack to the changes that hold the rows.
    pub(super) fn mark_filled(
        &self,
        changes: &mut Changes,
        table: &'static str,
        pack: PackNumber,
        batch: u32,
    ) -> Result<(), IndexError> {
        let key = [FILLED, &pack.0.to_be_bytes(), &batch.to_be_bytes()].concat();
        changes.0.put_cf(self.table(table)?, key, []);
        Ok(())
    }

    /// Why the rows are not all that they should be, if they are not.
    pub(super) fn find_gap(&self) -> Result<Option<String>, IndexError> {
        let mut marks: HashMap<PackNumber, usize> = HashMap::new();
        for table in [CHUNKS, NODES] {
            self.count_marks(table, &mut marks)?;
        }
        for (pack, records) in self.indexed_packs() {
            let (found, needed) = (marks.get(&pack).copied().unwrap_or(0), (records as usize).div_ceil(BATCH_ROWS));
            if found < needed {
                return Ok(Some(format!("of {needed} batches of rows of pack {} it has {found}", self.pack_id(pack)?)));
            }
        }
        Ok(None)
    }

    fn count_marks(&self, table: &'static str, marks: &mut HashMap<PackNumber, usize>) -> Result<(), IndexError> {
        let from = IteratorMode::From(FILLED, Direction::Forward);
        for row in self.database.iterator_cf(self.table(table)?, from) {
            let (key, _) = row.map_err(self.failed("read"))?;
            let Some(place) = key.strip_prefix(FILLED) else { break };
            // An id of a chunk may begin like this; it has another length.
            if let Some((pack, [_, _, _, _])) = place.split_first_chunk::<8>() {
                *marks.entry(PackNumber(u64::from_be_bytes(*pack))).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Reads a small index as a whole: what is damaged on the disk is then found at the start and not later.
    pub(super) fn read_all_if_small(&self) -> Result<(), IndexError> {
        let mut bytes = 0;
        for table in ALL {
            let size = self.database.property_int_value_cf(self.table(table)?, "rocksdb.total-sst-files-size");
            bytes = u64::saturating_add(bytes, size.map_err(self.failed("read"))?.unwrap_or(0));
        }
        if bytes > READ_AT_START_BYTES {
            return Ok(());
        }
        for table in ALL {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            for row in self.database.iterator_cf_opt(self.table(table)?, options, IteratorMode::Start) {
                let (key, value) = row.map_err(self.failed("read"))?;
                self.check_row(table, &key, &value)?;
            }
        }
        Ok(())
    }

    fn check_row(&self, table: &'static str, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        let packs: Vec<PackNumber> = match (table, key.len()) {
            (CHUNKS, 32) => ChunkRow::decode(value)?.bodies.iter().map(|body| body.place.pack).collect(),
            (NODES, 32) => NodeRow::decode(value)?.places.iter().map(|place| place.pack).collect(),
            _ => Vec::new(),
        };
        match packs.into_iter().find(|pack| !self.is_pack_number(*pack)) {
            Some(pack) => Err(missing(&format!("the pack number {}", pack.0))),
            None => Ok(()),
        }
    }

    /// The last journal batch whose facts are in all tables.
    pub fn journal_seen(&self) -> Result<Option<Seen>, IndexError> {
        let mut least: Option<Seen> = None;
        for table in [CHUNKS, NODES, META] {
            let Some(seen) = self.get(table, JOURNAL, decode_seen)? else { return Ok(None) };
            least = least.filter(|least| least.number <= seen.number).or(Some(seen));
        }
        Ok(least)
    }

    /// All facts of the batches up to this one are in the rows now.
    pub fn set_journal_seen(&self, seen: Seen) -> Result<(), IndexError> {
        let mut changes = Changes::default();
        let mut value = Encoder::new();
        value.u64(seen.number).raw(seen.hash.as_bytes());
        let value = value.finish();
        for table in [CHUNKS, NODES, META] {
            changes.0.put_cf(self.table(table)?, JOURNAL, &value);
        }
        self.write(changes)
    }
}

fn decode_seen(value: &[u8]) -> Result<Seen, FormatError> {
    let mut from = Decoder::new("journal head in the index", value);
    let seen = Seen { number: from.u64("number")?, hash: Digest::from_bytes(from.array("hash")?) };
    from.end().map(|()| seen)
}

/// What is in the directory, without what was moved aside.
fn files(path: &Path) -> Result<Vec<PathBuf>, IndexError> {
    let failed =
        |source: std::io::Error| IndexError::Directory { action: "list", path: path.into(), source: source.into() };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let is_ours = file.file_name().is_some_and(|name| name != ASIDE && name != "lost+found");
        files.extend(is_ours.then_some(file));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_28_only_what_is_proven_wrong_is_rebuilt() {
        for text in [
            "IO error: While appending to file: 000012.log: No space left on device",
            "IO error: While open a file for random read: 000012.sst: Too many open files",
            "IO error: While pread offset 0 len 4096: 000012.sst: Input/output error",
            "IO error: While lock file: LOCK: Resource temporarily unavailable",
        ] {
            assert!(!proves_damage(ErrorKind::IOError, text), "{text}");
            assert!(!proves_damage(ErrorKind::Corruption, text), "{text}");
        }
        assert!(proves_damage(
            ErrorKind::IOError,
            "IO error: No such file or directory: While opening a file: MANIFEST-000005"
        ));
        assert!(proves_damage(ErrorKind::Corruption, "Corruption: block checksum mismatch"));
        assert!(!proves_damage(ErrorKind::Busy, "Resource busy: "));
    }
}
