//! The rows of a checkpoint: everything that a replay of the batches up to it gives.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{Digest, HostId, PackId, Scope, SnapshotId, SnapshotNumber};
use crate::journal::event::{
    Custody, GrantTarget, Holds, HostEnrolled, HostState, JobOutcome, SnapshotCommitted, SnapshotState,
};
use crate::layout::Field;
use crate::link::Target;
use crate::sign::VerifyingKey;
use crate::token::TokenRecord;

/// A list that is as long as the history of a repository: the object's size alone bounds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows<T>(pub Vec<T>);

impl<T: Field> Field for Rows<T> {
    fn put(&self, to: &mut Encoder) {
        to.varint(self.0.len() as u64);
        self.0.iter().for_each(|row| row.put(to));
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        // Each row has at least one byte.
        let count = from.bounded(field, from.rest().len() as u64)?;
        let mut rows = Vec::new();
        for _ in 0..count {
            rows.push(T::take(from, field)?);
        }
        Ok(Self(rows))
    }
}

impl<T> FromIterator<T> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(rows: I) -> Self {
        Self(rows.into_iter().collect())
    }
}

layout! {
    /// The state after a batch. Each table has one row a key; rows rise by their first field, packs by their place.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct State {
        /// The sequence of the last record.
        pub applied: u64,
        /// Who holds the restore key; none before the repository was created.
        pub custody: Option<Custody>,
        /// The trust file in force.
        pub trust_file: Option<Named>,
        /// The groups' secrets.
        pub scopes: Rows<ScopeRow>,
        /// The tokens.
        pub tokens: Rows<TokenRow>,
        /// The hosts.
        pub hosts: Rows<HostRow>,
        /// All snapshots, also purged ones.
        pub snapshots: Rows<SnapshotRow>,
        /// The source sets that had a snapshot or a job.
        pub source_sets: Rows<SourceSetRow>,
        /// How often a batch named a pack.
        pub packs_ever: u64,
        /// The packs that are not dead.
        pub packs: Rows<PackRow>,
        /// The packs that are dead.
        pub dead: Rows<PackId>,
        /// What is lost.
        pub losses: Rows<LossRow>,
        /// All grants.
        pub grants: Rows<GrantRow>,
        /// Heads that hosts hold and that the journal does not extend.
        pub diverged: Rows<DivergedRow>,
        /// Such heads that an operator gave up.
        pub given_up: Rows<Named>,
        /// Enrolments that were refused, the latest last.
        pub refused_enrolments: Rows<RefusedEnrolmentRow>,
        /// Second agents with the identity of a host that were refused.
        pub refused_agents: Rows<RefusedAgentRow>,
        /// The newest checkpoints that batches named, at most two, the older one first.
        pub checkpoints: Rows<Named>,
    }
}

layout! {
    /// A number and a hash: of a trust file, a journal head, a checkpoint.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Named {
        /// The number.
        pub number: u64,
        /// The digest, or the hash of the head.
        pub hash: Digest,
    }
}

layout! {
    /// A group's secret of one epoch.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ScopeRow {
        /// Its scope.
        pub scope: Scope,
        /// The group's name.
        pub group: String,
        /// Whether it is the group's first secret.
        pub first: bool,
    }
}

layout! {
    /// A token.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenRow {
        /// As it was made.
        pub record: TokenRecord,
        /// The hosts that came with it, in order.
        pub used_by: Rows<HostId>,
        /// The host whose place the server takes that enrols with it.
        pub replaces: Option<HostId>,
    }
}

layout! {
    /// A host.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HostRow {
        /// As it was enrolled last.
        pub enrolled: HostEnrolled,
        /// When that was.
        pub enrolled_ns: i64,
        /// What it may do now.
        pub state: HostState,
        /// When its newest certificate ends.
        pub certificate_ends_ns: Option<i64>,
        /// The newest certificates since it was last enrolled, oldest first.
        pub certificates: Rows<Digest>,
        /// The signing keys that it had before, oldest first.
        pub former_keys: Rows<FormerKeyRow>,
    }
}

layout! {
    /// A signing key that a host no longer has.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FormerKeyRow {
        /// The key.
        pub key: VerifyingKey,
        /// The sequence of the enrolment that ended it.
        pub until: u64,
    }
}

layout! {
    /// A snapshot.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SnapshotRow {
        /// Its number.
        pub number: SnapshotNumber,
        /// As it was committed.
        pub committed: SnapshotCommitted,
        /// Whether a person accepted it although it is suspect.
        pub accepted: bool,
        /// Where it is on its way out.
        pub state: SnapshotState,
        /// Whether it is held.
        pub held: bool,
        /// Until when it is locked.
        pub locked_until_ns: Option<i64>,
        /// When it was committed.
        pub committed_ns: i64,
    }
}

layout! {
    /// A source set of a host.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SourceSetRow {
        /// The host.
        pub host: HostId,
        /// The source set's name.
        pub source_set: String,
        /// Its last snapshot, whatever became of it.
        pub last: Option<LastSnapshot>,
        /// How many snapshots it has had.
        pub committed: u64,
        /// Its last job that was recorded.
        pub last_job: Option<JobRow>,
    }
}

layout! {
    /// The last snapshot of a source set.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct LastSnapshot {
        /// Its number among those of the source set.
        pub sequence: u64,
        /// The hash of its manifest.
        pub snapshot: SnapshotId,
        /// Its number.
        pub number: SnapshotNumber,
    }
}

layout! {
    /// A job that has ended.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct JobRow {
        /// Its name; empty if no order had started it.
        pub job: String,
        /// How it ended.
        pub outcome: JobOutcome,
        /// What went wrong.
        pub message: String,
        /// When it ended.
        pub ended_ns: i64,
        /// The sequence of its record.
        pub number: u64,
    }
}

layout! {
    /// A pack that is not dead.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct PackRow {
        /// Its place among all packs that batches named, from 1.
        pub place: u64,
        /// Its id.
        pub pack: PackId,
        /// What it holds.
        pub holds: Holds,
    }
}

layout! {
    /// What is lost of a pack.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LossRow {
        /// The pack.
        pub pack: PackId,
        /// Its lost records, chunks before nodes, rising.
        pub records: Rows<Target>,
    }
}

layout! {
    /// A grant.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct GrantRow {
        /// Its number.
        pub grant: u64,
        /// The snapshot that it opens.
        pub snapshot: SnapshotNumber,
        /// Who may use it.
        pub target: GrantTarget,
        /// When it ends.
        pub expires_ns: i64,
        /// Whether it was shown for reading.
        pub opened: bool,
    }
}

layout! {
    /// A head that a host holds and that the journal does not extend.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct DivergedRow {
        /// The host.
        pub host: HostId,
        /// The head.
        pub head: Named,
    }
}

layout! {
    /// Enrolments that were refused for the same reason.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RefusedEnrolmentRow {
        /// The name that the caller gave.
        pub host_name: String,
        /// The number of the token that it showed.
        pub token: u64,
        /// Why.
        pub reason: String,
        /// When the last one was.
        pub last_ns: i64,
        /// How many.
        pub count: u64,
    }
}

layout! {
    /// Second agents with the identity of a host that were refused.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct RefusedAgentRow {
        /// The host.
        pub host: HostId,
        /// How many.
        pub count: u64,
        /// When the last one was.
        pub last_ns: i64,
    }
}
