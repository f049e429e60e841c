//! Who is connected, which jobs there are, and what each host is to do next.
//!
//! The board never waits and never looks at a clock: whoever calls says what time it is. A host does one backup at a
//! time and one restore beside it, in the order in which they came; an order for what is queued joins that job. What an
//! agent says only ever touches jobs of its own host.

use crate::job::{self, Attempt, Ending, JobEvent, JobResult, JobState};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lifeboat_format::id::{Digest, HostId, SnapshotId};
use lifeboat_proto::convert::control::{Hello, JobOrder, Offer, Progress, Report, What};
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use std::collections::BTreeMap;
use tokio::sync::{mpsc, watch};

/// Two machines share one identity if both were heard of within this time.
const TWIN_WAIT: SignedDuration = SignedDuration::from_mins(1);

/// Orders that a host may be behind with. It is told one at a time, so more mean that it does not listen.
pub const ORDERS_WAITING_MAX: usize = 16;

/// How long a job that is done can still be asked about.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// What is kept of a host that is no longer connected.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it was last heard of.
    pub heard: Timestamp,
    /// What its policy offered then.
    pub offer: Offer,
}

/// What goes down a control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// An order.
    Order(JobOrder),
    /// A newer stream of the same host has taken this one's place; it ends.
    Replaced,
}

/// A host that follows.
#[derive(Debug)]
pub struct Connection {
    serial: u64,
    orders: mpsc::Sender<Down>,
    /// What it said of itself.
    pub hello: Hello,
    /// When it was last heard of.
    pub heard: Timestamp,
    /// How far its clock is ahead of ours; negative: behind.
    pub ahead: SignedDuration,
}

/// Names one control stream, so that the end of an old one does not end its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamId {
    /// Whose stream.
    pub host: HostId,
    serial: u64,
}

/// Another machine follows with the same identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another agent is connected as host {host}: was this server cloned? Enrol one of the two again")]
pub struct Twin {
    /// Which host both claim to be.
    pub host: HostId,
}

/// What a host is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Back this source set up.
    Backup(SourceSetName),
    /// Restore what operators signed.
    Restore {
        /// Of which snapshot.
        snapshot: SnapshotId,
        /// The digest of their terms.
        wanted: Digest,
        /// Where to, as the order names it.
        directory: String,
        /// The grant, with the order.
        grant: Bytes,
        /// The terms.
        terms: Bytes,
    },
}

impl Work {
    /// The source set of a backup.
    pub fn source_set(&self) -> Option<&SourceSetName> {
        match self {
            Self::Backup(source_set) => Some(source_set),
            Self::Restore { .. } => None,
        }
    }

    /// Whether it comes to the same. Two orders of one command do, though each is signed anew.
    fn is_like(&self, other: &Self) -> bool {
        let restored = |work: &Self| match work {
            Self::Backup(_) => None,
            Self::Restore { snapshot, wanted, directory, .. } => Some((*snapshot, *wanted, directory.clone())),
        };
        self.is_same_kind(other) && self.source_set() == other.source_set() && restored(self) == restored(other)
    }

    fn is_same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    fn what(self) -> What {
        match self {
            Self::Backup(source_set) => What::Backup(source_set),
            Self::Restore { grant, terms, .. } => What::Restore { grant, terms },
        }
    }
}

/// One job, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobView {
    /// Its name in orders and reports.
    pub name: JobName,
    /// Whose.
    pub host: HostId,
    /// What is done.
    pub work: Work,
    /// Where it stands.
    pub state: JobState,
    /// How far it is, if it said so.
    pub progress: Option<Progress>,
    /// When it was ordered.
    pub ordered: Timestamp,
    /// When it last began or made progress; when it was ordered, before.
    pub progressed: Timestamp,
    /// Whether an operator cancelled it: a failure that its host then reports is the end of a cancelled job.
    pub cancelled: bool,
}

/// A job that ended, to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedJob {
    /// Which.
    pub name: JobName,
    /// Whose.
    pub host: HostId,
    /// What was done.
    pub work: Work,
    /// How.
    pub ending: Ending,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Board {
    connections: BTreeMap<HostId, Connection>,
    /// Of hosts that were connected since the coordinator was started, and are not now.
    seen: BTreeMap<HostId, Seen>,
    /// By number, so in the order in which they came.
    jobs: BTreeMap<u64, watch::Sender<JobView>>,
    ended: Vec<EndedJob>,
    next_serial: u64,
}

impl Board {
    /// A host has opened a control stream and said hello.
    pub fn connect(
        &mut self,
        host: HostId,
        hello: Hello,
        orders: mpsc::Sender<Down>,
        now: Timestamp,
    ) -> Result<StreamId, Twin> {
        self.check_twin(host, &hello.instance, now)?;
        if let Some(first) = self.connections.get(&host) {
            // A stream that is full will end anyway: its sender is dropped here.
            let _ = first.orders.try_send(Down::Replaced);
            self.lose_jobs(host, now);
        }
        self.seen.remove(&host);
        let serial = self.serial();
        let ahead = ahead(hello.wall_time_ns, now);
        self.connections.insert(host, Connection { serial, orders, hello, heard: now, ahead });
        self.hand_out(host, now);
        Ok(StreamId { host, serial })
    }

    /// Whether the caller may be the host: no other instance follows as it, or that one was not heard of for a minute.
    pub fn check_twin(&self, host: HostId, instance: &[u8; 16], now: Timestamp) -> Result<(), Twin> {
        let other = self.connections.get(&host).filter(|first| first.hello.instance != *instance);
        if other.is_none_or(|first| now.duration_since(first.heard) >= TWIN_WAIT) {
            return Ok(());
        }
        Err(Twin { host })
    }

    /// A control stream has ended.
    pub fn disconnect(&mut self, stream: StreamId, now: Timestamp) {
        let current = self.connections.get(&stream.host).is_some_and(|it| it.serial == stream.serial);
        if current {
            self.remove_connection(stream.host, now);
        }
    }

    /// Ends the control stream of a host, whose agent may connect again.
    pub fn remove_connection(&mut self, host: HostId, now: Timestamp) {
        if let Some(Connection { heard, hello, .. }) = self.connections.remove(&host) {
            self.seen.insert(host, Seen { heard, offer: hello.offer });
            self.lose_jobs(host, now);
        }
    }

    /// Something came up a control stream. A stream that was replaced is not listened to.
    pub fn report(&mut self, stream: StreamId, report: Report, now: Timestamp) {
        let connection = match self.connections.get_mut(&stream.host) {
            Some(connection) if connection.serial == stream.serial => connection,
            _ => return,
        };
        connection.heard = now;
        match report {
            Report::Hello(_) => {}
            Report::Alive(wall_time_ns) => connection.ahead = ahead(wall_time_ns, now),
            Report::Offer(offer) => connection.hello.offer = offer,
            Report::Progress(progress) => {
                if let Some(job) = self.find(stream.host, &progress.job) {
                    job.send_modify(|view| {
                        let progress = Some(progress);
                        view.progressed = if view.progress == progress { view.progressed } else { now };
                        view.progress = progress;
                    });
                }
            }
            Report::Ended(ended) => {
                let name = ended.job.clone();
                self.step(stream.host, &name, JobEvent::Ended(now, ended.into()));
                self.hand_out(stream.host, now);
            }
        }
    }

    /// Orders work, or joins a job that does it; the value follows the job. A backup that has begun may have read already
    /// what the order is about, so another is queued behind it; a restore is the same restore to its end.
    pub fn order(&mut self, host: HostId, work: Work, now: Timestamp) -> watch::Receiver<JobView> {
        let joins = |view: &JobView| match view.state {
            JobState::Queued(attempt) => attempt.began.is_none() || matches!(work, Work::Restore { .. }),
            JobState::Running(_) => matches!(work, Work::Restore { .. }),
            JobState::Done(_) => false,
        };
        if let Some(job) = self.jobs_for(host, &work).find(|job| joins(&job.borrow())) {
            return job.subscribe();
        }
        let number = self.serial();
        let name = job_name(now, number);
        let (state, progress, cancelled) = (JobState::Queued(Attempt::NEW), None, false);
        let view = JobView { name, host, work, state, progress, ordered: now, progressed: now, cancelled };
        let (job, follower) = watch::channel(view);
        self.jobs.insert(number, job);
        self.hand_out(host, now);
        follower
    }

    /// Ends a job: one that the host was not told of at once, another when the host has heard of it. False if there is no
    /// such job, or it is over.
    pub fn cancel(&mut self, name: &JobName, now: Timestamp) -> bool {
        let Some(view) = self.views().find(|view| view.name == *name) else { return false };
        match view.state {
            JobState::Done(_) => return false,
            JobState::Queued(_) => {
                let cancelled = JobResult::cancelled("it was cancelled before it began");
                self.step(view.host, name, JobEvent::Ended(now, cancelled));
            }
            JobState::Running(_) => {
                self.find(view.host, name).into_iter().for_each(|job| job.send_modify(|view| view.cancelled = true));
                let order = JobOrder { job: name.clone(), what: What::Cancel };
                if let Some(connection) = self.connections.get(&view.host) {
                    // A host that is so far behind ends its stream, and finds the job queued again.
                    let _ = connection.orders.try_send(Down::Order(order));
                }
            }
        }
        true
    }

    /// All jobs that are remembered, in the order in which they came.
    pub fn jobs(&self) -> Vec<JobView> {
        self.views().collect()
    }

    /// Follows a job.
    pub fn follow(&self, name: &JobName) -> Option<watch::Receiver<JobView>> {
        self.jobs.values().find(|job| job.borrow().name == *name).map(watch::Sender::subscribe)
    }

    /// The oldest backup of this that is queued or running.
    pub fn open_job(&self, host: HostId, source_set: &SourceSetName) -> Option<&watch::Sender<JobView>> {
        let work = Work::Backup(source_set.clone());
        self.jobs_for(host, &work).find(|job| !matches!(job.borrow().state, JobState::Done(_)))
    }

    fn jobs_for(&self, host: HostId, work: &Work) -> impl Iterator<Item = &watch::Sender<JobView>> {
        self.jobs.values().filter(move |job| {
            let view = job.borrow();
            view.host == host && view.work.is_like(work)
        })
    }

    /// What is kept of a host that is not connected now; none if it was not since the coordinator was started.
    pub fn seen(&self, host: HostId) -> Option<&Seen> {
        self.seen.get(&host)
    }

    /// What a connected host said of itself, and when it was last heard of.
    pub fn connection(&self, host: HostId) -> Option<&Connection> {
        self.connections.get(&host)
    }

    /// The source sets that connected hosts offer and that no job is open for.
    pub fn offers(&self) -> Vec<(HostId, SourceSetName)> {
        let all = self.connections.iter().flat_map(|(host, connection)| {
            connection.hello.offer.source_sets.iter().map(move |source_set| (*host, source_set.clone()))
        });
        all.filter(|(host, source_set)| self.open_job(*host, source_set).is_none()).collect()
    }

    /// Ends the control streams of hosts that may no longer follow (INV-51).
    pub fn drop_connections(&mut self, may_follow: impl Fn(HostId) -> bool, now: Timestamp) {
        let gone: Vec<_> = self.connections.keys().copied().filter(|host| !may_follow(*host)).collect();
        gone.into_iter().for_each(|host| self.remove_connection(host, now));
    }

    /// Time went by: jobs whose host does not return have failed, and old ones are forgotten.
    pub fn tick(&mut self, now: Timestamp) {
        let open: Vec<_> = self.views().filter(|view| !matches!(view.state, JobState::Done(_))).collect();
        for view in open {
            self.step(view.host, &view.name, JobEvent::Waited(now));
        }
        self.jobs.retain(|_, job| match &job.borrow().state {
            JobState::Done(ending) => now.duration_since(ending.ended) < REMEMBERED,
            _ => true,
        });
    }

    /// The jobs that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<EndedJob> {
        std::mem::take(&mut self.ended)
    }

    /// Fails every job that was not done: the coordinator stops.
    pub fn stop(&mut self, now: Timestamp) {
        let open: Vec<_> = self.views().filter(|view| !matches!(view.state, JobState::Done(_))).collect();
        for view in open {
            let result = JobResult::failed("the coordinator was stopped before its end; a backup will be repeated");
            self.step(view.host, &view.name, JobEvent::Ended(now, result));
        }
        self.ended.clear();
        self.connections.clear();
    }

    fn views(&self) -> impl Iterator<Item = JobView> {
        self.jobs.values().map(|job| job.borrow().clone())
    }

    fn find(&self, host: HostId, name: &JobName) -> Option<&watch::Sender<JobView>> {
        self.jobs.values().find(|job| {
            let view = job.borrow();
            view.host == host && view.name == *name
        })
    }

    /// Moves a job on, if the event can happen to it; what an agent says of a job that is over changes nothing.
    fn step(&mut self, host: HostId, name: &JobName, event: JobEvent) {
        let Some(job) = self.find(host, name) else { return };
        let before = job.borrow().clone();
        let event = if before.cancelled { of_cancelled(event) } else { event };
        let begins = if let JobEvent::Taken(at) = event { Some(at) } else { None };
        let Ok(state) = job::next(before.state.clone(), event) else { return };
        let ended = match &state {
            JobState::Done(ending) => Some(ending.clone()),
            _ => None,
        };
        job.send_if_modified(|view| {
            let changed = view.state != state;
            if let (true, Some(at)) = (changed, begins) {
                view.progressed = at;
            }
            view.state = state;
            changed
        });
        if let Some(ending) = ended {
            let JobView { name, host, work, .. } = before;
            self.ended.push(EndedJob { name, host, work, ending });
        }
    }

    fn lose_jobs(&mut self, host: HostId, now: Timestamp) {
        let running = |view: &JobView| view.host == host && matches!(view.state, JobState::Running(_));
        let lost: Vec<_> = self.views().filter(running).map(|view| view.name).collect();
        for name in lost {
            self.step(host, &name, JobEvent::AgentLost(now));
        }
    }

    /// Tells a connected host its next backup and its next restore, where none runs.
    fn hand_out(&mut self, host: HostId, now: Timestamp) {
        let own: Vec<_> = self.views().filter(|view| view.host == host).collect();
        let (running, queued): (Vec<_>, Vec<_>) = own
            .into_iter()
            .filter(|view| !matches!(view.state, JobState::Done(_)))
            .partition(|view| matches!(view.state, JobState::Running(_)));
        let mut busy: Vec<Work> = running.into_iter().map(|view| view.work).collect();
        for JobView { name, work, .. } in queued {
            let Some(connection) = self.connections.get(&host) else { return };
            if busy.iter().any(|other| other.is_same_kind(&work)) {
                continue;
            }
            let order = JobOrder { job: name.clone(), what: work.clone().what() };
            busy.push(work);
            if connection.orders.try_send(Down::Order(order)).is_ok() {
                self.step(host, &name, JobEvent::Taken(now));
            }
        }
    }

    fn serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }
}

/// What happens to a job that an operator cancelled: it failed because of that, or its host was lost and is not told again.
/// A job that was faster than the cancellation ends as it did.
fn of_cancelled(event: JobEvent) -> JobEvent {
    match event {
        JobEvent::AgentLost(at) => {
            JobEvent::Ended(at, JobResult::cancelled("it was cancelled, and its host was lost before it confirmed"))
        }
        JobEvent::Ended(at, result) if result.ended == Ended::Failed => JobEvent::Ended(
            at,
            JobResult { ended: Ended::Cancelled, message: "an operator cancelled it".into(), ..result },
        ),
        event => event,
    }
}

fn ahead(wall_time_ns: i64, now: Timestamp) -> SignedDuration {
    let theirs = Timestamp::from_nanosecond(i128::from(wall_time_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    theirs.duration_since(now)
}

/// Unlike any other job's name, also of those before a restart: the second it was ordered in, and a number.
fn job_name(now: Timestamp, number: u64) -> JobName {
    let text = format!("{:x}-{number}", now.as_second());
    text.parse().expect("hexadecimal digits and a number are a job's name: visible, and under 64 letters")
}

#[cfg(test)]
mod tests;
