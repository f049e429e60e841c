//! Finds long runs of zeros without reading what cannot be one.

/// A run of zeros this long, wherever it starts, is kept as a number and not as content. Shorter ones compress
/// to almost nothing, and a reference more would cost as much.
pub(super) const LONG_RUN_BYTES: usize = 32 << 10;

/// How many zeros `data` starts with. Memory speed.
pub fn zero_run(data: &[u8]) -> usize {
    const BLOCK: usize = 256;
    let whole = data.chunks_exact(BLOCK).take_while(|block| is_zero(block)).count() * BLOCK;
    whole + data[whole..].iter().take_while(|byte| **byte == 0).count()
}

/// How many zeros `data` ends with.
fn zero_run_before_the_end(data: &[u8]) -> usize {
    const BLOCK: usize = 256;
    let whole = data.rchunks_exact(BLOCK).take_while(|block| is_zero(block)).count() * BLOCK;
    whole + data[..data.len() - whole].iter().rev().take_while(|byte| **byte == 0).count()
}

/// Without an early exit, so that it becomes vector code.
fn is_zero(block: &[u8]) -> bool {
    block.iter().fold(0, |bits, byte| bits | byte) == 0
}

/// Where the first long run starts, if one lies whole in `data`.
///
/// A long run covers at least one multiple of its length. So only there a byte is looked at, and around it only if it
/// is zero.
pub(super) fn first_long_run(data: &[u8]) -> Option<usize> {
    let mut known = 0; // No long run starts before this.
    for probe in (0..data.len()).step_by(LONG_RUN_BYTES) {
        if data[probe] != 0 || probe < known {
            continue;
        }
        let start = probe - zero_run_before_the_end(&data[known..probe]);
        let end = probe + zero_run(&data[probe..data.len().min(start + LONG_RUN_BYTES)]);
        if end - start >= LONG_RUN_BYTES {
            return Some(start);
        }
        known = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_is_counted_to_its_last_zero() {
        for zeros in [0, 1, 255, 256, 257, 1000] {
            let data = [vec![0; zeros], vec![1], vec![0; 600]].concat();
            assert_eq!(zero_run(&data), zeros);
            assert_eq!(zero_run_before_the_end(&data), 600);
            assert_eq!(zero_run(&data[..zeros]), zeros);
            assert_eq!(zero_run_before_the_end(&data[..zeros]), zeros);
        }
    }

    proptest! {
        #[test]
        fn the_first_long_run_is_found_wherever_it_starts_and_no_shorter_one(
            runs in proptest::collection::vec((1_usize..50_000, -300_isize..300, any::<bool>()), 1..6)
        ) {
            let (mut data, mut expected) = (Vec::new(), None);
            for (ones, around, long) in runs {
                data.resize(data.len() + ones, 1);
                let zeros = LONG_RUN_BYTES.strict_add_signed(if long { around.abs() } else { -1 - around.abs() });
                if zeros >= LONG_RUN_BYTES {
                    expected = expected.or(Some(data.len()));
                }
                data.resize(data.len() + zeros, 0);
            }
            prop_assert_eq!(first_long_run(&data), expected);
        }
    }
}
