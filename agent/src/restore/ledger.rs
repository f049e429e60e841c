//! Restores that began: the same command goes on with one that did not end, and finds one that did.
//!
//! Each is a file of the state directory, made before anything is written into the target and marked when all of it is on
//! disk. It lies outside the target, so nobody who may write there can pass something off as a restore, and the target
//! is at no moment without it and yet incomplete. Who did not see the report, because something was killed just then,
//! asks again, and is told.

use super::target::Before;
use crate::state::file;
use lifeboat_format::tree::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How long a complete restore is remembered, in seconds: a month.
const COMPLETE_KEPT: i64 = 30 * 24 * 3600;

/// What is remembered of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The directory that is restored into, by its real path.
    #[serde(with = "path_bytes")]
    pub target: PathBuf,
    /// That directory's inode: another one under the same name is another target.
    pub inode: u64,
    /// What is restored into it, as it was asked for.
    pub asked: String,
    /// The snapshot, in hexadecimal digits: `latest` may mean another one by now.
    pub snapshot: String,
    /// When it began, in seconds since 1970, by this machine's clock.
    pub began: i64,
    /// How the target was found, if others were shut out.
    pub before: Option<Before>,
    /// Its end, once all of it is on disk.
    pub complete: Option<Complete>,
}

/// The end of a restore that lost no entry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Complete {
    /// When, in seconds since 1970, by this machine's clock.
    pub at: i64,
    /// How many attributes were lost, by [`Attribute::kind`](super::Attribute::kind).
    pub lost_attributes: BTreeMap<String, u64>,
}

impl Record {
    /// Since when the target may hold what was restored and is not on disk yet.
    pub fn since(&self) -> Time {
        // File systems count time in ticks, which may be behind.
        Time { seconds: self.began - 2, nanos: 0 }
    }
}

/// What is known of restores cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path:?}, where a restore is remembered")]
pub struct LedgerError {
    /// What was tried.
    action: &'static str,
    /// With which file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

/// The restores of this machine.
#[derive(Debug, Clone)]
pub struct Ledger {
    directory: PathBuf,
}

impl Ledger {
    /// Kept in this directory, which is made when it is needed.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The last restore into this directory. Of a complete one nothing is known any more when the directory is empty.
    pub fn find(&self, target: &Path) -> Result<Option<Record>, LedgerError> {
        let Ok(real) = fs::canonicalize(target) else { return Ok(None) };
        let path = self.path(&real);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| LedgerError { action: "read", path: path.clone(), source })?,
        };
        let found: Record = serde_json::from_str(&text).map_err(|error| LedgerError {
            action: "understand",
            path,
            source: error.into(),
        })?;
        let is_same = fs::metadata(&real).is_ok_and(|there| there.ino() == found.inode);
        let is_emptied = found.complete.is_some() && fs::read_dir(&real).is_ok_and(|mut names| names.next().is_none());
        Ok((is_same && !is_emptied).then_some(found))
    }

    /// Remembers a restore, durably.
    pub fn keep(&self, record: &Record) -> Result<(), LedgerError> {
        let path = self.path(&record.target);
        let failed = |action| {
            let path = path.clone();
            move |source| LedgerError { action, path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed("make"))?;
        let text = serde_json::to_vec(record).map_err(|error| failed("write")(error.into()))?;
        file::put(&path, &text).map_err(failed("write"))
    }

    /// Forgets a restore that did not begin after all.
    pub fn forget(&self, record: &Record) -> Result<(), LedgerError> {
        let path = self.path(&record.target);
        fs::remove_file(&path).map_err(|source| LedgerError { action: "remove", path, source })
    }

    /// Forgets restores that were complete long before `now`, in seconds since 1970. What cannot be read stays.
    pub fn forget_old(&self, now: i64) {
        let Ok(files) = fs::read_dir(&self.directory) else { return };
        for file in files.flatten() {
            let record = fs::read(file.path()).ok().and_then(|text| serde_json::from_slice::<Record>(&text).ok());
            let complete = record.and_then(|record| record.complete);
            if complete.is_some_and(|complete| complete.at < now - COMPLETE_KEPT) {
                // What cannot be removed is tried again after the next restore.
                let _ = fs::remove_file(file.path());
            }
        }
    }

    fn path(&self, real: &Path) -> PathBuf {
        let name = blake3::hash(real.as_os_str().as_encoded_bytes()).to_hex();
        self.directory.join(format!("{}.json", &name[..32]))
    }
}

/// A path in JSON: as text, or where it is not UTF-8 as the list of its bytes.
mod path_bytes {
    use super::*;
    use serde::{Deserializer, Serializer};
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Text(PathBuf),
        Bytes(Vec<u8>),
    }

    pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => to.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(to),
        }
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<PathBuf, D::Error> {
        Ok(match Written::deserialize(from)? {
            Written::Text(path) => path,
            Written::Bytes(bytes) => OsString::from_vec(bytes).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_whose_name_is_not_utf8_is_found_again() {
        use std::os::unix::ffi::OsStrExt;
        let place = tempfile::tempdir().unwrap();
        let ledger = Ledger::at(place.path().join("restores"));
        for name in [&b"t\xff"[..], b"t\xfe"] {
            let target = place.path().join(std::ffi::OsStr::from_bytes(name));
            fs::create_dir(&target).unwrap();
            let record = Record {
                target: fs::canonicalize(&target).unwrap(),
                inode: fs::metadata(&target).unwrap().ino(),
                asked: "web1:/etc".into(),
                snapshot: "4be1d07c".into(),
                began: 1000,
                before: None,
                complete: None,
            };
            ledger.keep(&record).unwrap();
            assert_eq!(ledger.find(&target).unwrap(), Some(record));
        }
    }

    #[test]
    fn a_restore_is_found_again_in_the_same_directory_and_no_other() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        fs::create_dir(&target).unwrap();
        let ledger = Ledger::at(place.path().join("state/restores"));
        let record = Record {
            target: fs::canonicalize(&target).unwrap(),
            inode: fs::metadata(&target).unwrap().ino(),
            asked: "web1:/etc".into(),
            snapshot: "4be1d07c".into(),
            began: 1000,
            before: None,
            complete: None,
        };
        assert_eq!(ledger.find(&target).unwrap(), None);
        ledger.keep(&record).unwrap();
        assert_eq!(ledger.find(&place.path().join("target/../target")).unwrap().as_ref(), Some(&record));
        fs::rename(&target, place.path().join("moved")).unwrap();
        fs::create_dir(&target).unwrap();
        assert_eq!(ledger.find(&target).unwrap(), None, "another directory");
        fs::remove_dir(&target).unwrap();
        fs::rename(place.path().join("moved"), &target).unwrap();
        let complete = Complete { at: 2000, lost_attributes: [("owner".to_owned(), 3)].into() };
        let record = Record { complete: Some(complete), ..record };
        ledger.keep(&record).unwrap();
        assert_eq!(ledger.find(&target).unwrap(), None, "it was emptied");
        fs::write(target.join("file"), "").unwrap();
        assert_eq!(ledger.find(&target).unwrap().as_ref(), Some(&record));
        ledger.forget_old(2000 + COMPLETE_KEPT);
        assert!(ledger.find(&target).unwrap().is_some());
        ledger.forget_old(2001 + COMPLETE_KEPT);
        assert_eq!(ledger.find(&target).unwrap(), None);
    }
}
