//! Whether this machine has processor time to spare, so that more of what is sealed can be checked (INV-12).
//!
//! It only changes how often a check is made, never what is sent.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one answer stands.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks at the kernel's counts of processor time now and then.
#[derive(Debug, Default)]
pub struct IdleCores(Mutex<Option<Look>>);

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    counts: Counts,
    idle: bool,
}

/// Ticks since the machine started, all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    idle: u64,
    all: u64,
    cores: u64,
}

impl IdleCores {
    /// Whether half a core or more had nothing to do of late; no where that cannot be told.
    pub fn are_there(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some(look) if look.at.elapsed() < LOOK_EVERY => look.idle,
            before => {
                let counts = std::fs::read_to_string("/proc/stat").ok().and_then(|text| read(&text));
                let idle = counts.zip(before).is_some_and(|(now, before)| half_a_core_is_idle(before.counts, now));
                *last = counts.map(|counts| Look { at: Instant::now(), counts, idle });
                idle
            }
        }
    }
}

/// The fields of `cpu`: user, nice, system, idle, iowait, and more that is work (proc_stat(5)); then a line a core.
fn read(stat: &str) -> Option<Counts> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks = fields.take(8).map(|field| field.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let cores = stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count() as u64;
    Some(Counts { idle: ticks.get(3)? + ticks.get(4)?, all: ticks.iter().sum(), cores })
}

fn half_a_core_is_idle(before: Counts, now: Counts) -> bool {
    let (idle, all) = (now.idle.saturating_sub(before.idle), now.all.saturating_sub(before.all));
    all > 0 && idle.saturating_mul(now.cores).saturating_mul(2) >= all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_of_the_kernel_are_read() {
        let stat = "cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 2 3\ncpu1 1 2 3\nintr 5\n";
        assert_eq!(read(stat), Some(Counts { idle: 450, all: 531, cores: 2 }));
        assert_eq!(read("nonsense"), None);
        let here = read(&std::fs::read_to_string("/proc/stat").unwrap()).unwrap();
        assert!(here.cores >= 1 && here.all > here.idle, "{here:?}");
    }

    #[test]
    fn half_a_core_counts_as_idle_whatever_the_number_of_cores() {
        let idle = |cores, idle: u64| {
            let counts = |idle, all| Counts { idle, all, cores };
            half_a_core_is_idle(counts(1000, 5000), counts(1000 + idle, 5100))
        };
        assert!(!idle(1, 49) && idle(1, 50));
        assert!(!idle(2, 24) && idle(2, 25));
        assert!(!idle(10, 4) && idle(10, 5));
        assert!(!half_a_core_is_idle(Counts { idle: 1, all: 1, cores: 1 }, Counts { idle: 1, all: 1, cores: 1 }));
    }
}
