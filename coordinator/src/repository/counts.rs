//! What lists show of snapshots: out of the index, and out of a manifest only where the index does not have it yet.

use super::Coordinator;
use crate::index::Counted;
use crate::objects::read_manifest;
use lifeboat_format::id::{SnapshotId, SnapshotNumber};

impl Coordinator {
    /// The counts of snapshots, in their order; none where the manifest cannot be read.
    pub fn counts(&self, snapshots: &[(SnapshotNumber, SnapshotId)]) -> Vec<Option<Counted>> {
        let index = &self.shared.index;
        let numbers: Vec<SnapshotNumber> = snapshots.iter().map(|(number, _)| *number).collect();
        // An index that fails costs the list time: what it shows is in the repository.
        let mut counts = index.counts(&numbers).unwrap_or_else(|_| vec![None; numbers.len()]);
        let mut read = Vec::new();
        for ((number, id), counted) in snapshots.iter().zip(&mut counts).filter(|(_, counted)| counted.is_none()) {
            *counted = self.counted(id);
            read.extend(counted.map(|counted| (*number, counted)));
        }
        if !read.is_empty()
            && let Err(error) = index.set_counts(&read)
        {
            tracing::warn!(%error, "the counts of snapshots cannot be kept in the index; the next list reads manifests");
        }
        counts
    }

    fn counted(&self, id: &SnapshotId) -> Option<Counted> {
        let manifest = read_manifest(self.shared.store.as_ref(), *id).ok()?;
        Some(Counted::from(manifest.clear()))
    }
}
