//! Step 5 of a commit: the nodes that the new snapshot reaches get it as their home, once it is a fact and not before
//! (INV-37).
//!
//! A crash in between leaves nodes without a home: they are sent again.

use super::commit::CommitError;
use crate::index::{Changes, SentRow};
use crate::repository::Coordinator;
use crate::shared::State;
use lifeboat_format::id::{NodeId, RunId, SnapshotNumber};

const BATCH: usize = 512;

impl Coordinator {
    /// Sets homes for the nodes of this run that this attempt found good, then forgets what the run sent. What was
    /// witnessed below them counts only if no loss was found since they were looked at.
    pub(super) fn settle_in(
        &self,
        run: RunId,
        attempt: u32,
        snapshot: SnapshotNumber,
        losses_before: u64,
    ) -> Result<(), CommitError> {
        let index = &self.shared.index;
        let mut after = None;
        loop {
            let sent = index.sent_after(&run, after, BATCH)?;
            let Some((last, _)) = sent.last() else { break };
            after = Some(*last);
            let reached: Vec<(NodeId, SentRow)> =
                sent.into_iter().filter(|(_, sent)| sent.validated == attempt).collect();
            let state = self.shared.lock();
            let trust_witnesses = state.losses_found == losses_before;
            self.set_homes(&state, &reached, snapshot, trust_witnesses)?;
        }
        index.forget_run(&run)?;
        let mut state = self.shared.lock();
        state.settling.remove(&snapshot);
        // A start gives homes to the nodes of later snapshots.
        let settled = match state.settling.first() {
            Some(first) => SnapshotNumber::new(first.get() - 1),
            None => snapshot.max(index.anchored()?),
        };
        Ok(index.set_anchored(settled)?)
    }

    fn set_homes(
        &self,
        state: &State,
        reached: &[(NodeId, SentRow)],
        snapshot: SnapshotNumber,
        trust_witnesses: bool,
    ) -> Result<(), CommitError> {
        let index = &self.shared.index;
        let ids: Vec<NodeId> = reached.iter().map(|(id, _)| *id).collect();
        let mut changes = Changes::default();
        for ((id, sent), row) in reached.iter().zip(index.nodes(&ids)?) {
            let Some(mut row) = row else { continue };
            let shared = sent.witnessed_below && trust_witnesses;
            let has_home = row.home.and_then(|home| state.home(home)).is_some_and(|home| home.is_living());
            match has_home {
                true if row.shared || !shared => continue,
                true => row.shared = true,
                false => (row.home, row.shared) = (Some(snapshot), shared),
            }
            index.set_node(&mut changes, id, &row)?;
        }
        Ok(index.write(changes)?)
    }
}
