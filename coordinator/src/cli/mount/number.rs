//! Inode numbers. Each says where its entry stands, so nothing needs to be remembered of what the kernel has seen:
//! which snapshot, and how many entries of its tree stand before it.

/// Bits for the place in a tree.
const ENTRY_BITS: u32 = 40;
const ENTRY_MASK: u64 = (1 << ENTRY_BITS) - 1;

/// What an inode number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inode {
    /// The directory of all snapshots.
    Top,
    /// A link in it that leads to the newest one.
    Latest,
    /// The root of a snapshot's tree; snapshots are counted from 0.
    Root(u32),
    /// An entry of a snapshot: how many stand before it.
    Entry(u32, u64),
}

impl Inode {
    /// As the kernel knows it; 1 is the place where it is mounted. None for more entries than a number can say, 10^12.
    pub fn number(self) -> Option<u64> {
        let of = |snapshot: u32, entry: u64| (u64::from(snapshot) + 1) << ENTRY_BITS | entry;
        match self {
            Self::Top => Some(1),
            Self::Latest => Some(2),
            Self::Root(snapshot) => Some(of(snapshot, 0)),
            Self::Entry(snapshot, before) => (before < ENTRY_MASK).then(|| of(snapshot, before + 1)),
        }
    }

    /// What a number means, if it means anything.
    pub fn of(number: u64) -> Option<Self> {
        let snapshot = u32::try_from(number >> ENTRY_BITS).ok()?.checked_sub(1);
        match (snapshot, number & ENTRY_MASK) {
            (None, 1) => Some(Self::Top),
            (None, 2) => Some(Self::Latest),
            (None, _) => None,
            (Some(snapshot), 0) => Some(Self::Root(snapshot)),
            (Some(snapshot), entry) => Some(Self::Entry(snapshot, entry - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_reads_back_and_no_two_are_alike() {
        let all = [
            Inode::Top,
            Inode::Latest,
            Inode::Root(0),
            Inode::Root(9_999),
            Inode::Entry(0, 0),
            Inode::Entry(0, 1),
            Inode::Entry(7, 999_999_999_999),
        ];
        let numbers = all.map(|inode| inode.number().unwrap());
        assert_eq!(numbers.map(|number| Inode::of(number).unwrap()), all);
        assert!(std::collections::BTreeSet::from(numbers).len() == all.len());
        assert_eq!((Inode::of(0), Inode::of(3)), (None, None));
        assert_eq!(Inode::Entry(0, u64::MAX).number(), None);
    }
}
