//! Keeps the upload below the rate that the policy allows. Deciding is pure; who waits is for the caller.

use crate::policy::ByteRate;
use std::time::Duration;

/// Counts sent bytes against a rate. Unused time is forgotten after a second, so a pause allows no burst.
#[derive(Debug)]
pub struct Throttle {
    rate: Option<ByteRate>,
    /// When everything that was sent is paid for.
    paid_until: Duration,
}

impl Throttle {
    /// No rate: never waits.
    pub fn new(rate: Option<ByteRate>) -> Self {
        Self { rate, paid_until: Duration::ZERO }
    }

    /// How long to wait, at the time `now` (from any fixed moment), before `bytes` may be sent.
    pub fn wait_for(&mut self, bytes: usize, now: Duration) -> Duration {
        let Some(ByteRate(rate)) = self.rate else { return Duration::ZERO };
        let from = self.paid_until.max(now.saturating_sub(Duration::from_secs(1)));
        self.paid_until = from + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        from.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_ten_seconds_no_more_is_sent_than_the_rate_allows() {
        let mut throttle = Throttle::new(Some(ByteRate(1_000_000)));
        let (mut now, mut sent) = (Duration::from_secs(100), 0);
        let end = now + Duration::from_secs(10);
        while now < end {
            now += throttle.wait_for(300_000, now);
            sent += 300_000;
        }
        assert!((10_000_000..=11_600_000).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut throttle = Throttle::new(None);
        assert_eq!(throttle.wait_for(usize::MAX, Duration::ZERO), Duration::ZERO);
    }
}
