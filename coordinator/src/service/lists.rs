//! Hosts and snapshots, as operators see them: the catalog, the counts in the index, and who is connected. Rows are made
//! while a list is sent: a list of any length needs little memory and holds no lock for long.

mod status;

use super::Context;
use super::failure;
use crate::catalog::{Catalog, Host, Snapshot};
use crate::dispatch::Past;
use crate::dispatch::board::JobView;
use crate::index::{Counted, Harm};
use crate::job::JobState;
use crate::objects;
use jiff::Timestamp;
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::manifest::Manifest;
use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::convert::control::Offer;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use status::{Facts, LastAttempt};
use std::collections::{BTreeSet, HashMap};

/// Snapshots that are looked up together.
const LOOKED_UP: usize = 1000;

/// What the snapshots of a source set say of its backups.
#[derive(Debug, Default)]
struct Backups {
    /// The last one that is no checkpoint and not suspect.
    last: Option<SnapshotNumber>,
    /// Whether there is more than checkpoints; it may be suspect.
    has_whole: bool,
}

/// The backups of all source sets, by host and name.
type BackupsBySet = HashMap<(HostId, String), Backups>;

impl Context {
    /// The manifest of a snapshot, read and checked against its name.
    pub(super) fn manifest(&self, id: &SnapshotId) -> Result<Manifest, Failure> {
        objects::read_manifest(self.coordinator.shared.store.as_ref(), *id).map_err(|error| failure::of_object(&error))
    }

    /// Hosts of this name or number; all if it is empty. By name.
    pub(super) fn list_hosts(&self, name: &str, past: &dyn Past) -> impl Iterator<Item = v1::Host> {
        let (mut rows, backups) = self.catalog(|catalog| {
            let rows = catalog.hosts().filter(|(number, row)| name.is_empty() || is_called(*number, row, name));
            let rows: Vec<_> = rows.map(|(number, row)| (number, row.clone())).collect();
            let only = if name.is_empty() { None } else { Some(rows.iter().map(|(number, _)| *number).collect()) };
            (rows, backups(catalog, only.as_ref()))
        });
        rows.sort_by(|(_, a), (_, b)| a.enrolled.name.cmp(&b.enrolled.name));
        rows.into_iter().map(move |(number, row)| self.host_row(number, &row, &backups, past))
    }

    fn host_row(&self, number: HostId, row: &Host, backups: &BackupsBySet, past: &dyn Past) -> v1::Host {
        let connection = self.dispatch.connection(number);
        let seen = self.dispatch.seen(number);
        let known = connection.as_ref().map(|(hello, _)| &hello.offer).or(seen.as_ref().map(|seen| &seen.offer));
        let heard = connection.as_ref().map(|(_, heard)| *heard).or(seen.as_ref().map(|seen| seen.heard));
        let refused = self.refused_twins(number);
        v1::Host {
            number: number.get(),
            name: row.enrolled.name.clone(),
            site: row.enrolled.site.clone(),
            enrolled_ns: row.enrolled_ns,
            connected: connection.is_some(),
            last_seen_ns: heard.map_or_else(|| self.last_act(number), nanoseconds),
            agent_version: connection.as_ref().map(|(hello, _)| hello.agent_version.clone()).unwrap_or_default(),
            source_sets: self
                .set_names(number, known, backups)
                .map(|name| self.set_row(number, name, known, backups, past))
                .collect(),
            fingerprint: row.enrolled.signing_key.fingerprint().to_string(),
            certificate_ends_ns: row.certificate_ends_ns.unwrap_or(0),
            box_recipient: row.enrolled.box_recipient.to_string(),
            clock_ahead_seconds: self.dispatch.clock_ahead(number).map_or(0, |ahead| ahead.as_secs()),
            policy_problem: known.map(|offer| offer.policy_problem.clone()).unwrap_or_default(),
            refused_agents: refused.count,
            agent_refused_ns: refused.last_ns,
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
    fn set_names(
        &self,
        host: HostId,
        offer: Option<&Offer>,
        backups: &BackupsBySet,
    ) -> impl Iterator<Item = String> + use<> {
        let valid = offer.filter(|offer| offer.policy_problem.is_empty());
        let has_whole = |name: &String| backups.get(&(host, name.clone())).is_some_and(|backups| backups.has_whole);
        let mut names: BTreeSet<String> = self.catalog(|catalog| {
            let begun = catalog.source_sets(host).map(|(name, _)| name.to_owned());
            begun.filter(|name| valid.is_none() || has_whole(name)).collect()
        });
        names.extend(offer.iter().flat_map(|offer| &offer.source_sets).map(ToString::to_string));
        names.into_iter()
    }

    fn set_row(
        &self,
        host: HostId,
        name: String,
        offer: Option<&Offer>,
        backups: &BackupsBySet,
        past: &dyn Past,
    ) -> v1::HostSourceSet {
        let backup = backups.get(&(host, name.clone())).and_then(|backups| backups.last);
        let (set, last, backup) = self.catalog(|catalog| {
            let set = catalog.source_set(host, &name).cloned().unwrap_or_default();
            let last = set.last.as_ref().and_then(|(_, _, number)| catalog.snapshot(*number)).cloned();
            let backup = backup.and_then(|number| Some((number, catalog.snapshot(number)?.clone())));
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
    pub(super) fn list_snapshots(
        &self,
        host: &str,
        source_set: &str,
    ) -> Result<impl Iterator<Item = v1::SnapshotInfo>, Failure> {
        let only = if host.is_empty() { None } else { Some(self.find_host(host)?) };
        let numbers: Vec<SnapshotNumber> = self.catalog(|catalog| {
            let wanted = catalog.snapshots().rev().filter(|(_, snapshot)| {
                only.is_none_or(|host| snapshot.host == host)
                    && (source_set.is_empty() || snapshot.source_set == source_set)
            });
            wanted.map(|(number, _)| number).collect()
        });
        let lookups: Vec<Vec<SnapshotNumber>> = numbers.chunks(LOOKED_UP).map(<[_]>::to_vec).collect();
        Ok(lookups.into_iter().flat_map(|numbers| {
            let rows = self.catalog(|catalog| {
                let row = |number: SnapshotNumber| Some((number, catalog.snapshot(number)?.clone()));
                numbers.into_iter().filter_map(row).collect::<Vec<_>>()
            });
            self.snapshot_infos(rows)
        }))
    }

    /// What is known of a snapshot. Where its manifest could never be read, its counts are 0.
    pub(super) fn snapshot_info(&self, number: SnapshotNumber, snapshot: &Snapshot) -> v1::SnapshotInfo {
        self.snapshot_infos(vec![(number, snapshot.clone())]).pop().unwrap_or_default()
    }

    fn snapshot_infos(&self, rows: Vec<(SnapshotNumber, Snapshot)>) -> Vec<v1::SnapshotInfo> {
        let names: Vec<String> = self.catalog(|catalog| {
            let name = |host| catalog.host(host).map(|row| row.enrolled.name.clone()).unwrap_or_default();
            rows.iter().map(|(_, snapshot)| name(snapshot.host)).collect()
        });
        let ids: Vec<_> = rows.iter().map(|(number, snapshot)| (*number, snapshot.id)).collect();
        let counts = self.coordinator.counts(&ids);
        let rows = rows.into_iter().zip(names).zip(counts);
        let info = |(((number, snapshot), host_name), counted)| {
            snapshot_info(number, snapshot, host_name, self.coordinator.harm(number), counted)
        };
        rows.map(info).collect()
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

/// What all snapshots say of the backups of their source sets, in one pass; only of some hosts if these are given.
fn backups(catalog: &Catalog, only: Option<&BTreeSet<HostId>>) -> BackupsBySet {
    let mut found = HashMap::<(HostId, &str), Backups>::new();
    for (number, snapshot) in catalog.snapshots().rev() {
        if snapshot.is_checkpoint() || only.is_some_and(|only| !only.contains(&snapshot.host)) {
            continue;
        }
        let backups = found.entry((snapshot.host, &snapshot.source_set)).or_default();
        backups.has_whole = true;
        if backups.last.is_none() && !snapshot.is_suspect() {
            backups.last = Some(number);
        }
    }
    found.into_iter().map(|((host, name), backups)| ((host, name.to_owned()), backups)).collect()
}

fn snapshot_info(
    number: SnapshotNumber,
    snapshot: Snapshot,
    host_name: String,
    harm: Option<Harm>,
    counted: Option<Counted>,
) -> v1::SnapshotInfo {
    let harm = match harm {
        None => v1::Harm::Unspecified,
        Some(Harm::Unreadable) => v1::Harm::Unreadable,
        Some(Harm::Lost) => v1::Harm::Lost,
    };
    let counts = counted.map(|counted| counted.counts);
    v1::SnapshotInfo {
        snapshot: bytes::Bytes::copy_from_slice(snapshot.id.as_bytes()),
        number: number.get(),
        host: snapshot.host.get(),
        host_name,
        sequence: snapshot.sequence,
        started_ns: counted.map_or(0, |counted| counted.started_ns),
        committed_ns: snapshot.committed_ns,
        outcome: status::outcome(&snapshot).into(),
        suspect: snapshot.is_suspect(),
        source_set: snapshot.source_set,
        suspect_reason: snapshot.suspect.unwrap_or_default(),
        entries: counts.map_or(0, |counts| counts.entries),
        files: counts.map_or(0, |counts| counts.files),
        content_bytes: counts.map_or(0, |counts| counts.content_bytes),
        sent_bytes: counts.map_or(0, |counts| counts.sent_bytes),
        gap_count: counts.map_or(0, |counts| counts.gaps),
        harm: harm.into(),
    }
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
