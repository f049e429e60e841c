//! Files of the state directory: read only if they were private, and replaced whole.

use super::StateError;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// None of these files is large.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Whether only its owner can read and write it, and its owner is this user.
pub fn check_private(path: &Path, uid: u32, mode: u32) -> Result<(), StateError> {
    let exposed = |problem| Err(StateError::Exposed { path: path.to_owned(), problem });
    let own = rustix::process::geteuid().as_raw();
    match own {
        _ if uid == own => {}
        // Nothing is wrong with the file.
        1.. => {
            let owner = if uid == 0 { "root".to_owned() } else { format!("user {uid}") };
            return Err(StateError::OtherUser { path: path.to_owned(), owner, own });
        }
        0 => return exposed(format!("belongs to user {uid}, not to root")),
    }
    match mode & 0o077 {
        0 => Ok(()),
        _ => exposed(format!("is open to others (mode {:04o})", mode & 0o7777)),
    }
}

/// Reads a private file; none if it is not there.
pub fn read_private(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(StateError::at("open", path))?,
    };
    let metadata = file.metadata().map_err(StateError::at("read", path))?;
    check_private(path, metadata.uid(), metadata.mode())?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len().min(FILE_BYTES_MAX) as usize));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(StateError::at("read", path))?;
    Ok(Some(bytes))
}

/// Puts `bytes` in the place of what was there: after a crash the file is the old one or the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    put(path, bytes).map_err(StateError::at("write", path))
}

/// The same, for whoever has errors of their own.
pub fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
