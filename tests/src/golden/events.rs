//! One of every event that a journal may hold and that the golden history does not make by itself, by every kind of
//! principal: so a reader of version 1 meets all of them. What they name is nowhere else.

use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId, PackId, Scope, SnapshotNumber};
use lifeboat_format::journal::event::{GrantTarget, HostState, JobOutcome, SnapshotState};
use lifeboat_format::journal::{Decision, Event, Principal};
use lifeboat_format::link::Target;
use lifeboat_format::manifest::Outcome;
use lifeboat_format::token::{TokenRecord, TokenTerms, WrappedSecret};

const DIGEST: Digest = Digest::from_bytes([0xd1; 32]);
const PACK: PackId = PackId::from_bytes([0xba; 32]);
const HOST: HostId = HostId::new(2);
/// A snapshot that the golden history has.
const SNAPSHOT: SnapshotNumber = SnapshotNumber::new(6);

/// Who did it, and what it was.
pub fn all_others() -> Vec<(Principal, Decision, Event)> {
    let principals = [
        Principal::LocalRoot,
        Principal::Operator(DIGEST),
        Principal::Host(HOST),
        Principal::Coordinator,
        Principal::Token(7),
    ];
    let refused = (Principal::LocalRoot, Decision::Refused { reason: "not now".into() }, Event::Refused { count: 3 });
    let events = [hosts(), packs(), snapshots(), grants(), jobs()].concat();
    let done = principals.into_iter().cycle().zip(events).map(|(who, event)| (who, Decision::Done, event));
    done.chain([refused]).collect()
}

fn hosts() -> Vec<Event> {
    vec![
        Event::Nothing,
        Event::Incarnation { number: 1 },
        Event::TokenCreated(token()),
        Event::HostState { host: HOST, state: HostState::Active },
        Event::CertificateIssued { host: HOST, fingerprint: DIGEST, ends_ns: i64::MAX },
    ]
}

fn token() -> TokenRecord {
    let secret = WrappedSecret { scope: Scope::new(1), first: true, wrapped: vec![1; 60], secret_hash: DIGEST };
    TokenRecord {
        number: 7,
        auth_hash: DIGEST,
        terms: TokenTerms {
            site: "emea".into(),
            name_pattern: "*".into(),
            group: "all".into(),
            expires_ns: 1,
            uses: 1,
        },
        secrets: vec![secret],
        mac_key: Identity::from_bytes(&[1; 32]).unwrap().recipient().to_string().into_bytes(),
    }
}

fn packs() -> Vec<Event> {
    let (chunk, node) = (ChunkId::from_bytes([0xc; 32]), NodeId::from_bytes([0xe; 32]));
    vec![
        Event::Witnessed { pack: PACK, records: vec![0, 3, 200] },
        Event::PackDead { pack: PACK },
        Event::Loss { pack: PACK, records: vec![Target::Chunk(chunk), Target::Node(node)] },
    ]
}

fn snapshots() -> Vec<Event> {
    let snapshot = SNAPSHOT;
    vec![
        Event::SnapshotState { snapshot, state: SnapshotState::Trash },
        Event::SnapshotState { snapshot, state: SnapshotState::Live },
        Event::SnapshotState { snapshot: SnapshotNumber::new(1), state: SnapshotState::Purged },
        Event::SnapshotAccepted { snapshot },
        Event::SnapshotHeld { snapshot, held: true },
        Event::SnapshotLocked { snapshot, until_ns: -1 },
    ]
}

fn grants() -> Vec<Event> {
    let made = |target| Event::GrantMade { grant: 1, snapshot: SNAPSHOT, target, order: DIGEST, expires_ns: 5 };
    vec![
        Event::RequestMade { request: 1 },
        Event::RequestApproved { request: 1 },
        Event::RequestStopped { request: 1 },
        made(GrantTarget::Host(HOST)),
        made(GrantTarget::LocalClient),
        Event::GrantOpened { grant: 1 },
    ]
}

fn jobs() -> Vec<Event> {
    let ended = |outcome| {
        let (job, source_set, message) = ("job-1".into(), "system".into(), "grüße".into());
        Event::JobEnded { job, host: HOST, source_set, outcome, message }
    };
    vec![
        Event::BackupOrdered { job: "job-1".into(), host: HOST, source_set: "system".into() },
        ended(JobOutcome::Committed(Outcome::Checkpoint)),
        ended(JobOutcome::Failed),
    ]
}
