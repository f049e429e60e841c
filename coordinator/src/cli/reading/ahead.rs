//! Snapshots that a command opens one after the other: their grants are made together, so that a search over a thousand
//! snapshots adds one batch to the journal and not a thousand. Pure.

use jiff::SignedDuration;
use lifeboat_format::envelope::Identity;
use lifeboat_proto::limits::ORDERS_MAX;
use lifeboat_proto::status::Failure;
use lifeboat_proto::v1::{GrantReply, SnapshotInfo};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Grants that are made at once where nobody knows whether they will be used.
const PERHAPS_MAX: usize = 64;

/// A grant that was made and not used yet, or why it was not made.
pub struct Granted {
    /// The answer.
    pub reply: Result<GrantReply, Failure>,
    /// What opens it.
    pub identity: Identity,
    /// When it was asked for.
    pub asked: Instant,
    /// How long it is good from then on.
    pub life: SignedDuration,
}

impl Granted {
    /// Whether a reader that begins now has time left.
    fn is_fresh(&self, now: Instant) -> bool {
        let life = Duration::try_from(self.life).unwrap_or_default();
        now.saturating_duration_since(self.asked) < life / 2
    }
}

/// What is to be opened next, and what was granted for it.
#[derive(Default)]
pub struct Ahead {
    next: Vec<SnapshotInfo>,
    at_once: usize,
    at_once_max: usize,
    granted: HashMap<u64, Granted>,
}

impl Ahead {
    /// All these will be opened, in this order.
    pub fn all(snapshots: Vec<SnapshotInfo>) -> Self {
        Self { next: snapshots, at_once: ORDERS_MAX, at_once_max: ORDERS_MAX, granted: HashMap::new() }
    }

    /// Any of these may be opened, more likely in this order: first one is granted, then twice as many each time.
    pub fn perhaps(snapshots: Vec<SnapshotInfo>) -> Self {
        Self { next: snapshots, at_once: 1, at_once_max: PERHAPS_MAX, granted: HashMap::new() }
    }

    /// The grant for a snapshot, if there is one that can still be used.
    pub fn take(&mut self, number: u64, now: Instant) -> Option<Granted> {
        self.granted.remove(&number).filter(|granted| granted.is_fresh(now))
    }

    /// A grant for a snapshot was made.
    pub fn keep(&mut self, number: u64, granted: Granted) {
        self.granted.insert(number, granted);
    }

    /// The snapshots to ask grants for, now that one is needed for `snapshot`: it comes first.
    pub fn wanted(&mut self, snapshot: &SnapshotInfo) -> Vec<SnapshotInfo> {
        let Some(at) = self.next.iter().position(|next| next.number == snapshot.number) else {
            return vec![snapshot.clone()];
        };
        let end = self.next.len().min(at + self.at_once.max(1));
        self.at_once = (2 * self.at_once).min(self.at_once_max);
        self.next.drain(at..end).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshots(numbers: std::ops::Range<u64>) -> Vec<SnapshotInfo> {
        numbers.map(|number| SnapshotInfo { number, ..SnapshotInfo::default() }).collect()
    }

    fn numbers(snapshots: &[SnapshotInfo]) -> Vec<u64> {
        snapshots.iter().map(|snapshot| snapshot.number).collect()
    }

    /// How many grants are asked for each time when all these are opened one after the other.
    fn asked(mut ahead: Ahead, order: &[SnapshotInfo]) -> Vec<usize> {
        let mut asked = Vec::new();
        let now = Instant::now();
        for snapshot in order {
            if ahead.take(snapshot.number, now).is_none() {
                let wanted = ahead.wanted(snapshot);
                assert_eq!(wanted[0], *snapshot);
                asked.push(wanted.len());
                wanted.iter().for_each(|wanted| ahead.keep(wanted.number, granted(now)));
                assert!(ahead.take(snapshot.number, now).is_some());
            }
        }
        asked
    }

    fn granted(asked: Instant) -> Granted {
        let (identity, life) = (Identity::generate(), SignedDuration::from_hours(1));
        Granted { reply: Ok(GrantReply::default()), identity, asked, life }
    }

    #[test]
    fn what_is_opened_for_certain_is_granted_at_once_and_what_may_be_in_growing_numbers() {
        let list = snapshots(1..2501);
        assert_eq!(asked(Ahead::all(list.clone()), &list), [1000, 1000, 500]);
        assert_eq!(asked(Ahead::perhaps(list[..300].to_vec()), &list[..300]), [1, 2, 4, 8, 16, 32, 64, 64, 64, 45]);
        assert_eq!(asked(Ahead::default(), &list[..3]), [1, 1, 1], "nothing is expected");
    }

    #[test]
    fn a_snapshot_is_granted_only_once_wherever_a_command_begins() {
        let list = snapshots(1..11);
        let mut ahead = Ahead::all(list.clone());
        assert_eq!(numbers(&ahead.wanted(&list[6])), [7, 8, 9, 10]);
        assert_eq!(numbers(&ahead.wanted(&list[2])), [3, 4, 5, 6]);
        assert_eq!(numbers(&ahead.wanted(&list[7])), [8], "its grant was used");
        let other = &snapshots(99..100)[0];
        assert_eq!(numbers(&ahead.wanted(other)), [99]);
    }

    #[test]
    fn a_grant_of_which_half_the_time_is_over_is_not_used() {
        let mut ahead = Ahead::default();
        let now = Instant::now();
        for (number, minutes) in [(1, 29), (2, 31)] {
            ahead.keep(number, granted(now));
            let later = now + Duration::from_secs(minutes * 60);
            assert_eq!(ahead.take(number, later).is_some(), minutes < 30);
        }
    }
}
