//! Medians with their range, in tables.

use std::time::Duration;

/// How often each side of a comparison runs.
pub const ROUNDS: usize = 3;

/// The median of some figures, and their range.
#[derive(Debug, Clone, Copy)]
pub struct Median {
    /// The one in the middle.
    pub middle: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Median {
    /// Of at least one figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        Self { middle: at(sorted.len() / 2), least: at(0), greatest: at(sorted.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Median {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.middle, self.least, self.greatest)
    }
}

/// The median of the ratios of two figures that were taken in turn.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> Median {
    Median::of(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs))
}

/// A row of the report: a name, figures, and what they should reach.
pub fn row(what: &str, figure: impl std::fmt::Display, goal: &str) {
    println!("{what:<58} {figure:>26}  {goal}");
}

/// Seconds as a figure.
pub fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// Bytes as MiB.
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What the figures were measured on.
pub fn about_this_machine() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{}, {cores} cores; repositories and data on /dev/shm", model.trim_start_matches([' ', '\t', ':']));
}
