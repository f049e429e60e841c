//! Packs that cannot be read now, although nothing proves that they are lost: the disk failed, the file is missing while
//! the right disk may not be mounted, the footer is invalid.
//!
//! Their rows stay, so that everything is back once the bytes are; until then no host may rely on what lies in them
//! (INV-72).

use super::packs::{missing, unknown};
use super::tables::META;
use super::{Changes, ChunkRow, Index, IndexError, NodeRow, PackNumber};
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::{Digest, PackId, SnapshotNumber};
use std::collections::BTreeMap;

const UNREADABLE: &[u8] = b"unreadable/";
const DAMAGED: &[u8] = b"damaged/";
const SURVEYED: &[u8] = b"surveyed";
const WHY_BYTES_MAX: u64 = 4096;

/// How much of a pack cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The object as a whole, or its footer.
    Object(String),
    /// Some records.
    Records(String),
}

/// What is wrong with a snapshot, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Something in its tree cannot be read now.
    Unreadable,
    /// Something in its tree is lost.
    Lost,
}

impl Unreadable {
    /// Why.
    pub fn why(&self) -> &str {
        match self {
            Self::Object(why) | Self::Records(why) => why,
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut why = self.why().to_owned();
        while why.len() > WHY_BYTES_MAX as usize {
            why.pop();
        }
        let mut to = Encoder::new();
        to.u8(u8::from(matches!(self, Self::Records(_)))).bytes(why.as_bytes());
        to.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, IndexError> {
        let mut from = Decoder::new("unreadable pack in the index", bytes);
        let kind = from.u8("kind")?;
        let why = from.text("why", WHY_BYTES_MAX)?.to_owned();
        from.end()?;
        match kind {
            0 => Ok(Self::Object(why)),
            1 => Ok(Self::Records(why)),
            _ => Err(missing("a kind of an unreadable pack")),
        }
    }
}

impl Index {
    /// Remembers that a pack cannot be read; returns whether that is news.
    pub fn set_unreadable(&self, pack: PackId, unreadable: Unreadable) -> Result<bool, IndexError> {
        let number = self.register_pack(pack)?;
        let mut packs = self.packs_mut();
        let is_alike = |known: &Unreadable| std::mem::discriminant(known) == std::mem::discriminant(&unreadable);
        if packs.unreadable.get(&number).is_some_and(is_alike) {
            return Ok(false);
        }
        self.put_meta(&unreadable_key(number), &unreadable.encode())?;
        tracing::error!(%pack, why = unreadable.why(), "this pack cannot be read; hosts send again what is in it");
        Ok(packs.unreadable.insert(number, unreadable).is_none())
    }

    /// The pack can be read; returns whether that is news.
    pub fn set_readable(&self, pack: &PackId) -> Result<bool, IndexError> {
        let mut packs = self.packs_mut();
        let Some(number) = packs.numbers.get(pack).copied() else { return Ok(false) };
        if !packs.unreadable.contains_key(&number) {
            return Ok(false);
        }
        let mut changes = Changes::default();
        changes.0.delete_cf(self.table(META)?, unreadable_key(number));
        self.write(changes)?;
        tracing::info!(%pack, "this pack can be read again");
        Ok(packs.unreadable.remove(&number).is_some())
    }

    /// The packs that cannot be read, in the order of their names.
    pub fn unreadable(&self) -> Result<BTreeMap<PackId, Unreadable>, IndexError> {
        let packs = self.packs();
        let name =
            |number: &PackNumber| packs.entries.get(number).map(|entry| entry.id).ok_or_else(|| unknown(*number));
        packs.unreadable.iter().map(|(number, unreadable)| Ok((name(number)?, unreadable.clone()))).collect()
    }

    /// Whether a pack can be read, as far as is known.
    pub fn is_readable(&self, pack: PackNumber) -> bool {
        !self.packs().unreadable.contains_key(&pack)
    }

    /// What hosts may rely on of a chunk's row: without the bodies that cannot be read. Never written back.
    pub fn usable(&self, mut row: ChunkRow) -> ChunkRow {
        let packs = self.packs();
        if !packs.unreadable.is_empty() {
            row.bodies.retain(|body| !packs.unreadable.contains_key(&body.place.pack));
        }
        row
    }

    /// Whether a node can be read in one of its places, as far as is known.
    pub fn is_usable(&self, row: &NodeRow) -> bool {
        self.readable_places(row) > 0
    }

    /// In how many packs a node can be read, as far as is known.
    pub fn readable_places(&self, row: &NodeRow) -> usize {
        let packs = self.packs();
        row.places.iter().filter(|place| !packs.unreadable.contains_key(&place.pack)).count()
    }

    pub(super) fn load_unreadable(&self) -> Result<BTreeMap<PackNumber, Unreadable>, IndexError> {
        let mut found = BTreeMap::new();
        self.each_meta(UNREADABLE, |number, value| {
            let number = number.try_into().map(u64::from_be_bytes).map_err(|_| missing("a pack number"))?;
            found.insert(PackNumber(number), Unreadable::decode(value)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Remembers what was found of the snapshots, in place of what was remembered before, and for which problems of the
    /// packs that holds.
    pub fn set_damaged(&self, damaged: &BTreeMap<SnapshotNumber, Harm>, problems: Digest) -> Result<(), IndexError> {
        let mut changes = Changes::default();
        for healed in self.damaged()?.keys().filter(|number| !damaged.contains_key(number)) {
            changes.0.delete_cf(self.table(META)?, damaged_key(*healed));
        }
        for (number, harm) in damaged {
            changes.0.put_cf(self.table(META)?, damaged_key(*number), [u8::from(*harm == Harm::Lost)]);
        }
        changes.0.put_cf(self.table(META)?, SURVEYED, problems.as_bytes());
        self.write(changes)
    }

    /// The snapshots that cannot be restored as a whole, as far as is known: they give no homes.
    pub fn damaged(&self) -> Result<BTreeMap<SnapshotNumber, Harm>, IndexError> {
        let mut damaged = BTreeMap::new();
        self.each_meta(DAMAGED, |number, value| {
            let number = number.try_into().map(u64::from_be_bytes).map_err(|_| missing("a snapshot number"))?;
            let harm = if value == [1] { Harm::Lost } else { Harm::Unreadable };
            damaged.insert(SnapshotNumber::new(number), harm);
            Ok(())
        })?;
        Ok(damaged)
    }

    /// The problems of the packs for which it was found out last which snapshots they touch.
    pub fn surveyed(&self) -> Result<Option<Digest>, IndexError> {
        self.get(META, SURVEYED, |value| {
            let mut from = Decoder::new("problems in the index", value);
            let problems = Digest::from_bytes(from.array("digest")?);
            from.end().map(|()| problems)
        })
    }
}

fn unreadable_key(number: PackNumber) -> Vec<u8> {
    [UNREADABLE, &number.0.to_be_bytes()].concat()
}

fn damaged_key(snapshot: SnapshotNumber) -> Vec<u8> {
    [DAMAGED, &snapshot.get().to_be_bytes()].concat()
}
