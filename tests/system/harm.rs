//! Kinds of damage to a file of the repository, and how each is inflicted.

use std::fs;
use std::path::Path;

/// What happens to a file of the repository.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Damage {
    /// One bit is wrong.
    Bit,
    /// The last byte is missing.
    Cut,
    /// The file is missing.
    Deleted,
    /// Another intact object of the same kind lies under the name.
    Exchanged,
    /// Something that cannot be read, and that no file takes the place of.
    Unreadable,
}

/// Damages the file; `other` is copied into its place if it is exchanged.
pub fn inflict(damage: Damage, path: &Path, other: &Path) {
    let bytes = fs::read(path).unwrap();
    match damage {
        Damage::Bit => {
            let mut bytes = bytes;
            let at = bytes.len() - 20;
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        }
        Damage::Cut => fs::write(path, &bytes[..bytes.len() - 1]).unwrap(),
        Damage::Deleted => fs::remove_file(path).unwrap(),
        Damage::Exchanged => drop(fs::copy(other, path).unwrap()),
        Damage::Unreadable => {
            fs::remove_file(path).unwrap();
            fs::create_dir_all(path.join("in the way")).unwrap();
        }
    }
}

/// Writes the good bytes back, whatever lies in their place.
pub fn bring_back(path: &Path, bytes: &[u8]) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    }
    fs::write(path, bytes).unwrap();
}
