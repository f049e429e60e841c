//! What the journal says, as tables: hosts, tokens, snapshots, packs, losses, grants. Pure, and in memory.
//!
//! A replay of all records, in order, gives the whole of it; nothing else changes it. What is large (where chunks
//! lie, what was witnessed) is for [`crate::index`]; who may do what with it, for the callers.

mod apply;
pub mod refused;
mod state;
mod tables;

pub use tables::{EndedJob, GrantMade, Host, Snapshot, SourceSet, Token};

use lifeboat_format::id::{Digest, HostId, PackId, Scope, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::{Custody, Holds, SnapshotState};
use lifeboat_format::link::Target;
use refused::Refused;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// A record that contradicts what came before it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("record {sequence} of the journal cannot be: {why}; this release cannot work with this repository")]
pub struct CatalogError {
    /// The record.
    pub sequence: u64,
    /// What it contradicts.
    pub why: String,
}

/// The state of the repository as of the last record applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    applied: u64,
    custody: Option<Custody>,
    trust_file: Option<(u64, Digest)>,
    scopes: BTreeMap<Scope, ScopeMade>,
    tokens: BTreeMap<u64, Token>,
    hosts: BTreeMap<HostId, Host>,
    snapshots: BTreeMap<SnapshotNumber, Snapshot>,
    by_id: HashMap<SnapshotId, SnapshotNumber>,
    source_sets: BTreeMap<(HostId, String), SourceSet>,
    packs: HashMap<PackId, (u64, Holds)>,
    packs_ever: u64,
    dead: HashSet<PackId>,
    losses: HashMap<PackId, HashSet<Target>>,
    grants: BTreeMap<u64, GrantMade>,
    /// Heads that hosts hold and that this journal does not extend: host, batch number, hash.
    diverged: BTreeSet<(HostId, u64, Digest)>,
    refused: Refused,
    /// Such heads that an operator gave up: batch number, hash.
    given_up: HashSet<(u64, Digest)>,
    /// The newest journal checkpoints that batches named, the older one first: number of the last batch, digest.
    checkpoints: VecDeque<(u64, Digest)>,
}

/// Checkpoints that are kept: the newest, and one to fall back to.
pub const CHECKPOINTS_KEPT: usize = 2;

/// A group's secret of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeMade {
    /// The group.
    pub group: String,
    /// Whether it is the group's first secret.
    pub first: bool,
}

impl Catalog {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sequence of the last record applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The newest journal checkpoints that batches named, the older one first: number of the last batch, digest.
    pub fn checkpoints(&self) -> impl DoubleEndedIterator<Item = (u64, Digest)> {
        self.checkpoints.iter().copied()
    }

    /// Who holds the restore key; none before the repository was created.
    pub fn custody(&self) -> Option<Custody> {
        self.custody
    }

    /// Number and digest of the trust file in force.
    pub fn trust_file(&self) -> Option<(u64, Digest)> {
        self.trust_file
    }

    /// All scopes, oldest first.
    pub fn scopes(&self) -> impl Iterator<Item = (Scope, &ScopeMade)> {
        self.scopes.iter().map(|(scope, made)| (*scope, made))
    }

    /// A token, by its number.
    pub fn token(&self, number: u64) -> Option<&Token> {
        self.tokens.get(&number)
    }

    /// The number for the next token.
    pub fn next_token(&self) -> u64 {
        self.tokens.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    /// A host, by its number.
    pub fn host(&self, host: HostId) -> Option<&Host> {
        self.hosts.get(&host)
    }

    /// All hosts, by number.
    pub fn hosts(&self) -> impl Iterator<Item = (HostId, &Host)> {
        self.hosts.iter().map(|(number, host)| (*number, host))
    }

    /// The number for the next host. Numbers are never reused.
    pub fn next_host(&self) -> HostId {
        HostId::new(self.hosts.last_key_value().map_or(1, |(number, _)| number.get() + 1))
    }

    /// A snapshot, by its number.
    pub fn snapshot(&self, number: SnapshotNumber) -> Option<&Snapshot> {
        self.snapshots.get(&number)
    }

    /// A snapshot, by the hash of its manifest.
    pub fn snapshot_by_id(&self, id: &SnapshotId) -> Option<(SnapshotNumber, &Snapshot)> {
        let number = *self.by_id.get(id)?;
        Some((number, self.snapshots.get(&number)?))
    }

    /// All snapshots that are not purged, oldest first.
    pub fn snapshots(&self) -> impl DoubleEndedIterator<Item = (SnapshotNumber, &Snapshot)> {
        let kept = self.snapshots.iter().filter(|(_, snapshot)| snapshot.state != SnapshotState::Purged);
        kept.map(|(number, snapshot)| (*number, snapshot))
    }

    /// What is known of a source set, once it has a snapshot or a job.
    pub fn source_set(&self, host: HostId, name: &str) -> Option<&SourceSet> {
        self.source_sets.get(&(host, name.to_owned()))
    }

    /// All source sets of a host, by name.
    pub fn source_sets(&self, host: HostId) -> impl Iterator<Item = (&str, &SourceSet)> {
        let of_host = self.source_sets.range((host, String::new())..).take_while(move |((of, _), _)| *of == host);
        of_host.map(|((_, name), set)| (name.as_str(), set))
    }

    /// The last snapshot of a source set that a new one can be compared with: no checkpoint, not suspect, not purged.
    pub fn last_to_compare(&self, host: HostId, source_set: &str) -> Option<(SnapshotNumber, &Snapshot)> {
        self.to_compare(host, source_set).next()
    }

    /// All such snapshots, newest first.
    pub fn to_compare(&self, host: HostId, source_set: &str) -> impl Iterator<Item = (SnapshotNumber, &Snapshot)> {
        self.snapshots().rev().filter(move |(_, snapshot)| {
            snapshot.host == host
                && snapshot.source_set == source_set
                && !snapshot.is_checkpoint()
                && !snapshot.is_suspect()
        })
    }

    /// Whether the journal knows this pack, alive or dead.
    pub fn knows_pack(&self, pack: &PackId) -> bool {
        self.packs.contains_key(pack) || self.dead.contains(pack)
    }

    /// The packs that are not dead, in the order in which the journal named them.
    pub fn packs(&self) -> Vec<(PackId, Holds)> {
        let mut packs: Vec<_> = self.packs.iter().collect();
        packs.sort_unstable_by_key(|(_, (place, _))| *place);
        packs.into_iter().map(|(pack, (_, holds))| (*pack, *holds)).collect()
    }

    /// Whether the journal named this pack dead: no row may point into it (G11).
    pub fn is_dead(&self, pack: &PackId) -> bool {
        self.dead.contains(pack)
    }

    /// The packs that are dead.
    pub fn dead_packs(&self) -> impl Iterator<Item = PackId> {
        self.dead.iter().copied()
    }

    /// Whether this record of this pack is recorded as lost.
    pub fn is_lost(&self, pack: &PackId, target: &Target) -> bool {
        self.losses.get(pack).is_some_and(|lost| lost.contains(target))
    }

    /// What is recorded as lost of a pack; none if nothing is.
    pub fn losses_of(&self, pack: &PackId) -> Option<&HashSet<Target>> {
        self.losses.get(pack)
    }

    /// The losses that stand: of each pack the records that are lost.
    pub fn losses(&self) -> impl Iterator<Item = (PackId, &HashSet<Target>)> {
        self.losses.iter().map(|(pack, lost)| (*pack, lost))
    }

    /// Heads that hosts hold and that this journal does not extend, as long as no operator has given them up: host, batch
    /// number, hash. While there is any, the repository may be an old copy (INV-77).
    pub fn diverged(&self) -> impl Iterator<Item = (HostId, u64, Digest)> {
        self.diverged.iter().copied()
    }

    /// Whether an operator gave up this head, or it is recorded as one that is not extended.
    pub fn knows_divergence(&self, host: HostId, number: u64, hash: Digest) -> bool {
        self.given_up.contains(&(number, hash)) || self.diverged.contains(&(host, number, hash))
    }

    /// Enrolments and agents that were refused.
    pub fn refused(&self) -> &Refused {
        &self.refused
    }

    /// A grant, by its number.
    pub fn grant(&self, number: u64) -> Option<&GrantMade> {
        self.grants.get(&number)
    }

    /// The number for the next grant.
    pub fn next_grant(&self) -> u64 {
        self.grants.last_key_value().map_or(1, |(number, _)| number + 1)
    }
}
