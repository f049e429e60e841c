//! Every kind of file of the index × cut, bit flipped, deleted, an older version put back (INV-3): nothing good is called
//! lost, and everything restores.

use super::lab::*;
use crate::index::{Index, IndexError};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of an index, by name.
fn files(index: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(index).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    entries.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap())).collect()
}

fn put(index: &Path, files: &BTreeMap<String, Vec<u8>>) {
    let _ = fs::remove_dir_all(index);
    fs::create_dir(index).unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(index.join(name), bytes).unwrap());
}

/// Files of all kinds that RocksDB keeps; of its tables the oldest, the newest and one between.
fn kinds(files: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let is_data = |name: &&String| !name.starts_with("LOG") && *name != "LOCK";
    let (tables, mut others): (Vec<String>, Vec<String>) =
        files.keys().filter(is_data).cloned().partition(|name| name.ends_with(".sst"));
    others.extend([0, tables.len() / 2, tables.len() - 1].map(|at| tables[at].clone()));
    others
}

/// The files of an index, by name.
type IndexFiles = BTreeMap<String, Vec<u8>>;

/// A repository with some history, its index as it is now and as it was before the last backup.
fn history() -> (Lab, IndexFiles, IndexFiles) {
    let lab = Lab::new();
    let path = lab.index_path();
    for night in 0..3 {
        let coordinator = lab.open();
        back_up(&coordinator, A, &(night..night + 6).map(chunk).collect::<Vec<_>>());
        back_up(&coordinator, B, &(night..night + 3).map(chunk).collect::<Vec<_>>());
    }
    let older = files(&path);
    let coordinator = lab.open();
    back_up(&coordinator, A, &(20..26).map(chunk).collect::<Vec<_>>());
    drop(coordinator);
    // Once more, so that all of it is in tables.
    drop(lab.open());
    (lab, files(&path), older)
}

fn check(lab: &Lab, damaged: &BTreeMap<String, Vec<u8>>, what: &str) {
    put(&lab.index_path(), damaged);
    let coordinator = lab.open();
    assert_eq!(coordinator.verify(None, &mut |_| {}).unwrap(), [], "{what}");
    assert!(restore_all(&coordinator).is_ok(), "{what}");
    assert!(coordinator.catalog(|catalog| catalog.losses().next().is_none()), "{what}");
    back_up(&coordinator, C, &[chunk(1), chunk(21), chunk(99)]);
    assert!(restore_all(&coordinator).is_ok(), "{what}");
}

#[test]
fn inv_03_whatever_file_of_the_index_is_damaged_nothing_good_is_lost() {
    let (lab, good, older) = history();
    let mut tried = 0;
    for name in kinds(&good) {
        let bytes = &good[&name];
        let mut variants: Vec<(String, Option<Vec<u8>>)> = vec![("deleted".into(), None)];
        variants.extend(older.get(&name).map(|old| ("older".into(), Some(old.clone()))));
        for part in [0, 20, 45, 50, 55, 70, 90, 99] {
            let at = bytes.len() * part / 100;
            variants.push((format!("cut at {at} of {}", bytes.len()), Some(bytes[..at].to_vec())));
            let mut flipped = bytes.clone();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1 << (part % 8);
                variants.push((format!("bit flipped at {at} of {}", bytes.len()), Some(flipped)));
            }
        }
        for (what, content) in variants {
            let mut damaged = good.clone();
            match content {
                Some(content) => damaged.insert(name.clone(), content),
                None => damaged.remove(&name),
            };
            check(&lab, &damaged, &format!("{name} {what}"));
            tried += 1;
        }
    }
    check(&lab, &older, "all of it older");
    assert!(tried > 80, "{tried}");
}

#[test]
fn inv_28_an_index_that_cannot_be_opened_now_is_neither_deleted_nor_rebuilt() {
    let lab = Lab::new();
    drop(lab.open());
    let path = lab.index_path();
    let held = Index::open(&path, crate::index::IndexMemory::SMALL).unwrap();
    let before: Vec<PathBuf> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
    let refused = lab.try_open(lab.store.clone());
    assert!(refused.is_err(), "another process has it open");
    let again = Index::open(&path, crate::index::IndexMemory::SMALL).map(drop).unwrap_err();
    assert!(matches!(again, IndexError::Database { .. }) && !again.proves_damage(), "{again:?}");
    assert!(before.iter().all(|file| file.exists()) && !path.join("damaged").exists());
    drop(held);
    lab.open();
}

#[test]
fn an_index_that_is_rebuilt_is_moved_aside() {
    let (lab, good, _) = history();
    let mut damaged = good.clone();
    damaged.remove("CURRENT");
    put(&lab.index_path(), &damaged);
    drop(lab.open());
    let aside = files(&lab.index_path().join("damaged"));
    assert_eq!(aside.len(), damaged.len());
}
