//! Pack numbers, and small facts about the repository that rows lean on: which packs are in the rows, what was
//! witnessed but not journalled yet, which snapshots are damaged.

use super::tables::META;
use super::{Changes, Index, IndexError, PackNumber, failed};
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::{PackId, RepositoryId, SnapshotNumber};
use rocksdb::{Direction, IteratorMode};
use std::collections::{BTreeSet, HashMap};

const PACK: &[u8] = b"pack/";
const WITNESSED: &[u8] = b"witnessed/";
const REPOSITORY: &[u8] = b"repository";
const DAMAGED: &[u8] = b"damaged/";

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

/// Both directions, in memory: about 120 bytes a pack.
#[derive(Debug, Default)]
pub(super) struct Packs {
    entries: Vec<PackEntry>,
    numbers: HashMap<PackId, PackNumber>,
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
        let number = u32::try_from(packs.entries.len())
            .map(PackNumber)
            .map_err(|_| IndexError::Missing { what: "room for another pack".into() })?;
        let entry = PackEntry { id, indexed: false, records: 0, bytes: 0 };
        self.put_meta(&key(PACK, &number.0.to_be_bytes()), &entry.encode())?;
        packs.entries.push(entry);
        packs.numbers.insert(id, number);
        Ok(number)
    }

    /// All records of the pack are in the rows now.
    pub fn set_pack_indexed(&self, number: PackNumber, records: u32, bytes: u64) -> Result<(), IndexError> {
        let mut packs = self.packs_mut();
        let entry = packs.entries.get_mut(number.0 as usize).ok_or_else(|| unknown(number))?;
        *entry = PackEntry { indexed: true, records, bytes, ..*entry };
        self.put_meta(&key(PACK, &number.0.to_be_bytes()), &entry.encode())
    }

    /// The pack that a row means.
    pub fn pack_id(&self, number: PackNumber) -> Result<PackId, IndexError> {
        self.packs().entries.get(number.0 as usize).map(|entry| entry.id).ok_or_else(|| unknown(number))
    }

    /// The packs that have a number here, without those that are `known` elsewhere.
    pub(super) fn packs_beyond(&self, known: impl Fn(&PackId) -> bool) -> Vec<PackId> {
        self.packs().entries.iter().map(|entry| entry.id).filter(|pack| !known(pack)).collect()
    }

    /// What is known of a pack.
    pub fn pack(&self, id: &PackId) -> Option<(PackNumber, PackEntry)> {
        let packs = self.packs();
        let number = *packs.numbers.get(id)?;
        packs.entries.get(number.0 as usize).map(|entry| (number, *entry))
    }

    pub(super) fn load_packs(&self) -> Result<Packs, IndexError> {
        let mut packs = Packs::default();
        self.each_meta(PACK, |number, value| {
            let entry = PackEntry::decode(value)?;
            let number = number.try_into().map(u32::from_be_bytes).map_err(|_| missing("a pack number"))?;
            if number as usize != packs.entries.len() {
                return Err(missing("a pack number"));
            }
            packs.entries.push(entry);
            packs.numbers.insert(entry.id, PackNumber(number));
            Ok(())
        })?;
        Ok(packs)
    }

    /// Notes that a record became witnessed, until the journal has it.
    pub fn note_witnessed(&self, changes: &mut Changes, pack: PackNumber, record: u32) -> Result<(), IndexError> {
        changes.0.put_cf(self.table(META)?, witnessed_key(pack, record), []);
        Ok(())
    }

    /// What became witnessed and is not in the journal yet, by pack and record, at most `limit`.
    pub fn witnessed_not_journalled(&self, limit: usize) -> Result<Vec<(PackNumber, u32)>, IndexError> {
        let mut noted = Vec::new();
        self.each_meta_until(WITNESSED, |place, _| {
            let place: [u8; 8] = place.try_into().map_err(|_| missing("a witnessed place"))?;
            let [pack, record] = [&place[..4], &place[4..]].map(|half| half.try_into().map(u32::from_be_bytes));
            if let (Ok(pack), Ok(record)) = (pack, record) {
                noted.push((PackNumber(pack), record));
            }
            Ok(noted.len() < limit)
        })?;
        Ok(noted)
    }

    /// The journal has these now.
    pub fn forget_witnessed(&self, journalled: &[(PackNumber, u32)]) -> Result<(), IndexError> {
        let mut changes = Changes::default();
        for (pack, record) in journalled {
            changes.0.delete_cf(self.table(META)?, witnessed_key(*pack, *record));
        }
        self.write(changes)
    }

    /// Remembers which snapshots something is lost of, in place of what was remembered before.
    pub fn set_damaged(&self, damaged: &BTreeSet<SnapshotNumber>) -> Result<(), IndexError> {
        let mut changes = Changes::default();
        for healed in self.damaged()?.difference(damaged) {
            changes.0.delete_cf(self.table(META)?, damaged_key(*healed));
        }
        for number in damaged {
            changes.0.put_cf(self.table(META)?, damaged_key(*number), []);
        }
        self.write(changes)
    }

    /// The snapshots that give no homes.
    pub fn damaged(&self) -> Result<BTreeSet<SnapshotNumber>, IndexError> {
        let mut damaged = BTreeSet::new();
        self.each_meta(DAMAGED, |number, _| {
            let number = number.try_into().map(u64::from_be_bytes).map_err(|_| missing("a snapshot number"))?;
            damaged.insert(SnapshotNumber::new(number));
            Ok(())
        })?;
        Ok(damaged)
    }

    /// The repository that this index is of; none when it was just made.
    pub fn repository(&self) -> Result<Option<RepositoryId>, IndexError> {
        self.get(META, REPOSITORY, |value| {
            let mut from = Decoder::new("repository id in the index", value);
            let id = RepositoryId::from_bytes(from.array("id")?);
            from.end().map(|()| id)
        })
    }

    /// Says which repository this index is of.
    pub fn set_repository(&self, id: RepositoryId) -> Result<(), IndexError> {
        self.put_meta(REPOSITORY, id.as_bytes())
    }

    fn put_meta(&self, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.database.put_cf(self.table(META)?, key, value).map_err(failed("write"))
    }

    fn each_meta(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        self.each_meta_until(prefix, |rest, value| visit(rest, value).map(|()| true))
    }

    fn each_meta_until(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        let from = IteratorMode::From(prefix, Direction::Forward);
        for row in self.database.iterator_cf(self.table(META)?, from) {
            let (key, value) = row.map_err(failed("read"))?;
            let Some(rest) = key.strip_prefix(prefix) else { break };
            if !visit(rest, &value)? {
                break;
            }
        }
        Ok(())
    }
}

fn witnessed_key(pack: PackNumber, record: u32) -> Vec<u8> {
    key(WITNESSED, &[pack.0.to_be_bytes(), record.to_be_bytes()].concat())
}

fn damaged_key(snapshot: SnapshotNumber) -> Vec<u8> {
    key(DAMAGED, &snapshot.get().to_be_bytes())
}

fn missing(what: &str) -> IndexError {
    IndexError::Missing { what: what.into() }
}

fn unknown(number: PackNumber) -> IndexError {
    IndexError::Missing { what: format!("the pack number {}", number.0) }
}
