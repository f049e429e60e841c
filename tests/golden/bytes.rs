//! Golden bytes are never edited: what is read today was written by the release that was first to write it.

use crate::golden;
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

/// BLAKE3 over the path and the hash of every file in `format/testdata/v1`.
const V1: &str = "48f4e77e498a4db7778d3047aa8a1171633c116a12ff08ddaffdd76c08aa5448";

fn hash_of_all(directory: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    for entry in WalkDir::new(directory).sort_by_file_name().into_iter().map(Result::unwrap) {
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(directory).unwrap();
            hasher.update(path.to_str().unwrap().as_bytes()).update(b"\n");
            hasher.update(blake3::hash(&fs::read(entry.path()).unwrap()).as_bytes());
        }
    }
    hasher.finalize().to_string()
}

#[test]
fn inv_55_golden_bytes_of_version_1_are_what_they_were() {
    assert_eq!(hash_of_all(&golden()), V1, "golden bytes are never edited: see format/testdata/README.md");
}

#[test]
fn a_changed_byte_a_missing_file_and_a_new_one_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let mut hashes = vec![];
    fs::write(file("a"), b"a").unwrap();
    hashes.push(hash_of_all(directory.path()));
    fs::write(file("a"), b"b").unwrap();
    hashes.push(hash_of_all(directory.path()));
    fs::write(file("b"), b"a").unwrap();
    hashes.push(hash_of_all(directory.path()));
    fs::remove_file(file("a")).unwrap();
    hashes.push(hash_of_all(directory.path()));
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}
