//! The catalog as the state in a journal checkpoint, and back.
//!
//! Every type is taken apart field by field, so that the compiler asks here for a field that is added. Equal catalogs give
//! equal bytes: rows are sorted.

use super::refused::{Refused, RefusedEnrolment, RefusedTwins};
use super::{Catalog, EndedJob, GrantMade, Host, ScopeMade, Snapshot, SourceSet, Token, tables::FormerKey};
use lifeboat_format::id::{HostId, PackId, Scope, SnapshotNumber};
use lifeboat_format::journal::checkpoint::state::{
    DivergedRow, FormerKeyRow, GrantRow, HostRow, JobRow, LastSnapshot, LossRow, Named, PackRow, RefusedAgentRow,
    RefusedEnrolmentRow, ScopeRow, SnapshotRow, SourceSetRow, State, TokenRow,
};
use lifeboat_format::journal::event::SnapshotCommitted;
use lifeboat_format::link::Target;
use std::collections::{BTreeMap, HashMap, HashSet};

impl Catalog {
    /// The state after the last record applied.
    pub fn to_state(&self) -> State {
        let Self {
            applied,
            custody,
            trust_file,
            scopes,
            tokens,
            hosts,
            snapshots,
            // The snapshots have their ids.
            by_id: _,
            source_sets,
            packs,
            packs_ever,
            dead,
            losses,
            grants,
            diverged,
            refused: Refused { enrolments, twins },
            given_up,
            checkpoints,
        } = self;
        let named = |(number, hash): &(u64, _)| Named { number: *number, hash: *hash };
        State {
            applied: *applied,
            custody: *custody,
            trust_file: trust_file.as_ref().map(named),
            scopes: scopes.iter().map(scope_row).collect(),
            tokens: tokens.values().map(token_row).collect(),
            hosts: hosts.values().map(host_row).collect(),
            snapshots: snapshots.iter().map(snapshot_row).collect(),
            source_sets: source_sets.iter().map(source_set_row).collect(),
            packs_ever: *packs_ever,
            packs: sorted(packs.iter().map(|(pack, (place, holds))| (*place, *pack, *holds)), |row| (row.0, row.1))
                .map(|(place, pack, holds)| PackRow { place, pack, holds })
                .collect(),
            dead: sorted(dead.iter().copied(), |pack| *pack).collect(),
            losses: sorted(losses.iter(), |(pack, _)| **pack).map(loss_row).collect(),
            grants: grants.iter().map(grant_row).collect(),
            diverged: diverged
                .iter()
                .map(|(host, number, hash)| DivergedRow { host: *host, head: named(&(*number, *hash)) })
                .collect(),
            given_up: sorted(given_up.iter(), |head| **head).map(named).collect(),
            refused_enrolments: enrolments.iter().map(refused_enrolment_row).collect(),
            refused_agents: twins.iter().map(refused_agent_row).collect(),
            checkpoints: checkpoints.iter().map(named).collect(),
        }
    }

    /// The catalog of this state; none if a key is there twice.
    pub fn from_state(state: State) -> Option<Self> {
        let State {
            applied,
            custody,
            trust_file,
            scopes,
            tokens,
            hosts,
            snapshots,
            source_sets,
            packs_ever,
            packs,
            dead,
            losses,
            grants,
            diverged,
            given_up,
            refused_enrolments,
            refused_agents,
            checkpoints,
        } = state;
        let named = |Named { number, hash }: Named| (number, hash);
        let by_id = unique(snapshots.0.iter().map(|row| (row.committed.snapshot, row.number)))?;
        Some(Self {
            applied,
            custody,
            trust_file: trust_file.map(named),
            scopes: ordered(scopes.0.into_iter().map(scope))?,
            tokens: ordered(tokens.0.into_iter().map(token))?,
            hosts: ordered(hosts.0.into_iter().map(host))?,
            snapshots: ordered(snapshots.0.into_iter().map(snapshot))?,
            by_id,
            source_sets: ordered(source_sets.0.into_iter().map(source_set))?,
            packs: unique(packs.0.into_iter().map(|PackRow { place, pack, holds }| (pack, (place, holds))))?,
            packs_ever,
            dead: dead.0.into_iter().collect(),
            losses: unique(losses.0.into_iter().map(loss))?,
            grants: ordered(grants.0.into_iter().map(grant))?,
            diverged: diverged.0.into_iter().map(|DivergedRow { host, head }| (host, head.number, head.hash)).collect(),
            refused: Refused {
                enrolments: refused_enrolments.0.into_iter().map(refused_enrolment).collect(),
                twins: ordered(refused_agents.0.into_iter().map(refused_agent))?,
            },
            given_up: given_up.0.into_iter().map(named).collect(),
            checkpoints: checkpoints.0.into_iter().map(named).collect(),
        })
    }
}

fn sorted<T, K: Ord>(rows: impl Iterator<Item = T>, key: impl Fn(&T) -> K) -> std::vec::IntoIter<T> {
    let mut rows: Vec<T> = rows.collect();
    rows.sort_unstable_by_key(|row| key(row));
    rows.into_iter()
}

fn unique<K: Eq + std::hash::Hash, V>(rows: impl Iterator<Item = (K, V)>) -> Option<HashMap<K, V>> {
    let mut table = HashMap::new();
    rows.into_iter().all(|(key, value)| table.insert(key, value).is_none()).then_some(table)
}

fn ordered<K: Ord, V>(rows: impl Iterator<Item = (K, V)>) -> Option<BTreeMap<K, V>> {
    let mut table = BTreeMap::new();
    rows.into_iter().all(|(key, value)| table.insert(key, value).is_none()).then_some(table)
}

fn scope_row((scope, made): (&Scope, &ScopeMade)) -> ScopeRow {
    let ScopeMade { group, first } = made;
    ScopeRow { scope: *scope, group: group.clone(), first: *first }
}

fn scope(ScopeRow { scope, group, first }: ScopeRow) -> (Scope, ScopeMade) {
    (scope, ScopeMade { group, first })
}

fn token_row(Token { record, used_by, replaces }: &Token) -> TokenRow {
    TokenRow { record: record.clone(), used_by: used_by.iter().copied().collect(), replaces: *replaces }
}

fn token(TokenRow { record, used_by, replaces }: TokenRow) -> (u64, Token) {
    (record.number, Token { record, used_by: used_by.0, replaces })
}

fn host_row(host: &Host) -> HostRow {
    let Host { enrolled, enrolled_ns, state, certificate_ends_ns, certificates, former_keys } = host;
    let former_key = |FormerKey { key, until }: &FormerKey| FormerKeyRow { key: *key, until: *until };
    HostRow {
        enrolled: enrolled.clone(),
        enrolled_ns: *enrolled_ns,
        state: *state,
        certificate_ends_ns: *certificate_ends_ns,
        certificates: certificates.iter().copied().collect(),
        former_keys: former_keys.iter().map(former_key).collect(),
    }
}

fn host(row: HostRow) -> (HostId, Host) {
    let HostRow { enrolled, enrolled_ns, state, certificate_ends_ns, certificates, former_keys } = row;
    let former_keys = former_keys.0.into_iter().map(|FormerKeyRow { key, until }| FormerKey { key, until }).collect();
    let certificates = certificates.0.into();
    (enrolled.host, Host { enrolled, enrolled_ns, state, certificate_ends_ns, certificates, former_keys })
}

fn snapshot_row((number, snapshot): (&SnapshotNumber, &Snapshot)) -> SnapshotRow {
    let Snapshot {
        id,
        host,
        source_set,
        sequence,
        root,
        outcome,
        suspect,
        accepted,
        state,
        held,
        locked_until_ns,
        committed_ns,
    } = snapshot;
    let committed = SnapshotCommitted {
        snapshot: *id,
        host: *host,
        source_set: source_set.clone(),
        sequence: *sequence,
        root: *root,
        outcome: *outcome,
        suspect: suspect.clone(),
    };
    let (number, accepted, state, held) = (*number, *accepted, *state, *held);
    SnapshotRow {
        number,
        committed,
        accepted,
        state,
        held,
        locked_until_ns: *locked_until_ns,
        committed_ns: *committed_ns,
    }
}

fn snapshot(row: SnapshotRow) -> (SnapshotNumber, Snapshot) {
    let SnapshotRow { number, committed, accepted, state, held, locked_until_ns, committed_ns } = row;
    let SnapshotCommitted { snapshot: id, host, source_set, sequence, root, outcome, suspect } = committed;
    let snapshot = Snapshot {
        id,
        host,
        source_set,
        sequence,
        root,
        outcome,
        suspect,
        accepted,
        state,
        held,
        locked_until_ns,
        committed_ns,
    };
    (number, snapshot)
}

fn source_set_row(((host, name), set): (&(HostId, String), &SourceSet)) -> SourceSetRow {
    let SourceSet { last, committed, last_job } = set;
    let last = last.map(|(sequence, snapshot, number)| LastSnapshot { sequence, snapshot, number });
    let job = |EndedJob { job, outcome, message, ended_ns, number }: &EndedJob| JobRow {
        job: job.clone(),
        outcome: *outcome,
        message: message.clone(),
        ended_ns: *ended_ns,
        number: *number,
    };
    let (host, source_set, committed) = (*host, name.clone(), *committed);
    SourceSetRow { host, source_set, last, committed, last_job: last_job.as_ref().map(job) }
}

fn source_set(row: SourceSetRow) -> ((HostId, String), SourceSet) {
    let SourceSetRow { host, source_set, last, committed, last_job } = row;
    let last = last.map(|LastSnapshot { sequence, snapshot, number }| (sequence, snapshot, number));
    let job = |JobRow { job, outcome, message, ended_ns, number }| EndedJob { job, outcome, message, ended_ns, number };
    ((host, source_set), SourceSet { last, committed, last_job: last_job.map(job) })
}

fn loss_row((pack, records): (&PackId, &HashSet<Target>)) -> LossRow {
    LossRow { pack: *pack, records: sorted(records.iter().copied(), |target| *target).collect() }
}

fn loss(LossRow { pack, records }: LossRow) -> (PackId, HashSet<Target>) {
    (pack, records.0.into_iter().collect())
}

fn grant_row((grant, made): (&u64, &GrantMade)) -> GrantRow {
    let GrantMade { snapshot, target, expires_ns, opened } = made;
    GrantRow { grant: *grant, snapshot: *snapshot, target: *target, expires_ns: *expires_ns, opened: *opened }
}

fn grant(GrantRow { grant, snapshot, target, expires_ns, opened }: GrantRow) -> (u64, GrantMade) {
    (grant, GrantMade { snapshot, target, expires_ns, opened })
}

fn refused_enrolment_row(refused: &RefusedEnrolment) -> RefusedEnrolmentRow {
    let RefusedEnrolment { host_name, token, reason, last_ns, count } = refused.clone();
    RefusedEnrolmentRow { host_name, token, reason, last_ns, count }
}

fn refused_enrolment(row: RefusedEnrolmentRow) -> RefusedEnrolment {
    let RefusedEnrolmentRow { host_name, token, reason, last_ns, count } = row;
    RefusedEnrolment { host_name, token, reason, last_ns, count }
}

fn refused_agent_row((host, refused): (&HostId, &RefusedTwins)) -> RefusedAgentRow {
    let RefusedTwins { count, last_ns } = *refused;
    RefusedAgentRow { host: *host, count, last_ns }
}

fn refused_agent(RefusedAgentRow { host, count, last_ns }: RefusedAgentRow) -> (HostId, RefusedTwins) {
    (host, RefusedTwins { count, last_ns })
}

#[cfg(test)]
mod tests;
