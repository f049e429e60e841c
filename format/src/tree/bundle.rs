//! Which small files of a leaf are cut together, and which keep the reference that they had.
//!
//! Pure: the sizes of files and what they refer to come in, groups to be cut go out. Reading, hashing and sealing them
//! is for the agent. Only what this leaf refers to is counted: nobody knows cheaply what other leaves, snapshots or
//! hosts refer to, and a rule that needed it would make equal leaves differ.
//!
//! * A file that did not change keeps its reference, so a scattered change costs what changed.
//! * All are cut anew when less than half of the bytes of the bundles are still used, so waste is bounded.
//! * More than eight bundles below 8 KiB are cut together, with all that is new, so scattered changes over many nights
//!   do not end in a bundle a file.
//! * A bundle ends before 128 KiB are passed and at the end of the leaf; also after a file for which
//!   hash / 2^64 < size / 32 KiB, so a file more or less on one host spoils one bundle and not its neighbours. Bundles
//!   that are cut together because they are small do not end so: they would be as small again.

use super::BUNDLE_BYTES_MAX;
use super::node::ChunkRef;
use crate::id::ChunkId;
use std::collections::HashMap;

/// Below this a bundle counts as small, in bytes.
const SMALL_BUNDLE_BYTES: u32 = 8 << 10;
/// So many small bundles a leaf may refer to.
const SMALL_BUNDLES_MAX: usize = 8;
/// The probability that a bundle ends after a file is its size divided by 2 to this power.
const BOUNDARY_BITS: u32 = 15;

/// A small file of a leaf; not an empty one, which needs no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SmallFile {
    /// [`boundary_hash`](crate::key::ScopeKeys::boundary_hash) of its path.
    pub hash: u64,
    /// Its length.
    pub bytes: u64,
    /// Whether it was backed up before as it is now.
    pub content: SmallContent,
}

/// Where the bytes of a small file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallContent {
    /// On the disk only: new or changed.
    New,
    /// In this bundle, unchanged.
    Kept(ChunkRef),
}

/// Which files are to be cut anew, a bundle a group, by their places in `files`; both in ascending order. `files` are
/// the small files of one leaf, in its order. A file larger than a bundle may be gets one for itself.
pub fn plan_bundles(files: &[SmallFile]) -> Vec<Vec<usize>> {
    let kept = KeptBundles::of(files);
    if kept.are_mostly_waste() {
        return group(files, |_| true, true);
    }
    let small = kept.small();
    let is_new = |file: &SmallFile| match file.content {
        SmallContent::New => true,
        SmallContent::Kept(bundle) => small.contains(&bundle.id),
    };
    group(files, is_new, small.is_empty())
}

/// Fills one bundle after the other with the files that `is_cut` chooses.
fn group(files: &[SmallFile], is_cut: impl Fn(&SmallFile) -> bool, by_hash: bool) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![];
    let mut filled = 0;
    let mut ended = true;
    for (place, file) in files.iter().enumerate().filter(|(_, file)| is_cut(file)) {
        if ended || file.bytes.saturating_add(filled) > BUNDLE_BYTES_MAX {
            groups.push(vec![]);
            filled = 0;
        }
        if let Some(group) = groups.last_mut() {
            group.push(place);
        }
        filled = file.bytes.saturating_add(filled);
        ended = by_hash && ends_bundle(file);
    }
    groups
}

/// hash / 2^64 < size / 2^15, in whole numbers.
fn ends_bundle(file: &SmallFile) -> bool {
    u128::from(file.hash) << BOUNDARY_BITS < u128::from(file.bytes) << u64::BITS
}

/// The bundles that files of the leaf still refer to: their size, and how much of it these files are.
struct KeptBundles(HashMap<ChunkId, (u32, u64)>);

impl KeptBundles {
    fn of(files: &[SmallFile]) -> Self {
        let mut bundles = HashMap::new();
        for file in files {
            if let SmallContent::Kept(bundle) = file.content {
                let (_, live) = bundles.entry(bundle.id).or_insert((bundle.bytes, 0u64));
                *live = live.saturating_add(file.bytes);
            }
        }
        Self(bundles)
    }

    fn are_mostly_waste(&self) -> bool {
        let all: u128 = self.0.values().map(|(bytes, _)| u128::from(*bytes)).sum();
        let live: u128 = self.0.values().map(|(_, live)| u128::from(*live)).sum();
        2 * live < all
    }

    /// Those that are small, if they are too many.
    fn small(&self) -> Vec<ChunkId> {
        let small = self.0.iter().filter(|(_, (bytes, _))| *bytes < SMALL_BUNDLE_BYTES);
        let small: Vec<_> = small.map(|(id, _)| *id).collect();
        if small.len() > SMALL_BUNDLES_MAX { small } else { vec![] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::SMALL_FILE_BYTES;
    use super::super::testing::chunk;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn new(hash: u64, bytes: u64) -> SmallFile {
        SmallFile { hash, bytes, content: SmallContent::New }
    }

    fn any_files() -> impl Strategy<Value = Vec<SmallFile>> {
        vec((any::<u64>(), 1..SMALL_FILE_BYTES).prop_map(|(hash, bytes)| new(hash, bytes)), 0..200)
    }

    /// The files as they are after a backup that followed the plan. Bundles are named `night` and their place.
    fn carry_out(files: &mut [SmallFile], night: u64) -> usize {
        let plan = plan_bundles(files);
        for (number, group) in plan.iter().enumerate() {
            let bytes = group.iter().map(|place| files[*place].bytes).sum::<u64>();
            let bundle = chunk(night << 32 | number as u64, bytes as u32);
            group.iter().for_each(|place| files[*place].content = SmallContent::Kept(bundle));
        }
        plan.len()
    }

    fn bundles(files: &[SmallFile]) -> KeptBundles {
        KeptBundles::of(files)
    }

    proptest! {
        #[test]
        fn new_files_are_all_cut_once_in_order_and_no_bundle_is_too_large(files in any_files()) {
            let plan = plan_bundles(&files);
            prop_assert_eq!(plan.concat(), (0..files.len()).collect::<Vec<_>>());
            for group in plan {
                prop_assert!(!group.is_empty());
                prop_assert!(group.iter().map(|place| files[*place].bytes).sum::<u64>() <= BUNDLE_BYTES_MAX);
                let (_, inside) = group.split_last().unwrap();
                prop_assert!(inside.iter().all(|place| !ends_bundle(&files[*place])));
            }
        }

        #[test]
        fn nights_of_changes_leave_at_least_half_of_the_bundles_used_and_few_of_them_small(
            mut files in any_files().prop_filter("some", |files| !files.is_empty()), nights in vec(vec((any::<prop::sample::Index>(), 1..SMALL_FILE_BYTES), 0..9), 1..20),
        ) {
            carry_out(&mut files, 0);
            for (night, changes) in nights.iter().enumerate() {
                for (at, bytes) in changes {
                    let at = at.index(files.len());
                    files[at] = new(files[at].hash, *bytes);
                }
                let waste = bundles(&files).are_mostly_waste();
                let small = bundles(&files).0.values().filter(|(bytes, _)| *bytes < SMALL_BUNDLE_BYTES).count();
                let before = files.clone();
                carry_out(&mut files, night as u64 + 1);
                prop_assert!(files.iter().all(|file| file.content != SmallContent::New));
                prop_assert!(!bundles(&files).are_mostly_waste());
                if !waste && small <= SMALL_BUNDLES_MAX {
                    let unchanged = |at: &usize| before[*at].content != SmallContent::New;
                    prop_assert!((0..files.len()).filter(unchanged).all(|at| files[at] == before[at]));
                }
            }
        }

        #[test]
        fn a_leaf_without_changes_comes_to_rest(mut files in any_files()) {
            carry_out(&mut files, 0);
            carry_out(&mut files, 1);
            prop_assert_eq!(carry_out(&mut files, 2), 0);
        }
    }

    #[test]
    fn one_changed_file_is_cut_alone() {
        let mut files = vec![new(u64::MAX, 4_000); 20];
        assert_eq!(carry_out(&mut files, 0), 1);
        files[7].content = SmallContent::New;
        assert_eq!(plan_bundles(&files), [[7]]);
    }

    #[test]
    fn a_leaf_is_cut_anew_when_less_than_half_of_its_bundles_is_used() {
        let mut files = vec![new(u64::MAX, 4_000); 20];
        carry_out(&mut files, 0);
        files[..10].iter_mut().for_each(|file| file.content = SmallContent::New);
        assert_eq!(plan_bundles(&files), [(0..10).collect::<Vec<_>>()]);
        files[10].content = SmallContent::New;
        assert_eq!(plan_bundles(&files), [(0..20).collect::<Vec<_>>()]);
    }

    #[test]
    fn more_than_eight_small_bundles_are_cut_together() {
        let mut files = vec![new(u64::MAX, 4_000); 20];
        for (night, at) in (0..9).enumerate() {
            files[at].content = SmallContent::Kept(chunk(night as u64, 4_000));
        }
        files[9..].iter_mut().for_each(|file| file.content = SmallContent::Kept(chunk(99, 44_000)));
        assert_eq!(plan_bundles(&files), [(0..9).collect::<Vec<_>>()]);
        files[0].content = SmallContent::Kept(chunk(99, 44_000));
        assert_eq!(plan_bundles(&files), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_bundle_ends_where_the_hash_says_so() {
        let half = new(1 << 63, 16 << 10);
        assert!(!ends_bundle(&half));
        assert!(ends_bundle(&new((1 << 63) - 1, 16 << 10)));
        assert_eq!(plan_bundles(&[new(0, 1), half, new(0, 9), half]), [vec![0], vec![1, 2], vec![3]]);
    }
}
