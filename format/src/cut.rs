//! Cutting: where a chunk ends depends on the content around that place and on a key, and on nothing else.
//!
//! The rule is MinCDC's (Orson Peters, <https://github.com/orlp/mincdc>): of all places between the least and the
//! greatest length, the cut falls where a hash of the eight bytes before it is least, at the first such place. So no
//! cut is forced, lengths vary little, and after an insertion the cuts meet those of before again within a few chunks.
//! The hash is keyed with `K_cut`, so chunk lengths do not tell whoever sees the repository what a file is.
//! Constant content makes equal chunks of the least length.
//!
//! Part of the format: another rule here would make all content look new. How a window is hashed is in `least`, long
//! runs of zeros in `zeros`. How files are read, and which small files are cut together, is for the agent.

use crate::key::ScopeKeys;
use least::{WINDOW_BYTES, WindowKey, first_least};
use zeros::{LONG_RUN_BYTES, first_long_run};

pub use zeros::zero_run;

mod least;
mod zeros;

/// Between which lengths, in bytes, chunks are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    min: usize,
    max: usize,
}

impl Sizes {
    /// 64 to 192 KiB: for everything, unless the caller knows better.
    pub const NORMAL: Self = Self::between(64 << 10, 192 << 10);

    /// 256 to 768 KiB: for what does not compress and seldom changes, such as films. Content cut so shares nothing with
    /// content cut otherwise, so a file must not go to and fro between the two.
    pub const LARGE: Self = Self::between(256 << 10, 768 << 10);

    const fn between(min: usize, max: usize) -> Self {
        assert!(WINDOW_BYTES <= min && min <= max);
        Self { min, max }
    }

    /// The least length; only the last chunk before an end or a long run of zeros is shorter.
    pub const fn min(self) -> usize {
        self.min
    }

    /// The greatest length.
    pub const fn max(self) -> usize {
        self.max
    }
}

/// Cuts data into chunks.
#[derive(Clone)]
pub struct Cutter {
    key: WindowKey,
    sizes: Sizes,
}

impl Cutter {
    /// A cutter for the hosts of one group.
    pub fn new(keys: &ScopeKeys, sizes: Sizes) -> Self {
        Self { key: WindowKey::new(keys.cut()), sizes }
    }

    /// The length of the first chunk of `data`. `None`: more data is needed, at least `max` bytes in all; or there is
    /// none left.
    pub fn next_cut(&self, data: &[u8], end_of_data: bool) -> Option<usize> {
        let Sizes { min, max } = self.sizes;
        if data.is_empty() || (data.len() < max && !end_of_data) {
            return None;
        }
        if data.len() <= min {
            return Some(data.len());
        }
        Some(min + first_least(&self.key, &data[min - WINDOW_BYTES..data.len().min(max)]))
    }
}

/// What comes next in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// So many bytes are one chunk.
    Chunk(usize),
    /// So many bytes are zeros. A long run may come in several such segments, to be added up.
    Zeros(usize),
}

impl Segment {
    /// How many bytes it takes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Chunk(bytes) | Self::Zeros(bytes) => bytes,
        }
    }
}

/// Divides a file into chunks and long runs of zeros (32 KiB and more, wherever they start), as it streams through a
/// buffer. What comes out depends on the file's content alone, not on how much of it stood in the buffer when.
#[derive(Clone)]
pub struct Segmenter {
    cutter: Cutter,
}

impl Segmenter {
    /// A segmenter for the hosts of one group.
    pub fn new(keys: &ScopeKeys, sizes: Sizes) -> Self {
        Self { cutter: Cutter::new(keys, sizes) }
    }

    /// With so many bytes in the buffer [`Self::next`] always finds a segment: 224 KiB for [`Sizes::NORMAL`], 800 KiB
    /// for [`Sizes::LARGE`].
    pub const fn window_bytes(&self) -> usize {
        self.cutter.sizes.max + LONG_RUN_BYTES
    }

    /// The first segment of `data`, which starts where the last segment ended. `None`: more data is needed,
    /// [`Self::window_bytes`] in all; or there is none left.
    pub fn next(&self, data: &[u8], end_of_data: bool) -> Option<Segment> {
        if data.is_empty() || (data.len() < self.window_bytes() && !end_of_data) {
            return None;
        }
        let window = &data[..data.len().min(self.window_bytes())];
        match first_long_run(window) {
            Some(0) => Some(Segment::Zeros(zeros_to_take(data, end_of_data))),
            Some(start) => self.cutter.next_cut(&window[..start], true).map(Segment::Chunk),
            None => self.cutter.next_cut(window, true).map(Segment::Chunk),
        }
    }
}

/// How many of the zeros at the start of `data` can be told now. A run that may go on beyond the buffer keeps 32 KiB
/// back: so what is left of it is seen as a long run again, however short it turns out to be.
fn zeros_to_take(data: &[u8], end_of_data: bool) -> usize {
    match zero_run(data) {
        run if run == data.len() && !end_of_data => run - LONG_RUN_BYTES,
        run => run,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::{keys, noise};
    use proptest::prelude::*;

    /// Small, so that a test of many chunks is quick.
    const SMALL: Sizes = Sizes::between(64, 192);

    fn cut(data: &[u8], sizes: Sizes) -> Vec<&[u8]> {
        let cutter = Cutter::new(&keys(), sizes);
        let mut rest = data;
        let chunks = std::iter::from_fn(|| {
            let (chunk, after) = rest.split_at(cutter.next_cut(rest, true)?);
            rest = after;
            Some(chunk)
        });
        chunks.collect()
    }

    /// Streams `data` through a buffer that gets `reads` bytes at a time, in turn; adds up zeros.
    fn segments(data: &[u8], reads: &[usize]) -> Vec<Segment> {
        let segmenter = Segmenter::new(&keys(), SMALL);
        let (mut start, mut end, mut found) = (0, 0, Vec::new());
        for read in reads.iter().cycle() {
            while let Some(segment) = segmenter.next(&data[start..end], end == data.len()) {
                start += segment.bytes();
                match (found.last_mut(), segment) {
                    (Some(Segment::Zeros(run)), Segment::Zeros(more)) => *run += more,
                    _ => found.push(segment),
                }
            }
            if start == data.len() {
                break;
            }
            end = data.len().min(end + read);
        }
        found
    }

    /// Noise and runs of zeros in turn, some long and some not.
    fn any_data() -> impl Strategy<Value = Vec<u8>> {
        let piece = (0_usize..2000, prop_oneof![0_usize..500, 32_000_usize..34_000, 60_000_usize..120_000]);
        (any::<u64>(), proptest::collection::vec(piece, 0..6)).prop_map(|(seed, pieces)| {
            let pieces = pieces.into_iter().enumerate();
            pieces
                .flat_map(|(at, (bytes, zeros))| [noise(seed + at as u64 % 3, bytes), vec![0; zeros]].concat())
                .collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn inv_19_segments_do_not_depend_on_how_the_data_arrives(
            data in any_data(), reads in proptest::collection::vec(1_usize..100_000, 1..5)
        ) {
            let found = segments(&data, &reads);
            prop_assert_eq!(&found, &segments(&data, &[data.len().max(1)]));
            let mut rest = &data[..];
            for segment in found {
                let (taken, after) = rest.split_at(segment.bytes());
                match segment {
                    Segment::Chunk(bytes) => prop_assert!(bytes <= SMALL.max),
                    Segment::Zeros(bytes) => {
                        prop_assert!(bytes >= LONG_RUN_BYTES && zero_run(taken) == bytes, "zeros, and many");
                        prop_assert_ne!(after.first(), Some(&0), "all of them");
                    }
                }
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn chunks_keep_their_sizes_and_the_cutter_needs_no_more_than_the_greatest(seed: u64, bytes in 0_usize..3000) {
            let data = noise(seed, bytes);
            let chunks = cut(&data, SMALL);
            prop_assert_eq!(chunks.concat(), data.clone());
            let all_but_last = chunks.split_last().map_or(&[][..], |(_, others)| others);
            prop_assert!(all_but_last.iter().all(|chunk| (SMALL.min..=SMALL.max).contains(&chunk.len())));
            let cutter = Cutter::new(&keys(), SMALL);
            match data.get(..SMALL.max) {
                Some(enough) => prop_assert_eq!(cutter.next_cut(enough, false), cutter.next_cut(&data, true)),
                None => prop_assert_eq!(cutter.next_cut(&data, false), None),
            }
        }
    }

    #[test]
    fn after_an_insertion_the_cuts_meet_again() {
        let data = noise(1, 100 << 10);
        let changed = [&data[..5000], b"inserted", &data[5000..]].concat();
        let (before, after) = (cut(&data, SMALL), cut(&changed, SMALL));
        let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
        assert!(new <= 6, "{new} of {} chunks are new", after.len());
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let data = noise(1, 10_000);
        let secret = crate::key::GroupSecret::from_bytes([6; 32]);
        let other = Cutter::new(&ScopeKeys::derive(&secret, &secret), SMALL);
        let cutter = Cutter::new(&keys(), SMALL);
        let differ = (0..50).filter(|at| {
            let data = &data[at * 192..];
            other.next_cut(data, true) != cutter.next_cut(data, true)
        });
        assert!(differ.count() > 40);
    }

    #[test]
    fn constant_content_makes_equal_chunks() {
        let lengths: Vec<usize> = cut(&[0xff; 640], SMALL).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [64; 10]);
    }

    #[test]
    fn the_segmenter_finds_a_segment_in_a_full_window() {
        let segmenter = Segmenter::new(&keys(), SMALL);
        let window = segmenter.window_bytes();
        for data in [noise(1, window), vec![0; window], vec![1; window]] {
            assert!(segmenter.next(&data, false).is_some());
            assert_eq!(segmenter.next(&data[1..], false), None);
        }
        assert_eq!(segmenter.next(&[], true), None);
    }

    /// Golden: these must never move, on any processor, or all content looks new.
    #[test]
    fn inv_19_cuts_stay_where_they_were() {
        let data = noise(7, 1 << 20);
        let lengths: Vec<usize> = cut(&data, Sizes::NORMAL).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [125_000, 112_768, 157_384, 185_826, 136_398, 160_414, 168_223, 2_563]);
    }
}
