//! Speed of what every byte of a backup passes through: cutting, sealing, opening.

use divan::Bencher;
use divan::counter::BytesCount;
use lifeboat_format::cut::{Segment, Segmenter, Sizes};
use lifeboat_format::id::Scope;
use lifeboat_format::key::{GroupSecret, ScopeKeys};
use lifeboat_format::seal::{Check, Opener, Sealer};

fn main() {
    divan::main();
}

const CHUNK_BYTES: usize = 128 << 10;

fn keys() -> ScopeKeys {
    let secret = GroupSecret::from_bytes([5; 32]);
    ScopeKeys::derive(&secret, &secret)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

/// Words drawn by chance: compresses about like prose.
fn text(bytes: usize) -> Vec<u8> {
    let words = b"a night of small changes does not end in thousands of packs when commits wait to share the sealing";
    let words: Vec<&[u8]> = words.split_inclusive(|byte| *byte == b' ').collect();
    noise(bytes).iter().flat_map(|draw| words[usize::from(*draw) % words.len()]).copied().take(bytes).collect()
}

#[divan::bench(args = [Sizes::NORMAL, Sizes::LARGE])]
fn cut_noise(bencher: Bencher, sizes: Sizes) {
    segment(bencher, &noise(16 << 20), sizes);
}

#[divan::bench]
fn cut_text(bencher: Bencher) {
    segment(bencher, &text(16 << 20), Sizes::NORMAL);
}

#[divan::bench]
fn cut_zeros(bencher: Bencher) {
    segment(bencher, &vec![0; 16 << 20], Sizes::NORMAL);
}

fn segment(bencher: Bencher, data: &[u8], sizes: Sizes) {
    let segmenter = Segmenter::new(&keys(), sizes);
    bencher.counter(BytesCount::new(data.len())).bench_local(|| {
        let (mut start, mut chunks) = (0, 0);
        while let Some(segment) = segmenter.next(&data[start..data.len().min(start + (1 << 20))], true) {
            start += segment.bytes();
            chunks += usize::from(matches!(segment, Segment::Chunk(_)));
        }
        chunks
    });
}

#[divan::bench(args = [Check::Always, Check::OneInEight])]
fn seal_noise(bencher: Bencher, check: Check) {
    seal(bencher, &noise(CHUNK_BYTES), check);
}

#[divan::bench(args = [Check::Always, Check::OneInEight])]
fn seal_text(bencher: Bencher, check: Check) {
    seal(bencher, &text(CHUNK_BYTES), check);
}

fn seal(bencher: Bencher, plaintext: &[u8], check: Check) {
    let keys = keys();
    let content = keys.open_keys().content_hash(plaintext);
    let Ok(mut sealer) = Sealer::new(3, check) else { return };
    bencher
        .counter(BytesCount::new(plaintext.len()))
        .bench_local(|| sealer.seal_chunk(&keys, Scope::new(1), &content, plaintext));
}

#[divan::bench]
fn open_noise(bencher: Bencher) {
    open(bencher, &noise(CHUNK_BYTES));
}

#[divan::bench]
fn open_text(bencher: Bencher) {
    open(bencher, &text(CHUNK_BYTES));
}

fn open(bencher: Bencher, plaintext: &[u8]) {
    let (keys, mut opener) = (keys(), Opener::new());
    let content = keys.open_keys().content_hash(plaintext);
    let Ok(ct) =
        Sealer::new(3, Check::Always).and_then(|mut s| s.seal_chunk(&keys, Scope::new(1), &content, plaintext))
    else {
        return;
    };
    bencher
        .counter(BytesCount::new(plaintext.len()))
        .bench_local(|| opener.open_chunk(keys.open_keys(), Scope::new(1), &content, &ct));
}
