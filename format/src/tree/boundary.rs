//! Where a leaf ends: decided by path and metadata alone, before any file is read.
//!
//! A leaf ends after an entry whose keyed path hash is below 2^64 / [`LEAF_ENTRIES_MEAN`], or that is its 256th; and
//! before one with which its metadata would pass 256 KiB. So a leaf begins anew at the same paths whatever stands
//! before, and nobody without the key can choose names that make large leaves, or small ones.

use super::{LEAF_ENTRIES_MEAN, NODE_ENTRIES_MAX, NODE_METADATA_BYTES_MAX};
use crate::key::ScopeKeys;

/// Cuts a sorted list of entries into leaves. One for each tree.
#[derive(Debug)]
pub struct LeafCutter<'a> {
    keys: &'a ScopeKeys,
    entries: usize,
    metadata_bytes: usize,
    ended: bool,
}

impl<'a> LeafCutter<'a> {
    /// At the start of a tree.
    pub fn new(keys: &'a ScopeKeys) -> Self {
        Self { keys, entries: 0, metadata_bytes: 0, ended: true }
    }

    /// Takes the next entry, with its [`metadata_bytes`](super::metadata_bytes). Whether a new leaf begins with it;
    /// the leaf before is then whole. The first entry begins one.
    pub fn begins_leaf(&mut self, path: &[u8], metadata_bytes: usize) -> bool {
        let full = self.metadata_bytes.saturating_add(metadata_bytes) > NODE_METADATA_BYTES_MAX;
        let begins = self.ended || full;
        if begins {
            self.entries = 0;
            self.metadata_bytes = 0;
        }
        self.entries += 1;
        self.metadata_bytes = self.metadata_bytes.saturating_add(metadata_bytes);
        let marked = self.keys.boundary_hash(path) < u64::MAX / LEAF_ENTRIES_MEAN as u64;
        self.ended = marked || self.entries >= NODE_ENTRIES_MAX;
        begins
    }

    /// Whether the leaf is known to end with the entry that was taken last. It may end there also without: when the
    /// next entry does not fit, or there is none.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::keys;
    use super::*;

    fn leaves(paths: &[String], metadata_bytes: usize) -> Vec<Vec<&str>> {
        let keys = keys();
        let mut cutter = LeafCutter::new(&keys);
        let mut leaves: Vec<Vec<&str>> = vec![];
        for path in paths {
            if cutter.begins_leaf(path.as_bytes(), metadata_bytes) {
                leaves.push(vec![]);
            }
            leaves.last_mut().unwrap().push(path);
        }
        leaves
    }

    fn paths(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("d/{number:06}")).collect()
    }

    #[test]
    fn leaves_have_64_entries_on_average_and_at_most_256() {
        let all = paths(64_000);
        let leaves = leaves(&all, 100);
        assert!((900..1200).contains(&leaves.len()), "{}", leaves.len());
        assert!(leaves.iter().all(|leaf| (1..=NODE_ENTRIES_MAX).contains(&leaf.len())));
        assert_eq!(leaves.concat(), all);
    }

    #[test]
    fn inv_56_metadata_is_bounded_unless_one_entry_is_larger() {
        let all = paths(1000);
        assert!(leaves(&all, NODE_METADATA_BYTES_MAX / 10).iter().all(|leaf| leaf.len() <= 10));
        assert!(leaves(&all, NODE_METADATA_BYTES_MAX * 2).iter().all(|leaf| leaf.len() == 1));
    }

    #[test]
    fn inv_19_an_entry_more_changes_the_leaf_that_it_is_in_and_few_others() {
        let before = paths(10_000);
        let mut after = before.clone();
        after.insert(5_000, "d/004999x".to_string());
        let (before, after) = (leaves(&before, 100), leaves(&after, 100));
        let kept = before.iter().filter(|leaf| after.contains(leaf)).count();
        assert!(kept + 3 >= before.len(), "{kept} of {}", before.len());
    }
}
