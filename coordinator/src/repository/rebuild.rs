//! The index thrown away and made again while the coordinator stands.

use super::{Coordinator, OpenError};
use crate::index::rebuild::{CaughtUp, Progress, Repository};
use crate::run::{Ending, Phase, Run};
use crate::shared::State;
use lifeboat_format::id::RunId;

impl Coordinator {
    /// Makes the index anew from footers and journal. Active runs end, and everything else waits: on a large
    /// repository for minutes. If it fails, the next start goes on with it.
    pub fn rebuild_index(&self, report: &mut dyn FnMut(Progress)) -> Result<CaughtUp, OpenError> {
        self.settle()?;
        let mut journal = self.journal();
        self.append_with_facts(&mut journal, Vec::new())?;
        let mut state = self.shared.lock();
        // Rows that are on their way into the index name packs by numbers that are about to change.
        while self.end_idle_runs(&mut state)? || !state.not_journalled.is_empty() {
            if state.open.unfinished().is_empty() {
                drop(state);
                self.append_with_facts(&mut journal, Vec::new())?;
                state = self.shared.lock();
            } else {
                state = self.shared.wait(state, None);
            }
        }
        self.shared.index.clear()?;
        state.distrust_all_homes();
        let repository = Repository {
            id: self.repository(),
            store: self.shared.store.as_ref(),
            journal: &journal,
            catalog: &state.catalog,
            despite_damage: self.config.despite_damage,
            watch: &self.config.watch,
        };
        let caught_up = self.shared.index.catch_up(&repository, report)?;
        drop((state, journal));
        self.recheck_unreadable()?;
        self.survey_if_needed()?;
        Ok(caught_up)
    }

    /// Ends the runs that are not being put, and has the open packs made objects. Whether there were any.
    fn end_idle_runs(&self, state: &mut State) -> Result<bool, OpenError> {
        let active: Vec<RunId> = state.runs.active().filter(is_idle).map(|run| run.id).collect();
        for run in &active {
            state.runs.end(run, Ending::IndexRebuilt);
        }
        let unfinished = state.open.unfinished();
        for ticket in &unfinished {
            state.open.close(*ticket).map_or(Ok(()), |holds| self.spool().close(holds, *ticket))?;
        }
        Ok(!active.is_empty() || !unfinished.is_empty())
    }
}

fn is_idle(run: &&Run) -> bool {
    run.phase != Phase::Putting
}
