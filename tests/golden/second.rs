//! The second reader, `tests/reader/lifeboat_reader.py`: it finds the same, without our code; and it finds damage.

use crate::{assert_same, expected, golden, made_today};
use lifeboat_tests::footers::{footer, packs};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use walkdir::WalkDir;

#[test]
fn inv_04_the_second_reader_opens_version_1_with_the_recovery_kit() {
    let found: Vec<_> = expected(&golden()).iter().map(|snapshot| list(&golden(), snapshot, &[])).collect();
    assert_same(&found, &expected(&golden()));
}

#[test]
fn inv_04_it_needs_neither_journal_nor_trust_file() {
    let directory = copy_of(&golden());
    for kind in ["journal", "trust"] {
        fs::remove_dir_all(directory.path().join("repository").join(kind)).unwrap();
    }
    let read = |snapshot| list(directory.path(), snapshot, &["--without-journal"]);
    assert_same(&expected(&golden()).iter().map(read).collect::<Vec<_>>(), &expected(&golden()));
}

#[test]
fn it_needs_one_copy_of_each_object_that_exists_twice() {
    for gone in ["", "copies"] {
        let directory = copy_of(&golden());
        let repository = directory.path().join("repository");
        for kind in ["keys", "envelopes", "manifests", "trust", "journal"] {
            fs::remove_dir_all(repository.join(gone).join(kind)).unwrap();
        }
        let read = |snapshot| list(directory.path(), snapshot, &[]);
        assert_same(&expected(&golden()).iter().map(read).collect::<Vec<_>>(), &expected(&golden()));
    }
}

/// Second copies of root and inner nodes are in a pack of their own: without it, or with one of them, nothing is missing.
#[test]
fn it_needs_one_of_the_packs_that_hold_an_inner_node() {
    let directory = copy_of(&golden());
    let holds_inner_nodes = |pack: &PathBuf| footer(pack).iter().all(|line| line.height > 1);
    let copies: Vec<_> = packs(&directory.path().join("repository")).into_iter().filter(holds_inner_nodes).collect();
    assert!(!copies.is_empty());
    let check = || {
        let read = |snapshot| list(directory.path(), snapshot, &[]);
        assert_same(&expected(&golden()).iter().map(read).collect::<Vec<_>>(), &expected(&golden()));
    };
    for pack in &copies {
        let mut bytes = fs::read(pack).unwrap();
        bytes[100] ^= 1;
        fs::write(pack, bytes).unwrap();
    }
    check();
    copies.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    check();
}

#[test]
fn the_page_says_what_is_written_today() {
    let directory = made_today();
    let read = |snapshot| list(directory.path(), snapshot, &[]);
    assert_same(&expected(directory.path()).iter().map(read).collect::<Vec<_>>(), &expected(directory.path()));
}

#[test]
fn the_restore_identity_opens_as_much_and_an_identity_of_nobody_nothing() {
    let directory = copy_of(&golden());
    let identity = |name: &str| directory.path().join(name);
    let all = |identity: &Path| second_reader(directory.path(), identity, &["--host", "1"]);
    assert!(all(&identity("restore-identity.txt")).status.success());
    let nobody = lifeboat_format::envelope::Identity::from_bytes(&[9; 32]).unwrap();
    fs::write(identity("nobody.txt"), nobody.expose_text().as_bytes()).unwrap();
    assert_eq!(all(&identity("nobody.txt")).status.code(), Some(1));
}

#[test]
fn inv_11_a_changed_byte_in_any_object_is_found() {
    let directory = copy_of(&golden());
    let objects: Vec<_> = files(&directory.path().join("repository"));
    for path in &objects {
        let bytes = fs::read(path).unwrap();
        let mut changed = bytes.clone();
        changed[bytes.len() / 2] ^= 1;
        fs::write(path, &changed).unwrap();
        let snapshots = expected(&golden());
        let is_found = snapshots.iter().any(|snapshot| {
            let id = snapshot["snapshot"].as_str().unwrap();
            let output =
                second_reader(directory.path(), &directory.path().join("recovery-kit.txt"), &["--snapshot", id]);
            let said = String::from_utf8_lossy(&output.stderr);
            let is_in_pack = path.to_str().unwrap().contains("/packs/");
            match is_in_pack {
                true => said.contains(&format!("note: pack {}", path.file_name().unwrap().to_str().unwrap())),
                false => output.status.success() && said.contains("1 good of 2 copies"),
            }
        });
        assert!(is_found, "{}", path.display());
        fs::write(path, &bytes).unwrap();
    }
}

mod as_root {
    use super::*;
    use std::collections::BTreeSet;

    /// What it gives back, it finds to be the same, but for what it named as lost: not every file system keeps all that is
    /// in `special`. What was changed after that, it finds too.
    #[test]
    fn the_second_reader_gives_back_what_it_compares() {
        let directory = copy_of(&golden());
        let restored = directory.path().join("restored");
        let run = |action: &str| {
            let arguments = ["--host", "1", action, restored.to_str().unwrap()];
            let output = second_reader(directory.path(), &directory.path().join("recovery-kit.txt"), &arguments);
            String::from_utf8(output.stderr).unwrap()
        };
        let losses = paths_after("loss: ", &run("--restore"));
        assert!(losses.iter().all(|path| path.starts_with("special/")), "{losses:?}");
        assert_eq!(paths_after("differs: ", &run("--compare")), losses);
        fs::write(restored.join("etc/hostname"), "golded\n").unwrap();
        fs::remove_file(restored.join("etc/shadow")).unwrap();
        fs::write(restored.join("etc/new"), "").unwrap();
        let found = run("--compare");
        let more = ["etc/hostname", "etc/shadow", "etc/new", "etc"].map(str::to_owned);
        assert_eq!(paths_after("differs: ", &found), losses.into_iter().chain(more).collect());
        assert!(found.contains("differs: etc/hostname: content"), "{found}");
    }

    fn paths_after(word: &str, lines: &str) -> BTreeSet<String> {
        let paths = lines.lines().filter_map(|line| line.strip_prefix(word)?.split_once(": "));
        paths.map(|(path, _)| path.to_owned()).collect()
    }
}

/// What the second reader lists of a snapshot.
fn list(directory: &Path, snapshot: &Value, more: &[&str]) -> Value {
    let arguments = [&["--snapshot", snapshot["snapshot"].as_str().unwrap(), "--list", "--json"], more].concat();
    let output = second_reader(directory, &directory.join("recovery-kit.txt"), &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn second_reader(directory: &Path, identity: &Path, arguments: &[&str]) -> Output {
    lifeboat_tests::second_reader::run(&directory.join("repository"), identity, arguments)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = WalkDir::new(directory).sort_by_file_name().into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
}

fn copy_of(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files(directory) {
        let to = copy.path().join(file.strip_prefix(directory).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
    }
    copy
}
