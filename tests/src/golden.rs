//! A small repository that holds one of everything, and what a reader must find in it.
//!
//! It goes straight through `format`, so it can hold what few machines can: devices, owners, times and names that a test
//! could not make on its disk. Two hosts, a group secret that is rotated, four snapshots: bundles that stay while files
//! around them change, lists of extents, holes, runs of zeros, hard links, a gap. Keys come from fixed seeds; what age and
//! manifests draw is new each time, so two golden repositories are never equal. Reading is for `tests/golden`.

mod events;
mod expected;
mod files;
mod history;
pub mod json;
mod tree;

use history::History;
use std::fs;
use std::path::Path;

/// Makes the repository in `directory`/repository, and beside it the recovery kit and, for each snapshot, what is in it:
/// `expected`/HOST-SET-SEQUENCE.json, a line an entry.
///
/// # Panics
/// When something cannot be written: this is for tests.
pub fn make(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let mut history = History::begin(directory);
    history.commit(1, "system", &files::first(), &[]);
    history.commit(2, "mail-1", &files::of_another_host(), &[]);
    history.commit(1, "system", &files::second(), &[("etc/shadow", "permission denied")]);
    history.rotate();
    history.commit(1, "system", &files::third(), &[]);
    history.end();
}
