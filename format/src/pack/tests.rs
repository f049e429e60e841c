//! What a pack promises: it reads back, and nothing that was changed in it passes.

use super::*;
use crate::seal::tests::noise;
use crate::sign::{Purpose, SigningKey, VerifyingKey};
use proptest::prelude::*;

fn log_key() -> SigningKey {
    SigningKey::from_seed(&[9; 32])
}

/// A record of `bytes`: a chunk of height 0, or a node.
fn record(height: u8, bytes: &[u8]) -> Record {
    let digest = Digest::of(bytes);
    let target = match height {
        0 => Target::Chunk(ChunkId::from_bytes([bytes.len() as u8; 32])),
        _ => Target::Node(NodeId::from_bytes(*digest.as_bytes())),
    };
    Record { target, height, digest, host: HostId::new(7), scope: Scope::new(3), encoder: 1 }
}

fn write(records: &[(u8, Vec<u8>)]) -> (Finished, Vec<u8>) {
    let mut writer = PackWriter::begin(Vec::new()).unwrap();
    for (height, bytes) in records {
        writer.add(&record(*height, bytes), bytes).unwrap();
    }
    writer.finish(&log_key()).unwrap()
}

fn small_pack() -> (Finished, Vec<u8>) {
    write(&[(0, noise(1, 40)), (1, noise(2, 50)), (0, noise(3, 1))])
}

fn read_footer(pack: &[u8], log_keys: &[VerifyingKey]) -> Result<Footer, FormatError> {
    Footer::read(pack.len() as u64, log_keys, |offset, length| {
        let start = usize::try_from(offset).unwrap();
        let missing = FormatError::Truncated { what: "test", field: "range" };
        pack.get(start..).and_then(|rest| rest.get(..length)).ok_or(missing)
    })
}

/// The records of `small_pack` with their lengths before them.
const BODY_BYTES: usize = 40 + 50 + 1 + 3 * LENGTH_BYTES;
/// Where the kind stands in what the footer says of a record.
const KIND: usize = 86;

/// Everything that makes a pack valid.
fn check(pack: &[u8]) -> Result<Footer, FormatError> {
    let footer = read_footer(pack, &[log_key().verifying_key()])?;
    for record in &footer.records {
        let (start, bytes) = record.place.framed();
        verify_framed(record, &pack[start as usize..][..bytes])?;
    }
    Ok(footer)
}

/// Puts this footer behind `body`, with a hash and a signature that hold: a coordinator gone wrong.
fn sign(body: &[u8], footer: &[u8], count: u64) -> Vec<u8> {
    let id = pack_id(&header(), footer, count);
    let signature = log_key().sign(Purpose::Pack, id.as_bytes());
    [&header(), body, footer, &count.to_le_bytes(), id.as_bytes(), signature.as_bytes()].concat()
}

proptest! {
    #[test]
    fn a_pack_reads_back(
        seed: u64, shapes in proptest::collection::vec((0..=HEIGHT_MAX, 1_usize..300), 0..20)
    ) {
        let records: Vec<_> = shapes.iter().map(|(height, bytes)| (*height, noise(seed, *bytes))).collect();
        let (finished, pack) = write(&records);
        prop_assert_eq!(finished.bytes, pack.len() as u64);
        let footer = check(&pack).unwrap();
        prop_assert_eq!(footer.id, finished.id);
        prop_assert_eq!(&footer.records, &finished.records);
        for ((height, bytes), found) in records.iter().zip(&footer.records) {
            prop_assert_eq!(found.record, record(*height, bytes));
            prop_assert_eq!(&pack[found.place.offset as usize..][..bytes.len()], &bytes[..]);
        }
    }

    #[test]
    fn inv_09_no_bytes_make_the_reader_panic(bytes: Vec<u8>, footer in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = check(&bytes);
        let _ = check(&[&header()[..], &bytes].concat());
        for count in [0, 1, (footer.len() / FOOTER_RECORD_BYTES) as u64, u64::MAX] {
            let _ = check(&sign(&bytes, &footer, count));
        }
    }
}

#[test]
fn inv_11_every_changed_byte_is_found() {
    let (_, pack) = small_pack();
    assert!(check(&pack).is_ok());
    for at in 0..pack.len() {
        for mask in [1 << (at % 8), 0xff] {
            let mut changed = pack.clone();
            changed[at] ^= mask;
            assert!(check(&changed).is_err(), "byte {at}");
        }
    }
}

#[test]
fn inv_11_a_pack_that_was_cut_off_or_went_on_is_refused() {
    let (_, pack) = small_pack();
    for end in 0..pack.len() {
        assert!(check(&pack[..end]).is_err(), "{end}");
    }
    for more in [1, FOOTER_RECORD_BYTES, TRAILER_BYTES] {
        assert!(check(&[&pack[..], &vec![0; more]].concat()).is_err(), "{more}");
    }
    let short = Footer::read(pack.len() as u64, &[log_key().verifying_key()], |_, length| {
        Ok::<_, FormatError>(vec![0; length - 1])
    });
    assert!(short.is_err());
}

#[test]
fn a_former_log_key_still_verifies_and_a_foreign_one_does_not() {
    let (_, pack) = small_pack();
    let foreign = SigningKey::from_seed(&[8; 32]).verifying_key();
    assert!(read_footer(&pack, &[foreign, log_key().verifying_key()]).is_ok());
    assert!(matches!(read_footer(&pack, &[foreign]), Err(FormatError::Broken { what: "lifeboat 1 pack", .. })));
}

/// Each change is signed again, so only the rule it breaks can find it.
#[test]
fn inv_11_records_lie_from_the_header_to_the_footer_and_are_what_they_can_be() {
    let (finished, pack) = small_pack();
    let body = &pack[HEADER_BYTES..HEADER_BYTES + BODY_BYTES];
    let signed = |change: fn(&mut Vec<FooterRecord>)| {
        let mut records = finished.records.clone();
        change(&mut records);
        let mut footer = Encoder::new();
        records.iter().for_each(|record| record.encode(&mut footer));
        check(&sign(body, &footer.finish(), records.len() as u64))
    };
    assert_eq!(signed(|_| ()).map(|footer| footer.id), Ok(finished.id));
    let wrong: [fn(&mut Vec<FooterRecord>); 9] = [
        |records| records[0].place.offset = 15,
        |records| records[1].place.offset += 1,
        |records| records[2].place.length = 2,
        |records| records[2].place.length = 0,
        |records| records[0].place.length = u32::MAX,
        |records| records.swap(0, 1),
        |records| records.truncate(2),
        |records| records[0].record.height = 1,
        |records| records[1].record.height = 17,
    ];
    for (at, change) in wrong.into_iter().enumerate() {
        assert!(signed(change).is_err(), "change {at}");
    }
    let other_id = signed(|records| records[1].record.target = Target::Node(NodeId::from_bytes([1; 32])));
    assert_eq!(other_id, Err(FormatError::Broken { what: "node", check: "digest = id" }));
}

#[test]
fn inv_55_an_unknown_version_and_an_unknown_kind_are_refused() {
    let (finished, mut pack) = small_pack();
    let last = pack.len() - TRAILER_BYTES - FOOTER_RECORD_BYTES;
    let mut footer = pack[HEADER_BYTES + BODY_BYTES..pack.len() - TRAILER_BYTES].to_vec();
    assert_eq!(pack[last + KIND], Kind::Chunk.code());
    let last = footer.len() - FOOTER_RECORD_BYTES;
    let mut with = |at: usize, value| {
        let before = std::mem::replace(&mut footer[last + at], value);
        let refused = check(&sign(&pack[HEADER_BYTES..HEADER_BYTES + BODY_BYTES], &footer, 3));
        footer[last + at] = before;
        refused
    };
    assert_eq!(with(KIND, Kind::Chunk.code()).map(|footer| footer.id), Ok(finished.id));
    assert!(matches!(with(KIND, 3), Err(FormatError::Field { field: "kind", .. })));
    assert!(matches!(with(KIND + 2, 2), Err(FormatError::Version { what: "pack record", found: 2, .. })));
    assert!(matches!(with(KIND + 4, 2), Err(FormatError::Field { field: "cipher", .. })));
    assert!(matches!(with(KIND + 5, 1), Err(FormatError::Field { field: "reserved byte", .. })));
    pack[8] = 2;
    assert_eq!(check(&pack), Err(FormatError::Version { what: "pack", found: 2, known: "1" }));
}

#[test]
fn inv_09_a_count_that_cannot_be_is_refused_before_anything_is_read_or_allocated() {
    let (_, mut pack) = small_pack();
    let trailer = pack.len() - TRAILER_BYTES;
    for count in [4_u64, RECORDS_MAX + 1, u64::MAX] {
        pack[trailer..trailer + 8].copy_from_slice(&count.to_le_bytes());
        assert!(matches!(check(&pack), Err(FormatError::Field { field: "count", .. })));
    }
}

#[test]
fn inv_11_the_writer_takes_no_bytes_that_do_not_match_their_record_and_goes_on_after_refusing() {
    let bytes = noise(1, 40);
    let mut writer = PackWriter::begin(Vec::new()).unwrap();
    assert!(matches!(writer.add(&record(0, &bytes), &noise(2, 40)), Err(PackWriteError::Refused(_))));
    assert!(matches!(writer.add(&record(17, &bytes), &bytes), Err(PackWriteError::Refused(_))));
    assert!(matches!(writer.add(&record(0, &[]), &[]), Err(PackWriteError::Refused(_))));
    assert_eq!(writer.add(&record(0, &bytes), &bytes).unwrap(), Place { offset: 20, length: 40 });
    let (_, pack) = writer.finish(&log_key()).unwrap();
    assert_eq!(check(&pack).unwrap().records.len(), 1);
}

/// A pack whose end is lost: the lengths before the records lead from one to the next, and a node's hash is its id.
#[test]
fn without_its_footer_a_pack_can_still_be_walked() {
    let (finished, pack) = small_pack();
    let cut = &pack[..HEADER_BYTES + BODY_BYTES + 10];
    let mut decoder = Decoder::new("pack", &cut[HEADER_BYTES..]);
    for FooterRecord { record, place } in &finished.records {
        let length = decoder.u32("length").unwrap();
        assert_eq!(length, place.length);
        assert_eq!(Digest::of(decoder.raw("record", length as usize).unwrap()), record.digest);
    }
}
