//! Restores that began and did not end: the same command goes on with them.
//!
//! Each is a file of the state directory, made before anything is written into the target and removed when all of it is on
//! disk. It lies outside the target, so nobody who may write there can pass something off as a restore, and the target
//! is at no moment without it and yet incomplete.

use super::target::Before;
use lifeboat_format::tree::Time;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unfinished {
    /// The directory that is restored into, by its real path.
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
}

impl Unfinished {
    /// Since when the target may hold what was restored and is not on disk yet.
    pub fn since(&self) -> Time {
        // File systems count time in ticks, which may be behind.
        Time { seconds: self.began - 2, nanos: 0 }
    }
}

/// What is known of unfinished restores cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path:?}, where an unfinished restore is remembered")]
pub struct LedgerError {
    /// What was tried.
    action: &'static str,
    /// With which file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

/// The unfinished restores of this machine.
#[derive(Debug, Clone)]
pub struct Ledger {
    directory: PathBuf,
}

impl Ledger {
    /// Kept in this directory, which is made when it is needed.
    pub fn at(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The unfinished restore into this directory, if there is one.
    pub fn find(&self, target: &Path) -> Result<Option<Unfinished>, LedgerError> {
        let Ok(real) = fs::canonicalize(target) else { return Ok(None) };
        let path = self.path(&real);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|source| LedgerError { action: "read", path: path.clone(), source })?,
        };
        let found: Unfinished = serde_json::from_str(&text).map_err(|error| LedgerError {
            action: "understand",
            path,
            source: error.into(),
        })?;
        let is_same = fs::metadata(&real).is_ok_and(|there| there.ino() == found.inode);
        Ok(is_same.then_some(found))
    }

    /// Remembers a restore, durably.
    pub fn begin(&self, unfinished: &Unfinished) -> Result<(), LedgerError> {
        let path = self.path(&unfinished.target);
        let failed = |action| {
            let path = path.clone();
            move |source| LedgerError { action, path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(failed("make"))?;
        let text = serde_json::to_string(unfinished).map_err(|error| failed("write")(error.into()))?;
        let temporary = path.with_extension("new");
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed("write"))
    }

    /// The restore into this directory is complete, or is given up.
    pub fn end(&self, target: &Path) -> Result<(), LedgerError> {
        let Ok(real) = fs::canonicalize(target) else { return Ok(()) };
        let path = self.path(&real);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LedgerError { action: "remove", path, source: error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, real: &Path) -> PathBuf {
        let name = blake3::hash(real.as_os_str().as_encoded_bytes()).to_hex();
        self.directory.join(format!("{}.json", &name[..32]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_found_again_in_the_same_directory_and_no_other() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("target");
        fs::create_dir(&target).unwrap();
        let ledger = Ledger::at(place.path().join("state/restores"));
        let unfinished = Unfinished {
            target: fs::canonicalize(&target).unwrap(),
            inode: fs::metadata(&target).unwrap().ino(),
            asked: "web1:/etc".into(),
            snapshot: "4be1d07c".into(),
            began: 1000,
            before: None,
        };
        assert_eq!(ledger.find(&target).unwrap(), None);
        ledger.begin(&unfinished).unwrap();
        assert_eq!(ledger.find(&place.path().join("target/../target")).unwrap().as_ref(), Some(&unfinished));
        fs::rename(&target, place.path().join("moved")).unwrap();
        fs::create_dir(&target).unwrap();
        assert_eq!(ledger.find(&target).unwrap(), None, "another directory");
        fs::remove_dir(&target).unwrap();
        fs::rename(place.path().join("moved"), &target).unwrap();
        ledger.end(&target).unwrap();
        assert_eq!(ledger.find(&target).unwrap(), None);
        ledger.end(&target).unwrap();
    }
}
