//! Gives each host its jobs: when the schedule says so, or when a person does.
//!
//! One task looks at the board whenever something happened, and at least every few seconds: what is due is ordered,
//! what ended is recorded, who was revoked is cut off. What is due follows from the catalog alone ([`night`]), so a
//! restart loses nothing but the count of failures in a row. A host that is not connected has missed its turn, and is
//! caught up when it returns.

pub mod board;
pub mod night;

use crate::clock::Clock;
use crate::schedule::{self, History, Turns};
use board::{Board, Down, EndedJob, JobView, Seen, StreamId, Twin, Work};
use jiff::{SignedDuration, Timestamp};
use lifeboat_format::id::HostId;
use lifeboat_proto::convert::control::{Hello, Report};
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// The task looks at least so often; a revoked host follows no longer than this (INV-51).
const LOOK_EVERY: Duration = Duration::from_secs(4);

/// A host's clock that is off by more than this is worth a warning.
const SKEW_MAX: SignedDuration = SignedDuration::from_mins(10);

/// What the night needs to know of the past, and where it writes what happened.
pub trait Past: Send + Sync {
    /// Whether the host may follow: it is known, and neither retired nor revoked.
    fn takes_part(&self, host: HostId) -> bool;
    /// What happened to a source set so far; none if the host takes no part. `failures` says how many attempts in a
    /// row have failed since the coordinator was started.
    fn history(&self, host: HostId, source_set: &SourceSetName, failures: u32) -> Option<History>;
    /// The turns of a host.
    fn turns(&self, host: HostId) -> Turns;
    /// Records a job that ended. May block.
    fn record(&self, ended: &EndedJob);
}

/// The board, for all tasks.
pub struct Dispatch {
    state: Mutex<State>,
    changed: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Debug, Default)]
struct State {
    board: Board,
    failures: BTreeMap<(HostId, SourceSetName), u32>,
}

impl std::fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dispatch of {:?}", self.lock().board)
    }
}

/// The moment that a clock shows.
pub fn now(clock: &dyn Clock) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(clock.now_ns())).unwrap_or(Timestamp::UNIX_EPOCH)
}

impl Dispatch {
    /// An empty board.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), clock }
    }

    /// A host has opened a control stream; orders come through the second value.
    pub fn connect(&self, host: HostId, hello: Hello) -> Result<(StreamId, mpsc::Receiver<Down>), Twin> {
        let (orders, received) = mpsc::channel(board::ORDERS_WAITING_MAX);
        let stream = self.lock().board.connect(host, hello, orders, self.now())?;
        if let Some(ahead) = self.clock_ahead(host) {
            tracing::warn!(%host, seconds_ahead = ahead.as_secs(), "the clock of this host is off; its certificate may fail");
        }
        self.changed.notify_one();
        Ok((stream, received))
    }

    /// Whether who shows this instance may be the host: see [`Board::check_twin`].
    pub fn check_twin(&self, host: HostId, instance: &[u8; 16]) -> Result<(), Twin> {
        self.lock().board.check_twin(host, instance, self.now())
    }

    /// Something came up a control stream.
    pub fn report(&self, stream: StreamId, report: Report) {
        let changes_what_is_due = matches!(report, Report::Ended(_) | Report::Offer(_));
        self.lock().board.report(stream, report, self.now());
        if changes_what_is_due {
            self.changed.notify_one();
        }
    }

    /// Ends the control stream of a host, whose agent may connect again.
    pub fn remove_connection(&self, host: HostId) {
        self.lock().board.remove_connection(host, self.now());
        self.changed.notify_one();
    }

    /// What is kept of a host that is not connected now.
    pub fn seen(&self, host: HostId) -> Option<Seen> {
        self.lock().board.seen(host).cloned()
    }

    /// A control stream has ended.
    pub fn disconnect(&self, stream: StreamId) {
        self.lock().board.disconnect(stream, self.now());
        self.changed.notify_one();
    }

    /// Orders work, or joins a job that does it: see [`Board::order`].
    pub fn order(&self, host: HostId, work: Work) -> watch::Receiver<JobView> {
        self.lock().board.order(host, work, self.now())
    }

    /// All jobs that are remembered.
    pub fn jobs(&self) -> Vec<JobView> {
        self.lock().board.jobs()
    }

    /// Follows a job.
    pub fn follow(&self, name: &JobName) -> Option<watch::Receiver<JobView>> {
        self.lock().board.follow(name)
    }

    /// Ends a job; false if there is none, or it is over.
    pub fn cancel(&self, name: &JobName) -> bool {
        let cancelled = self.lock().board.cancel(name, self.now());
        self.changed.notify_one();
        cancelled
    }

    /// What a connected host said of itself, and when it was last heard of.
    pub fn connection(&self, host: HostId) -> Option<(Hello, Timestamp)> {
        self.lock().board.connection(host).map(|connection| (connection.hello.clone(), connection.heard))
    }

    /// How far the clock of a connected host is ahead of ours (negative: behind), if it is off by much.
    pub fn clock_ahead(&self, host: HostId) -> Option<SignedDuration> {
        let ahead = self.lock().board.connection(host)?.ahead;
        (ahead.abs() > SKEW_MAX).then_some(ahead)
    }

    /// The job that is queued or running for a source set.
    pub fn open_job(&self, host: HostId, source_set: &SourceSetName) -> Option<JobView> {
        self.lock().board.open_job(host, source_set).map(|job| job.borrow().clone())
    }

    /// When the next backup of a source set is due; none if the host takes no part.
    pub fn next_due(&self, past: &dyn Past, host: HostId, source_set: &SourceSetName) -> Option<Timestamp> {
        self.next_due_at(past, host, source_set, self.now())
    }

    fn next_due_at(
        &self,
        past: &dyn Past,
        host: HostId,
        source_set: &SourceSetName,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let failures = self.failures(host, source_set);
        let history = past.history(host, source_set, failures)?;
        Some(schedule::next_due(&past.turns(host), history, now))
    }

    /// Looks at the board until `stop` says so; then ends all jobs and control streams.
    pub async fn run(self: Arc<Self>, past: Arc<dyn Past>, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let (dispatch, past) = (self.clone(), past.clone());
            if let Err(error) = tokio::task::spawn_blocking(move || dispatch.look(past.as_ref())).await {
                tracing::error!(%error, "the dispatcher failed; it goes on");
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => {}
            }
        }
        self.lock().board.stop(self.now());
    }

    /// One look: what ended is recorded first, so that it counts when the schedule is asked.
    fn look(&self, past: &dyn Past) {
        let now = self.now();
        let (ended, offers) = {
            let mut state = self.lock();
            state.board.drop_connections(|host| past.takes_part(host), now);
            state.board.tick(now);
            (state.board.take_ended(), state.board.offers())
        };
        for job in ended {
            self.count(&job);
            past.record(&job);
        }
        for (host, source_set) in offers {
            if self.next_due_at(past, host, &source_set, now).is_some_and(|due| due <= now) {
                tracing::info!(%host, %source_set, "a backup is due");
                self.order(host, Work::Backup(source_set));
            }
        }
    }

    fn count(&self, job: &EndedJob) {
        let Some(source_set) = job.work.source_set() else { return };
        let key = (job.host, source_set.clone());
        let mut state = self.lock();
        match job.ending.result.ended {
            Ended::Failed => *state.failures.entry(key).or_default() += 1,
            _ => {
                state.failures.remove(&key);
            }
        }
    }

    fn failures(&self, host: HostId, source_set: &SourceSetName) -> u32 {
        self.lock().failures.get(&(host, source_set.clone())).copied().unwrap_or(0)
    }

    fn now(&self) -> Timestamp {
        now(self.clock.as_ref())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
