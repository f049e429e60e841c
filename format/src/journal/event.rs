//! What a record of the journal changed. A replay of all events, in order, gives the state of the repository.

use crate::codec::{Decoder, Encoder};
use crate::envelope::Recipient;
use crate::error::FormatError;
use crate::id::{Digest, HostId, PackId, Scope, SnapshotId, SnapshotNumber};
use crate::layout::Field;
use crate::link::Target;
use crate::manifest::{Clear, Outcome, RootRef};
use crate::sign::VerifyingKey;
use crate::token::TokenRecord;

skippable! {
    /// What changed. A reader passes over an event of a kind that it does not know if the kind allows it, and over an
    /// event about something that it does not know.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Event {
        /// Nothing that a replay needs: the record itself is what should be known.
        0 optional => Nothing,
        /// The repository begins.
        1 needed => RepositoryCreated {
            /// Who holds the restore key.
            custody: Custody,
            /// The digest of trust file 1.
            trust_file: Digest,
        },
        /// A coordinator took the repository over; older incarnations can commit nothing more.
        2 needed => Incarnation {
            /// The new incarnation.
            number: u64,
        },
        /// A new trust file is in force.
        3 needed => TrustFile {
            /// Its number.
            number: u64,
            /// Its digest.
            digest: Digest,
        },
        /// A group has a secret for a new epoch.
        4 needed => ScopeMade {
            /// The scope: group and epoch.
            scope: Scope,
            /// The group's name.
            group: String,
            /// Whether it is the group's first secret.
            first: bool,
        },
        /// A token may be used.
        5 needed => TokenCreated(TokenRecord),
        /// A host takes part. If the number is known, the host is enrolled again: its keys are these from here on.
        6 needed => HostEnrolled(HostEnrolled),
        /// A host's state changed.
        7 needed => HostState {
            /// Which host.
            host: HostId,
            /// What it may do now.
            state: HostState,
        },
        /// A certificate was issued.
        8 optional => CertificateIssued {
            /// To which host.
            host: HostId,
            /// The BLAKE3 of the certificate's DER.
            fingerprint: Digest,
            /// When it ends: nanoseconds since 1970, UTC.
            ends_ns: i64,
        },
        /// Packs were put since the last batch.
        9 needed => PacksAdded {
            /// Which ones.
            packs: Vec<AddedPack>,
        },
        /// Records of a pack became witnessed.
        10 needed => Witnessed {
            /// The pack.
            pack: PackId,
            /// Places in its footer, from 0, rising.
            records: Vec<u32>,
        },
        /// A pack holds nothing any more, and may be deleted.
        11 needed => PackDead {
            /// The pack.
            pack: PackId,
        },
        /// Sealed bytes are damaged beyond repair.
        12 needed => Loss {
            /// The pack that held them.
            pack: PackId,
            /// What was in it.
            records: Vec<Target>,
        },
        /// A snapshot is there. Its number is the sequence of this record.
        13 needed => SnapshotCommitted(SnapshotCommitted),
        /// A snapshot went to the trash, came back, or is gone.
        14 needed => SnapshotState {
            /// Which one.
            snapshot: SnapshotNumber,
            /// Its state now.
            state: SnapshotState,
        },
        /// A person says that a suspect snapshot is right.
        15 needed => SnapshotAccepted {
            /// Which one.
            snapshot: SnapshotNumber,
        },
        /// A snapshot is held, or no longer: retention does not forget a held one.
        16 needed => SnapshotHeld {
            /// Which one.
            snapshot: SnapshotNumber,
            /// Whether it is held from now on.
            held: bool,
        },
        /// A snapshot is not purged before a time; a lock only grows.
        17 needed => SnapshotLocked {
            /// Which one.
            snapshot: SnapshotNumber,
            /// Until when: nanoseconds since 1970, UTC.
            until_ns: i64,
        },
        /// Somebody asks for what needs a second person: the record's verb, on its object.
        18 needed => RequestMade {
            /// The request's number.
            request: u64,
        },
        /// A second person agrees.
        19 needed => RequestApproved {
            /// The request's number.
            request: u64,
        },
        /// Somebody stopped a request.
        20 needed => RequestStopped {
            /// The request's number.
            request: u64,
        },
        /// Grants for one command were made, numbered from `first` on.
        21 needed => GrantsMade {
            /// The number of the grant for the first of the snapshots.
            first: u64,
            /// The snapshots that they open, a grant each.
            snapshots: Vec<GrantedSnapshot>,
            /// Who may use them.
            target: GrantTarget,
            /// When they end: nanoseconds since 1970, UTC.
            expires_ns: i64,
        },
        /// A grant was shown for reading.
        22 optional => GrantOpened {
            /// Its number.
            grant: u64,
        },
        /// Calls were refused, all for the same reason.
        23 optional => Refused {
            /// How many.
            count: u64,
        },
        /// A backup was ordered.
        24 optional => BackupOrdered {
            /// The job's name.
            job: String,
            /// On which host.
            host: HostId,
            /// Which source set.
            source_set: String,
        },
        /// A job ended; of a failed one this is all that remains.
        25 optional => JobEnded {
            /// The job's name; empty if nobody had ordered it.
            job: String,
            /// On which host.
            host: HostId,
            /// Which source set.
            source_set: String,
            /// How it ended.
            outcome: JobOutcome,
            /// What went wrong and what to do, empty if nothing.
            message: String,
        },
        /// What was recorded as lost is there again, byte for byte.
        26 optional => LossWithdrawn {
            /// The pack that holds it.
            pack: PackId,
            /// What is there again.
            records: Vec<Target>,
        },
        /// A person gives up what was lost: clean-up no longer waits for it.
        27 optional => LossGivenUp {
            /// What was lost.
            records: Vec<Target>,
        },
        /// A snapshot was restored as a test, wholly or in part.
        28 optional => RestoreTested {
            /// The snapshot.
            snapshot: SnapshotNumber,
            /// Whether everything that was tried came back.
            passed: bool,
            /// What was tried and what went wrong.
            message: String,
        },
        /// A person confirms the coordinator's clock after a jump.
        29 optional => ClockConfirmed {
            /// The confirmed time: nanoseconds since 1970, UTC.
            time_ns: i64,
        },
        /// What a request asks for, for those who approve it and for the coordinator that carries it out.
        30 needed => RequestContent {
            /// The request's number.
            request: u64,
            /// An event, as it would stand in a record.
            content: Vec<u8>,
        },
        /// A policy is in force from now on.
        31 needed => Policy {
            /// Its name.
            name: String,
            /// Rises with each change of this policy.
            number: u64,
            /// The policy; empty if it was removed.
            content: Vec<u8>,
        },
        /// A journal checkpoint was put: start-up needs no batch up to it.
        32 optional => JournalCheckpoint {
            /// The last batch that its state includes.
            number: u64,
            /// The BLAKE3 of the checkpoint object.
            digest: Digest,
        },
        /// The content of a snapshot looks encrypted by somebody else.
        33 optional => EntropyAlarm {
            /// The snapshot.
            snapshot: SnapshotNumber,
            /// What was noticed.
            message: String,
        },
        /// A host holds a journal head that this journal does not extend: it was rolled back or forked.
        34 needed => HistoryDiverged {
            /// The host that holds the head.
            host: HostId,
            /// The batch number of the host's head.
            number: u64,
            /// The hash of the host's head.
            hash: Digest,
        },
        /// An operator decided that this journal holds, although hosts hold a head that it does not extend.
        35 needed => HistoryAccepted {
            /// The batch number of the head that is given up.
            number: u64,
            /// The hash of that head.
            hash: Digest,
        },
        /// The server that enrols with a token takes the place of a host: it gets the host's number.
        36 needed => TokenReplaces {
            /// The token.
            token: u64,
            /// The host.
            host: HostId,
        },
    }
}

layout! {
    /// A snapshot for which a grant was made.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct GrantedSnapshot {
        /// The snapshot.
        pub snapshot: SnapshotNumber,
        /// The digest of the signed order.
        pub order: Digest,
    }
}

tagged! {
    /// Who holds the restore key.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Custody {
        /// The coordinator's vault.
        1 => Managed,
        /// People only.
        2 => Strict,
    }
}

layout! {
    /// A host, as it was enrolled.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct HostEnrolled {
        /// Its number, for ever.
        pub host: HostId,
        /// Its name: 1 to 253 of a–z, 0–9, `-`, `.`.
        pub name: String,
        /// Where it hangs, such as `emea/berlin`; may be empty.
        pub site: String,
        /// The group whose secret it has.
        pub group: String,
        /// Checks its manifests.
        pub signing_key: VerifyingKey,
        /// Receives group secrets and grants.
        pub box_recipient: Recipient,
        /// The BLAKE3 of its TLS key (SubjectPublicKeyInfo, DER).
        pub tls_key: Digest,
        /// The token that it came with.
        pub token: u64,
    }
}

tagged! {
    /// What a host may do.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum HostState {
        /// Back up.
        1 => Active,
        /// Nothing; its backups are kept.
        2 => Retired,
        /// Nothing; it may be in other hands.
        3 => Revoked,
    }
}

layout! {
    /// A pack that was put.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct AddedPack {
        /// Which one.
        pub pack: PackId,
        /// What it holds.
        pub holds: Holds,
    }
}

tagged! {
    /// What a pack holds.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Holds {
        /// Sealed chunks.
        1 => Chunks,
        /// Tree nodes.
        2 => Nodes,
        /// Second copies of root and inner nodes: without one of these nothing below it opens.
        3 => NodeCopies,
    }
}

layout! {
    /// A snapshot, as it was committed: what a replay needs without reading its manifest.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SnapshotCommitted {
        /// The hash of its manifest.
        pub snapshot: SnapshotId,
        /// Whose it is.
        pub host: HostId,
        /// Of which source set.
        pub source_set: String,
        /// Its number there.
        pub sequence: u64,
        /// Where its tree begins.
        pub root: RootRef,
        /// How it ended.
        pub outcome: Outcome,
        /// Why it counts as failed until a person accepts it, if it does.
        pub suspect: Option<String>,
    }
}

impl SnapshotCommitted {
    /// The event of the snapshot with this manifest.
    pub fn of(snapshot: SnapshotId, clear: &Clear, suspect: Option<String>) -> Self {
        Self {
            snapshot,
            host: clear.host,
            source_set: clear.source_set.clone(),
            sequence: clear.sequence,
            root: clear.root,
            outcome: clear.outcome,
            suspect,
        }
    }
}

tagged! {
    /// Where a snapshot is on its way out.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum SnapshotState {
        /// Not on it.
        1 => Live,
        /// Forgotten, and can come back.
        2 => Trash,
        /// Gone.
        3 => Purged,
    }
}

tagged! {
    /// Who may use a grant.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum GrantTarget {
        /// An enrolled host, with its certificate.
        1 => Host(HostId),
        /// Whoever is at the coordinator's local socket.
        2 => LocalClient,
    }
}

tagged! {
    /// How a job ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum JobOutcome {
        /// With a snapshot.
        1 => Committed(Outcome),
        /// Without one.
        2 => Failed,
        /// Without one, because an operator cancelled it.
        3 => Cancelled,
    }
}

/// A lost record: 1 and a chunk id, or 2 and a node id.
impl Field for Target {
    fn put(&self, to: &mut Encoder) {
        match self {
            Self::Chunk(id) => to.u8(1).raw(id.as_bytes()),
            Self::Node(id) => to.u8(2).raw(id.as_bytes()),
        };
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        match from.u8(field)? {
            1 => Field::take(from, field).map(Self::Chunk),
            2 => Field::take(from, field).map(Self::Node),
            tag => Err(FormatError::field(from.what(), field, tag, "1 (chunk) or 2 (node)")),
        }
    }
}
