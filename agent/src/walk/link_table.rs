//! A hash table in a file without a name: what was begun of each group of hard links, in no memory.
//!
//! Slots of a fixed size, open addressing with linear probing, twice as many slots when half of them are taken. A
//! complete group keeps its slot until the table grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Slots of a new table.
const SLOTS_MIN: u64 = 4096;
const SLOT_BYTES: usize = 48;
/// How many slots are read at once while the table grows.
const READ_SLOTS: u64 = 1024;

/// What is known of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Where its first path stands in the spool of paths.
    pub path_at: u64,
    /// How long that is; never 0.
    pub path_bytes: u32,
    /// How many of its names were not seen yet; at 0 the group is over.
    pub names_to_come: u32,
    /// On which job the walk was at the first name.
    pub job: u64,
}

/// Device, inode, and what tells files with one inode number apart.
type Key = (u64, u64, u64);

/// Groups by the file that they name.
#[derive(Debug)]
pub struct LinkTable {
    scratch: PathBuf,
    file: File,
    slots: u64,
    taken: u64,
}

impl LinkTable {
    /// An empty one. `scratch` is a directory on disk.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Self::with_slots(scratch, SLOTS_MIN)
    }

    fn with_slots(scratch: &Path, slots: u64) -> io::Result<Self> {
        let file = tempfile::tempfile_in(scratch)?;
        // A slot that was never written reads as zeros, and takes no place.
        file.set_len(slots * SLOT_BYTES as u64)?;
        Ok(Self { scratch: scratch.to_owned(), file, slots, taken: 0 })
    }

    /// The group of this file that is not over.
    pub fn get(&self, key: Key) -> io::Result<Option<Group>> {
        Ok(self.find(key)?.1.filter(|group| group.names_to_come > 0))
    }

    /// Puts a group in place of the one before.
    pub fn set(&mut self, key: Key, group: Group) -> io::Result<()> {
        let (slot, before) = self.find(key)?;
        self.file.write_all_at(&encode(key, &group), slot * SLOT_BYTES as u64)?;
        self.taken += u64::from(before.is_none());
        if self.taken * 2 > self.slots { self.grow() } else { Ok(()) }
    }

    /// The slot that holds this file, or would.
    fn find(&self, key: Key) -> io::Result<(u64, Option<Group>)> {
        let mut slot = hash(key) % self.slots;
        loop {
            let mut bytes = [0; SLOT_BYTES];
            self.file.read_exact_at(&mut bytes, slot * SLOT_BYTES as u64)?;
            match decode(&bytes) {
                None => return Ok((slot, None)),
                Some((found, group)) if found == key => return Ok((slot, Some(group))),
                Some(_) => slot = (slot + 1) % self.slots,
            }
        }
    }

    /// Moves what is not over to a table of twice as many slots.
    fn grow(&mut self) -> io::Result<()> {
        let mut larger = Self::with_slots(&self.scratch, self.slots * 2)?;
        let mut bytes = vec![0; READ_SLOTS as usize * SLOT_BYTES];
        for first in (0..self.slots).step_by(READ_SLOTS as usize) {
            self.file.read_exact_at(&mut bytes, first * SLOT_BYTES as u64)?;
            for (key, group) in bytes.chunks_exact(SLOT_BYTES).filter_map(decode) {
                if group.names_to_come > 0 {
                    larger.set(key, group)?;
                }
            }
        }
        *self = larger;
        Ok(())
    }
}

/// Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4): neighbouring inodes lie apart.
fn hash((device, inode, fingerprint): Key) -> u64 {
    (inode ^ device.rotate_left(32) ^ fingerprint).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32)
}

fn encode((device, inode, fingerprint): Key, group: &Group) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let fields = [device, inode, fingerprint, group.path_at, group.job].map(u64::to_le_bytes);
    bytes[..40].copy_from_slice(fields.as_flattened());
    bytes[40..44].copy_from_slice(&group.path_bytes.to_le_bytes());
    bytes[44..].copy_from_slice(&group.names_to_come.to_le_bytes());
    bytes
}

/// None if the slot is free.
fn decode(bytes: &[u8]) -> Option<(Key, Group)> {
    let long = |at: usize| bytes[at..][..8].try_into().map(u64::from_le_bytes).ok();
    let short = |at: usize| bytes[at..][..4].try_into().map(u32::from_le_bytes).ok();
    let path_bytes = short(40).filter(|bytes| *bytes > 0)?;
    let group = Group { path_at: long(24)?, path_bytes, names_to_come: short(44)?, job: long(32)? };
    Some(((long(0)?, long(8)?, long(16)?), group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Three hundred thousand groups of two to five names, each name at a place of its own, against a map in memory.
    #[test]
    fn inv_67_any_number_of_groups_is_found_again_on_disk() {
        let scratch = tempfile::tempdir().unwrap();
        let mut table = LinkTable::new(scratch.path()).unwrap();
        let mut model: HashMap<Key, Group> = HashMap::new();
        let mut seed = 7_u64;
        for at in 0..700_000_u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (seed % 3, (seed >> 20) % 150_000 + 1, (seed >> 40) % 2);
            let found = table.get(key).unwrap();
            assert_eq!(found, model.get(&key).copied().filter(|group| group.names_to_come > 0), "step {at}");
            let group = match found {
                Some(group) => Group { names_to_come: group.names_to_come - 1, ..group },
                None => Group { path_at: at, path_bytes: 9, names_to_come: (seed >> 50) as u32 % 4 + 1, job: at },
            };
            table.set(key, group).unwrap();
            model.insert(key, group);
        }
        assert!(table.slots > 2 * model.len() as u64 / 2, "it has grown: {} slots", table.slots);
    }
}
