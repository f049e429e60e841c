//! Time and chance, passed in: so that a test or a simulation can hold both in its hand.
//!
//! Nothing else in the coordinator's core asks the system for either.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Wall time: nanoseconds since 1970, UTC. It may jump, and be wrong by years; nothing safe may depend on it.
    fn now_ns(&self) -> i64;
    /// Time since some fixed moment of this process. It never goes back.
    fn monotonic(&self) -> Duration;
}

/// Gives random bytes, fit for ids.
pub trait Random: Send + Sync {
    /// Fills the buffer.
    fn fill(&self, buffer: &mut [u8]);
}

/// The system's clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl SystemClock {
    /// Its fixed moment is now.
    pub fn new() -> Self {
        Self(Instant::now())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ns(&self) -> i64 {
        let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => nanos(since),
            Err(before) => -nanos(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// The system's random numbers.
#[derive(Clone, Copy, Debug)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, buffer: &mut [u8]) {
        // Without random numbers no id is safe to give out; the call fails only on a kernel that has none at all.
        getrandom::fill(buffer).expect("the kernel gives random numbers");
    }
}

/// A clock that moves when told.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ns: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl ManualClock {
    /// Starts at this wall time.
    pub fn at(wall_ns: i64) -> Self {
        Self { wall_ns: AtomicI64::new(wall_ns), monotonic_ns: AtomicU64::new(0) }
    }

    /// Time goes by.
    pub fn advance(&self, by: Duration) {
        let nanos = by.as_nanos() as u64;
        self.wall_ns.fetch_add(nanos as i64, Ordering::SeqCst);
        self.monotonic_ns.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock.
    pub fn jump_to(&self, wall_ns: i64) {
        self.wall_ns.store(wall_ns, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ns(&self) -> i64 {
        self.wall_ns.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }
}

/// Numbers that a seed decides: equal seeds, equal numbers. For tests and simulation, never for keys.
#[derive(Debug)]
pub struct SeededRandom {
    seed: u64,
    drawn: AtomicU64,
}

impl SeededRandom {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) {
        let draw = self.drawn.fetch_add(1, Ordering::SeqCst);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.seed.to_le_bytes()).update(&draw.to_le_bytes());
        hasher.finalize_xof().fill(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_no_number_comes_twice() {
        let draw = |random: &SeededRandom| {
            let mut bytes = [0; 16];
            random.fill(&mut bytes);
            bytes
        };
        let (one, same, other) = (SeededRandom::new(1), SeededRandom::new(1), SeededRandom::new(2));
        let first = draw(&one);
        assert_eq!(first, draw(&same));
        assert_ne!(first, draw(&other));
        assert_ne!(first, draw(&one));
    }
}
