//! The status of a source set: how its last attempt ended, and whether the set is backed up as it should be. Pure.
//!
//! A suspect snapshot, a checkpoint and the proof of an enrolment are never a backup (INV-78).

use crate::catalog::{Snapshot, SourceSet};
use jiff::{SignedDuration, Timestamp};
use lifeboat_format::journal::event::JobOutcome;
use lifeboat_format::manifest::Outcome;
use lifeboat_proto::v1;

/// A slot that passed this long ago was missed: an earlier backup may delay it that much, and no host notices.
pub const OVERDUE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// A backup that read and sent nothing for so long is shown as stuck.
pub const STUCK_AFTER: SignedDuration = SignedDuration::from_hours(2);

/// How the last attempt to back up a source set ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastAttempt {
    /// The outcome.
    pub outcome: v1::Outcome,
    /// When it was known here: nanoseconds since 1970, UTC.
    pub ended_ns: i64,
    /// What went wrong; empty if nothing.
    pub message: String,
}

impl LastAttempt {
    /// Before the first one.
    pub fn none() -> Self {
        Self { outcome: v1::Outcome::Unspecified, ended_ns: 0, message: String::new() }
    }
}

/// The last attempt of a set whose newest snapshot is `last`; none before the first one. A checkpoint with which a set
/// begins is the proof of an enrolment, or the beginning of a first backup.
pub fn last_attempt(set: &SourceSet, last: Option<&Snapshot>) -> Option<LastAttempt> {
    if let Some(job) = set.last_without_snapshot() {
        let cancelled = job.outcome == JobOutcome::Cancelled;
        let outcome = if cancelled { v1::Outcome::Cancelled } else { v1::Outcome::Failed };
        return Some(LastAttempt { outcome, ended_ns: job.ended_ns, message: job.message.clone() });
    }
    let last = last.filter(|last| !(last.is_checkpoint() && last.sequence == 1))?;
    let outcome = outcome(last);
    let attempt =
        |outcome, message: &str| LastAttempt { outcome, ended_ns: last.committed_ns, message: message.to_owned() };
    Some(match (outcome, set.last_warning()) {
        // The host knows which path shrank.
        (v1::Outcome::Suspect, Some(job)) => attempt(outcome, &job.message),
        (v1::Outcome::Suspect, None) => attempt(outcome, last.suspect.as_deref().unwrap_or_default()),
        (v1::Outcome::Checkpoint, _) => attempt(outcome, "interrupted, or still running; the next backup continues it"),
        // All was read, and yet not all went well: a hook after the backup failed.
        (_, Some(job)) if last.suspect.is_none() => attempt(v1::Outcome::Gaps, &job.message),
        _ => attempt(outcome, ""),
    })
}

/// The outcome of a snapshot: one that is suspect never counts as complete.
pub fn outcome(snapshot: &Snapshot) -> v1::Outcome {
    match snapshot.outcome {
        Outcome::Checkpoint => v1::Outcome::Checkpoint,
        _ if snapshot.is_suspect() => v1::Outcome::Suspect,
        Outcome::Complete => v1::Outcome::Complete,
        Outcome::Gaps => v1::Outcome::Gaps,
    }
}

/// What the state of a source set depends on.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// The outcome of the last attempt; none before the first one.
    pub attempt: Option<v1::Outcome>,
    /// The outcome of the last backup; none if there is none.
    pub backup: Option<v1::Outcome>,
    /// Whether the host's policy has this set, as far as that is known.
    pub in_policy: Option<bool>,
    /// Whether the host's policy can be used.
    pub policy_valid: bool,
    /// When the next backup is due.
    pub due: Option<Timestamp>,
    /// Of a backup that is running: when it began or last made progress.
    pub progressed: Option<Timestamp>,
    /// The coordinator's clock.
    pub now: Timestamp,
}

impl Facts {
    /// Whether a slot was missed.
    pub fn is_overdue(&self) -> bool {
        self.progressed.is_none() && self.due.is_some_and(|due| self.now.duration_since(due) > OVERDUE_AFTER)
    }

    fn is_stuck(&self) -> bool {
        self.progressed.is_some_and(|progressed| self.now.duration_since(progressed) > STUCK_AFTER)
    }
}

/// The state to show: what an operator has to look at first.
pub fn state(facts: &Facts) -> v1::SetState {
    match (facts.attempt, facts.backup) {
        _ if !facts.policy_valid => v1::SetState::PolicyInvalid,
        _ if facts.in_policy == Some(false) => v1::SetState::NotInPolicy,
        (Some(v1::Outcome::Suspect), _) => v1::SetState::Suspect,
        _ if facts.is_stuck() => v1::SetState::Stuck,
        (Some(v1::Outcome::Failed), _) => v1::SetState::Failed,
        (_, None) => v1::SetState::Never,
        _ if facts.is_overdue() => v1::SetState::Overdue,
        (Some(v1::Outcome::Cancelled), _) => v1::SetState::Cancelled,
        (Some(v1::Outcome::Gaps), _) | (_, Some(v1::Outcome::Gaps)) => v1::SetState::Gaps,
        (_, Some(_)) => v1::SetState::Complete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::EndedJob;
    use lifeboat_format::id::{HostId, NodeId, Scope, SnapshotId, SnapshotNumber};
    use lifeboat_format::journal::event::SnapshotState;
    use lifeboat_format::manifest::RootRef;

    fn snapshot(sequence: u64, outcome: Outcome, suspect: Option<&str>) -> Snapshot {
        Snapshot {
            id: SnapshotId::from_bytes([1; 32]),
            host: HostId::new(1),
            source_set: "system".into(),
            sequence,
            root: RootRef { id: NodeId::from_bytes([2; 32]), height: 1, scope: Scope::new(1) },
            outcome,
            suspect: suspect.map(str::to_owned),
            accepted: false,
            state: SnapshotState::Live,
            held: false,
            locked_until_ns: None,
            committed_ns: 100,
        }
    }

    /// A set with snapshot number 10, and a job with this number in the journal.
    fn set(job: Option<(u64, JobOutcome)>) -> SourceSet {
        let last_job = job.map(|(number, outcome)| EndedJob {
            job: String::new(),
            outcome,
            message: "why".into(),
            ended_ns: 200,
            number,
        });
        SourceSet { last: Some((3, SnapshotId::from_bytes([1; 32]), SnapshotNumber::new(10))), committed: 3, last_job }
    }

    fn attempt(job: Option<(u64, JobOutcome)>, last: &Snapshot) -> Option<(v1::Outcome, String)> {
        last_attempt(&set(job), Some(last)).map(|attempt| (attempt.outcome, attempt.message))
    }

    #[test]
    fn inv_78_the_last_attempt_is_what_happened_last() {
        let complete = snapshot(3, Outcome::Complete, None);
        let committed = JobOutcome::Committed(Outcome::Complete);
        let is = |outcome, message: &str| Some((outcome, message.to_owned()));
        assert_eq!(last_attempt(&SourceSet::default(), None), None);
        assert_eq!(attempt(None, &complete), is(v1::Outcome::Complete, ""));
        assert_eq!(attempt(Some((9, JobOutcome::Failed)), &complete), is(v1::Outcome::Complete, ""));
        assert_eq!(attempt(Some((11, JobOutcome::Failed)), &complete), is(v1::Outcome::Failed, "why"));
        assert_eq!(attempt(Some((11, JobOutcome::Cancelled)), &complete), is(v1::Outcome::Cancelled, "why"));
        assert_eq!(attempt(Some((11, committed)), &complete), is(v1::Outcome::Gaps, "why"), "a hook after it failed");
        let gaps = snapshot(3, Outcome::Gaps, None);
        assert_eq!(attempt(Some((11, committed)), &gaps), is(v1::Outcome::Gaps, "why"));
    }

    #[test]
    fn inv_78_what_is_suspect_unfinished_or_a_proof_is_not_complete() {
        for outcome in [Outcome::Complete, Outcome::Gaps] {
            let suspect = snapshot(3, outcome, Some("the source shrank"));
            let shown = Some((v1::Outcome::Suspect, "the source shrank".to_owned()));
            assert_eq!(attempt(None, &suspect), shown);
            let job = Some((11, JobOutcome::Committed(outcome)));
            let told = Some((v1::Outcome::Suspect, "why".to_owned()));
            assert_eq!(attempt(job, &suspect), told, "the host knows more");
            let accepted = Snapshot { accepted: true, ..suspect };
            assert_eq!(attempt(None, &accepted), attempt(job, &accepted), "what it was suspect for is settled");
            assert_ne!(attempt(None, &accepted).unwrap().0, v1::Outcome::Suspect);
        }
        let checkpoint = attempt(None, &snapshot(3, Outcome::Checkpoint, None)).unwrap();
        assert_eq!(checkpoint.0, v1::Outcome::Checkpoint);
        assert_eq!(attempt(None, &snapshot(1, Outcome::Checkpoint, None)), None, "the proof of an enrolment");
    }

    #[test]
    fn inv_78_a_set_that_needs_somebody_is_shown_as_such() {
        use v1::{Outcome as O, SetState as S};
        let at = |second| Timestamp::from_second(1_000_000 + second).unwrap();
        let hour = OVERDUE_AFTER.as_secs();
        let good = Facts {
            attempt: Some(O::Complete),
            backup: Some(O::Complete),
            in_policy: Some(true),
            policy_valid: true,
            due: Some(at(10)),
            progressed: None,
            now: at(0),
        };
        let late = Facts { now: at(11 + hour), ..good };
        let none = Facts { attempt: None, backup: None, ..good };
        let cases = [
            (good, S::Complete),
            (Facts { in_policy: None, ..good }, S::Complete),
            (Facts { attempt: Some(O::Checkpoint), ..good }, S::Complete),
            (Facts { attempt: Some(O::Gaps), backup: Some(O::Gaps), ..good }, S::Gaps),
            (Facts { attempt: Some(O::Gaps), ..good }, S::Gaps),
            (Facts { attempt: Some(O::Cancelled), ..good }, S::Cancelled),
            (Facts { attempt: Some(O::Suspect), ..good }, S::Suspect),
            (Facts { attempt: Some(O::Suspect), ..late }, S::Suspect),
            (Facts { attempt: Some(O::Failed), ..good }, S::Failed),
            (Facts { now: at(10 + hour), ..good }, S::Complete),
            (late, S::Overdue),
            (Facts { attempt: Some(O::Cancelled), ..late }, S::Overdue),
            (Facts { progressed: Some(at(0)), ..late }, S::Complete),
            (Facts { progressed: Some(at(0)), now: at(1 + STUCK_AFTER.as_secs()), ..good }, S::Stuck),
            (none, S::Never),
            (Facts { attempt: Some(O::Checkpoint), ..none }, S::Never),
            (Facts { attempt: Some(O::Failed), ..none }, S::Failed),
            (Facts { policy_valid: false, ..good }, S::PolicyInvalid),
            (Facts { in_policy: Some(false), ..late }, S::NotInPolicy),
        ];
        for (facts, expected) in cases {
            assert_eq!(state(&facts), expected, "{facts:?}");
        }
    }
}
