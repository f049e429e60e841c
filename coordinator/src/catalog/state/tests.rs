//! A replay of all records gives what a checkpoint at any of them and a replay of the rest give.

use super::*;
use crate::catalog::refused::{ENROL, FOLLOW, TWIN, enrolment_object};
use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{ChunkId, Digest, NodeId, SnapshotId};
use lifeboat_format::journal::event::{
    AddedPack, Custody, GrantTarget, GrantedSnapshot, Holds, HostEnrolled, HostState, JobOutcome, SnapshotState,
};
use lifeboat_format::journal::{Act, Decision, Event, Principal, Record};
use lifeboat_format::manifest::{Outcome, RootRef};
use lifeboat_format::sign::SigningKey;
use lifeboat_format::token::{TokenRecord, TokenTerms};
use std::collections::BTreeSet;

const A: HostId = HostId::new(1);
const B: HostId = HostId::new(2);

/// The kind of an event. The compiler asks for a new kind here, and this list then asks for it in the history below.
fn kind(event: &Event) -> u8 {
    match event {
        Event::Nothing => 0,
        Event::RepositoryCreated { .. } => 1,
        Event::Incarnation { .. } => 2,
        Event::TrustFile { .. } => 3,
        Event::ScopeMade { .. } => 4,
        Event::TokenCreated(_) => 5,
        Event::HostEnrolled(_) => 6,
        Event::HostState { .. } => 7,
        Event::CertificateIssued { .. } => 8,
        Event::PacksAdded { .. } => 9,
        Event::Witnessed { .. } => 10,
        Event::PackDead { .. } => 11,
        Event::Loss { .. } => 12,
        Event::SnapshotCommitted(_) => 13,
        Event::SnapshotState { .. } => 14,
        Event::SnapshotAccepted { .. } => 15,
        Event::SnapshotHeld { .. } => 16,
        Event::SnapshotLocked { .. } => 17,
        Event::RequestMade { .. } => 18,
        Event::RequestApproved { .. } => 19,
        Event::RequestStopped { .. } => 20,
        Event::GrantsMade { .. } => 21,
        Event::GrantOpened { .. } => 22,
        Event::Refused { .. } => 23,
        Event::BackupOrdered { .. } => 24,
        Event::JobEnded { .. } => 25,
        Event::LossWithdrawn { .. } => 26,
        Event::LossGivenUp { .. } => 27,
        Event::RestoreTested { .. } => 28,
        Event::ClockConfirmed { .. } => 29,
        Event::RequestContent { .. } => 30,
        Event::Policy { .. } => 31,
        Event::JournalCheckpoint { .. } => 32,
        Event::EntropyAlarm { .. } => 33,
        Event::HistoryDiverged { .. } => 34,
        Event::HistoryAccepted { .. } => 35,
        Event::TokenReplaces { .. } => 36,
        Event::Unknown { .. } => 37,
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn pack(number: u8) -> PackId {
    PackId::from_bytes([number; 32])
}

fn chunk(number: u8) -> Target {
    Target::Chunk(ChunkId::from_bytes([number; 32]))
}

fn node(number: u8) -> Target {
    Target::Node(NodeId::from_bytes([number; 32]))
}

fn enrolled(host: HostId, seed: u8, token: u64) -> Event {
    Event::HostEnrolled(HostEnrolled {
        host,
        name: format!("host-{host}"),
        site: "emea/berlin".into(),
        group: "all".into(),
        signing_key: SigningKey::from_seed(&[seed; 32]).verifying_key(),
        box_recipient: Identity::from_bytes(&[seed; 32]).unwrap().recipient(),
        tls_key: digest("tls"),
        token,
    })
}

fn token(number: u64) -> Event {
    let terms =
        TokenTerms { site: String::new(), name_pattern: "web-*".into(), group: "all".into(), expires_ns: 9, uses: 3 };
    let (secrets, mac_key, extension) = (Vec::new(), vec![1, 2, 3], Vec::new());
    Event::TokenCreated(TokenRecord { number, auth_hash: digest("auth"), terms, secrets, mac_key, extension })
}

fn committed(number: u8, host: HostId, sequence: u64, suspect: Option<&str>) -> Event {
    Event::SnapshotCommitted(SnapshotCommitted {
        snapshot: SnapshotId::from_bytes([number; 32]),
        host,
        source_set: "system".into(),
        sequence,
        root: RootRef { id: NodeId::from_bytes([number; 32]), height: 2, scope: Scope::new(1) },
        outcome: Outcome::Gaps,
        suspect: suspect.map(str::to_owned),
    })
}

fn job_ended(outcome: JobOutcome) -> Event {
    let (job, source_set, message) = ("B3F-7K2".to_owned(), "mail".to_owned(), "the hook failed".to_owned());
    Event::JobEnded { job, host: A, source_set, outcome, message }
}

/// Every event once at least, and such as change what others made.
#[rustfmt::skip]
fn history() -> Vec<Act> {
    let act = |event| (Principal::LocalRoot, "test", "test".to_owned(), Decision::Done, event);
    let refused = |principal, verb, object: &str, count| {
        (principal, verb, object.to_owned(), Decision::Refused { reason: "spent".into() }, Event::Refused { count })
    };
    let number = |number| SnapshotNumber::new(number);
    let mut acts = vec![
        act(Event::RepositoryCreated { custody: Custody::Managed, trust_file: digest("one") }),
        act(Event::Incarnation { number: 1 }),
        act(Event::ScopeMade { scope: Scope::new(1), group: "all".into(), first: true }),
        act(token(1)),
        act(token(2)),
        act(enrolled(A, 1, 1)),
        act(enrolled(B, 2, 1)),
        // Record 8 is snapshot 8, and so on.
        act(committed(1, A, 1, None)),
        act(committed(2, A, 2, Some("halved"))),
        act(committed(3, B, 1, Some("empty"))),
        act(Event::TokenReplaces { token: 2, host: A }),
        act(Event::CertificateIssued { host: A, fingerprint: digest("first"), ends_ns: 5 }),
        act(enrolled(A, 3, 2)),
        act(Event::CertificateIssued { host: A, fingerprint: digest("second"), ends_ns: 7 }),
        act(Event::HostState { host: B, state: HostState::Retired }),
        act(Event::TrustFile { number: 2, digest: digest("two") }),
        act(Event::PacksAdded { packs: vec![
            AddedPack { pack: pack(9), holds: Holds::Chunks },
            AddedPack { pack: pack(1), holds: Holds::Nodes },
            AddedPack { pack: pack(5), holds: Holds::NodeCopies },
        ] }),
        act(Event::Witnessed { pack: pack(9), records: vec![0, 4] }),
        act(Event::Loss { pack: pack(9), records: vec![node(3), chunk(7), chunk(2)] }),
        act(Event::Loss { pack: pack(1), records: vec![node(1)] }),
        act(Event::Loss { pack: pack(5), records: vec![node(2)] }),
        act(Event::LossWithdrawn { pack: pack(9), records: vec![chunk(7)] }),
        act(Event::LossWithdrawn { pack: pack(1), records: vec![node(1)] }),
        act(Event::LossGivenUp { records: vec![chunk(2)] }),
        act(Event::PackDead { pack: pack(5) }),
        act(Event::PacksAdded { packs: vec![AddedPack { pack: pack(9), holds: Holds::Chunks }] }),
        act(Event::SnapshotState { snapshot: number(8), state: SnapshotState::Purged }),
        act(Event::SnapshotState { snapshot: number(10), state: SnapshotState::Trash }),
        act(Event::SnapshotAccepted { snapshot: number(9) }),
        act(Event::SnapshotHeld { snapshot: number(9), held: true }),
        act(Event::SnapshotLocked { snapshot: number(10), until_ns: 77 }),
        act(Event::RequestMade { request: 1 }),
        act(Event::RequestContent { request: 1, content: vec![0, 0] }),
        act(Event::RequestApproved { request: 1 }),
        act(Event::RequestStopped { request: 1 }),
        act(Event::GrantsMade {
            first: 1,
            snapshots: [9, 10].map(|at| GrantedSnapshot { snapshot: number(at), order: digest("order") }).to_vec(),
            target: GrantTarget::Host(B),
            expires_ns: 12,
        }),
        act(Event::GrantOpened { grant: 2 }),
        refused(Principal::Coordinator, ENROL, &enrolment_object("web-7", 3), 2),
        refused(Principal::Coordinator, ENROL, &enrolment_object("web-8", 3), 1),
        refused(Principal::Host(A), FOLLOW, TWIN, 4),
        act(Event::BackupOrdered { job: "B3F-7K2".into(), host: A, source_set: "mail".into() }),
        act(job_ended(JobOutcome::Failed)),
        act(Event::RestoreTested { snapshot: number(9), passed: true, message: String::new() }),
        act(Event::ClockConfirmed { time_ns: 3 }),
        act(Event::Policy { name: "keep".into(), number: 1, content: vec![1] }),
        act(Event::EntropyAlarm { snapshot: number(9), message: "all of it".into() }),
        act(Event::HistoryDiverged { host: A, number: 900, hash: digest("head") }),
        act(Event::HistoryDiverged { host: B, number: 900, hash: digest("other head") }),
        act(Event::HistoryAccepted { number: 900, hash: digest("head") }),
        act(Event::Nothing),
        act(Event::Unknown { kind: 101, fields: vec![1, 2] }),
    ];
    acts.extend((1..=3).map(|number| act(Event::JournalCheckpoint { number, digest: digest("checkpoint") })));
    (1..).zip(acts).map(|(time_ns, (principal, verb, object, decision, event))| {
        Act { time_ns, principal, verb: verb.into(), object, decision, event }
    }).collect()
}

fn replay(catalog: &mut Catalog, acts: &[Act]) {
    for act in acts {
        catalog.apply(&Record { sequence: catalog.applied() + 1, act: act.clone() }).unwrap();
    }
}

#[test]
fn inv_75_a_checkpoint_at_any_record_and_the_rest_give_what_all_records_give() {
    let history = history();
    let kinds: BTreeSet<u8> = history.iter().map(|act| kind(&act.event)).collect();
    assert_eq!(kinds, (0..=37).collect(), "every kind of event is in the history");
    let mut whole = Catalog::new();
    replay(&mut whole, &history);
    let mut before = Catalog::new();
    for at in 0..=history.len() {
        let state = before.to_state();
        let mut resumed = Catalog::from_state(state.clone()).unwrap();
        assert_eq!(resumed, before, "after record {at}");
        assert_eq!(resumed.to_state().digest(), state.digest(), "after record {at}");
        replay(&mut resumed, &history[at..]);
        assert_eq!(resumed, whole, "from record {at} on");
        if let Some(act) = history.get(at) {
            replay(&mut before, std::slice::from_ref(act));
        }
    }
}

#[test]
fn inv_75_every_table_of_the_state_has_rows_in_that_history() {
    let mut whole = Catalog::new();
    replay(&mut whole, &history());
    let state = whole.to_state();
    let rows = [
        state.scopes.0.len(),
        state.tokens.0.len(),
        state.hosts.0.len(),
        state.snapshots.0.len(),
        state.source_sets.0.len(),
        state.packs.0.len(),
        state.dead.0.len(),
        state.losses.0.len(),
        state.grants.0.len(),
        state.diverged.0.len(),
        state.given_up.0.len(),
        state.refused_enrolments.0.len(),
        state.refused_agents.0.len(),
        state.checkpoints.0.len(),
    ];
    assert_eq!(rows, [1, 2, 2, 3, 3, 2, 1, 1, 2, 1, 1, 2, 1, 2]);
    assert_eq!(state.hosts.0[0].former_keys.0.len(), 1);
}

#[test]
fn a_state_with_a_row_twice_is_refused() {
    let mut whole = Catalog::new();
    replay(&mut whole, &history());
    let twice = |change: fn(&mut State)| {
        let mut state = whole.to_state();
        change(&mut state);
        Catalog::from_state(state).is_none()
    };
    assert!(!twice(|_| {}));
    assert!(twice(|state| state.snapshots.0.push(state.snapshots.0[0].clone())));
    assert!(twice(|state| state.hosts.0.push(state.hosts.0[0].clone())));
    assert!(twice(|state| state.packs.0.push(state.packs.0[0])));
    assert!(twice(|state| state.grants.0.push(state.grants.0[0])));
}
