//! Pack numbers, and small facts about the repository that rows lean on, such as which packs are in the rows.

use super::tables::META;
use super::{Index, IndexError, PackNumber, Unreadable};
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::{PackId, RepositoryId};
use rocksdb::{Direction, IteratorMode};
use std::collections::{BTreeMap, HashMap};

const PACK: &[u8] = b"pack/";
const REPOSITORY: &[u8] = b"repository";

/// Of the layout of all rows. An index of another version is rebuilt.
const VERSION: u16 = 3;

/// What the index knows of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Its name.
    pub id: PackId,
    /// Whether all its records are in the rows. If not, a start reads its footer again.
    pub indexed: bool,
    /// How many records it has; 0 until indexed.
    pub records: u32,
    /// How many bytes the object has; 0 until indexed.
    pub bytes: u64,
}

/// Both directions, in memory: about 150 bytes a pack.
#[derive(Debug, Default)]
pub(super) struct Packs {
    pub entries: HashMap<PackNumber, PackEntry>,
    pub numbers: HashMap<PackId, PackNumber>,
    pub unreadable: BTreeMap<PackNumber, Unreadable>,
}

impl Packs {
    /// The number of a pack: the first bytes of its name, or the next one if another pack has that.
    fn number_for(&self, id: &PackId) -> PackNumber {
        let [first, ..] = id.as_bytes().as_chunks::<8>().0 else { return PackNumber(0) };
        let mut number = PackNumber(u64::from_le_bytes(*first));
        while self.entries.get(&number).is_some_and(|entry| entry.id != *id) {
            number = PackNumber(number.0.wrapping_add(1));
        }
        number
    }

    fn insert(&mut self, number: PackNumber, entry: PackEntry) {
        self.numbers.insert(entry.id, number);
        self.entries.insert(number, entry);
    }
}

impl PackEntry {
    fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::new();
        to.raw(self.id.as_bytes()).u8(u8::from(self.indexed)).u32(self.records).u64(self.bytes);
        to.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut from = Decoder::new("pack entry of the index", bytes);
        let id = PackId::from_bytes(from.array("id")?);
        let entry =
            Self { id, indexed: from.u8("indexed")? == 1, records: from.u32("records")?, bytes: from.u64("bytes")? };
        from.end()?;
        Ok(entry)
    }
}

fn key(prefix: &[u8], number: &[u8]) -> Vec<u8> {
    [prefix, number].concat()
}

impl Index {
    /// A number for a pack that is a durable object (INV-5). The same pack has the same number again.
    pub fn register_pack(&self, id: PackId) -> Result<PackNumber, IndexError> {
        let mut packs = self.packs_mut();
        if let Some(number) = packs.numbers.get(&id) {
            return Ok(*number);
        }
        let number = packs.number_for(&id);
        let entry = PackEntry { id, indexed: false, records: 0, bytes: 0 };
        self.put_meta(&key(PACK, &number.0.to_be_bytes()), &entry.encode())?;
        packs.insert(number, entry);
        Ok(number)
    }

    /// All records of the pack are in the rows now.
    pub fn set_pack_indexed(&self, number: PackNumber, records: u32, bytes: u64) -> Result<(), IndexError> {
        let mut packs = self.packs_mut();
        let entry = packs.entries.get_mut(&number).ok_or_else(|| unknown(number))?;
        *entry = PackEntry { indexed: true, records, bytes, ..*entry };
        self.put_meta(&key(PACK, &number.0.to_be_bytes()), &entry.encode())
    }

    /// The rows of this pack are to be filled in again from its footer.
    pub fn set_pack_not_indexed(&self, id: &PackId) -> Result<(), IndexError> {
        let mut packs = self.packs_mut();
        let Some(number) = packs.numbers.get(id).copied() else { return Ok(()) };
        let entry = packs.entries.get_mut(&number).ok_or_else(|| unknown(number))?;
        entry.indexed = false;
        self.put_meta(&key(PACK, &number.0.to_be_bytes()), &entry.encode())
    }

    /// The packs whose records are all in the rows, each with the number of its records.
    pub(super) fn indexed_packs(&self) -> Vec<(PackNumber, u32)> {
        let packs = self.packs();
        let indexed = packs.entries.iter().filter(|(_, entry)| entry.indexed);
        indexed.map(|(number, entry)| (*number, entry.records)).collect()
    }

    /// Whether a number is one of a pack that is known here.
    pub(super) fn is_pack_number(&self, number: PackNumber) -> bool {
        self.packs().entries.contains_key(&number)
    }

    /// The pack that a row means.
    pub fn pack_id(&self, number: PackNumber) -> Result<PackId, IndexError> {
        self.packs().entries.get(&number).map(|entry| entry.id).ok_or_else(|| unknown(number))
    }

    /// The packs that have a number here, without those that are `known` elsewhere.
    pub(super) fn packs_beyond(&self, known: impl Fn(&PackId) -> bool) -> Vec<PackId> {
        self.packs().entries.values().map(|entry| entry.id).filter(|pack| !known(pack)).collect()
    }

    /// What is known of a pack.
    pub fn pack(&self, id: &PackId) -> Option<(PackNumber, PackEntry)> {
        let packs = self.packs();
        let number = *packs.numbers.get(id)?;
        packs.entries.get(&number).map(|entry| (number, *entry))
    }

    pub(super) fn load_packs(&self) -> Result<Packs, IndexError> {
        let mut packs = Packs::default();
        self.each_meta(PACK, |number, value| {
            let entry = PackEntry::decode(value)?;
            let number = number.try_into().map(u64::from_be_bytes).map_err(|_| missing("a pack number"))?;
            packs.insert(PackNumber(number), entry);
            Ok(())
        })?;
        packs.unreadable = self.load_unreadable()?;
        Ok(packs)
    }

    /// The repository that this index is of; none when it was just made.
    pub fn repository(&self) -> Result<Option<RepositoryId>, IndexError> {
        self.get(META, REPOSITORY, |value| {
            let mut from = Decoder::new("repository id in the index", value);
            let version = from.u16("version")?;
            if version != VERSION {
                return Err(FormatError::field("index", "version", version, VERSION));
            }
            let id = RepositoryId::from_bytes(from.array("id")?);
            from.end().map(|()| id)
        })
    }

    /// Says which repository this index is of.
    pub fn set_repository(&self, id: RepositoryId) -> Result<(), IndexError> {
        let mut to = Encoder::new();
        to.u16(VERSION).raw(id.as_bytes());
        self.put_meta(REPOSITORY, &to.finish())
    }

    pub(super) fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.database.put_cf(self.table(META)?, key, value).map_err(self.failed("write"))
    }

    pub(super) fn each_meta(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let from = IteratorMode::From(prefix, Direction::Forward);
        for row in self.database.iterator_cf(self.table(META)?, from) {
            let (key, value) = row.map_err(self.failed("read"))?;
            let Some(rest) = key.strip_prefix(prefix) else { break };
            visit(rest, &value)?;
        }
        Ok(())
    }
}

pub(super) fn missing(what: &str) -> IndexError {
    IndexError::Missing { what: what.into() }
}

pub(super) fn unknown(number: PackNumber) -> IndexError {
    IndexError::Missing { what: format!("the pack number {}", number.0) }
}
