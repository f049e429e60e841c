//! The coordinator's own secrets, in one file that a credential opens.
//!
//! The vault holds the restore identity (managed custody), the issuing authority and the log key. It is sealed to the
//! credential, an age identity in a file of its own. Whoever has vault and credential reads everything, so the
//! credential is refused when it lies inside the repository: a copy of the repository must not carry its own key.
//! Key files are 0600 and refused otherwise; what is read is wiped on drop and never printed.

use crate::pki::KeyedCertificate;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::envelope::{Identity, Role, unwrap, wrap};
use lifeboat_format::id::RepositoryId;
use lifeboat_format::sign::SigningKey;
use lifeboat_format::{FORMAT_VERSION, FormatError};
use rustls::pki_types::CertificateDer;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const WHAT: &str = "vault";
const MAGIC: &[u8; 4] = b"LBVT";
/// No key file of ours is larger.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// No certificate or key in the vault is larger.
const FIELD_BYTES_MAX: u64 = 64 << 10;

/// A secret could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The file is not there.
    #[error("{path} is missing, and without it the coordinator cannot open its keys; put it back")]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// The file is there already.
    #[error("{path} is there already; nothing was changed")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Others may read the file.
    #[error("{path} has mode {mode:03o} and may be read by others; if nobody did, run: chmod 600 {path}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file system failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file would be copied with the repository.
    #[error("{file} lies inside the repository {repository}: whoever copies one has both; keep it elsewhere")]
    Inside {
        /// The credential, or the directory of the keys.
        file: PathBuf,
        /// The repository.
        repository: PathBuf,
    },
    /// The content is not what it should be.
    #[error("{path} does not hold what it should; is it the one of this coordinator?")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: FormatError,
    },
}

/// What the vault holds.
#[derive(Debug, Clone)]
pub struct Vault {
    /// The repository that these keys belong to.
    pub repository: RepositoryId,
    /// Opens manifests and group secrets (managed custody).
    pub restore: Identity,
    /// Signs certificates of hosts and of the coordinator.
    pub issuing: KeyedCertificate,
    /// Signs journal heads and pack trailers.
    pub log_key: SigningKey,
}

impl Vault {
    /// Writes the vault, which must not exist, sealed to `credential`.
    pub fn create(&self, path: &Path, credential: &Identity) -> Result<(), VaultError> {
        let content = |source| VaultError::Content { path: path.to_owned(), source };
        let mut secret = Encoder::new();
        secret.raw(MAGIC).u16(FORMAT_VERSION).raw(self.repository.as_bytes());
        secret.bytes(self.restore.expose_text().as_bytes());
        secret.bytes(&self.issuing.certificate).bytes(&self.issuing.key);
        secret.raw(&*self.log_key.expose_seed());
        let secret = Zeroizing::new(secret.finish());
        let sealed = wrap(Role::Authority, MAGIC, &[credential.recipient()], &secret).map_err(content)?;
        write_private(path, &sealed)
    }

    /// Opens the vault with the credential.
    pub fn open(path: &Path, credential: &Identity) -> Result<Self, VaultError> {
        let content = |source| VaultError::Content { path: path.to_owned(), source };
        let sealed = read_private(path)?;
        let secret = unwrap(Role::Authority, MAGIC, credential, &sealed).map_err(content)?;
        Self::parse(&secret).map_err(content)
    }

    fn parse(secret: &[u8]) -> Result<Self, FormatError> {
        let mut from = Decoder::new(WHAT, secret);
        let magic = from.array::<4>("magic")?;
        let version = from.u16("version")?;
        if magic != *MAGIC || version != FORMAT_VERSION {
            return Err(FormatError::Version { what: WHAT, found: version, known: "1" });
        }
        let repository = RepositoryId::from_bytes(from.array("repository")?);
        let restore = Identity::from_text(from.text("restore identity", FIELD_BYTES_MAX)?)?;
        let certificate = CertificateDer::from(from.bytes("issuing certificate", FIELD_BYTES_MAX)?.to_vec());
        let key = Zeroizing::new(from.bytes("issuing key", FIELD_BYTES_MAX)?.to_vec());
        let seed = Zeroizing::new(from.array("log key")?);
        from.end()?;
        let issuing = KeyedCertificate { certificate, key };
        Ok(Self { repository, restore, issuing, log_key: SigningKey::from_seed(&seed) })
    }
}

/// Reads the credential, or makes one if the file is not there.
pub fn credential_or_new(path: &Path) -> Result<Identity, VaultError> {
    match read_identity(path) {
        Err(VaultError::Missing { .. }) => {
            let credential = Identity::generate();
            write_private(path, format!("{}\n", credential.expose_text().as_str()).as_bytes())?;
            Ok(credential)
        }
        read => read,
    }
}

/// Reads an age identity, as age itself writes it: lines with `#` are comments.
pub fn read_identity(path: &Path) -> Result<Identity, VaultError> {
    let bytes = read_private(path)?;
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    Identity::from_text(line.unwrap_or("")).map_err(|source| VaultError::Content { path: path.to_owned(), source })
}

/// Reads the operator key of root on this machine: 64 hexadecimal digits.
pub fn read_operator(path: &Path) -> Result<SigningKey, VaultError> {
    let wrong = |found: String| VaultError::Content {
        path: path.to_owned(),
        source: FormatError::field("operator key", "text", found, "64 hexadecimal digits"),
    };
    let bytes = read_private(path)?;
    let digits = bytes.trim_ascii();
    let mut seed = Zeroizing::new([0; 32]);
    if digits.len() != 64 {
        return Err(wrong(format!("{} letters", digits.len())));
    }
    for (byte, pair) in seed.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(|| wrong("other letters".into()));
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Ok(SigningKey::from_seed(&seed))
}

/// Writes the operator key into a file that must not exist.
pub fn write_operator(path: &Path, key: &SigningKey) -> Result<(), VaultError> {
    let seed = key.expose_seed();
    let mut text = Zeroizing::new(String::with_capacity(65));
    seed.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text.push('\n');
    write_private(path, text.as_bytes())
}

/// Refuses a credential, or a directory with keys, that lies inside the repository, also by a symbolic link. Both may
/// be missing yet.
pub fn refuse_inside(file: &Path, repository: &Path) -> Result<(), VaultError> {
    if real(file).starts_with(real(repository)) {
        return Err(VaultError::Inside { file: file.to_owned(), repository: repository.to_owned() });
    }
    Ok(())
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// Writes a file of mode 0600, durably. It must not exist.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), VaultError> {
    let failed = |action| move |source| VaultError::Io { action, path: path.to_owned(), source };
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(VaultError::Exists { path: path.to_owned() });
        }
        Err(error) => return Err(failed("create")(error)),
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed("write"))
}

/// Reads a file that nobody but its owner may read.
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let failed = |source| VaultError::Io { action: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(VaultError::Missing { path: path.to_owned() });
        }
        opened => opened.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(VaultError::Open { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki;
    use std::os::unix::fs::PermissionsExt;

    fn vault() -> Vault {
        let repository = RepositoryId::from_bytes([3; 16]);
        let now = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 20_000);
        let root = pki::make_root(&repository, now).unwrap();
        let issuing = pki::make_issuing(&root, &repository, now).unwrap();
        let log_key = SigningKey::from_seed(&[5; 32]);
        Vault { repository, restore: Identity::generate(), issuing, log_key }
    }

    #[test]
    fn what_was_put_into_the_vault_comes_out_with_its_credential_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault");
        let (vault, credential) = (vault(), Identity::generate());
        vault.create(&path, &credential).unwrap();
        let opened = Vault::open(&path, &credential).unwrap();
        assert_eq!(opened.restore.recipient(), vault.restore.recipient());
        assert_eq!(opened.log_key.verifying_key(), vault.log_key.verifying_key());
        assert_eq!(opened.issuing.key, vault.issuing.key);
        assert!(matches!(Vault::open(&path, &Identity::generate()), Err(VaultError::Content { .. })));
        assert!(matches!(vault.create(&path, &credential), Err(VaultError::Exists { .. })));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credential");
        let made = credential_or_new(&path).unwrap();
        assert_eq!(credential_or_new(&path).unwrap().recipient(), made.recipient());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        assert!(matches!(credential_or_new(&path), Err(VaultError::Open { mode: 0o640, .. })));
    }

    #[test]
    fn an_operator_key_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("operator.key");
        let key = SigningKey::from_seed(&[9; 32]);
        write_operator(&path, &key).unwrap();
        assert_eq!(read_operator(&path).unwrap().verifying_key(), key.verifying_key());
    }

    #[test]
    fn a_credential_inside_the_repository_is_refused_by_whatever_way_it_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("repository");
        std::fs::create_dir(&repository).unwrap();
        std::os::unix::fs::symlink(&repository, directory.path().join("link")).unwrap();
        for inside in ["repository/credential", "link/credential", "link/new/credential"] {
            assert!(refuse_inside(&directory.path().join(inside), &repository).is_err(), "{inside}");
        }
        assert!(refuse_inside(&directory.path().join("repository-key"), &repository).is_ok());
        assert!(refuse_inside(&directory.path().join("new/credential"), &directory.path().join("new-too")).is_ok());
    }
}
