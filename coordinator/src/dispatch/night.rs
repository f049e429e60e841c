//! What happened so far to a source set, out of the catalog, as the schedule wants to know it. Pure.

use crate::catalog::{Catalog, EndedJob, Snapshot, SourceSet};
use crate::schedule::History;
use jiff::Timestamp;
use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::{HostState, JobOutcome};

/// The history of `source_set`; none if the host is unknown, retired or revoked. `failures` is how many attempts in a
/// row failed as far as anybody counted.
///
/// A checkpoint is the mark of a run that was cut off, so it counts as a failure; but as the first of its source set it
/// is the proof with which the host was enrolled, or the begin of its first backup: nothing was whole yet. A suspect
/// snapshot counts as an attempt that is over: trying again would bring the same, a person has to look. So does one that
/// an operator cancelled: it was not wanted now, and the next slot is soon enough.
pub fn history(catalog: &Catalog, host: HostId, source_set: &str, failures: u32) -> Option<History> {
    let row = catalog.host(host).filter(|row| row.state == HostState::Active)?;
    let set = catalog.source_set(host, source_set);
    let last = set.and_then(|set| set.last.as_ref()).and_then(|(_, _, number)| catalog.snapshot(*number));
    let job = set.and_then(SourceSet::last_without_snapshot);
    Some(of(moment(row.enrolled_ns), last, job, failures))
}

/// `job` is the last attempt if it brought no snapshot.
fn of(enrolled: Timestamp, last: Option<&Snapshot>, job: Option<&EndedJob>, failures: u32) -> History {
    let last = last.filter(|snapshot| !(snapshot.is_checkpoint() && snapshot.sequence == 1));
    let failures = failures.max(1);
    match (job, last) {
        (Some(job), _) if job.outcome == JobOutcome::Cancelled => History::Succeeded { ended: moment(job.ended_ns) },
        (Some(job), _) => History::Failed { ended: moment(job.ended_ns), failures },
        (None, Some(last)) if last.is_checkpoint() => History::Failed { ended: moment(last.committed_ns), failures },
        (None, Some(last)) => History::Succeeded { ended: moment(last.committed_ns) },
        (None, None) => History::Never { enrolled },
    }
}

fn moment(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{NodeId, Scope, SnapshotId, SnapshotNumber};
    use lifeboat_format::journal::event::SnapshotState;
    use lifeboat_format::manifest::{Outcome, RootRef};

    fn snapshot(outcome: Outcome, committed_ns: i64) -> Snapshot {
        Snapshot {
            id: SnapshotId::from_bytes([1; 32]),
            host: HostId::new(1),
            source_set: "system".into(),
            sequence: 1,
            root: RootRef { id: NodeId::from_bytes([2; 32]), height: 1, scope: Scope::new(1) },
            outcome,
            suspect: None,
            accepted: false,
            state: SnapshotState::Live,
            held: false,
            locked_until_ns: None,
            committed_ns,
        }
    }

    /// The failure that counts of one with this number in the journal, where the last snapshot is number 10.
    fn failure(number: u64, ended_ns: i64) -> Option<EndedJob> {
        let job = EndedJob { job: "j".into(), outcome: JobOutcome::Failed, message: String::new(), ended_ns, number };
        let last = Some((1, SnapshotId::from_bytes([1; 32]), SnapshotNumber::new(10)));
        SourceSet { last, committed: 1, last_job: Some(job) }.last_without_snapshot().cloned()
    }

    #[test]
    fn the_last_thing_that_happened_counts() {
        let enrolled = moment(5);
        let complete = snapshot(Outcome::Complete, 100);
        assert_eq!(of(enrolled, None, None, 0), History::Never { enrolled });
        assert_eq!(of(enrolled, Some(&complete), None, 0), History::Succeeded { ended: moment(100) });
        let before = failure(9, 99);
        assert_eq!(of(enrolled, Some(&complete), before.as_ref(), 0), History::Succeeded { ended: moment(100) });
        let after = failure(11, 101);
        let failed = History::Failed { ended: moment(101), failures: 3 };
        assert_eq!(of(enrolled, Some(&complete), after.as_ref(), 3), failed);
        assert_eq!(of(enrolled, None, after.as_ref(), 0), History::Failed { ended: moment(101), failures: 1 });
    }

    #[test]
    fn what_happened_last_is_told_by_numbers_though_the_clock_was_put_back() {
        let later = failure(11, 3);
        let failed = History::Failed { ended: moment(3), failures: 1 };
        assert_eq!(of(moment(5), Some(&snapshot(Outcome::Complete, 100)), later.as_ref(), 0), failed);
    }

    #[test]
    fn a_cancelled_backup_is_not_started_again_before_the_next_slot() {
        let cancelled = failure(11, 101).map(|job| EndedJob { outcome: JobOutcome::Cancelled, ..job });
        let complete = snapshot(Outcome::Complete, 100);
        for last in [None, Some(&complete)] {
            assert_eq!(of(moment(5), last, cancelled.as_ref(), 1), History::Succeeded { ended: moment(101) });
        }
    }

    #[test]
    fn a_checkpoint_is_the_mark_of_a_run_that_was_cut_off() {
        let first = snapshot(Outcome::Checkpoint, 100);
        assert_eq!(
            of(moment(5), Some(&first), None, 0),
            History::Never { enrolled: moment(5) },
            "nothing was whole yet"
        );
        let checkpoint = Snapshot { sequence: 2, ..first };
        let cut_off = History::Failed { ended: moment(100), failures: 1 };
        assert_eq!(of(moment(5), Some(&checkpoint), None, 0), cut_off);
    }
}
