//! Hosts and snapshots, as operators see them: the catalog, what stands in manifests in clear, and who is connected.

mod status;

use super::Context;
use super::failure;
use crate::catalog::{Catalog, Host, Snapshot};
use crate::dispatch::Past;
use crate::dispatch::board::JobView;
use crate::index::Harm;
use crate::job::JobState;
use crate::store::{ByteRange, ObjectName};
use jiff::Timestamp;
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::manifest::{Clear, Manifest};
use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::convert::control::Offer;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use status::{Facts, LastAttempt};
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

    pub(super) fn clear(&self, id: &SnapshotId) -> Option<Arc<Clear>> {
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
        let seen = self.dispatch.seen(number);
        let known = connection.as_ref().map(|(hello, _)| &hello.offer).or(seen.as_ref().map(|seen| &seen.offer));
        let heard = connection.as_ref().map(|(_, heard)| *heard).or(seen.as_ref().map(|seen| seen.heard));
        let refused = self.dispatch.refused(number);
        v1::Host {
            number: number.get(),
            name: row.enrolled.name.clone(),
            site: row.enrolled.site.clone(),
            enrolled_ns: row.enrolled_ns,
            connected: connection.is_some(),
            last_seen_ns: heard.map_or_else(|| self.last_act(number), nanoseconds),
            agent_version: connection.as_ref().map(|(hello, _)| hello.agent_version.clone()).unwrap_or_default(),
            source_sets: self.set_names(number, known).map(|name| self.set_row(number, name, known, past)).collect(),
            fingerprint: row.enrolled.signing_key.fingerprint().to_string(),
            certificate_ends_ns: row.certificate_ends_ns.unwrap_or(0),
            box_recipient: row.enrolled.box_recipient.to_string(),
            clock_ahead_seconds: self.dispatch.clock_ahead(number).map_or(0, |ahead| ahead.as_secs()),
            policy_problem: known.map(|offer| offer.policy_problem.clone()).unwrap_or_default(),
            refused_agents: refused.map_or(0, |refused| refused.count),
            agent_refused_ns: refused.map_or(0, |refused| nanoseconds(refused.last)),
            diverged_batch: self.catalog(|catalog| {
                catalog.diverged().filter(|(host, ..)| *host == number).map(|(_, batch, _)| batch).max().unwrap_or(0)
            }),
        }
    }

    /// When a host last committed a snapshot; 0: never.
    fn last_act(&self, host: HostId) -> i64 {
        self.catalog(|catalog| {
            let last = catalog.source_sets(host).filter_map(|(_, set)| catalog.snapshot(set.last.as_ref()?.2));
            last.map(|snapshot| snapshot.committed_ns).max().unwrap_or(0)
        })
    }

    /// The source sets to list: those that the policy has, and those of which there are whole snapshots. Where it is not
    /// known what the policy has, because it is invalid or its agent was not connected yet, also all others.
    fn set_names(&self, host: HostId, offer: Option<&Offer>) -> impl Iterator<Item = String> + use<> {
        let valid = offer.filter(|offer| offer.policy_problem.is_empty());
        let mut names: BTreeSet<String> = self.catalog(|catalog| {
            let begun = catalog.source_sets(host).map(|(name, _)| name.to_owned());
            begun.filter(|name| valid.is_none() || has_whole_snapshot(catalog, host, name)).collect()
        });
        names.extend(offer.iter().flat_map(|offer| &offer.source_sets).map(ToString::to_string));
        names.into_iter()
    }

    fn set_row(&self, host: HostId, name: String, offer: Option<&Offer>, past: &dyn Past) -> v1::HostSourceSet {
        let (set, last, backup) = self.catalog(|catalog| {
            let set = catalog.source_set(host, &name).cloned().unwrap_or_default();
            let last = set.last.as_ref().and_then(|(_, _, number)| catalog.snapshot(*number)).cloned();
            let backup = catalog.last_to_compare(host, &name).map(|(number, snapshot)| (number, snapshot.clone()));
            (set, last, backup)
        });
        let attempt = status::last_attempt(&set, last.as_ref());
        let known: Option<SourceSetName> = name.parse().ok();
        let job = known.as_ref().and_then(|name| self.dispatch.open_job(host, name));
        let is_running = |job: &JobView| matches!(job.state, JobState::Running(_));
        let policy_valid = offer.is_none_or(|offer| offer.policy_problem.is_empty());
        let next_due = known.as_ref().and_then(|name| self.dispatch.next_due(past, host, name));
        // After a checkpoint the next attempt is due soon, again and again: what counts is the slot after the last backup.
        let is_unfinished = attempt.as_ref().is_some_and(|attempt| attempt.outcome == v1::Outcome::Checkpoint);
        let slot_missed = backup.as_ref().filter(|_| is_unfinished).map(|(_, snapshot)| {
            let committed = Timestamp::from_nanosecond(i128::from(snapshot.committed_ns));
            past.turns(host).first_after(committed.unwrap_or(Timestamp::UNIX_EPOCH))
        });
        let facts = Facts {
            attempt: attempt.as_ref().map(|attempt| attempt.outcome),
            backup: backup.as_ref().map(|(_, snapshot)| status::outcome(snapshot)),
            in_policy: offer.map(|offer| offer.source_sets.iter().any(|offered| offered.as_str() == name)),
            policy_valid,
            due: slot_missed.into_iter().chain(next_due).min(),
            progressed: job.as_ref().filter(|job| is_running(job)).map(|job| job.progressed),
            now: self.now(),
        };
        let state = status::state(&facts);
        // A set that the policy does not have is never due.
        let due = next_due.filter(|_| state != v1::SetState::NotInPolicy);
        let LastAttempt { outcome, ended_ns, message } = attempt.unwrap_or_else(LastAttempt::none);
        v1::HostSourceSet {
            name,
            last: backup.map(|(number, snapshot)| self.snapshot_info(number, &snapshot)),
            last_outcome: outcome.into(),
            last_message: message,
            last_attempt_ns: ended_ns,
            next_due_ns: due.map_or(0, nanoseconds),
            job_state: job.as_ref().map_or(v1::JobState::Unspecified, |job| job_state(&job.state)).into(),
            running_job: job.map(|view| view.name.to_string()).unwrap_or_default(),
            snapshot_count: set.committed,
            state: state.into(),
            overdue: due.is_some() && facts.is_overdue(),
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
            outcome: status::outcome(snapshot).into(),
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

/// Whether a source set has a snapshot that is more than a checkpoint; it may be suspect.
fn has_whole_snapshot(catalog: &Catalog, host: HostId, source_set: &str) -> bool {
    let own = |snapshot: &Snapshot| snapshot.host == host && snapshot.source_set == source_set;
    catalog.snapshots().rev().any(|(_, snapshot)| own(snapshot) && !snapshot.is_checkpoint())
}

/// The state of a job, as messages name it.
pub(super) fn job_state(state: &JobState) -> v1::JobState {
    match state {
        JobState::Queued(_) => v1::JobState::Queued,
        JobState::Running(_) => v1::JobState::Running,
        JobState::Done(_) => v1::JobState::Done,
    }
}

fn is_called(number: HostId, row: &Host, name: &str) -> bool {
    row.enrolled.name == name || number.to_string() == name
}

/// As messages carry it.
pub(super) fn nanoseconds(time: jiff::Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
