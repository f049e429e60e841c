//! How the last backup of each source set ended: for `status`, and for nothing else.

use super::{StateError, file};
use lifeboat_proto::convert::Ended;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "outcomes.json";

/// Outcomes that leave a backup to restore from.
const GOOD: [Ended; 2] = [Ended::Complete, Ended::Gaps];

/// The last outcome of each source set, by name.
pub type Outcomes = BTreeMap<String, SetOutcome>;

/// How one backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetOutcome {
    /// When it ended: nanoseconds since 1970, UTC.
    pub ended_ns: i64,
    /// Its name, as all lists show it ([`lifeboat_proto::convert::Ended::name`]).
    pub outcome: String,
    /// The snapshot, hexadecimal; empty if it failed.
    pub snapshot: String,
    /// What went wrong and what to do; empty if nothing.
    pub message: String,
    /// What could not be read.
    pub gap_count: u64,
    /// Entries of the tree.
    pub entries: u64,
    /// Sealed bytes that were sent.
    pub sent_bytes: u64,
    /// When a backup last succeeded, with or without gaps; none if never.
    pub last_good_ns: Option<i64>,
}

/// Reads them. A file that makes no sense counts as none: it is only shown.
pub fn load(state: &Path) -> Result<Outcomes, StateError> {
    let bytes = file::read_private(&state.join(FILE))?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// Remembers one.
pub fn keep(state: &Path, set: &str, outcome: SetOutcome) -> Result<(), StateError> {
    let mut outcomes = load(state)?;
    let is_good = GOOD.iter().any(|good| good.name() == outcome.outcome);
    let last_good_ns = match is_good {
        true => Some(outcome.ended_ns),
        false => outcomes.get(set).and_then(|before| before.last_good_ns),
    };
    outcomes.insert(set.to_owned(), SetOutcome { last_good_ns, ..outcome });
    let damaged = |source: serde_json::Error| StateError::Damaged { path: state.join(FILE), source: source.into() };
    file::replace(&state.join(FILE), &serde_json::to_vec_pretty(&outcomes).map_err(damaged)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_78_what_is_no_backup_keeps_the_time_of_the_last_one() {
        let directory = tempfile::tempdir().unwrap();
        let outcome = |ended_ns, outcome: &str| SetOutcome {
            ended_ns,
            outcome: outcome.to_owned(),
            snapshot: String::new(),
            message: String::new(),
            gap_count: 0,
            entries: 0,
            sent_bytes: 0,
            last_good_ns: None,
        };
        keep(directory.path(), "system", outcome(5, "complete with gaps")).unwrap();
        keep(directory.path(), "system", outcome(8, "suspect")).unwrap();
        keep(directory.path(), "system", outcome(9, "failed")).unwrap();
        let system = load(directory.path()).unwrap()["system"].clone();
        assert_eq!((system.ended_ns, system.last_good_ns), (9, Some(5)));
    }
}
