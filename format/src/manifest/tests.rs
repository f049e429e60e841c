//! A manifest reads back without a key, and opens only with the right one and under its own clear part.

use super::*;
use crate::envelope::{Envelope, Identity};
use crate::key::ContentHash;
use proptest::prelude::*;
use std::sync::LazyLock;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([7; 16]);

fn clear() -> Clear {
    Clear {
        repository: REPOSITORY,
        host: HostId::new(3),
        source_set: "system".into(),
        sequence: 2,
        previous: Some(SnapshotId::from_bytes([5; 32])),
        root: RootRef { id: NodeId::from_bytes([9; 32]), height: 2, scope: Scope::new(1) },
        started_ns: 1_790_000_000_000_000_000,
        ended_ns: 1_790_000_060_000_000_000,
        outcome: Outcome::Gaps,
        counts: Counts { entries: 9, files: 7, content_bytes: 1 << 40, read_bytes: 70, sent_bytes: 30, gaps: 1 },
        agent_version: "0.1.0".into(),
        encoder: 1,
        parts: vec![Part { id: 3, entries: 9, files: 7, bytes: 1 << 40 }],
        extension: Vec::new(),
    }
}

fn part() -> SealedPart {
    let mut part = SealedPart::new(
        ContentHash::from_bytes([8; 32]),
        [4, 1, 4].map(Scope::new),
        [b"var/mail".to_vec(), b"srv".to_vec()],
    );
    assert!(part.name_gap(b"srv/\xff", "permission\ndenied"));
    part
}

fn sealed() -> (Manifest, ManifestKey) {
    Manifest::seal(&clear(), &part(), &host()).unwrap()
}

fn host() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

#[test]
fn a_manifest_reads_back_without_a_key_and_opens_with_the_one_in_its_envelope() {
    let (manifest, key) = sealed();
    let recovery = Identity::generate();
    let envelope = Envelope::seal(REPOSITORY, manifest.id(), &key, &[recovery.recipient()]).unwrap();
    let read = Manifest::parse(manifest.as_bytes()).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(read.clear(), &clear());
    read.verify(&host().verifying_key()).unwrap();
    let key = Envelope::parse(&envelope.to_bytes()).unwrap().open(&recovery).unwrap();
    let opened = read.open(&key).unwrap();
    assert_eq!(opened, part());
    assert_eq!(opened.sources(), [b"srv".to_vec(), b"var/mail".to_vec()]);
    assert_eq!(opened.scopes(), [Scope::new(1), Scope::new(4)]);
    assert_eq!(opened.gaps()[0].reason, "permission denied");
}

#[test]
fn every_changed_byte_of_a_manifest_is_found() {
    let (manifest, _) = sealed();
    for at in 0..manifest.as_bytes().len() {
        let mut bytes = manifest.as_bytes().to_vec();
        bytes[at] ^= 0x10;
        let accepted = Manifest::parse(&bytes).and_then(|read| read.verify(&host().verifying_key()));
        assert!(accepted.is_err(), "byte {at}");
    }
}

#[test]
fn inv_13_a_sealed_part_opens_only_under_its_own_clear_part() {
    let (manifest, key) = sealed();
    let other = Clear { sequence: 3, ..clear() };
    let mut encoder = layout::begin(MAGIC);
    other.put(&mut encoder);
    encoder.bytes(&manifest.sealed).raw(&[0; 64]);
    let moved = Manifest::parse(&encoder.finish()).unwrap();
    assert!(moved.open(&key).is_err());
}

#[test]
fn inv_43_a_manifest_that_breaks_its_chain_or_its_word_is_not_made() {
    let broken = [
        Clear { sequence: 1, ..clear() },
        Clear { sequence: 0, previous: None, ..clear() },
        Clear { sequence: 0, ..clear() },
        Clear { previous: None, ..clear() },
        Clear { host: HostId::new(0), ..clear() },
        Clear { source_set: "../etc".into(), ..clear() },
        Clear { outcome: Outcome::Complete, ..clear() },
        Clear { agent_version: "\u{1b}[2J".into(), ..clear() },
        Clear { parts: vec![clear().parts[0]; 2], ..clear() },
        Clear { root: RootRef { height: 17, ..clear().root }, ..clear() },
    ];
    for clear in broken {
        assert!(Manifest::seal(&clear, &part(), &host()).is_err(), "{clear:?}");
    }
}

#[test]
fn gaps_without_room_are_not_named_and_the_manifest_is_still_written() {
    let mut part = SealedPart::new(ContentHash::from_bytes([8; 32]), [], []);
    let path = vec![b'x'; 1 << 20];
    let named = (0..9).filter(|_| part.name_gap(&path, "vanished")).count();
    assert_eq!(named, 3);
    let (manifest, key) = Manifest::seal(&clear(), &part, &host()).unwrap();
    assert_eq!(manifest.open(&key).unwrap().gaps().len(), 3);
}

#[test]
fn inv_55_a_later_version_is_refused_by_name() {
    let mut bytes = sealed().0.as_bytes().to_vec();
    bytes[4] = 2;
    assert_eq!(Manifest::parse(&bytes).unwrap_err(), FormatError::Version { what: "manifest", found: 2, known: "1" });
}

#[test]
fn inv_40_no_manifest_key_and_nothing_sealed_prints_itself() {
    let (_, key) = sealed();
    assert_eq!(format!("{key:?}"), "ManifestKey(…)");
    let printed = format!("{:?}", part());
    assert!(!printed.contains("permission") && printed.contains("Gap(…)"), "{printed}");
}

proptest! {
    #[test]
    fn inv_09_no_bytes_make_the_reader_panic(mut bytes: Vec<u8>, at: usize, byte: u8) {
        let _ = Manifest::parse(&bytes);
        let mut start = MAGIC.to_vec();
        start.extend([1, 0]);
        start.append(&mut bytes);
        let _ = Manifest::parse(&start);
        static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| sealed().0.as_bytes().to_vec());
        let mut changed = GOOD.clone();
        let at = at % changed.len();
        changed[at] = byte;
        let _ = Manifest::parse(&changed[..at]);
        let _ = Manifest::parse(&changed);
    }
}
