//! The file that holds the policy: who could have written it, and how it begins.

use super::{DEFAULT_POLICY, Policy, PolicyError};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A policy is short; what is longer is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads the policy at `path`. For root, only root may have been able to write it (INV-46).
pub fn load(path: &Path) -> Result<Policy, PolicyError> {
    let (file, problem) = open(path)?;
    match problem {
        Some(exposed) if rustix::process::geteuid().is_root() => Err(exposed),
        _ => parse(path, file),
    }
}

/// Reads a policy that is not in force, such as a draft, whoever wrote it.
pub fn read(path: &Path) -> Result<Policy, PolicyError> {
    let (file, _) = open(path)?;
    parse(path, file)
}

/// Why a policy at this path would not be obeyed, if others than root could change it.
pub fn exposure_of(path: &Path) -> Result<Option<PolicyError>, PolicyError> {
    open(path).map(|(_, problem)| problem)
}

fn open(path: &Path) -> Result<(File, Option<PolicyError>), PolicyError> {
    let unreadable = |source| PolicyError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    // A bare name lies in the working directory.
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    let places =
        [(path, file.metadata().map_err(unreadable)?), (directory, fs::metadata(directory).map_err(unreadable)?)];
    let exposed = places.into_iter().find_map(|(path, metadata)| check_owner(path, &metadata).err());
    Ok((file, exposed))
}

fn parse(path: &Path, file: File) -> Result<Policy, PolicyError> {
    let mut text = String::new();
    let read = file.take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
    text.parse()
}

fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), PolicyError> {
    match exposure(metadata.uid(), metadata.mode(), metadata.is_dir()) {
        Some(problem) => Err(PolicyError::Exposed { path: path.to_owned(), problem }),
        None => Ok(()),
    }
}

/// Who besides root could change a file of this owner and mode; in a directory with the sticky bit nobody can replace
/// what root put there.
fn exposure(uid: u32, mode: u32, directory: bool) -> Option<String> {
    if uid != 0 {
        return Some(format!("belongs to user {uid}, not to root"));
    }
    let sticky = directory && mode & 0o1000 != 0;
    (mode & 0o022 != 0 && !sticky).then(|| format!("can be written by others than root (mode {:04o})", mode & 0o7777))
}

/// Writes the default policy to `path`, unless there is a policy. Says whether it wrote it.
pub fn write_default(path: &Path) -> Result<bool, PolicyError> {
    let cannot_write = |source| PolicyError::Write { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(mut file) => {
            file.write_all(DEFAULT_POLICY.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot_write)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(PolicyError::Write { path: PathBuf::from(path), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_46_a_policy_that_others_could_write_is_refused() {
        assert_eq!(exposure(0, 0o100644, false), None);
        assert!(exposure(0, 0o100664, false).is_some());
        assert!(exposure(0, 0o100646, false).is_some());
        assert!(exposure(1000, 0o100600, false).is_some());
        assert!(exposure(0, 0o040777, true).is_some());
        assert_eq!(exposure(0, 0o041777, true), None);
    }

    #[test]
    fn a_policy_that_is_there_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("policy.toml");
        assert!(write_default(&path).unwrap());
        fs::write(&path, "sources = {}").unwrap();
        assert!(!write_default(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "sources = {}");
    }
}
