//! What happened so far to a source set, out of the catalog, as the schedule wants to know it. Pure.

use crate::catalog::{Catalog, EndedJob, Snapshot};
use crate::schedule::History;
use jiff::Timestamp;
use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::{HostState, JobOutcome};

/// The history of `source_set`; none if the host is unknown, retired or revoked. `failures` is how many attempts in a
/// row failed as far as anybody counted.
///
/// A checkpoint is the mark of a run that was cut off, so it counts as a failure. A suspect snapshot counts as an
/// attempt that is over: trying again would bring the same, a person has to look.
pub fn history(catalog: &Catalog, host: HostId, source_set: &str, failures: u32) -> Option<History> {
    let row = catalog.host(host).filter(|row| row.state == HostState::Active)?;
    let set = catalog.source_set(host, source_set);
    let last = set.and_then(|set| set.last.as_ref()).and_then(|(_, _, number)| catalog.snapshot(*number));
    let job = set.and_then(|set| set.last_job.as_ref());
    Some(of(moment(row.enrolled_ns), last, job, failures))
}

fn of(enrolled: Timestamp, last: Option<&Snapshot>, job: Option<&EndedJob>, failures: u32) -> History {
    let committed = last.map(|snapshot| (snapshot.committed_ns, snapshot.is_checkpoint()));
    let failed = job.filter(|job| job.outcome == JobOutcome::Failed).map(|job| job.ended_ns);
    let failures = failures.max(1);
    match (committed, failed) {
        (None, None) => History::Never { enrolled },
        (Some((at, _)), Some(failed)) if failed > at => History::Failed { ended: moment(failed), failures },
        (Some((at, true)), _) => History::Failed { ended: moment(at), failures },
        (Some((at, false)), _) => History::Succeeded { ended: moment(at) },
        (None, Some(failed)) => History::Failed { ended: moment(failed), failures },
    }
}

fn moment(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{NodeId, Scope, SnapshotId};
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

    fn failed(ended_ns: i64) -> EndedJob {
        EndedJob { job: "j".into(), outcome: JobOutcome::Failed, message: String::new(), ended_ns }
    }

    #[test]
    fn the_last_thing_that_happened_counts() {
        let enrolled = moment(5);
        let complete = snapshot(Outcome::Complete, 100);
        assert_eq!(of(enrolled, None, None, 0), History::Never { enrolled });
        assert_eq!(of(enrolled, Some(&complete), None, 0), History::Succeeded { ended: moment(100) });
        assert_eq!(of(enrolled, Some(&complete), Some(&failed(99)), 0), History::Succeeded { ended: moment(100) });
        let after = History::Failed { ended: moment(101), failures: 3 };
        assert_eq!(of(enrolled, Some(&complete), Some(&failed(101)), 3), after);
        assert_eq!(of(enrolled, None, Some(&failed(7)), 0), History::Failed { ended: moment(7), failures: 1 });
    }

    #[test]
    fn a_checkpoint_is_the_mark_of_a_run_that_was_cut_off() {
        let checkpoint = snapshot(Outcome::Checkpoint, 100);
        let cut_off = History::Failed { ended: moment(100), failures: 1 };
        assert_eq!(of(moment(5), Some(&checkpoint), None, 0), cut_off);
    }
}
