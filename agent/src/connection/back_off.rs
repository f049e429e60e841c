//! How long to wait before the next attempt. Pure: chance is passed in.

use std::time::Duration;

/// The first wait is about this long.
const SHORTEST: Duration = Duration::from_secs(1);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(300);

/// How long to wait after `failures` attempts in a row have failed. Each failure doubles the wait, up to five minutes;
/// `chance` (any number, evenly drawn) takes it from half to the whole of that, so that a thousand agents that lost
/// the same coordinator do not come back in the same second.
pub fn wait_after(failures: u32, chance: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = SHORTEST.saturating_mul(1 << doublings).min(LONGEST);
    let share = (chance % 1_000_001) as f64 / 1_000_000.0;
    longest.mul_f64(0.5 + 0.5 * share)
}

/// An evenly drawn number, for [`wait_after`]. Without randomness from the system it is always the same.
pub fn chance() -> u64 {
    getrandom::u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_never_zero_and_never_above_five_minutes(failures: u32, chance: u64) {
            let wait = wait_after(failures, chance);
            prop_assert!(wait >= SHORTEST / 2 && wait <= LONGEST, "{wait:?}");
        }

        #[test]
        fn more_failures_wait_longer_until_the_longest(failures in 1_u32..8, chance: u64) {
            prop_assert!(wait_after(failures + 1, chance) > wait_after(failures, chance));
        }
    }

    #[test]
    fn agents_that_failed_together_come_back_apart() {
        let waits: std::collections::HashSet<_> = (0..100).map(|agent| wait_after(6, agent * 9_973)).collect();
        assert!(waits.len() > 90);
    }
}
