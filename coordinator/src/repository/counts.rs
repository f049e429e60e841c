//! What lists show of snapshots: out of the index, and out of a manifest only where the index does not have it yet.

use super::Coordinator;
use crate::index::Counted;
use crate::store::{ByteRange, ObjectName};
use lifeboat_format::id::{SnapshotId, SnapshotNumber};
use lifeboat_format::manifest::Manifest;

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
        let bytes = self.shared.store.get(&ObjectName::manifest(*id), ByteRange::Whole).ok()?;
        let manifest = Manifest::parse(&bytes).ok().filter(|manifest| manifest.id() == *id)?;
        Some(Counted::from(manifest.clear()))
    }
}
