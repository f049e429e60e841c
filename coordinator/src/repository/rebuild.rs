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
        // Who holds the journal lets no run begin and no commit be put.
        let mut journal = self.journal();
        let mut state = self.shared.lock();
        let active: Vec<RunId> = state.runs.active().filter(is_idle).map(|run| run.id).collect();
        for run in active {
            state.runs.end(&run, Ending::IndexRebuilt);
        }
        // Rows that are on their way into the index name packs by numbers that are about to change.
        while !state.open.unfinished().is_empty() {
            let State { open, .. } = &mut *state;
            for ticket in open.unfinished() {
                open.close(ticket).map_or(Ok(()), |holds| self.spool().close(holds, ticket))?;
            }
            state = self.shared.wait(state, None);
        }
        drop(state);
        self.append_with_facts(&mut journal, Vec::new())?;
        let mut state = self.shared.lock();
        self.shared.index.clear()?;
        state.distrust_all_homes();
        let repository = Repository {
            id: self.repository(),
            store: self.shared.store.as_ref(),
            catalog: &state.catalog,
            batches: journal.len(),
            log_keys: journal.log_keys(),
        };
        let caught_up = self.shared.index.catch_up(&repository, report)?;
        drop((state, journal));
        self.recheck_unreadable()?;
        self.survey_if_needed()?;
        Ok(caught_up)
    }
}

fn is_idle(run: &&Run) -> bool {
    run.phase != Phase::Putting
}
