//! Finds the window with the least hash: the inner loop of cutting.
//!
//! One loop in plain code, compiled twice: for AVX2 and for any processor. The compiler makes vectors of it, so nothing
//! can differ between processors but speed. With AVX2 it passes 11 GB/s a core, without 1.6; AVX-512 brings nothing.

/// How many bytes decide on a cut: those just before it.
pub(super) const WINDOW_BYTES: usize = 8;

/// How many windows are hashed before the best so far is looked at: they fit into the first-level cache, since each of
/// the four passes of [`least`] reads them.
const BLOCK_WINDOWS: usize = 4096;

/// What makes the hash of a window a secret.
#[derive(Clone)]
pub(super) struct WindowKey {
    flips: [u32; 2],
    factors: [u32; 3],
}

impl WindowKey {
    /// Takes the first 20 bytes of `K_cut`. Factors are made odd, so that no bit of a window is lost.
    pub(super) fn new(cut: &[u8; 32]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| cut[4 * at + byte]));
        Self { flips: [word(0), word(1)], factors: [word(2) | 1, word(3) | 1, word(4) | 1] }
    }

    /// The hash of one window, given as two little-endian words. The last bytes of a window weigh as much as the first:
    /// products carry upwards, and the shift brings what is above down again. Because of it cuts also do not follow from
    /// two or three others by solving linear equations.
    #[inline(always)]
    fn hash(&self, low: u32, high: u32) -> u32 {
        let low = (low ^ self.flips[0]).wrapping_mul(self.factors[0]);
        let high = (high ^ self.flips[1]).wrapping_mul(self.factors[1]);
        let sum = low.wrapping_add(high);
        (sum ^ (sum >> 15)).wrapping_mul(self.factors[2])
    }

    fn hash_window(&self, window: &[u8]) -> u32 {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| window[at + byte]));
        self.hash(word(0), word(4))
    }
}

/// Where the window with the least hash starts; the first of them if there are several. `data` holds at least one.
pub(super) fn first_least(key: &WindowKey, data: &[u8]) -> usize {
    let windows = data.len() - (WINDOW_BYTES - 1);
    let block = |start: usize| &data[start..data.len().min(start + BLOCK_WINDOWS + WINDOW_BYTES - 1)];
    let mut best = (u32::MAX, 0);
    for start in (0..windows).step_by(BLOCK_WINDOWS) {
        let candidate = least(key, block(start));
        if candidate < best.0 {
            best = (candidate, start);
        }
    }
    let (hash, start) = best;
    let within = block(start).windows(WINDOW_BYTES).position(|window| key.hash_window(window) == hash);
    start + within.unwrap_or(0)
}

/// The least hash of all windows of a block.
fn least(key: &WindowKey, block: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this processor has AVX2.
        return unsafe { least_avx2(key, block) };
    }
    least_anywhere(key, block)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn least_avx2(key: &WindowKey, block: &[u8]) -> u32 {
    least_anywhere(key, block)
}

/// Windows overlap, which no vector likes; but those that start four bytes apart are just words in a row. So there are
/// four passes, each over every fourth window.
#[inline(always)]
fn least_anywhere(key: &WindowKey, block: &[u8]) -> u32 {
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut least = u32::MAX;
    for shift in 0..4 {
        let (Some(lows), Some(highs)) = (block.get(shift..), block.get(shift + 4..)) else { break };
        for (low, high) in lows.chunks_exact(4).zip(highs.chunks_exact(4)) {
            least = least.min(key.hash(word(low), word(high)));
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(seed: u8) -> WindowKey {
        WindowKey::new(blake3::hash(&[seed]).as_bytes())
    }

    /// What the loops above must find, said in one line.
    fn first_least_said_simply(key: &WindowKey, data: &[u8]) -> usize {
        let hashes = data.windows(WINDOW_BYTES).map(|window| key.hash_window(window));
        hashes.enumerate().min_by_key(|(at, hash)| (*hash, *at)).map_or(0, |(at, _)| at)
    }

    proptest! {
        #[test]
        fn inv_19_every_processor_finds_the_same_first_least_window(
            seed: u8, data in proptest::collection::vec(0_u8..4, WINDOW_BYTES..150), repeat in 1_usize..60
        ) {
            let (key, data) = (key(seed), data.repeat(repeat));
            let expected = first_least_said_simply(&key, &data);
            prop_assert_eq!(first_least(&key, &data), expected);
            let hash = key.hash_window(&data[expected..]);
            prop_assert_eq!(least_anywhere(&key, &data), hash);
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: this processor has AVX2.
                prop_assert_eq!(unsafe { least_avx2(&key, &data) }, hash);
            }
        }
    }

    #[test]
    fn every_byte_of_a_window_changes_its_hash() {
        let window = *b"a window";
        for byte in 0..WINDOW_BYTES {
            let mut other = window;
            other[byte] ^= 1;
            assert_ne!(key(1).hash_window(&window), key(1).hash_window(&other), "byte {byte}");
        }
        assert_ne!(key(1).hash_window(&window), key(2).hash_window(&window));
    }
}
