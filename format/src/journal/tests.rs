//! The chain: what was changed, cut, reordered or signed by another is found, and the head that an agent keeps is enough.

use super::event::{AddedPack, Custody, Holds, HostState, JobOutcome, SnapshotCommitted, SnapshotState};
use super::*;
use crate::id::{HostId, NodeId, PackId, Scope, SnapshotId, SnapshotNumber};
use crate::manifest::{Outcome, RootRef};
use proptest::prelude::*;

const REPOSITORY: RepositoryId = RepositoryId::from_bytes([7; 16]);

fn log_key() -> SigningKey {
    SigningKey::from_seed(&[1; 32])
}

fn start() -> Chain {
    Chain::start(REPOSITORY, log_key().verifying_key())
}

fn act(event: Event) -> Act {
    Act {
        time_ns: 1_790_000_000_000_000_000,
        principal: Principal::Host(HostId::new(1)),
        verb: "commit".into(),
        object: "web-1:system".into(),
        decision: Decision::Done,
        event,
    }
}

fn committed() -> Event {
    Event::SnapshotCommitted(SnapshotCommitted {
        snapshot: SnapshotId::from_bytes([1; 32]),
        host: HostId::new(1),
        source_set: "system".into(),
        sequence: 1,
        root: RootRef { id: NodeId::from_bytes([9; 32]), height: 2, scope: Scope::new(1) },
        outcome: Outcome::Complete,
        suspect: Some("shrank by half".into()),
    })
}

/// Batches of one record each, and the chain that took them.
fn journal_of(events: impl IntoIterator<Item = Event>) -> (Vec<Batch>, Chain) {
    let mut chain = start();
    let mut batches = Vec::new();
    for event in events {
        let mut builder = chain.next_batch(1);
        builder.push(act(event)).unwrap();
        let batch = builder.sign(&log_key()).unwrap();
        chain.append(batch.signed_head()).unwrap();
        batches.push(batch);
    }
    (batches, chain)
}

fn small_journal() -> (Vec<Batch>, Chain) {
    let packs = vec![AddedPack { pack: PackId::from_bytes([3; 32]), holds: Holds::Chunks }];
    journal_of([
        Event::RepositoryCreated { custody: Custody::Managed, trust_file: Digest::of(b"trust") },
        Event::PacksAdded { packs },
        committed(),
        Event::SnapshotState { snapshot: SnapshotNumber::new(3), state: SnapshotState::Trash },
    ])
}

/// What a reader makes of stored batches: the chain, or the first thing that is wrong.
fn read(stored: &[Vec<u8>]) -> Result<Chain, FormatError> {
    let mut chain = start();
    for bytes in stored {
        chain.append(Batch::parse(bytes)?.signed_head())?;
    }
    Ok(chain)
}

fn stored(batches: &[Batch]) -> Vec<Vec<u8>> {
    batches.iter().map(Batch::to_bytes).collect()
}

#[test]
fn a_batch_reads_back_as_it_was_written() {
    let (batches, chain) = small_journal();
    for batch in &batches {
        assert_eq!(Batch::parse(&batch.to_bytes()).as_ref(), Ok(batch));
        assert_eq!(batch.signed_head().head_bytes().len(), HEAD_BYTES);
    }
    assert_eq!((chain.len(), chain.next_sequence(), chain.incarnation()), (4, 5, 1));
}

#[test]
fn inv_52_every_changed_byte_of_a_journal_is_found() {
    let good = stored(&small_journal().0);
    for (place, bytes) in good.iter().enumerate() {
        let before = read(&good[..place]).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let accepted = Batch::parse(&changed).and_then(|batch| before.clone().append(batch.signed_head()));
            assert!(accepted.is_err(), "batch {place}, byte {at}");
        }
    }
}

#[test]
fn inv_52_every_cut_and_every_reorder_is_found_with_one_old_head() {
    let (batches, _) = small_journal();
    let good = stored(&batches);
    let old_head = batches[3].signed_head();
    assert_eq!(read(&good).unwrap().standing(old_head), Standing::Known);
    for kept in 0..good.len() {
        assert_eq!(read(&good[..kept]).unwrap().standing(old_head), Standing::Ahead, "cut after {kept}");
        assert!(read(&good[..=kept][kept..]).is_ok() == (kept == 0), "begins at {kept}");
    }
    for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 3)] {
        let mut swapped = good.clone();
        swapped.swap(a, b);
        assert!(read(&swapped).is_err(), "{a} and {b} swapped");
    }
    let (other, _) = journal_of((0..5).map(|_| Event::Nothing));
    assert_eq!(read(&stored(&other)).unwrap().standing(old_head), Standing::Forked);
}

#[test]
fn inv_52_a_batch_of_another_history_is_not_taken_though_the_same_key_signed_it() {
    let (other, _) = journal_of((0..4).map(|_| Event::Nothing));
    let mut spliced = stored(&small_journal().0);
    spliced[2] = other[2].to_bytes();
    let Err(FormatError::Field { field, .. }) = read(&spliced[..3]) else { panic!("the splice was taken") };
    assert_eq!(field, "hash of the head before");
}

#[test]
fn a_head_with_number_zero_is_refused() {
    let head = small_journal().0[1].signed_head().head_bytes();
    assert!(Head::parse(&head).is_ok());
    let zero = [&head[..22], &[0; 8], &head[30..]].concat();
    assert!(Head::parse(&zero).is_err());
}

#[test]
fn a_head_signed_by_another_key_or_of_an_older_incarnation_is_not_taken() {
    let (_, chain) = small_journal();
    let next = |incarnation, key: &SigningKey| {
        let mut builder = chain.next_batch(incarnation);
        builder.push(act(Event::Incarnation { number: incarnation })).unwrap();
        chain.clone().append(builder.sign(key).unwrap().signed_head())
    };
    assert!(next(2, &log_key()).is_ok());
    assert!(next(0, &log_key()).is_err());
    assert!(next(2, &SigningKey::from_seed(&[2; 32])).is_err());
}

#[test]
fn inv_52_a_former_log_key_signs_no_batch_after_the_trust_file_that_names_the_next_one() {
    let (old, new) = (log_key(), SigningKey::from_seed(&[2; 32]));
    let mut chain = small_journal().1;
    let signed = |chain: &Chain, key: &SigningKey, event| {
        let mut builder = chain.next_batch(1);
        builder.push(act(event)).unwrap();
        builder.sign(key).unwrap()
    };
    let rotation = signed(&chain, &old, Event::TrustFile { number: 2, digest: Digest::of(b"two") });
    chain.append(rotation.signed_head()).unwrap();
    assert_eq!(rotation.trust_file(), Some((2, Digest::of(b"two"))));
    chain.set_log_key(new.verifying_key());
    assert!(chain.append(signed(&chain, &old, Event::Nothing).signed_head()).is_err());
    chain.append(signed(&chain, &new, Event::Nothing).signed_head()).unwrap();
    assert_eq!(signed(&chain, &new, Event::Nothing).trust_file(), None);
    assert_eq!(small_journal().0[0].trust_file(), Some((1, Digest::of(b"trust"))));
}

#[test]
fn an_agent_takes_no_head_behind_or_beside_the_one_it_has() {
    let (batches, _) = small_journal();
    let heads: Vec<_> = batches.iter().map(|batch| *batch.signed_head()).collect();
    assert!(heads[1].may_give_way_to(&heads[1]).is_ok());
    assert!(heads[1].may_give_way_to(&heads[2]).is_ok());
    assert!(heads[1].may_give_way_to(&heads[3]).is_ok());
    assert!(heads[1].may_give_way_to(&heads[0]).is_err());
    let (other, _) = journal_of((0..3).map(|_| Event::Nothing));
    assert!(heads[1].may_give_way_to(other[1].signed_head()).is_err());
    assert!(heads[1].may_give_way_to(other[2].signed_head()).is_err());
}

#[test]
fn a_record_that_no_reader_takes_is_not_written_and_an_empty_batch_is_not_signed() {
    let chain = start();
    let mut builder = chain.next_batch(1);
    assert!(builder.push(Act { object: "\u{7}".into(), ..act(Event::Nothing) }).is_err());
    assert!(builder.is_empty());
    assert_eq!(builder.push(act(Event::Nothing)), Ok(1));
    assert!(builder.sign(&log_key()).is_ok());
    assert!(chain.next_batch(1).sign(&log_key()).is_err());
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Nothing),
        Just(committed()),
        any::<u64>().prop_map(|count| Event::Refused { count }),
        any::<(u64, u32)>()
            .prop_map(|(_, host)| Event::HostState { host: HostId::new(host), state: HostState::Revoked }),
        (any::<[u8; 32]>(), any::<Vec<u32>>())
            .prop_map(|(pack, records)| Event::Witnessed { pack: PackId::from_bytes(pack), records }),
        "[^\\p{Cc}]{0,40}".prop_map(|message| Event::JobEnded {
            job: String::new(),
            host: HostId::new(1),
            source_set: "mail".into(),
            outcome: JobOutcome::Failed,
            message,
        }),
    ]
}

proptest! {
    #[test]
    fn any_record_reads_back(event in any_event(), time_ns: i64, object in "[^\\p{Cc}]{0,40}") {
        let record = Record { sequence: 1, act: Act { time_ns, object, ..act(event) } };
        let mut encoder = Encoder::new();
        record.put(&mut encoder);
        let bytes = encoder.finish();
        let mut decoder = Decoder::new("record", &bytes);
        prop_assert_eq!(Record::take(&mut decoder, "record"), Ok(record));
        prop_assert!(decoder.end().is_ok());
    }

    #[test]
    fn inv_09_no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        let _ = Batch::parse(&bytes);
        let _ = SignedHead::parse(&bytes, &[0; 64]);
        let mut decoder = Decoder::new("record", &bytes);
        let _ = Record::take(&mut decoder, "record");
    }
}

/// A record with an event of this kind and these fields, as it stands in a batch.
fn record_with(kind: u8, fields: &[u8]) -> Vec<u8> {
    let act = Act {
        time_ns: 1,
        principal: Principal::Coordinator,
        verb: "v".into(),
        object: "o".into(),
        decision: Decision::Done,
        event: Event::Nothing,
    };
    let mut encoder = Encoder::new();
    Record { sequence: 1, act }.put(&mut encoder);
    let mut bytes = encoder.finish();
    assert_eq!(bytes.split_off(bytes.len() - 2), [0, 0], "the event comes last: its kind, the length of its fields");
    let mut encoder = Encoder::new();
    encoder.raw(&bytes).u8(kind).bytes(fields);
    encoder.finish()
}

fn read_record(bytes: &[u8]) -> Result<Record, FormatError> {
    let mut decoder = Decoder::new("journal record", bytes);
    let record = Record::take(&mut decoder, "record")?;
    decoder.end().map(|()| record)
}

#[test]
fn inv_55_an_unknown_event_is_passed_over_if_it_is_optional_and_refused_if_not() {
    let bytes = record_with(101, b"of a later version");
    let record = read_record(&bytes).unwrap();
    assert_eq!(record.act.event, Event::Unknown { kind: 101, fields: b"of a later version".to_vec() });
    let mut encoder = Encoder::new();
    record.put(&mut encoder);
    assert_eq!(encoder.finish(), bytes, "written again byte for byte");
    assert!(read_record(&record_with(101 | 0x80, b"of a later version")).is_err());
}

#[test]
fn an_event_has_one_kind_and_no_more_fields_than_it_has() {
    let incarnation = 7_u64.to_le_bytes();
    let read = |kind, fields: &[u8]| read_record(&record_with(kind, fields)).map(|record| record.act.event);
    assert_eq!(read(2 | 0x80, &incarnation), Ok(Event::Incarnation { number: 7 }));
    assert!(read(2, &incarnation).is_err(), "a needed event is not marked as optional");
    assert!(read(22 | 0x80, &incarnation).is_err(), "an optional event is not marked as needed");
    assert!(read(2 | 0x80, &[&incarnation[..], &[0]].concat()).is_err());
    assert!(read(2 | 0x80, &incarnation[..7]).is_err());
}
