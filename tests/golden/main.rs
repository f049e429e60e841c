//! The golden repository of each version is still read: by our own reader, and by the second one, in Python, which was
//! written from `docs/format.md` alone.
//!
//! `format/testdata/README.md` says what a golden repository is. `make test` sees to it that `LIFEBOAT_PYTHON` names a
//! Python with the packages that the second reader needs.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

mod bytes;
mod ours;
mod second;

use std::fs;
use std::path::{Path, PathBuf};

/// Where `format/testdata/v1` is.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../format/testdata/v1")
}

/// A repository that the code of today has made, so that no writer leaves the page unseen.
fn made_today() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    lifeboat_tests::golden::make(directory.path());
    directory
}

/// What a reader must find: a value for each snapshot, its head and its entries, sorted by the files' names.
fn expected(directory: &Path) -> Vec<serde_json::Value> {
    let mut paths: Vec<_> =
        fs::read_dir(directory.join("expected")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| snapshot_of(&fs::read_to_string(path).unwrap())).collect()
}

fn snapshot_of(text: &str) -> serde_json::Value {
    let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut snapshot = lines.next().unwrap();
    snapshot["entries"] = lines.collect();
    snapshot
}

/// Where two lists of snapshots differ first: the whole of them would not be read by anybody.
fn assert_same(found: &[serde_json::Value], expected: &[serde_json::Value]) {
    assert_eq!(found.len(), expected.len(), "snapshots");
    for (found, expected) in found.iter().zip(expected) {
        let entries = |of: &serde_json::Value| of["entries"].as_array().unwrap().clone();
        for (found, expected) in entries(found).iter().zip(entries(expected)) {
            assert_eq!(*found, expected);
        }
        assert_eq!(entries(found).len(), entries(expected).len());
        assert_eq!(found, expected);
    }
}
