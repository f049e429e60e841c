//! The frame: content, compressed or not, with its lengths. It is what gets encrypted.
//!
//! # Layout
//! | bytes | field         | value                                                                       |
//! | ----- | ------------- | --------------------------------------------------------------------------- |
//! | 1     | codec         | 0 raw, 1 zstd (one frame, without checksum, content size or dictionary id)  |
//! | 4     | plain length  | of the content                                                              |
//! | 4     | packed length | raw: the plain length; zstd: less than the plain length                     |
//! | …     | packed bytes  |                                                                             |
//! | …     | padding       | zeros, and checked. This release writes none                                |

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use std::io;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{CParameter, compress_bound, find_frame_compressed_size};

/// Codec and both lengths.
pub(super) const HEADER_BYTES: usize = 9;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Makes frames. Holds a zstd context: one a worker.
pub(super) struct Packer {
    zstd: Compressor<'static>,
    packed: Vec<u8>,
}

impl Packer {
    /// Fails only if zstd gets no memory, or does not know its own parameters.
    pub(super) fn new(level: i32) -> io::Result<Self> {
        let mut zstd = Compressor::new(level)?;
        // The frame states the length and the content hash finds damage: these fields would only cost bytes.
        zstd.set_parameter(CParameter::ContentSizeFlag(false))?;
        zstd.set_parameter(CParameter::ChecksumFlag(false))?;
        zstd.set_parameter(CParameter::DictIdFlag(false))?;
        // Chunks are short for zstd, so it may look for shorter matches, with tables as large as a chunk: on binaries and
        // texts of a system tree 0.5 % smaller than the level alone, at the same speed.
        zstd.set_parameter(CParameter::MinMatch(4))?;
        zstd.set_parameter(CParameter::HashLog(17))?;
        zstd.set_parameter(CParameter::ChainLog(17))?;
        Ok(Self { zstd, packed: Vec::new() })
    }

    /// Replaces `frame` by that of `plaintext`, whose length the caller has limited. A function of the plaintext, the
    /// level and the version of zstd alone, however often this packer was used (INV-19).
    pub(super) fn pack(&mut self, plaintext: &[u8], frame: &mut Vec<u8>) -> io::Result<()> {
        let (codec, packed) = if self.shrinks(plaintext)? { (ZSTD, &self.packed[..]) } else { (RAW, plaintext) };
        let mut header = Encoder::new();
        header.u8(codec).u32(plaintext.len() as u32).u32(packed.len() as u32);
        frame.clear();
        frame.extend_from_slice(&header.finish());
        frame.extend_from_slice(packed);
        Ok(())
    }

    /// Whether compression saves at least three bytes of a hundred; `packed` then holds the result. Less is not worth
    /// decompressing at each restore.
    fn shrinks(&mut self, plaintext: &[u8]) -> io::Result<bool> {
        if looks_random(plaintext) {
            return Ok(false);
        }
        self.packed.clear();
        self.packed.reserve(compress_bound(plaintext.len()));
        let packed_bytes = self.zstd.compress_to_buffer(plaintext, &mut self.packed)?;
        Ok(packed_bytes * 100 <= plaintext.len() * 97 && packed_bytes < plaintext.len())
    }
}

/// Reads frames. Holds a zstd context: one a worker.
#[derive(Default)]
pub(super) struct Unpacker {
    zstd: Decompressor<'static>,
}

impl Unpacker {
    /// The content of a frame, which is no longer than `limit` bytes. Nothing is allocated before the stated length
    /// is compared with the limit, and decompression ends at the stated length.
    pub(super) fn unpack(&mut self, what: &'static str, frame: &[u8], limit: usize) -> Result<Vec<u8>, FormatError> {
        let mut decoder = Decoder::new(what, frame);
        let codec = decoder.u8("codec")?;
        let plain_bytes = decoder.u32("plain length")? as usize;
        let packed_bytes = decoder.u32("packed length")? as usize;
        let packed = decoder.raw("packed bytes", packed_bytes)?;
        if plain_bytes > limit {
            return Err(FormatError::field(what, "plain length", plain_bytes, format!("at most {limit}")));
        }
        if decoder.rest().iter().any(|byte| *byte != 0) {
            return Err(FormatError::field(what, "padding", "not all zero", "zeros"));
        }
        match codec {
            RAW if packed_bytes == plain_bytes => Ok(packed.to_vec()),
            ZSTD if packed_bytes < plain_bytes => self.decompress(what, packed, plain_bytes),
            RAW | ZSTD => Err(FormatError::field(what, "packed length", packed_bytes, "what its codec allows")),
            unknown => Err(FormatError::field(what, "codec", unknown, "0 (raw) or 1 (zstd)")),
        }
    }

    fn decompress(&mut self, what: &'static str, packed: &[u8], plain_bytes: usize) -> Result<Vec<u8>, FormatError> {
        // zstd itself would go on with whatever frame follows.
        if find_frame_compressed_size(packed) != Ok(packed.len()) {
            return Err(FormatError::field(what, "packed bytes", "not one whole zstd frame", "one"));
        }
        let mut plaintext = vec![0; plain_bytes];
        match self.zstd.decompress_to_buffer(packed, &mut plaintext[..]) {
            Ok(written) if written == plain_bytes => Ok(plaintext),
            _ => Err(FormatError::Broken { what, check: "compression" }),
        }
    }
}

const PROBES: usize = 4;
const PROBE_BYTES: usize = 1024;

/// Whether zstd need not be tried: judged by four samples of 1 KiB, at the start, at both thirds and at the end, so
/// that a file with a plain header and a dense body, or the other way round, is still tried.
///
/// In noise two bytes of a sample are equal with probability 1/256; in what a byte-wise code could shrink to 0.97 it
/// is at least 1/217 = 2^(-0.97 · 8). Counting equal pairs estimates that without bias, already in 1 KiB where the
/// usual sum of p · log p reads low, and in whole numbers, so it decides alike on every processor (INV-19). It errs
/// towards trying: this measure of entropy is never above Shannon's. Noise that repeats itself within the chunk is
/// taken for noise; that is the price.
fn looks_random(plaintext: &[u8]) -> bool {
    let Some(last) = plaintext.len().checked_sub(PROBE_BYTES) else { return false };
    if plaintext.len() < PROBES * PROBE_BYTES {
        return false;
    }
    let starts = (0..PROBES).map(|probe| last * probe / (PROBES - 1));
    let equal_pairs: usize = starts.map(|start| equal_pairs(&plaintext[start..][..PROBE_BYTES])).sum();
    equal_pairs * 217 < PROBES * PROBE_BYTES * (PROBE_BYTES - 1)
}

/// How many ordered pairs of positions hold equal bytes.
fn equal_pairs(sample: &[u8]) -> usize {
    let mut counts = [0_u32; 256];
    sample.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    counts.iter().map(|count| *count as usize * (*count as usize).saturating_sub(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::noise;
    use proptest::prelude::*;

    fn pack(plaintext: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        Packer::new(3).unwrap().pack(plaintext, &mut frame).unwrap();
        frame
    }

    fn unpack(frame: &[u8], limit: usize) -> Result<Vec<u8>, FormatError> {
        Unpacker::default().unpack("t", frame, limit)
    }

    #[test]
    fn noise_is_not_tried_and_what_can_shrink_is() {
        for bytes in [4096, 4097, 100_000, 768 << 10] {
            assert!(looks_random(&noise(7, bytes)), "{bytes}");
        }
        let sixty_four_letters: Vec<u8> = noise(7, 100_000).iter().map(|byte| byte & 63).collect();
        assert!(!looks_random(&sixty_four_letters));
        let mut plain_at_the_end = noise(7, 100_000);
        plain_at_the_end[66_000..].fill(b' ');
        assert!(!looks_random(&plain_at_the_end));
        assert!(!looks_random(&noise(7, 4095)), "too short to judge");
    }

    #[test]
    fn noise_is_kept_raw_and_text_is_compressed() {
        let text = b"the quick brown fox ".repeat(1000);
        assert_eq!(pack(&text)[0], ZSTD);
        assert!(pack(&text).len() < text.len() / 50);
        for bytes in [0, 1, 100, 4095, 100_000] {
            let frame = pack(&noise(3, bytes));
            assert_eq!((frame[0], frame.len()), (RAW, HEADER_BYTES + bytes));
        }
    }

    #[test]
    fn inv_09_a_bomb_ends_at_its_stated_length_and_the_stated_length_at_the_limit() {
        let mut frame = pack(&vec![0; 700_000]);
        assert!(unpack(&frame, 700_000).is_ok());
        assert!(matches!(unpack(&frame, 699_999), Err(FormatError::Field { field: "plain length", .. })));
        for stated in [699_999_u32, 700_001] {
            frame[1..5].copy_from_slice(&stated.to_le_bytes());
            assert_eq!(unpack(&frame, 1 << 20), Err(FormatError::Broken { what: "t", check: "compression" }));
        }
    }

    #[test]
    fn a_second_zstd_frame_behind_the_first_is_refused() {
        let frame = pack(&[7; 1000]);
        let twice = [&frame[HEADER_BYTES..], &frame[HEADER_BYTES..]].concat();
        let header = [&[ZSTD][..], &2000_u32.to_le_bytes(), &(twice.len() as u32).to_le_bytes()].concat();
        assert!(matches!(
            unpack(&[header, twice].concat(), 2000),
            Err(FormatError::Field { field: "packed bytes", .. })
        ));
    }

    proptest! {
        #[test]
        fn a_frame_unpacks_to_what_was_packed_also_when_padded(
            seed: u64, bytes in 0_usize..20_000, mask: u8, padding in 0_usize..100
        ) {
            let plaintext: Vec<u8> = noise(seed, bytes).iter().map(|byte| byte & mask).collect();
            let mut frame = pack(&plaintext);
            frame.resize(frame.len() + padding, 0);
            prop_assert_eq!(unpack(&frame, bytes), Ok(plaintext));
            frame.push(1);
            prop_assert!(unpack(&frame, bytes).is_err());
        }

        #[test]
        fn inv_09_no_bytes_make_the_reader_of_frames_panic(codec in 0_u8..3, rest: Vec<u8>) {
            let frame = [&[codec][..], &rest].concat();
            let _ = unpack(&frame, 1 << 16);
        }

        #[test]
        fn inv_19_a_packer_that_was_used_before_makes_the_same_frame(
            seeds in proptest::collection::vec((any::<u64>(), 0_usize..60_000, 0_u8..8), 1..12)
        ) {
            let mut used = Packer::new(3).unwrap();
            for (seed, bytes, shift) in seeds {
                let plaintext: Vec<u8> = noise(seed, bytes).iter().map(|byte| byte >> shift).collect();
                let mut frame = Vec::new();
                used.pack(&plaintext, &mut frame).unwrap();
                prop_assert_eq!(frame, pack(&plaintext));
            }
        }
    }
}
