//! Leaves: runs of entries, front-coded and laid out by column (`columns`).
//!
//! The body is the number of entries, then the columns. `tags` holds one byte an entry: the kind in its low four bits
//! (0 directory; a file: 1 empty, 2 bundled, 3 extents, 4 list; 5 symbolic link, 6 pipe, 7 socket, 8 character and 9
//! block device, 10 hard link, 11 directory that is not complete), then bit 4: it has a birth time, bit 5: owner and
//! flags are those of the last entry that had attributes (of none: 0 and no names), bit 6: it has extended attributes,
//! bit 7: a further field follows, which a later version writes and this one passes over. `write` says what each entry
//! puts into the other columns, in which order.

use super::entry::{Attributes, Entry, within};
use super::inner::Totals;
use super::path::compare_paths;
use super::table::{TableReader, TableWriter};
use super::{Completeness, NODE_ENTRIES_MAX, NODE_METADATA_BYTES_MAX};
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::ChunkId;
use std::cmp::Ordering;
use std::collections::HashMap;

mod read;
mod write;

const WHAT: &str = "leaf";

const DIRECTORY: u8 = 0;
const EMPTY: u8 = 1;
const BUNDLED: u8 = 2;
const EXTENTS: u8 = 3;
const LIST: u8 = 4;
const SYMLINK: u8 = 5;
const FIFO: u8 = 6;
const SOCKET: u8 = 7;
const CHAR_DEVICE: u8 = 8;
const BLOCK_DEVICE: u8 = 9;
const HARD_LINK: u8 = 10;
const INCOMPLETE_DIRECTORY: u8 = 11;
const KIND: u8 = 0x0f;
const HAS_BTIME: u8 = 0x10;
const SAME_OWNER: u8 = 0x20;
const HAS_XATTRS: u8 = 0x40;
const HAS_FURTHER_FIELD: u8 = 0x80;
/// The most bytes of a further field.
const FURTHER_FIELD_BYTES_MAX: usize = 64 << 10;

/// A run of at most [`NODE_ENTRIES_MAX`] entries, sorted by path. Only a tree without entries has an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// In the order of their paths.
    pub entries: Vec<Entry>,
}

impl Leaf {
    /// How much is in it.
    pub fn totals(&self) -> Totals {
        Totals::sum(self.entries.iter().map(Totals::of))
    }

    /// Whether the entries are in order, each and all together, and keep the limits.
    pub(super) fn check(&self) -> Result<(), FormatError> {
        within("number of entries", self.entries.len() as u64, 0, NODE_ENTRIES_MAX as u64)?;
        self.entries.iter().try_for_each(Entry::check)?;
        if !self.entries.is_sorted_by(|a, b| compare_paths(&a.path, &b.path) == Ordering::Less) {
            return Err(FormatError::field(WHAT, "entries", "out of order", "sorted by path, each once"));
        }
        check_metadata_bytes(self.entries.len(), self.entries.iter().map(Entry::metadata_bytes).sum())
    }
}

/// One entry of any size is allowed, so that every tree can be built.
fn check_metadata_bytes(entries: usize, bytes: usize) -> Result<(), FormatError> {
    if entries > 1 && bytes > NODE_METADATA_BYTES_MAX {
        return Err(FormatError::field(WHAT, "metadata", bytes, format!("at most {NODE_METADATA_BYTES_MAX} bytes")));
    }
    Ok(())
}

/// What stands before an entry in its leaf, from which it is predicted.
#[derive(Default)]
struct Before {
    path: Vec<u8>,
    attributes: Attributes,
    /// Where in each bundle the last file that was named ends.
    ends: HashMap<ChunkId, i64>,
}

impl Before {
    fn same_owner(&self, now: &Attributes) -> bool {
        let owner = |of: &Attributes| (of.uid, of.gid, of.flags);
        owner(&self.attributes) == owner(now)
            && self.attributes.owner == now.owner
            && self.attributes.group == now.group
    }

    /// Where in `chunk` the next file should begin.
    fn end(&self, chunk: ChunkId) -> i64 {
        self.ends.get(&chunk).copied().unwrap_or(0)
    }
}

/// Writes the body.
pub(super) fn encode(leaf: &Leaf, table: &mut TableWriter, out: &mut Encoder) {
    write::entries(&leaf.entries, table, out);
}

/// Reads the body. Also whether an entry has a further field: it is not kept, so this leaf cannot be written again.
pub(super) fn decode(table: &mut TableReader, decoder: &mut Decoder<'_>) -> Result<(Leaf, bool), FormatError> {
    let (entries, has_further_fields) = read::entries(table, decoder)?;
    Ok((Leaf { entries }, has_further_fields))
}

#[cfg(test)]
mod tests {
    use super::super::testing::file;
    use super::super::{Child, EntryKind, Inner, Node};
    use super::*;

    fn is_refused(node: &Node) -> bool {
        let (links, plaintext) = node.encode();
        Node::decode(&links, &plaintext).is_err()
    }

    fn leaf(paths: &[&str]) -> Node {
        Node::Leaf(Leaf { entries: paths.iter().map(|path| file(path, 1)).collect() })
    }

    fn inner(paths: &[&str]) -> Node {
        let child = |(seed, path): (usize, &&str)| {
            let totals = Totals { entries: 1, files: 1, bytes: 1 };
            Child { node: super::super::testing::node_ref(seed as u64, 1), last_path: path.as_bytes().to_vec(), totals }
        };
        Node::Inner(Inner { children: paths.iter().enumerate().map(child).collect() })
    }

    #[test]
    fn inv_56_paths_out_of_order_or_twice_or_none_at_all_are_refused() {
        for node in [leaf, inner] {
            assert!(!is_refused(&node(&["a", "a/b", "a-b"])));
            assert!(is_refused(&node(&["a", "a-b", "a/b"])));
            assert!(is_refused(&node(&["a", "a"])));
            assert!(is_refused(&node(&["a", "../b"])));
        }
        assert!(!is_refused(&leaf(&[])));
        assert!(is_refused(&inner(&[])));
    }

    #[test]
    fn inv_09_shared_prefixes_make_no_node_larger_than_its_limit() {
        let deep = "d/".repeat(NODE_METADATA_BYTES_MAX / 5);
        let paths: Vec<String> = (b'a'..b'd').map(|last| format!("{deep}{}", char::from(last))).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        assert!(!is_refused(&leaf(&paths[..2])));
        assert!(is_refused(&leaf(&paths)));
        assert!(!is_refused(&inner(&paths[..2])));
        assert!(is_refused(&inner(&paths)));
    }

    #[test]
    fn inv_55_a_further_field_of_an_entry_is_passed_over() {
        let leaf = leaf(&["a", "b"]);
        let (links, plaintext) = leaf.encode();
        // Kind, version and number of entries, then columns: each a length and its bytes.
        let mut columns: Vec<Vec<u8>> = Vec::new();
        let mut decoder = Decoder::new("t", &plaintext[3..]);
        while !decoder.rest().is_empty() {
            columns.push(decoder.bytes("column", 1 << 20).unwrap().to_vec());
        }
        columns[0][1] |= HAS_FURTHER_FIELD;
        columns[1].push(5);
        columns[2].extend(b"later");
        let written = |columns: &[Vec<u8>]| {
            let mut encoder = Encoder::new();
            encoder.raw(&plaintext[..3]);
            columns.iter().for_each(|column| {
                encoder.bytes(column);
            });
            encoder.finish()
        };
        assert_eq!(Node::decode(&links, &written(&columns)).unwrap(), leaf);
        columns[2].pop();
        assert!(Node::decode(&links, &written(&columns)).is_err());
    }

    #[test]
    fn a_directory_says_why_it_is_not_complete() {
        let directory = |completeness| {
            let kind = EntryKind::Directory(completeness);
            Node::Leaf(Leaf { entries: vec![Entry { path: b"d".to_vec(), kind, attributes: Attributes::default() }] })
        };
        for bits in 0..=u8::MAX {
            let node = directory(Completeness::from_bits(bits));
            let (links, plaintext) = node.encode();
            assert_eq!(Node::decode(&links, &plaintext), Ok(node), "also for reasons that this version does not know");
        }
        assert!(!Completeness::from_bits(0x80).is_complete());
    }
}
