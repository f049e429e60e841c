//! One backup upload: what it acquired, what it waits for, what it may commit. What must hold stands in
//! docs/architecture.md.
//!
//! This file holds the table of runs, in memory on purpose: a restart voids them all (INV-26). What a run may rely on
//! is decided in [`decide`]; [`upload`] and [`commit`] do it, and [`copies`] sees to it that precious nodes exist twice.

pub mod commit;
pub(crate) mod copies;
pub mod decide;
mod homes;
pub mod upload;
mod validate;

use self::upload::IncomingNode;
use crate::spool::Ticket;
use lifeboat_format::id::{HostId, RunId, SnapshotNumber};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A run ends after this, whatever it does; a long one commits checkpoints on its way.
pub const RUN_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// A run that is silent for longer is not expected to fill a pack together with others.
const SENDING_PAUSE_MAX: Duration = Duration::from_secs(10);
/// A run that is silent for longer gives its place among the runs at work to others. Its agent may only be walking over
/// unchanged files: when it calls again, it is at work again.
const AT_WORK_PAUSE_MAX: Duration = Duration::from_secs(60);
/// Of so many runs that ended we remember why, to say so to a late caller.
const ENDED_MAX: usize = 1024;

/// An active run.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its name.
    pub id: RunId,
    /// Whose it is.
    pub host: HostId,
    /// What it backs up.
    pub source_set: String,
    /// Comes with every call: says that the caller is the one who began this run.
    pub fence: u64,
    /// The epoch of clean-up in which it began.
    pub start_epoch: u64,
    /// When it began, by the monotonic clock.
    pub began: Duration,
    /// When its agent last called, by the monotonic clock; none if its connection was lost since then.
    pub heard: Option<Duration>,
    /// Open packs that must be objects before it may commit.
    pub waits: BTreeSet<Ticket>,
    /// Snapshots that must not be purged while it runs: homes of nodes that it relies on.
    pub pins: BTreeSet<SnapshotNumber>,
    /// The last leaf that it sent, if it is small: it may be the root, of which a second copy is written (INV-79).
    pub last_leaf: Option<IncomingNode>,
    /// How often it tried to commit.
    pub attempts: u32,
    /// What it is doing with its commit.
    pub phase: Phase,
}

/// How far the commit of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not begun, or refused.
    Sending,
    /// A commit checks what was sent. The run can still end otherwise.
    Checking,
    /// The manifest and the batch are being put. Nothing else may end the run until that is known.
    Putting,
}

impl Run {
    fn is_heard_within(&self, pause: Duration, now: Duration) -> bool {
        self.heard.is_some_and(|heard| now.saturating_sub(heard) <= pause)
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its snapshot stands.
    Committed,
    /// Its agent said so.
    Aborted,
    /// The same host began another run of this source set.
    Superseded,
    /// It was older than [`RUN_AGE_MAX`].
    Expired,
    /// A pack that it waited for could not be written (INV-6): why not.
    PutFailed(Arc<str>),
    /// The index was made anew, and what the run relied on went with it.
    IndexRebuilt,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committed => f.write_str("it has committed"),
            Self::Aborted => f.write_str("it was aborted"),
            Self::Superseded => f.write_str("the same host began another run of this source set"),
            Self::Expired => f.write_str("it was older than seven days"),
            Self::PutFailed(why) => write!(f, "what it sent could not be written to the repository: {why}"),
            Self::IndexRebuilt => f.write_str("the coordinator made its index anew"),
        }
    }
}

/// The run is not one that may do this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// Never heard of, or forgotten: the coordinator has restarted.
    #[error("run {run} is not known here; begin a new one")]
    Unknown {
        /// The run.
        run: RunId,
    },
    /// It has ended.
    #[error("run {run} is over ({ending}); begin a new one")]
    Ended {
        /// The run.
        run: RunId,
        /// Why.
        ending: Ending,
    },
    /// The fence is not that of this run, or the host is another one.
    #[error("run {run} belongs to somebody else; begin a new one")]
    NotYours {
        /// The run.
        run: RunId,
    },
    /// A commit of it is on its way.
    #[error("run {run} is committing; wait for the answer")]
    Committing {
        /// The run.
        run: RunId,
    },
}

/// How a caller names its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunRef {
    /// The run.
    pub run: RunId,
    /// Its fence.
    pub fence: u64,
    /// The host that calls, as its certificate says.
    pub host: HostId,
}

/// The active runs.
#[derive(Debug, Default)]
pub struct Runs {
    active: HashMap<RunId, Run>,
    ended: VecDeque<(RunId, Ending)>,
    last_fence: u64,
}

impl Runs {
    /// A new run. One of the same host and source set must have been ended before: see [`Runs::of`].
    pub fn begin(&mut self, id: RunId, host: HostId, source_set: &str, start_epoch: u64, now: Duration) -> &Run {
        self.last_fence += 1;
        let run = Run {
            id,
            host,
            source_set: source_set.to_owned(),
            fence: self.last_fence,
            start_epoch,
            began: now,
            heard: Some(now),
            waits: BTreeSet::new(),
            pins: BTreeSet::new(),
            last_leaf: None,
            attempts: 0,
            phase: Phase::Sending,
        };
        self.active.entry(id).insert_entry(run).into_mut()
    }

    /// The active run of this host and source set.
    pub fn of(&self, host: HostId, source_set: &str) -> Option<&Run> {
        self.active.values().find(|run| run.host == host && run.source_set == source_set)
    }

    /// The run, if it is active and the caller's (INV-25).
    pub fn get(&mut self, caller: RunRef) -> Result<&mut Run, RunError> {
        let run = caller.run;
        match self.active.get_mut(&run) {
            Some(found) if found.fence == caller.fence && found.host == caller.host => Ok(found),
            Some(_) => Err(RunError::NotYours { run }),
            None => match self.ended.iter().find(|(id, _)| *id == run) {
                Some((_, ending)) => Err(RunError::Ended { run, ending: ending.clone() }),
                None => Err(RunError::Unknown { run }),
            },
        }
    }

    /// [`Runs::get`] for a call of the run's agent, which shows that the agent is at work.
    pub fn call(&mut self, caller: RunRef, now: Duration) -> Result<&mut Run, RunError> {
        let run = self.get(caller)?;
        run.heard = Some(now);
        Ok(run)
    }

    /// The connection of the run's agent was lost: nobody waits for it until it calls again.
    pub fn lost_connection(&mut self, caller: RunRef) {
        if let Ok(run) = self.get(caller) {
            run.heard = None;
        }
    }

    /// Ends a run; its pins and waits end with it. Says whether it was active.
    pub fn end(&mut self, id: &RunId, ending: Ending) -> bool {
        if self.active.remove(id).is_none() {
            return false;
        }
        self.ended.truncate(ENDED_MAX - 1);
        self.ended.push_front((*id, ending));
        true
    }

    /// The pack is an object: nobody waits for it any more.
    pub fn release(&mut self, ticket: Ticket) {
        for run in self.active.values_mut() {
            run.waits.remove(&ticket);
        }
    }

    /// The pack was thrown away, and why: who waited for it is void. Answers which runs ended.
    pub fn void_waiting_for(&mut self, ticket: Ticket, why: &Arc<str>) -> Vec<RunId> {
        let waiting = self.active.values().filter(|run| run.waits.contains(&ticket));
        let void: Vec<RunId> = waiting.map(|run| run.id).collect();
        void.iter().for_each(|run| {
            self.end(run, Ending::PutFailed(Arc::clone(why)));
        });
        void
    }

    /// The runs that are older than they may be; none that is putting its snapshot.
    pub fn expired(&self, now: Duration) -> Vec<RunId> {
        let old = |run: &&Run| now.saturating_sub(run.began) >= RUN_AGE_MAX && run.phase != Phase::Putting;
        self.active.values().filter(old).map(|run| run.id).collect()
    }

    /// Whether any run is still sending, so that a commit may hope to share its pack. A run whose agent was killed or
    /// cut off is not.
    pub fn any_sending(&self, now: Duration) -> bool {
        self.active.values().any(|run| run.phase == Phase::Sending && run.is_heard_within(SENDING_PAUSE_MAX, now))
    }

    /// How many runs are at work: each may have some MiB on its way.
    pub fn at_work(&self, now: Duration) -> usize {
        self.active.values().filter(|run| run.is_heard_within(AT_WORK_PAUSE_MAX, now)).count()
    }

    /// Whether an active run relies on this snapshot (G7).
    pub fn is_pinned(&self, snapshot: SnapshotNumber) -> bool {
        self.active.values().any(|run| run.pins.contains(&snapshot))
    }

    /// The active runs.
    pub fn active(&self) -> impl Iterator<Item = &Run> {
        self.active.values()
    }

    /// The least epoch in which an active run began; clean-up deletes nothing that it could rely on. `None`: no run.
    pub fn floor(&self) -> Option<u64> {
        self.active.values().map(|run| run.start_epoch).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> RunId {
        RunId::from_bytes([byte; 16])
    }

    fn caller(run: &Run) -> RunRef {
        RunRef { run: run.id, fence: run.fence, host: run.host }
    }

    #[test]
    fn inv_25_only_the_one_who_began_an_active_run_may_use_it_and_a_late_caller_learns_why() {
        let mut runs = Runs::default();
        let host = HostId::new(1);
        let run = runs.begin(id(1), host, "system", 4, Duration::ZERO).clone();
        assert!(runs.get(caller(&run)).is_ok());
        let not_yours = Err(RunError::NotYours { run: run.id });
        assert_eq!(runs.get(RunRef { fence: run.fence + 1, ..caller(&run) }).map(|_| ()), not_yours);
        assert_eq!(runs.get(RunRef { host: HostId::new(2), ..caller(&run) }).map(|_| ()), not_yours);
        assert!(runs.end(&run.id, Ending::Aborted) && !runs.end(&run.id, Ending::Committed));
        let ended = Err(RunError::Ended { run: run.id, ending: Ending::Aborted });
        assert_eq!(runs.get(caller(&run)).map(|_| ()), ended);
        let unknown = Err(RunError::Unknown { run: id(9) });
        assert_eq!(runs.get(RunRef { run: id(9), ..caller(&run) }).map(|_| ()), unknown);
        let again = runs.begin(id(2), host, "system", 4, Duration::ZERO).fence;
        assert_ne!(again, run.fence);
    }

    #[test]
    fn a_run_expires_after_seven_days_but_not_while_its_snapshot_is_put() {
        let mut runs = Runs::default();
        let run = runs.begin(id(1), HostId::new(1), "system", 1, Duration::ZERO).clone();
        assert_eq!(runs.expired(RUN_AGE_MAX - Duration::from_secs(1)), []);
        assert_eq!(runs.expired(RUN_AGE_MAX), [run.id]);
        runs.get(caller(&run)).unwrap().phase = Phase::Putting;
        assert_eq!(runs.expired(RUN_AGE_MAX), []);
    }

    #[test]
    fn the_floor_is_the_least_epoch_in_which_an_active_run_began() {
        let mut runs = Runs::default();
        assert_eq!(runs.floor(), None);
        runs.begin(id(1), HostId::new(1), "system", 7, Duration::ZERO);
        runs.begin(id(2), HostId::new(2), "system", 5, Duration::ZERO);
        assert_eq!(runs.floor(), Some(5));
        runs.end(&id(2), Ending::Aborted);
        assert_eq!(runs.floor(), Some(7));
    }

    #[test]
    fn a_run_whose_agent_is_gone_delays_no_commit_and_keeps_no_place() {
        let seconds = Duration::from_secs;
        let mut runs = Runs::default();
        let lost = caller(runs.begin(id(1), HostId::new(1), "system", 1, seconds(0)));
        let silent = caller(runs.begin(id(2), HostId::new(2), "system", 1, seconds(0)));
        assert_eq!((runs.any_sending(seconds(1)), runs.at_work(seconds(1))), (true, 2));
        runs.lost_connection(lost);
        assert_eq!((runs.any_sending(seconds(10)), runs.at_work(seconds(10))), (true, 1));
        assert_eq!((runs.any_sending(seconds(11)), runs.at_work(seconds(11))), (false, 1));
        assert_eq!((runs.any_sending(seconds(61)), runs.at_work(seconds(61))), (false, 0));
        runs.call(silent, seconds(62)).unwrap();
        runs.call(lost, seconds(62)).unwrap();
        assert_eq!((runs.any_sending(seconds(63)), runs.at_work(seconds(63))), (true, 2), "both are back");
    }
}
