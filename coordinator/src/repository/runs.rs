//! How runs begin and end, other than by a commit.

use super::Coordinator;
use super::facts::FactError;
use crate::index::IndexError;
use crate::run::{Ending, Phase, RunError, RunRef};
use crate::shared::State;
use lifeboat_format::id::{HostId, RunId, SnapshotId};
use lifeboat_format::journal::SignedHead;
use lifeboat_format::journal::event::HostState;
use lifeboat_format::manifest::is_source_set_name;
use std::sync::MutexGuard;

/// A run has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// Its name.
    pub run: RunId,
    /// Comes with every further call.
    pub fence: u64,
    /// The sequence that the next manifest must carry, from 1.
    pub next_sequence: u64,
    /// The manifest before it.
    pub previous: Option<SnapshotId>,
    /// The journal's last head.
    pub head: SignedHead,
}

/// Why a run could not begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// Not a name.
    #[error("{name:?} cannot name a source set; use 1 to 64 of a-z, 0-9, '-', '_'")]
    SourceSet {
        /// What was given.
        name: String,
    },
    /// The host was never enrolled, or was retired or revoked.
    #[error("host {host} may not back up; ask who runs this repository")]
    HostNotActive {
        /// The host.
        host: HostId,
    },
    /// As many runs as there may be are at work.
    #[error("the coordinator is receiving {runs} backups, and takes no more at once; this one has to wait")]
    Busy {
        /// How many are at work.
        runs: usize,
    },
    /// The journal stands still.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Coordinator {
    /// Starts a run, and ends an earlier one of the same host and source set: its fence is over.
    pub fn begin(&self, host: HostId, source_set: &str) -> Result<Begun, BeginError> {
        if !is_source_set_name(source_set) {
            return Err(BeginError::SourceSet { name: source_set.to_owned() });
        }
        self.expire_runs()?;
        let is_damaged = {
            let state = self.shared.lock();
            state.distrusted.is_some() || !state.damaged.is_empty()
        };
        if is_damaged {
            self.recheck_unreadable()?;
            self.survey_if_needed()?;
        }
        let mut state = self.settled_of(host, source_set)?;
        let head = state.written.head.ok_or(FactError::NoHead)?;
        if !state.catalog.host(host).is_some_and(|host| host.state == HostState::Active) {
            return Err(BeginError::HostNotActive { host });
        }
        let now = self.shared.clock.monotonic();
        let earlier = state.runs.of(host, source_set).map(|run| run.id);
        let runs = state.runs.at_work(now);
        if earlier.is_none() && runs >= self.config.runs_max {
            return Err(BeginError::Busy { runs });
        }
        if let Some(earlier) = earlier {
            state.runs.end(&earlier, Ending::Superseded);
        }
        let start_epoch = self.shared.index.epoch()?;
        let mut name = [0; RunId::BYTES];
        self.shared.random.fill(&mut name);
        let run = state.runs.begin(RunId::from_bytes(name), host, source_set, start_epoch, now);
        let (run, fence) = (run.id, run.fence);
        let (next_sequence, previous) = state.next_of(host, source_set);
        drop(state);
        self.shared.changed.notify_all();
        earlier.map_or(Ok(()), |earlier| self.shared.index.forget_run(&earlier))?;
        Ok(Begun { run, fence, next_sequence, previous, head })
    }

    /// The state in which it is known what became of a snapshot of this source set that was being put: that decides
    /// what the next manifest carries.
    fn settled_of(&self, host: HostId, source_set: &str) -> Result<MutexGuard<'_, State>, FactError> {
        loop {
            self.settle()?;
            let mut state = self.shared.lock();
            while state.runs.of(host, source_set).is_some_and(|run| run.phase == Phase::Putting) {
                state = self.shared.wait(state, None);
            }
            if !state.written.is_unsettled {
                return Ok(state);
            }
        }
    }

    /// Ends a run without a snapshot. What it sent stays for the next one to find. Aborting twice is no error.
    pub fn abort(&self, caller: RunRef) -> Result<(), BeginError> {
        let mut state = self.shared.lock();
        let abortable = state.runs.get(caller).is_ok_and(|run| run.phase != Phase::Putting);
        if abortable {
            state.runs.end(&caller.run, Ending::Aborted);
            drop(state);
            self.shared.changed.notify_all();
            self.shared.index.forget_run(&caller.run)?;
        }
        Ok(())
    }

    /// The connection on which a run sent was lost. The run stays: its agent may come back to it.
    pub fn lost_connection(&self, caller: RunRef) {
        self.shared.lock().runs.lost_connection(caller);
        self.shared.changed.notify_all();
    }

    /// Ends the runs that are older than they may be.
    pub fn expire_runs(&self) -> Result<(), IndexError> {
        let mut state = self.shared.lock();
        let old = state.runs.expired(self.shared.clock.monotonic());
        for run in &old {
            state.runs.end(run, Ending::Expired);
        }
        drop(state);
        self.shared.changed.notify_all();
        old.iter().try_for_each(|run| self.shared.index.forget_run(run))
    }

    /// Whether the run is active and the caller's.
    pub fn check_run(&self, caller: RunRef) -> Result<(), RunError> {
        self.shared.lock().runs.get(caller).map(|_| ())
    }

    /// Names the active run of a source set, if there is one.
    pub fn active_run(&self, host: HostId, source_set: &str) -> Option<RunId> {
        self.shared.lock().runs.of(host, source_set).map(|run| run.id)
    }
}
