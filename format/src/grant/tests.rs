//! A grant serves one tree and one target for a while, and an order for it binds the operators who signed it.

use super::*;
use crate::id::{HostId, NodeId};
use crate::sign::VerifyingKey;
use proptest::prelude::*;
use std::sync::LazyLock;

const NOW: i64 = 1_790_000_000_000_000_000;
const HOUR: i64 = 3600 * 1_000_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn target() -> Identity {
    Identity::from_bytes(&[4; 32]).unwrap()
}

/// Operators have the keys 1 and 2, the log has 5, the recovery operator 9.
fn trust_file() -> TrustFile {
    let mut operators: Vec<VerifyingKey> = [1, 2].map(|seed| key(seed).verifying_key()).to_vec();
    operators.sort();
    let trust = Trust {
        repository: RepositoryId::from_bytes([7; 16]),
        number: 1,
        previous: None,
        ca_certificates: vec![b"certificate".to_vec()],
        restore_recipients: vec![target().recipient()],
        recovery_recipients: vec![target().recipient()],
        operators,
        quorum: 1,
        recovery_operator: key(9).verifying_key(),
        log_keys: vec![key(5).verifying_key()],
        scopes: Vec::new(),
        addresses: Vec::new(),
        writes_format: 1,
        writes_encoder: 1,
        extension: Vec::new(),
    };
    TrustFile::sign(&trust, &[&key(1)]).unwrap()
}

fn order() -> GrantOrder {
    GrantOrder {
        repository: RepositoryId::from_bytes([7; 16]),
        snapshot: SnapshotId::from_bytes([1; 32]),
        target: GrantTarget::Host(HostId::new(3)),
        recipient: target().recipient(),
        directory: "staging".into(),
        purpose: "disk died".into(),
        issued_ns: NOW,
        expires_ns: NOW + HOUR,
        nonce: [6; 16],
    }
}

fn signed_by(signers: &[&SigningKey]) -> SignedOrder {
    SignedOrder::sign(&order(), signers).unwrap()
}

fn keys() -> GrantKeys {
    let scopes = vec![(Scope::new(1), OpenKeys::from_parts([1; 32], [2; 32]))];
    let coverage = Coverage::new(vec![b"etc".to_vec()], vec![b"etc/lost".to_vec()], true);
    GrantKeys { root_content: ContentHash::from_bytes([8; 32]), scopes, coverage }
}

fn clear() -> GrantClear {
    let root = RootRef { id: NodeId::from_bytes([9; 32]), height: 2, scope: Scope::new(1) };
    GrantClear { number: 1, snapshot: SnapshotNumber::new(40), root }
}

fn grant() -> Grant {
    Grant::make(&clear(), &signed_by(&[&key(1)]), &keys(), &key(5)).unwrap()
}

#[test]
fn a_grant_reads_back_without_a_key_and_opens_for_its_target_alone() {
    let read = Grant::parse(&grant().to_bytes()).unwrap();
    assert_eq!(read.clear(), &clear());
    assert_eq!(read.order().order(), &order());
    assert!(read.verify(&trust_file(), 1, NOW).is_ok());
    let opened = read.open(&target()).unwrap();
    assert_eq!(opened.to_bytes(), keys().to_bytes());
    assert_eq!(read.open(&Identity::generate()).map(|_| ()), Err(FormatError::NoKey { what: "sealed secret" }));
}

#[test]
fn an_order_needs_as_many_operators_as_the_policy_says_or_the_recovery_operator() {
    let obeyed = |signers: &[&SigningKey], needed| signed_by(signers).verify(trust_file().trust(), needed, NOW).is_ok();
    assert!(obeyed(&[&key(1)], 1));
    assert!(obeyed(&[&key(1), &key(2)], 2));
    assert!(obeyed(&[&key(9)], 2));
    assert!(!obeyed(&[&key(1)], 2));
    assert!(!obeyed(&[&key(5)], 1), "the coordinator orders nothing by itself");
    assert!(!obeyed(&[], 0), "no policy makes an unsigned order good");
}

#[test]
fn an_order_ends_and_lives_seven_days_at_most() {
    assert!(signed_by(&[&key(1)]).verify(trust_file().trust(), 1, NOW + HOUR - 1).is_ok());
    assert!(signed_by(&[&key(1)]).verify(trust_file().trust(), 1, NOW + HOUR).is_err());
    for expires_ns in [NOW, NOW - 1, NOW + GRANT_LIFE_NS_MAX + 1, i64::MIN, i64::MAX] {
        assert!(SignedOrder::sign(&GrantOrder { expires_ns, ..order() }, &[&key(1)]).is_err(), "{expires_ns}");
    }
    assert!(SignedOrder::sign(&GrantOrder { expires_ns: NOW + GRANT_LIFE_NS_MAX, ..order() }, &[&key(1)]).is_ok());
}

#[test]
fn a_grant_by_a_stranger_or_for_another_repository_is_not_acted_on() {
    let order = signed_by(&[&key(1)]);
    assert!(Grant::make(&clear(), &order, &keys(), &key(1)).unwrap().verify(&trust_file(), 1, NOW).is_ok());
    assert!(Grant::make(&clear(), &order, &keys(), &key(6)).unwrap().verify(&trust_file(), 1, NOW).is_err());
    let foreign = GrantOrder { repository: RepositoryId::from_bytes([8; 16]), ..super::tests::order() };
    let foreign = SignedOrder::sign(&foreign, &[&key(1)]).unwrap();
    assert!(Grant::make(&clear(), &foreign, &keys(), &key(5)).unwrap().verify(&trust_file(), 1, NOW).is_err());
}

#[test]
fn inv_13_what_is_sealed_in_a_grant_opens_under_its_own_outside_alone() {
    let moved = Grant { clear: GrantClear { number: 2, ..clear() }, ..grant() };
    assert!(moved.open(&target()).is_err());
}

#[test]
fn every_changed_byte_of_a_grant_is_found() {
    let bytes = grant().to_bytes();
    let trust_file = trust_file();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(Grant::parse(&changed).and_then(|read| read.verify(&trust_file, 1, NOW)).is_err(), "byte {at}");
    }
}

#[test]
fn inv_40_what_a_grant_opens_does_not_print_itself() {
    let printed = format!("{:?}", keys());
    assert!(printed.contains("ContentHash(…)") && printed.contains("OpenKeys(…)"), "{printed}");
}

proptest! {
    #[test]
    fn inv_09_no_bytes_make_the_readers_panic(mut bytes: Vec<u8>, cut: usize) {
        let _ = Grant::parse(&bytes);
        let _ = SignedOrder::parse(&bytes);
        let _ = GrantKeys::parse(&bytes);
        static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| grant().to_bytes());
        let good = &*GOOD;
        let mut mixed = good[..cut % good.len()].to_vec();
        mixed.append(&mut bytes);
        let _ = Grant::parse(&mixed);
    }
}

fn terms() -> RestoreTerms {
    RestoreTerms { paths: vec![b"etc".to_vec(), Vec::new()], strip: Some(1), ..RestoreTerms::default() }
}

#[test]
fn inv_42_terms_bind_one_order_and_the_operators_who_signed() {
    let (order, trust) = (signed_by(&[&key(1)]), trust_file());
    let signed = SignedTerms::sign(&order, &terms(), &[&key(1)]).unwrap();
    let read = SignedTerms::parse(&signed.to_bytes()).unwrap();
    assert_eq!(read, signed);
    assert!(read.verify(&order, trust.trust(), 1).is_ok());
    assert!(read.verify(&order, trust.trust(), 2).is_err(), "two are needed");
    let other = SignedOrder::sign(&GrantOrder { nonce: [9; 16], ..self::order() }, &[&key(1)]).unwrap();
    assert!(read.verify(&other, trust.trust(), 1).is_err(), "another order");
    let stranger = SignedTerms::sign(&order, &terms(), &[&key(3)]).unwrap();
    assert!(stranger.verify(&order, trust.trust(), 1).is_err());
    let bytes = signed.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let holds = SignedTerms::parse(&changed).is_ok_and(|terms| terms.verify(&order, trust.trust(), 1).is_ok());
        assert!(!holds, "byte {at}");
    }
}

#[test]
fn terms_that_contradict_themselves_are_refused() {
    let of = |terms: RestoreTerms| SignedTerms::sign(&signed_by(&[&key(1)]), &terms, &[&key(1)]).is_ok();
    assert!(of(terms()));
    assert!(!of(RestoreTerms { paths: Vec::new(), ..terms() }));
    assert!(!of(RestoreTerms { paths: vec![b"a/../b".to_vec()], ..terms() }));
    assert!(!of(RestoreTerms { delete: true, ..terms() }));
    let mirror = RestoreTerms { delete: true, existing: Existing::Overwrite, ..terms() };
    assert!(of(mirror.clone()) && !of(RestoreTerms { exclude: vec!["x".into()], ..mirror }));
}
