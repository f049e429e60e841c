//! The states of a job: one order to one host, to back up a source set or to restore. Pure; `dispatch` holds the jobs.
//!
//! A job is queued until its host is connected and free, and runs until the host reports its end. A host that is lost
//! on the way finds its job queued again when it returns: the same job, so an agent that went on working meanwhile
//! takes it for the order it has, and one that was restarted begins again and sends only what had not arrived.

use jiff::{SignedDuration, Timestamp};
use lifeboat_format::id::SnapshotId;
use lifeboat_proto::convert::Ended;
use lifeboat_proto::convert::control::JobReport;
use lifeboat_proto::v1;

/// How often a host may be lost in one job; then the job has failed, and the schedule decides about another.
const LOSSES_MAX: u32 = 5;

/// How long a job that was begun waits for a lost host to return.
pub const LOST_WAIT: SignedDuration = SignedDuration::from_mins(30);

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// Waits for its host.
    Queued(Attempt),
    /// The host was told.
    Running(Attempt),
    /// Over.
    Done(Ending),
}

/// What happened to a job so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// When the host was first told; none if it was not yet.
    pub began: Option<Timestamp>,
    /// When the host was last lost; none if it never was.
    pub lost: Option<Timestamp>,
    /// How often it was lost.
    pub losses: u32,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// When the host was first told; when it ended, if it never was.
    pub began: Timestamp,
    /// When the end was known here.
    pub ended: Timestamp,
    /// The result.
    pub result: JobResult,
}

/// What a job brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobResult {
    /// The outcome.
    pub ended: Ended,
    /// The snapshot, unless it failed.
    pub snapshot: Option<SnapshotId>,
    /// What went wrong and what to do; empty if nothing.
    pub message: String,
    /// The first of the gaps, escaped.
    pub gaps: Vec<String>,
    /// How many gaps there are.
    pub gap_count: u64,
    /// What a restore did; none for a backup.
    pub restored: Option<Box<v1::RestoreEnded>>,
}

impl JobResult {
    /// An end that an operator wanted, without a snapshot.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self { ended: Ended::Cancelled, ..Self::failed(message) }
    }

    /// An end without a snapshot.
    pub fn failed(message: impl Into<String>) -> Self {
        let message = message.into();
        Self { ended: Ended::Failed, snapshot: None, message, gaps: Vec::new(), gap_count: 0, restored: None }
    }
}

impl From<JobReport> for JobResult {
    fn from(report: JobReport) -> Self {
        let JobReport { job: _, ended, snapshot, message, gaps, gap_count, restored } = report;
        Self { ended, snapshot, message, gaps, gap_count, restored }
    }
}

/// What can happen to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEvent {
    /// Its host was told.
    Taken(Timestamp),
    /// The host's control stream ended.
    AgentLost(Timestamp),
    /// Time went by.
    Waited(Timestamp),
    /// The host said how it ended.
    Ended(Timestamp, JobResult),
}

/// An event that cannot happen in this state. It changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job that is {state} cannot be {event}")]
pub struct IllegalTransition {
    state: &'static str,
    event: &'static str,
}

impl Attempt {
    /// Nothing happened yet.
    pub const NEW: Self = Self { began: None, lost: None, losses: 0 };

    fn taken(self, at: Timestamp) -> Self {
        Self { began: self.began.or(Some(at)), ..self }
    }

    fn end(self, ended: Timestamp, result: JobResult) -> JobState {
        JobState::Done(Ending { began: self.began.unwrap_or(ended), ended, result })
    }

    fn requeue_or_fail(self, at: Timestamp) -> JobState {
        let attempt = Self { losses: self.losses + 1, lost: Some(at), ..self };
        if attempt.losses >= LOSSES_MAX {
            let message = format!("the connection to the agent was lost {LOSSES_MAX} times during this job");
            return attempt.end(at, JobResult::failed(message));
        }
        JobState::Queued(attempt)
    }

    fn wait_or_fail(self, at: Timestamp) -> JobState {
        match self.lost {
            Some(lost) if at.duration_since(lost) > LOST_WAIT => {
                let message = "the agent was lost during this job and did not return; is the server up?";
                self.end(at, JobResult::failed(message))
            }
            _ => JobState::Queued(self),
        }
    }
}

/// The only way from one state to the next. Nothing of it is durable: after a restart of the coordinator the schedule
/// finds what is due anew.
pub fn next(state: JobState, event: JobEvent) -> Result<JobState, IllegalTransition> {
    match (state, event) {
        (JobState::Queued(attempt), JobEvent::Taken(at)) => Ok(JobState::Running(attempt.taken(at))),
        (JobState::Queued(attempt), JobEvent::Waited(at)) => Ok(attempt.wait_or_fail(at)),
        (JobState::Running(attempt), JobEvent::AgentLost(at)) => Ok(attempt.requeue_or_fail(at)),
        (JobState::Running(attempt) | JobState::Queued(attempt), JobEvent::Ended(at, result)) => {
            Ok(attempt.end(at, result))
        }
        (state @ JobState::Running(_), JobEvent::Waited(_)) => Ok(state),
        (state, event) => Err(IllegalTransition { state: state.name(), event: event.name() }),
    }
}

impl JobState {
    /// One word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued(_) => "queued",
            Self::Running(_) => "running",
            Self::Done(_) => "done",
        }
    }
}

impl JobEvent {
    fn name(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::AgentLost(_) => "lost",
            Self::Waited(_) => "waited for",
            Self::Ended(..) => "ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn complete() -> JobResult {
        JobResult { ended: Ended::Complete, ..JobResult::failed("") }
    }

    #[test]
    fn a_job_that_lost_its_host_goes_on_when_the_host_returns() {
        let state = next(JobState::Queued(Attempt::NEW), JobEvent::Taken(at(10))).unwrap();
        let state = next(state, JobEvent::AgentLost(at(20))).unwrap();
        let state = next(state, JobEvent::Waited(at(20) + LOST_WAIT)).unwrap();
        let state = next(state, JobEvent::Taken(at(30))).unwrap();
        let state = next(state, JobEvent::Ended(at(40), complete())).unwrap();
        assert_eq!(state, JobState::Done(Ending { began: at(10), ended: at(40), result: complete() }));
    }

    #[test]
    fn a_host_that_does_not_return_has_failed() {
        let lost = Attempt { began: Some(at(10)), lost: Some(at(20)), losses: 1 };
        let later = at(21) + LOST_WAIT;
        let state = next(JobState::Queued(lost), JobEvent::Waited(later)).unwrap();
        assert!(matches!(state, JobState::Done(ending) if ending.result.ended == Ended::Failed));
    }

    #[test]
    fn a_job_whose_host_was_never_there_waits_for_ever() {
        let state = JobState::Queued(Attempt::NEW);
        assert_eq!(next(state.clone(), JobEvent::Waited(at(1 << 36))), Ok(state));
    }

    proptest! {
        #[test]
        fn a_job_that_is_done_stays_done_and_none_is_lost_for_ever(events in prop::collection::vec(0..4, 0..40)) {
            let mut state = JobState::Queued(Attempt::NEW);
            let mut losses = 0;
            for (second, event) in events.into_iter().enumerate() {
                let now = at(second as i64);
                let event = match event {
                    0 => JobEvent::Taken(now),
                    1 => JobEvent::AgentLost(now),
                    2 => JobEvent::Waited(now),
                    _ => JobEvent::Ended(now, complete()),
                };
                let before = state.clone();
                match next(state.clone(), event.clone()) {
                    Ok(after) => {
                        prop_assert!(!matches!(before, JobState::Done(_)));
                        losses += u32::from(matches!(event, JobEvent::AgentLost(_)));
                        state = after;
                    }
                    Err(_) => prop_assert_eq!(&state, &before),
                }
            }
            prop_assert!(losses <= LOSSES_MAX);
        }
    }
}
