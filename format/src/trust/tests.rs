//! Who may follow whom: a successor of a trust file, and everything that is none.

use super::*;
use crate::envelope::Identity;
use proptest::prelude::*;
use std::sync::LazyLock;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn sorted(mut keys: Vec<VerifyingKey>) -> Vec<VerifyingKey> {
    keys.sort();
    keys
}

fn recipient(seed: u8) -> Recipient {
    Identity::from_bytes(&[seed; 32]).unwrap().recipient()
}

/// Of three operators (keys 1, 2, 3), two of whom make a quorum; key 9 is the recovery operator's.
fn trust() -> Trust {
    Trust {
        repository: RepositoryId::from_bytes([7; 16]),
        number: 1,
        previous: None,
        ca_certificates: vec![b"certificate".to_vec()],
        restore_recipients: vec![recipient(1)],
        recovery_recipients: vec![recipient(2)],
        operators: sorted((1..=3).map(|seed| key(seed).verifying_key()).collect()),
        quorum: 2,
        recovery_operator: key(9).verifying_key(),
        log_keys: vec![key(5).verifying_key()],
        scopes: vec![TrustedScope {
            scope: Scope::new(1),
            group: "all".into(),
            first: true,
            secret_hash: secret_hash(&GroupSecret::from_bytes([3; 32])),
        }],
        addresses: vec!["backup.example:7420".into()],
        writes_format: 1,
        writes_encoder: 1,
        extension: Vec::new(),
    }
}

fn first() -> TrustFile {
    TrustFile::sign(&trust(), &[&key(1), &key(2)]).unwrap()
}

/// The file after the first, with a change, signed by `signers`.
fn second(change: impl FnOnce(&mut Trust), signers: &[&SigningKey]) -> TrustFile {
    let mut trust = Trust { number: 2, previous: Some(first().digest()), ..trust() };
    change(&mut trust);
    TrustFile::sign(&trust, signers).unwrap()
}

#[test]
fn a_trust_file_reads_back_and_holds_under_its_digest_alone() {
    let read = TrustFile::parse(&first().to_bytes()).unwrap();
    assert_eq!(read, first());
    assert_eq!(read.trust(), &trust());
    assert!(read.verify_first(&first().digest()).is_ok());
    assert!(read.verify_first(&Digest::of(b"another")).is_err());
    assert!(read.names_secret(Scope::new(1), &GroupSecret::from_bytes([3; 32])));
    assert!(!read.names_secret(Scope::new(1), &GroupSecret::from_bytes([4; 32])));
}

#[test]
fn inv_58_a_successor_needs_the_quorum_of_the_file_before_or_its_recovery_operator() {
    let accepted = |signers: &[&SigningKey]| second(|_| {}, signers).verify_successor(&first()).is_ok();
    assert!(accepted(&[&key(1), &key(3)]));
    assert!(accepted(&[&key(9)]));
    assert!(!accepted(&[]));
    assert!(!accepted(&[&key(1)]));
    assert!(!accepted(&[&key(1), &key(5)]), "the log key is no operator");
}

#[test]
fn inv_58_a_coordinator_cannot_make_itself_an_operator_or_a_recipient() {
    let take_over = |trust: &mut Trust| {
        trust.operators = vec![key(5).verifying_key()];
        trust.quorum = 1;
        trust.recovery_operator = key(5).verifying_key();
        trust.restore_recipients.push(recipient(5));
    };
    let forged = second(take_over, &[&key(5)]);
    assert!(forged.verify_first(&forged.digest()).is_ok(), "it is whole by itself");
    assert!(forged.verify_successor(&first()).is_err());
    assert!(forged.verify_first(&first().digest()).is_err());
}

#[test]
fn inv_58_one_signature_given_twice_is_refused() {
    let two = [&key(1), &key(1)];
    assert!(TrustFile::sign(&trust(), &two).is_err());
}

#[test]
fn inv_58_no_file_goes_back_skips_forks_or_forgets() {
    let signers = [&key(1), &key(2)];
    let broken: [fn(&mut Trust); 6] = [
        |trust| trust.number = 3,
        |trust| trust.previous = Some(Digest::of(b"another")),
        |trust| trust.repository = RepositoryId::from_bytes([8; 16]),
        |trust| trust.log_keys = vec![key(6).verifying_key()],
        |trust| trust.scopes.clear(),
        |trust| trust.scopes[0].secret_hash = Digest::of(b"another"),
    ];
    for (at, change) in broken.into_iter().enumerate() {
        assert!(second(change, &signers).verify_successor(&first()).is_err(), "change {at}");
    }
    let good = second(|trust| trust.log_keys.insert(0, key(6).verifying_key()), &signers);
    assert!(good.verify_successor(&first()).is_ok());
    assert!(first().verify_successor(&good).is_err());
    assert!(first().verify_successor(&first()).is_err());
}

#[test]
fn a_file_that_locks_everybody_out_is_not_written() {
    let broken: [fn(&mut Trust); 8] = [
        |trust| trust.number = 0,
        |trust| (trust.number, trust.previous) = (0, Some(Digest::of(b"before"))),
        |trust| trust.quorum = 0,
        |trust| trust.quorum = 4,
        |trust| trust.recovery_recipients.clear(),
        |trust| trust.ca_certificates.clear(),
        |trust| trust.log_keys.clear(),
        |trust| trust.operators.reverse(),
    ];
    for (at, change) in broken.into_iter().enumerate() {
        let mut trust = trust();
        change(&mut trust);
        assert!(TrustFile::sign(&trust, &[&key(1), &key(2)]).is_err(), "change {at}");
    }
}

#[test]
fn every_changed_byte_of_a_trust_file_is_found() {
    let good = first();
    let bytes = good.to_bytes();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let accepted = TrustFile::parse(&changed).and_then(|read| read.verify_first(&good.digest()));
        assert!(accepted.is_err(), "byte {at}");
        let intact = TrustFile::parse(&changed).and_then(|read| read.verify_intact());
        assert!(intact.is_err(), "byte {at}: found without knowing the digest");
    }
    assert_eq!(good.verify_intact(), Ok(()));
}

proptest! {
    #[test]
    fn inv_09_no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, cut: usize) {
        let _ = TrustFile::parse(&bytes);
        static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| first().to_bytes());
        let good = &*GOOD;
        let mut mixed = good[..cut % good.len()].to_vec();
        mixed.append(&mut bytes);
        let _ = TrustFile::parse(&mixed);
    }
}
