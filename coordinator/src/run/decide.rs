//! What a run may rely on, decided: pure functions of rows, so that a model of every state can call them.
//!
//! Reading rows, clearing marks and remembering what was decided is for [`super::upload`] and [`super::commit`].

use crate::catalog::Snapshot;
use crate::index::{ChunkRow, NodeRow};
use crate::spool::{Offer, OpenBody, offer};
use lifeboat_format::id::{Digest, HostId, SnapshotNumber};
use lifeboat_format::manifest::Part;
use lifeboat_proto::convert::backup::Suspicion;

/// What becomes of uploaded bytes of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutChunk {
    /// The host may rely on the chunk already: drop the bytes, and acquire it as "have" would.
    Drop,
    /// Another host brought the very same bytes: both vouch for them now. Drop these, and acquire.
    Witness,
    /// Keep them beside whatever else is there.
    Append,
}

/// Decides on an upload of a chunk whose bytes match `digest`.
pub fn put_chunk(host: HostId, digest: &Digest, open: &[OpenBody], row: Option<&ChunkRow>) -> PutChunk {
    if offer(host, open, row) != Offer::Missing {
        return PutChunk::Drop;
    }
    let in_row = row.is_some_and(|row| row.bodies.iter().any(|body| body.digest == *digest));
    match in_row || open.iter().any(|body| body.digest == *digest) {
        true => PutChunk::Witness,
        false => PutChunk::Append,
    }
}

/// A snapshot in which a node has its home, as far as relying on it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// Which snapshot.
    pub snapshot: SnapshotNumber,
    /// Whose it is.
    pub host: HostId,
    /// Whether it is live or in the trash.
    pub is_kept: bool,
    /// Whether something in its tree is lost.
    pub is_damaged: bool,
}

impl Home {
    /// The home that a snapshot would be.
    pub fn of(number: SnapshotNumber, snapshot: &Snapshot, is_damaged: bool) -> Self {
        Self { snapshot: number, host: snapshot.host, is_kept: snapshot.is_kept(), is_damaged }
    }

    /// Whether it keeps its nodes, and all below them, healthy.
    pub fn is_living(&self) -> bool {
        self.is_kept && !self.is_damaged
    }
}

/// Whether a run may rely on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireNode {
    /// It sent the node itself, with everything below it.
    Sent,
    /// Through this snapshot, which it must pin.
    Pin(SnapshotNumber),
    /// No: never because the node merely exists, or has no mark.
    Missing,
}

/// Decides whether a run of `host` may rely on a node: because it sent it, or through a living home that is its own,
/// or anybody's if all below the node is witnessed (INV-21).
pub fn acquire_node(host: HostId, was_sent: bool, row: Option<&NodeRow>, home: Option<Home>) -> AcquireNode {
    if was_sent {
        return AcquireNode::Sent;
    }
    match (row, home) {
        (Some(row), Some(home)) if row.home == Some(home.snapshot) && home.is_living() => {
            match home.host == host || row.shared {
                true => AcquireNode::Pin(home.snapshot),
                false => AcquireNode::Missing,
            }
        }
        _ => AcquireNode::Missing,
    }
}

/// The sizes of a snapshot that are compared from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Entries of the tree.
    pub entries: u64,
    /// Bytes in its files.
    pub content_bytes: u64,
}

/// Why a snapshot counts as failed until a person accepts it: its source is suddenly empty, or shrank by half, against
/// the last snapshot that was not suspect (INV-17). `None`: it does not.
pub fn suspicion(before: Option<Sizes>, now: Sizes) -> Option<String> {
    let before = before?;
    let shrunk = |what: &str, before: u64, now: u64| match (before, now) {
        (1.., 0) => Some(format!("the source has no {what} any more; the last backup that counts had {before}")),
        _ if now < before.div_ceil(2) => {
            Some(format!("the source shrank from {before} to {now} {what} since the last backup that counts"))
        }
        _ => None,
    };
    shrunk("entries", before.entries, now.entries)
        .or_else(|| shrunk("bytes in files", before.content_bytes, now.content_bytes))
}

/// A part with fewer entries may well lose half of them on an ordinary day.
const PART_ENTRIES_MIN: u64 = 10;

/// Why a snapshot is suspect because of one part of its source set: a source path, or a file system below one, that
/// lost half of its entries since the last snapshot that was not suspect. A part that is no longer there at all was
/// taken out of the policy, or its mount point was removed: that is no accident. Of several such parts, the one that
/// lost the most is told.
pub fn part_suspicion(before: &[Part], now: &[Part]) -> Option<Suspicion> {
    let halved = before.iter().filter_map(|before| {
        let left = now.iter().find(|part| part.id == before.id)?.entries;
        (before.entries >= PART_ENTRIES_MIN && left < before.entries.div_ceil(2)).then_some((before, left))
    });
    let (shrunk, left) = halved.max_by_key(|(before, left)| before.entries - left)?;
    let reason = format!(
        "one of the {} source paths and file systems of the source set shrank from {} to {left} entries since the last \
         backup that counts; is everything mounted?",
        now.len(),
        shrunk.entries
    );
    Some(Suspicion { reason, part: (now.len() > 1).then_some(shrunk.id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Mark, PackNumber, Place};
    use proptest::prelude::*;

    fn node(home: Option<u64>, shared: bool) -> NodeRow {
        let place = Place { pack: PackNumber::for_tests(0), record: 0, offset: 16, sealed_bytes: 9 };
        NodeRow { mark: Mark::NONE, places: vec![place], height: 1, home: home.map(SnapshotNumber::new), shared }
    }

    fn home(host: u32) -> Home {
        Home { snapshot: SnapshotNumber::new(5), host: HostId::new(host), is_kept: true, is_damaged: false }
    }

    #[test]
    fn inv_21_a_node_is_relied_on_if_sent_or_through_a_living_home_and_never_because_it_exists() {
        let me = HostId::new(1);
        let pin = AcquireNode::Pin(SnapshotNumber::new(5));
        assert_eq!(acquire_node(me, true, None, None), AcquireNode::Sent);
        assert_eq!(acquire_node(me, false, Some(&node(Some(5), false)), Some(home(1))), pin);
        assert_eq!(acquire_node(me, false, Some(&node(Some(5), true)), Some(home(2))), pin);
        let missing = [
            (node(None, true), None, "it exists, without a mark"),
            (node(Some(5), false), None, "its home is unknown"),
            (node(Some(5), false), Some(home(2)), "a foreign home, unshared"),
            (node(Some(4), false), Some(home(1)), "another home than the row's"),
            (node(Some(5), true), Some(Home { is_kept: false, ..home(1) }), "a purged home"),
            (node(Some(5), true), Some(Home { is_damaged: true, ..home(1) }), "a damaged home"),
        ];
        for (row, home, why) in missing {
            assert_eq!(acquire_node(me, false, Some(&row), home), AcquireNode::Missing, "{why}");
        }
    }

    #[test]
    fn inv_17_a_source_that_is_suddenly_empty_or_halved_is_suspect() {
        let sizes = |entries, content_bytes| Sizes { entries, content_bytes };
        assert_eq!(suspicion(None, sizes(0, 0)), None, "nothing to compare with");
        assert_eq!(suspicion(Some(sizes(10, 100)), sizes(5, 50)), None);
        assert_eq!(suspicion(Some(sizes(0, 0)), sizes(0, 0)), None);
        for now in [sizes(0, 0), sizes(4, 100), sizes(10, 49), sizes(10, 0)] {
            assert!(suspicion(Some(sizes(10, 100)), now).is_some(), "{now:?}");
        }
    }

    #[test]
    fn inv_17_one_part_that_is_emptied_or_halved_among_others_is_suspect() {
        let part = |id, entries| Part { id, entries, files: entries, bytes: 0 };
        let before = [part(1, 1000), part(2, 300), part(3, 9)];
        let found = |now: &[Part]| part_suspicion(&before, now);
        let reason = |now: &[Part]| found(now).map(|found| found.reason);
        assert_eq!(reason(&before), None);
        assert_eq!(
            reason(&[part(1, 500), part(2, 150), part(3, 0)]),
            None,
            "half is there, and a small part may empty"
        );
        assert_eq!(reason(&[part(1, 1000), part(3, 9)]), None, "a part that is no longer configured");
        assert_eq!(reason(&[part(1, 1000), part(2, 301), part(4, 5)]), None, "a new part");
        assert!(reason(&[part(1, 1000), part(2, 1), part(3, 9)]).unwrap().contains("from 300 to 1 entries"));
        assert!(reason(&[part(1, 1000), part(2, 149), part(3, 9)]).unwrap().contains("from 300 to 149 entries"));
        assert_eq!(found(&[part(1, 1000), part(2, 0), part(3, 9)]).unwrap().part, Some(2));
        assert_eq!(found(&[part(1, 400), part(2, 0), part(3, 9)]).unwrap().part, Some(1), "the one that lost the most");
        assert_eq!(found(&[part(2, 0)]).unwrap().part, None, "the only one needs no name");
        assert_eq!(part_suspicion(&[], &before), None);
    }

    proptest! {
        #[test]
        fn a_source_that_grows_is_never_suspect(entries: u32, bytes: u32, more in 0..1000u64) {
            let before = Sizes { entries: entries.into(), content_bytes: bytes.into() };
            let now = Sizes { entries: before.entries + more, content_bytes: before.content_bytes + more };
            prop_assert_eq!(suspicion(Some(before), now), None);
        }
    }
}
