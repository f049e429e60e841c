//! Hosts and snapshots, as operators see them: the catalog, what stands in manifests in clear, and who is connected.

use super::Context;
use super::failure;
use crate::catalog::{Catalog, Host, Snapshot};
use crate::dispatch::Past;
use crate::index::Harm;
use crate::store::{ByteRange, ObjectName};
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::JobOutcome;
use lifeboat_format::manifest::{Clear, Manifest, Outcome};
use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Clear parts of manifests that are kept in memory, some hundred bytes each.
const KEPT_MAX: usize = 100_000;

/// The clear parts of manifests, each read once.
#[derive(Debug, Default)]
pub struct Manifests(Mutex<HashMap<SnapshotId, Arc<Clear>>>);

impl Context {
    /// The manifest of a snapshot, read and checked against its name.
    pub(super) fn manifest(&self, id: &SnapshotId) -> Result<Manifest, Failure> {
        let bytes = self.object(&ObjectName::manifest(*id))?;
        let manifest = Manifest::parse(&bytes).map_err(|error| Failure::of(ErrorClass::Damaged, &error))?;
        if manifest.id() != *id {
            return Err(Failure::new(ErrorClass::Damaged, format!("manifest {id} does not match its name")));
        }
        Ok(manifest)
    }

    /// A small object of the repository.
    pub(super) fn object(&self, name: &ObjectName) -> Result<bytes::Bytes, Failure> {
        self.coordinator.shared.store.get(name, ByteRange::Whole).map_err(|error| failure::of_store(&error))
    }

    fn clear(&self, id: &SnapshotId) -> Option<Arc<Clear>> {
        let lock = || self.manifests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(clear) = lock().get(id) {
            return Some(clear.clone());
        }
        let clear = Arc::new(self.manifest(id).ok()?.clear().clone());
        let mut kept = lock();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(*id, clear.clone());
        Some(clear)
    }

    /// Hosts of this name or number; all if it is empty. By name.
    pub(super) fn list_hosts(&self, name: &str, past: &dyn Past) -> Vec<v1::Host> {
        let mut rows = self.catalog(|catalog| {
            let rows = catalog.hosts().filter(|(number, row)| name.is_empty() || is_called(*number, row, name));
            rows.map(|(number, row)| (number, row.clone())).collect::<Vec<_>>()
        });
        rows.sort_by(|(_, a), (_, b)| a.enrolled.name.cmp(&b.enrolled.name));
        rows.into_iter().map(|(number, row)| self.host_row(number, &row, past)).collect()
    }

    fn host_row(&self, number: HostId, row: &Host, past: &dyn Past) -> v1::Host {
        let connection = self.dispatch.connection(number);
        let mut names: BTreeSet<String> = self.catalog(|catalog| {
            let begun = catalog.source_sets(number).map(|(name, _)| name.to_owned());
            // Of a set that the policy no longer has, and that never had a whole snapshot, there is nothing to say.
            begun.filter(|name| connection.is_none() || is_whole_once(catalog, number, name)).collect()
        });
        let offered = connection.iter().flat_map(|(hello, _)| &hello.source_sets);
        names.extend(offered.map(ToString::to_string));
        v1::Host {
            number: number.get(),
            name: row.enrolled.name.clone(),
            site: row.enrolled.site.clone(),
            enrolled_ns: row.enrolled_ns,
            connected: connection.is_some(),
            last_seen_ns: connection.as_ref().map_or(0, |(_, heard)| nanoseconds(*heard)),
            agent_version: connection.map(|(hello, _)| hello.agent_version).unwrap_or_default(),
            source_sets: names.into_iter().map(|name| self.set_row(number, name, past)).collect(),
            fingerprint: row.enrolled.signing_key.fingerprint().to_string(),
            certificate_ends_ns: row.certificate_ends_ns.unwrap_or(0),
            box_recipient: row.enrolled.box_recipient.to_string(),
            clock_ahead_seconds: self.dispatch.clock_ahead(number).map_or(0, |ahead| ahead.as_secs()),
        }
    }

    fn set_row(&self, host: HostId, name: String, past: &dyn Past) -> v1::HostSourceSet {
        let (set, last) = self.catalog(|catalog| {
            let set = catalog.source_set(host, &name).cloned().unwrap_or_default();
            let last = set.last.as_ref().and_then(|(_, _, number)| Some((*number, catalog.snapshot(*number)?.clone())));
            (set, last)
        });
        let (last_attempt_ns, last_outcome, last_message) = match (set.last_failure(), &last) {
            (Some(job), _) => (job.ended_ns, v1::Outcome::Failed, job.message.clone()),
            (None, Some((_, snapshot))) => {
                let remark = set.last_remark();
                // All was read, and yet not all went well: a hook after the backup failed.
                let has_failure = remark.is_some_and(|job| job.outcome == JobOutcome::Committed(Outcome::Gaps));
                let outcome = match outcome(snapshot) {
                    v1::Outcome::Complete if has_failure => v1::Outcome::Gaps,
                    outcome => outcome,
                };
                (snapshot.committed_ns, outcome, remark.map(|job| job.message.clone()).unwrap_or_default())
            }
            (None, None) => Default::default(),
        };
        let known: Option<SourceSetName> = name.parse().ok();
        let next = known.as_ref().and_then(|name| self.dispatch.next_due(past, host, name));
        let job = known.as_ref().and_then(|name| self.dispatch.open_job(host, name));
        v1::HostSourceSet {
            name,
            last: last.map(|(number, snapshot)| self.snapshot_info(number, &snapshot)),
            last_outcome: last_outcome.into(),
            last_message,
            last_attempt_ns,
            next_due_ns: next.map_or(0, nanoseconds),
            running_job: job.map(|view| view.name.to_string()).unwrap_or_default(),
            snapshot_count: set.committed,
        }
    }

    /// Snapshots of a host and source set, each all if empty; newest first.
    pub(super) fn list_snapshots(&self, host: &str, source_set: &str) -> Result<Vec<v1::SnapshotInfo>, Failure> {
        let only = if host.is_empty() { None } else { Some(self.find_host(host)?) };
        let rows = self.catalog(|catalog| {
            let rows = catalog.snapshots().rev().filter(|(_, snapshot)| {
                only.is_none_or(|host| snapshot.host == host)
                    && (source_set.is_empty() || snapshot.source_set == source_set)
            });
            rows.map(|(number, snapshot)| (number, snapshot.clone())).collect::<Vec<_>>()
        });
        Ok(rows.into_iter().map(|(number, snapshot)| self.snapshot_info(number, &snapshot)).collect())
    }

    /// What is known of a snapshot. Where its manifest cannot be read, its counts are 0.
    pub(super) fn snapshot_info(&self, number: SnapshotNumber, snapshot: &Snapshot) -> v1::SnapshotInfo {
        let host_name = self.catalog(|catalog| catalog.host(snapshot.host).map(|row| row.enrolled.name.clone()));
        let harm = match self.coordinator.harm(number) {
            None => v1::Harm::Unspecified,
            Some(Harm::Unreadable) => v1::Harm::Unreadable,
            Some(Harm::Lost) => v1::Harm::Lost,
        };
        let clear = self.clear(&snapshot.id);
        let counts = clear.as_ref().map(|clear| clear.counts);
        v1::SnapshotInfo {
            snapshot: bytes::Bytes::copy_from_slice(snapshot.id.as_bytes()),
            number: number.get(),
            host: snapshot.host.get(),
            host_name: host_name.unwrap_or_default(),
            source_set: snapshot.source_set.clone(),
            sequence: snapshot.sequence,
            started_ns: clear.map_or(0, |clear| clear.started_ns),
            committed_ns: snapshot.committed_ns,
            outcome: outcome(snapshot).into(),
            suspect: snapshot.is_suspect(),
            suspect_reason: snapshot.suspect.clone().unwrap_or_default(),
            entries: counts.map_or(0, |counts| counts.entries),
            files: counts.map_or(0, |counts| counts.files),
            content_bytes: counts.map_or(0, |counts| counts.content_bytes),
            sent_bytes: counts.map_or(0, |counts| counts.sent_bytes),
            gap_count: counts.map_or(0, |counts| counts.gaps),
            harm: harm.into(),
        }
    }

    /// The host of this name or number. Of several with one name, the one enrolled last.
    pub(super) fn find_host(&self, name: &str) -> Result<HostId, Failure> {
        let find = |catalog: &Catalog| {
            catalog.hosts().filter(|(number, row)| is_called(*number, row, name)).map(|(number, _)| number).last()
        };
        self.catalog(find).ok_or_else(|| {
            let failure = Failure::new(ErrorClass::NotFound, format!("there is no host {name:?}"));
            failure.hint("`lifeboat host list` shows them all")
        })
    }
}

/// Whether a source set ever had a snapshot that is more than a checkpoint, or a backup that failed.
fn is_whole_once(catalog: &Catalog, host: HostId, source_set: &str) -> bool {
    catalog.source_set(host, source_set).is_some_and(|set| set.last_job.is_some())
        || catalog.last_to_compare(host, source_set).is_some()
}

fn is_called(number: HostId, row: &Host, name: &str) -> bool {
    row.enrolled.name == name || number.to_string() == name
}

fn outcome(snapshot: &Snapshot) -> v1::Outcome {
    match snapshot.outcome {
        Outcome::Complete => v1::Outcome::Complete,
        Outcome::Gaps => v1::Outcome::Gaps,
        Outcome::Checkpoint => v1::Outcome::Checkpoint,
    }
}

fn nanoseconds(time: jiff::Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
