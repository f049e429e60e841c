//! A repository whose journal is damaged: what is intact becomes a catalog, to list and restore.
//!
//! Snapshots whose batch is gone are found by their manifests, which the hosts signed. A manifest is put after its packs,
//! so such a snapshot can be restored like any other.

use super::open::{Config, OpenError};
use crate::catalog::Catalog;
use crate::journal::replay::Opened;
use crate::journal::{Journal, JournalError};
use crate::objects::read_manifest;
use crate::store::twice::list_either;
use crate::store::{ObjectKind, ObjectName, Store};
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::SnapshotCommitted;
use lifeboat_format::manifest::{Clear, Manifest};
use lifeboat_format::sign::SigningKey;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Reads what is intact.
pub(super) fn open(config: &Config, store: Arc<dyn Store>, log_key: SigningKey) -> Result<Opened, OpenError> {
    let (mut catalog, mut unused) = (Catalog::new(), Vec::new());
    let opened = Journal::open_despite_gaps(store.clone(), config.repository, log_key, |batch| {
        unused.push(catalog.applied() + 1..batch.signed_head().head().first_sequence);
        for record in batch.records() {
            if let Err(error) = catalog.apply_despite_gaps(record) {
                tracing::warn!(%error, "a record is passed over, since batches before it are missing");
            }
        }
    });
    let journal = opened?;
    unused.push(catalog.applied() + 1..journal.next_sequence());
    catalog.skip_to(journal.next_sequence() - 1);
    add_unrecorded(store.as_ref(), &mut catalog, &unused)?;
    Ok(Opened { journal, catalog, checkpoint: 0 })
}

/// Takes in the snapshots that have an intact manifest of a known host, and no record.
fn add_unrecorded(store: &dyn Store, catalog: &mut Catalog, unused: &[Range<u64>]) -> Result<(), JournalError> {
    let names = list_either(store, ObjectKind::Manifest)?;
    let ids = names.iter().filter_map(ObjectName::as_manifest).filter(|id| catalog.snapshot_by_id(id).is_none());
    let mut found: Vec<Manifest> = ids.filter_map(|id| signed_manifest(store, catalog, id)).collect();
    found.sort_by_key(|manifest| manifest.clear().sequence);
    for manifest in in_order(found) {
        let (clear, id) = (manifest.clear(), manifest.id());
        let Some(number) = number_for(clear, catalog, unused) else {
            tracing::warn!(snapshot = %id, "a snapshot that no intact batch names is passed over: it has no number");
            continue;
        };
        let committed = SnapshotCommitted::of(id, clear, None);
        match catalog.add_unrecorded(number, &committed, clear.ended_ns) {
            Ok(()) => {
                tracing::warn!(snapshot = %id, "no intact batch names this snapshot; it was found by its manifest")
            }
            Err(why) => tracing::warn!(snapshot = %id, why, "a snapshot is passed over"),
        }
    }
    Ok(())
}

/// Manifests in the order of their end, which those of one source set must have in the order of their sequence.
fn in_order(by_sequence: Vec<Manifest>) -> Vec<Manifest> {
    let mut ends: HashMap<(HostId, String), i64> = HashMap::new();
    let mut ordered: Vec<(i64, Manifest)> = Vec::new();
    for manifest in by_sequence {
        let clear = manifest.clear();
        let end = ends.entry((clear.host, clear.source_set.clone())).or_insert(i64::MIN);
        *end = clear.ended_ns.max(*end);
        ordered.push((*end, manifest));
    }
    ordered.sort_by_key(|(end, _)| *end);
    ordered.into_iter().map(|(_, manifest)| manifest).collect()
}

/// An intact manifest that its host signed, with the key that the host has now.
fn signed_manifest(store: &dyn Store, catalog: &Catalog, id: SnapshotId) -> Option<Manifest> {
    let manifest = read_manifest(store, id).ok()?;
    let host = catalog.host(manifest.clear().host)?;
    manifest.verify(&host.enrolled.signing_key).ok()?;
    Some(manifest)
}

/// A number that only a missing record can have had, so that the snapshots of one source set stay in order.
fn number_for(clear: &Clear, catalog: &Catalog, unused: &[Range<u64>]) -> Option<u64> {
    let (mut after, mut before) = (0, u64::MAX);
    for (number, other) in catalog.snapshots() {
        if (other.host, &other.source_set) == (clear.host, &clear.source_set) {
            match other.sequence < clear.sequence {
                true => after = after.max(number.get()),
                false => before = before.min(number.get()),
            }
        }
    }
    let mut fitting = unused.iter().flat_map(|range| range.start.max(after + 1)..range.end.min(before));
    fitting.find(|number| catalog.snapshot(SnapshotNumber::new(*number)).is_none())
}
