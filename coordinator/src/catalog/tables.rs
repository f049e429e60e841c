//! The rows of the catalog's tables.

use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::{GrantTarget, HostEnrolled, HostState, JobOutcome, SnapshotState};
use lifeboat_format::manifest::{Outcome, RootRef};
use lifeboat_format::token::TokenRecord;

/// An enrolled host.
#[derive(Clone, Debug)]
pub struct Host {
    /// As it was enrolled.
    pub enrolled: HostEnrolled,
    /// When: nanoseconds since 1970, UTC, by the coordinator's clock.
    pub enrolled_ns: i64,
    /// What it may do now.
    pub state: HostState,
    /// When its newest certificate ends; none before the first.
    pub certificate_ends_ns: Option<i64>,
}

/// A token, and how often it was used.
#[derive(Clone, Debug)]
pub struct Token {
    /// As it was made.
    pub record: TokenRecord,
    /// The hosts that came with it.
    pub used_by: Vec<HostId>,
}

/// A snapshot, as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The hash of its manifest.
    pub id: SnapshotId,
    /// Whose it is.
    pub host: HostId,
    /// Of which source set.
    pub source_set: String,
    /// Its number there.
    pub sequence: u64,
    /// Where its tree begins.
    pub root: RootRef,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it counts as failed, if it does.
    pub suspect: Option<String>,
    /// Whether a person said that it is right all the same.
    pub accepted: bool,
    /// Where it is on its way out.
    pub state: SnapshotState,
    /// Whether retention leaves it alone.
    pub held: bool,
    /// Not purged before: nanoseconds since 1970, UTC.
    pub locked_until_ns: Option<i64>,
    /// When it was committed, by the coordinator's clock.
    pub committed_ns: i64,
}

impl Snapshot {
    /// Whether it counts as failed until a person accepts it.
    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some() && !self.accepted
    }

    /// Whether it is what a long run left on its way.
    pub fn is_checkpoint(&self) -> bool {
        self.outcome == Outcome::Checkpoint
    }

    /// Whether its tree is kept: nodes in it may be relied on.
    pub fn is_kept(&self) -> bool {
        matches!(self.state, SnapshotState::Live | SnapshotState::Trash)
    }
}

/// What is known of one source set of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    /// Sequence and manifest of its last snapshot, whatever became of it: the next manifest names both.
    pub last: Option<(u64, SnapshotId, SnapshotNumber)>,
    /// How many snapshots it has had.
    pub committed: u64,
    /// Its last job that was recorded, with its end, message and time.
    pub last_job: Option<EndedJob>,
}

impl SourceSet {
    /// The last attempt, if it failed or was cancelled.
    pub fn last_without_snapshot(&self) -> Option<&EndedJob> {
        self.job_after_last_snapshot().filter(|job| !matches!(job.outcome, JobOutcome::Committed(_)))
    }

    /// What went wrong after the last snapshot, which stands all the same: a hook that failed.
    pub fn last_warning(&self) -> Option<&EndedJob> {
        self.job_after_last_snapshot().filter(|job| matches!(job.outcome, JobOutcome::Committed(_)))
    }

    /// By numbers, not by times: clocks are put back.
    fn job_after_last_snapshot(&self) -> Option<&EndedJob> {
        let snapshot = self.last.as_ref().map_or(0, |(_, _, number)| number.get());
        self.last_job.as_ref().filter(|job| job.number > snapshot)
    }
}

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedJob {
    /// Its name; empty if nobody had ordered it.
    pub job: String,
    /// How it ended.
    pub outcome: JobOutcome,
    /// What went wrong and what to do.
    pub message: String,
    /// When, by the coordinator's clock.
    pub ended_ns: i64,
    /// Its place in the journal, where snapshots are numbered too: what is later has a greater number.
    pub number: u64,
}

/// A grant that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantMade {
    /// What it opens.
    pub snapshot: SnapshotNumber,
    /// To whom.
    pub target: GrantTarget,
    /// When it ends: nanoseconds since 1970, UTC.
    pub expires_ns: i64,
    /// Whether it was shown for reading.
    pub opened: bool,
}
