//! What sealing promises, seen from outside a record: it reads back, in its role alone, and no flipped bit passes.

use super::*;
use crate::id::{ChunkId, Digest};
use crate::key::GroupSecret;
use proptest::prelude::*;

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise
}

pub(crate) fn keys() -> ScopeKeys {
    let secret = GroupSecret::from_bytes([5; 32]);
    ScopeKeys::derive(&secret, &secret)
}

const SCOPE: Scope = Scope::new(3);

fn sealer() -> Sealer {
    Sealer::new(3, Check::Always).unwrap()
}

fn seal_chunk(scope: Scope, plaintext: &[u8]) -> (ContentHash, Vec<u8>) {
    let content = keys().open_keys().content_hash(plaintext);
    (content, sealer().seal_chunk(&keys(), scope, &content, plaintext).unwrap())
}

fn seal_node(scope: Scope, links: &[Link], plaintext: &[u8]) -> SealedNode {
    sealer().seal_node(&keys(), scope, links, plaintext).unwrap()
}

fn open_chunk(scope: Scope, content: &ContentHash, ct: &[u8]) -> Result<Vec<u8>, FormatError> {
    Opener::new().open_chunk(keys().open_keys(), scope, content, ct)
}

fn open_node(scope: Scope, content: &ContentHash, record: &[u8]) -> Result<(Vec<Link>, Vec<u8>), FormatError> {
    Opener::new().open_node(keys().open_keys(), scope, content, record)
}

fn link(byte: u8) -> Link {
    Link::chunk(SCOPE, ChunkId::from_bytes([byte; 32]))
}

/// Every way to change one bit.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    })
}

proptest! {
    #[test]
    fn what_was_sealed_opens_to_itself(seed: u64, bytes in 0_usize..50_000, mask: u8, links in 0_u8..5) {
        let plaintext: Vec<u8> = noise(seed, bytes).iter().map(|byte| byte & mask).collect();
        let (content, ct) = seal_chunk(SCOPE, &plaintext);
        prop_assert_eq!(open_chunk(SCOPE, &content, &ct), Ok(plaintext.clone()));
        let links: Vec<Link> = (0..links).map(link).collect();
        let node = seal_node(SCOPE, &links, &plaintext);
        prop_assert_eq!(parse_links(&node.record), Ok(links.clone()));
        prop_assert_eq!(open_node(SCOPE, &node.content, &node.record), Ok((links, plaintext)));
    }

    #[test]
    fn inv_09_no_bytes_make_the_opener_panic(bytes: Vec<u8>) {
        let content = keys().open_keys().content_hash(b"x");
        prop_assert!(open_chunk(SCOPE, &content, &bytes).is_err());
        prop_assert!(open_node(SCOPE, &content, &bytes).is_err());
        let _ = parse_links(&[&[0; 4][..], &bytes].concat());
    }

    /// The nonce stands in front of the sealed bytes. It must differ wherever frame or associated data do, above all
    /// where the content, and so the key, is the same.
    #[test]
    fn inv_41_no_nonce_repeats_for_another_frame_or_other_associated_data(
        seed: u64, scopes in [0_u32..2, 0..2], first in 0_u8..3, second in 0_u8..3, levels in (1..9, 1..9)
    ) {
        let plaintext: Vec<u8> = noise(seed, 5000).iter().map(|byte| byte & 15).collect();
        let seal = |scope: u32, count: u8, level: i32| {
            let links: Vec<Link> = (0..count).map(link).collect();
            let mut sealer = Sealer::new(level, Check::Always).unwrap();
            let node = sealer.seal_node(&keys(), Scope::new(scope), &links, &plaintext).unwrap();
            let table = 4 + links.len() * crate::link::LINK_BYTES;
            (node.record[table..][..12].to_vec(), (scope, count, sealer.frame))
        };
        let (nonce, input) = seal(scopes[0], first, levels.0);
        let (other_nonce, other_input) = seal(scopes[1], second, levels.1);
        prop_assert_eq!(nonce == other_nonce, input == other_input);
        let (_, ct) = seal_chunk(Scope::new(scopes[0]), &plaintext);
        prop_assert_ne!(&ct[..12], &nonce[..]);
    }
}

#[test]
fn inv_11_every_flipped_bit_is_found_without_a_key_and_by_opening() {
    for plaintext in [&b"raw"[..], &b"compressed ".repeat(20)] {
        let (content, ct) = seal_chunk(SCOPE, plaintext);
        let digest = Digest::of(&ct);
        for flipped in flips(&ct) {
            assert!(!digest.matches(&flipped));
            assert!(open_chunk(SCOPE, &content, &flipped).is_err());
        }
        let node = seal_node(SCOPE, &[link(1), link(2)], plaintext);
        for flipped in flips(&node.record) {
            assert_ne!(NodeId::from_bytes(*blake3::hash(&flipped).as_bytes()), node.id);
            assert!(open_node(SCOPE, &node.content, &flipped).is_err());
        }
    }
}

#[test]
fn inv_11_bytes_cut_off_or_added_are_found() {
    let (content, ct) = seal_chunk(SCOPE, b"some content");
    for end in 0..ct.len() {
        assert!(open_chunk(SCOPE, &content, &ct[..end]).is_err(), "{end}");
    }
    assert!(open_chunk(SCOPE, &content, &[&ct[..], &[0]].concat()).is_err());
}

/// The same content sealed in every role that differs in one thing: each opens in its own role and in no other.
#[test]
fn inv_13_a_record_opens_in_its_own_role_only() {
    let plaintext = b"the same content everywhere";
    let content = keys().open_keys().content_hash(plaintext);
    let roles: [(u32, &[Link]); 5] =
        [(3, &[]), (4, &[]), (3, &[link(1)]), (3, &[link(1), link(2)]), (3, &[link(2), link(1)])];
    let nodes = roles.map(|(scope, links)| seal_node(Scope::new(scope), links, plaintext).record);
    let bodies = nodes.each_ref().map(|record| &record[4 + parse_links(record).unwrap().len() * 37..]);
    let (_, chunk) = seal_chunk(SCOPE, plaintext);

    for (own, (_, links)) in roles.iter().enumerate() {
        let table = &nodes[own][..4 + links.len() * 37];
        for (other, (scope, _)) in roles.iter().enumerate() {
            let swapped = [table, bodies[other]].concat();
            let opened = open_node(Scope::new(roles[own].0), &content, &swapped);
            assert_eq!(opened.is_ok(), own == other, "links of {own}, body of {other} (scope {scope})");
        }
        assert!(open_chunk(SCOPE, &content, bodies[own]).is_err(), "node {own} as a chunk");
        let disguised = [table, &chunk[..]].concat();
        assert!(open_node(Scope::new(roles[own].0), &content, &disguised).is_err(), "a chunk as node {own}");
    }
    assert!(open_chunk(SCOPE, &content, &chunk).is_ok());
    assert!(open_chunk(Scope::new(4), &content, &chunk).is_err());
}

#[test]
fn inv_13_version_kind_scope_and_cipher_are_bound() {
    let bound = Bound { kind: Kind::Chunk, scope: SCOPE, links: &[] };
    assert_eq!(bound.associated_data(), [1, 0, 1, 3, 0, 0, 0, 1], "version, kind, scope, cipher");
}

#[test]
fn inv_12_the_opener_hands_out_no_content_but_the_one_asked_for() {
    let (content, ct) = seal_chunk(SCOPE, b"one");
    let (other, _) = seal_chunk(SCOPE, b"two");
    assert!(open_chunk(SCOPE, &other, &ct).is_err());
    // Sealed under the content hash of something else, as a faulty or hostile sealer would.
    let mut frame = Vec::new();
    Packer::new(3).unwrap().pack(b"two", &mut frame).unwrap();
    let bound = Bound { kind: Kind::Chunk, scope: SCOPE, links: &[] };
    let forged = encrypt(&keys(), &bound, &content, &frame, |_| ()).unwrap();
    let refused = open_chunk(SCOPE, &content, &forged);
    assert_eq!(refused, Err(FormatError::Broken { what: "chunk", check: "content hash" }));
}

/// Flips each bit once at each stage. After the frame was taken for the nonce, every flip is caught. Before, zstd
/// ignores a few bits of its own header; what passes must still open to the content.
#[test]
fn inv_12_a_bit_that_flips_between_two_stages_does_not_leave_the_sealer() {
    let plaintext = b"flip ".repeat(20);
    let content = keys().open_keys().content_hash(&plaintext);
    let bound = Bound { kind: Kind::Chunk, scope: SCOPE, links: &[] };
    let mut sealer = sealer();
    let mut caught = 0;
    for stage in [Stage::Packed, Stage::Copied, Stage::Sealed] {
        for bit in 0.. {
            let mut flipped = false;
            let sealed = sealer.seal(&keys(), &bound, &content, &plaintext, |at, bytes| {
                if at == stage && bit / 8 < bytes.len() {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    flipped = true;
                }
            });
            match sealed {
                _ if !flipped => break,
                Err(SealError::Faulty { .. }) => caught += 1,
                Ok(ct) if stage == Stage::Packed => assert_eq!(open_chunk(SCOPE, &content, &ct).unwrap(), plaintext),
                other => panic!("bit {bit} after {stage:?}: {other:?}"),
            }
        }
    }
    assert!(caught > 700, "{caught}");
}

#[test]
fn inv_12_content_that_changed_after_it_was_hashed_is_caught() {
    let content = keys().open_keys().content_hash(b"as it was read");
    let sealed = sealer().seal_chunk(&keys(), SCOPE, &content, b"as it was real");
    assert!(matches!(sealed, Err(SealError::Faulty { check: "comparison with the content", .. })));
}

#[test]
fn inv_12_one_in_eight_decompresses_the_first_and_then_every_eighth_and_always_each() {
    let wrong = keys().open_keys().content_hash(b"something else");
    let mut sealer = Sealer::new(3, Check::OneInEight).unwrap();
    let caught: Vec<bool> = (0..17).map(|_| sealer.seal_chunk(&keys(), SCOPE, &wrong, b"content").is_err()).collect();
    assert_eq!(caught, (0..17).map(|at| at % 8 == 0).collect::<Vec<_>>());
    sealer.set_check(Check::Always);
    assert!((0..17).all(|_| sealer.seal_chunk(&keys(), SCOPE, &wrong, b"content").is_err()));
}

#[test]
fn inv_19_equal_content_makes_equal_bytes_whatever_was_sealed_before() {
    let mut used = sealer();
    for bytes in [200_000, 10, 5_000] {
        let content = keys().open_keys().content_hash(&noise(1, bytes));
        used.seal_chunk(&keys(), SCOPE, &content, &noise(1, bytes)).unwrap();
    }
    let text = b"equal content ".repeat(900);
    let (content, ct) = seal_chunk(SCOPE, &text);
    assert_eq!(used.seal_chunk(&keys(), SCOPE, &content, &text).unwrap(), ct);
}

/// Golden. If these move, hosts with this release and hosts with the last make different bytes of equal content: then
/// `ENCODER_VERSION` must grow, and if they cannot be read back, the format's version.
#[test]
fn inv_19_sealed_bytes_stay_what_they_were() {
    let text: String = (0..9000).map(|line| format!("{line} small changes, {} packs\n", line % 7)).collect();
    let (_, raw) = seal_chunk(SCOPE, &noise(1, 5000));
    let (_, packed) = seal_chunk(SCOPE, text.as_bytes());
    let node = seal_node(SCOPE, &[link(1), link(2)], text.as_bytes());
    let found = [Digest::of(&raw), Digest::of(&packed), Digest::from_bytes(*node.id.as_bytes())];
    assert_eq!(found.map(|digest| format!("{digest:?}")), ["59468495", "a7443791", "e8b7818f"]);
}

#[test]
fn the_longest_chunk_and_node_fit_and_a_byte_more_does_not() {
    let (content, ct) = seal_chunk(SCOPE, &noise(2, CHUNK_BYTES_MAX));
    assert!(ct.len() <= SEALED_CHUNK_BYTES_MAX && open_chunk(SCOPE, &content, &ct).is_ok());
    let too_long = vec![0; CHUNK_BYTES_MAX + 1];
    assert!(matches!(sealer().seal_chunk(&keys(), SCOPE, &content, &too_long), Err(SealError::TooLong { .. })));
    let node = seal_node(SCOPE, &[link(1)], &noise(2, NODE_BYTES_MAX));
    assert!(node.record.len() <= NODE_RECORD_BYTES_MAX && node.height == 1);
    assert!(sealer().seal_node(&keys(), SCOPE, &[], &vec![0; NODE_BYTES_MAX + 1]).is_err());
}

/// The worked example of `docs/format.md`, which another program computed.
#[test]
fn the_worked_example_of_the_page_is_what_is_sealed() {
    let page = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md"));
    let (_, example) = page.split_once("## A worked example").unwrap();
    let value = |name: &str| {
        let line = example.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
        line.unwrap().trim().to_owned()
    };
    let secret = GroupSecret::from_bytes([4; 32]);
    let keys = ScopeKeys::derive(&secret, &secret);
    let content = keys.open_keys().content_hash(b"golden\n");
    let scope = Scope::new(1);
    let sealed = Sealer::new(3, Check::Always).unwrap().seal_chunk(&keys, scope, &content, b"golden\n").unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(content.expose()), value("h"));
    assert_eq!(keys.chunk_id(&content).to_string(), value("id"));
    assert_eq!(hex(&sealed), value("ct"));
    assert_eq!(Digest::of(&sealed).to_string(), value("digest"));
}
