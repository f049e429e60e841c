//! One of every event that a journal may hold and that the golden history does not make by itself, by every kind of
//! principal: so a reader of version 1 meets all of them. What they name is nowhere else.

use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId, PackId, Scope, SnapshotNumber};
use lifeboat_format::journal::event::{GrantTarget, GrantedSnapshot, HostState, JobOutcome, SnapshotState};
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
        Event::ClockConfirmed { time_ns: 1_790_000_000_000_000_000 },
        Event::Policy { name: "offices".into(), number: 1, content: b"night = \"01:00\"".to_vec() },
        Event::JournalCheckpoint { number: 1, digest: DIGEST },
        Event::HistoryDiverged { host: HOST, number: 9, hash: DIGEST },
        Event::HistoryAccepted { number: 9, hash: DIGEST },
        Event::Unknown { kind: 100, fields: b"of a later version".to_vec() },
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
        extension: Vec::new(),
    }
}

fn packs() -> Vec<Event> {
    let (chunk, node) = (ChunkId::from_bytes([0xc; 32]), NodeId::from_bytes([0xe; 32]));
    vec![
        Event::Witnessed { pack: PACK, records: vec![0, 3, 200] },
        Event::Loss { pack: PACK, records: vec![Target::Chunk(chunk), Target::Node(node)] },
        Event::LossWithdrawn { pack: PACK, records: vec![Target::Chunk(chunk)] },
        Event::LossGivenUp { records: vec![Target::Node(node)] },
        Event::PackDead { pack: PACK },
    ]
}

fn snapshots() -> Vec<Event> {
    let snapshot = SNAPSHOT;
    vec![
        Event::SnapshotState { snapshot, state: SnapshotState::Trash },
        Event::SnapshotState { snapshot, state: SnapshotState::Live },
        Event::SnapshotAccepted { snapshot },
        Event::SnapshotHeld { snapshot, held: true },
        Event::SnapshotLocked { snapshot, until_ns: -1 },
        Event::RestoreTested { snapshot, passed: true, message: String::new() },
        Event::EntropyAlarm { snapshot, message: "files look encrypted".into() },
    ]
}

fn grants() -> Vec<Event> {
    let granted = GrantedSnapshot { snapshot: SNAPSHOT, order: DIGEST };
    let made = |first, snapshots, target| Event::GrantsMade { first, snapshots, target, expires_ns: 5 };
    vec![
        Event::RequestMade { request: 1 },
        Event::RequestApproved { request: 1 },
        Event::RequestStopped { request: 1 },
        Event::RequestContent { request: 1, content: vec![23, 8, 3, 0, 0, 0, 0, 0, 0, 0] },
        made(1, vec![granted], GrantTarget::Host(HOST)),
        made(2, vec![granted; 2], GrantTarget::LocalClient),
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
