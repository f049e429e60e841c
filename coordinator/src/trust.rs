//! Trust files as objects of the repository, and those that a coordinator keeps beside its vault: without the one in force
//! nothing starts.

use crate::store::twice::{self, read_either};
use crate::store::{ObjectName, Store, StoreError};
use bytes::Bytes;
use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{Digest, RepositoryId};
use lifeboat_format::sign::{SigningKey, VerifyingKey};
use lifeboat_format::trust::{Trust, TrustFile};
use lifeboat_format::{ENCODER_VERSION, FORMAT_VERSION, FormatError};
use std::path::Path;

/// Why a trust file could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TrustError {
    /// The store failed, or has no such trust file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The object is corrupt.
    #[error("trust file {number} is corrupt; restore it from a copy of the repository")]
    Format {
        /// The trust file.
        number: u64,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The object is not the trust file that the journal names.
    #[error("trust file {number} is not the one that the journal names; restore it from a copy of the repository")]
    Other {
        /// The trust file.
        number: u64,
    },
}

/// The trust file of this number.
pub fn read(store: &dyn Store, number: u64) -> Result<TrustFile, TrustError> {
    read_checked(store, number, |_| Ok(()))
}

/// The trust file that the journal names by number and digest.
pub fn read_named(store: &dyn Store, number: u64, digest: Digest) -> Result<TrustFile, TrustError> {
    read_checked(store, number, |file| match file.digest() == digest {
        true => Ok(()),
        false => Err(TrustError::Other { number }),
    })
}

/// The trust file of this number that passes the check, from either copy (INV-73).
fn read_checked(
    store: &dyn Store,
    number: u64,
    check: impl Fn(&TrustFile) -> Result<(), TrustError>,
) -> Result<TrustFile, TrustError> {
    read_either(store, &ObjectName::trust(number), |bytes| {
        let file = parse(bytes, number).map_err(|source| TrustError::Format { number, source })?;
        check(&file).map(|()| file)
    })?
}

/// A trust file with this number, whose signatures hold under the keys beside them.
pub fn parse(bytes: &[u8], number: u64) -> Result<TrustFile, FormatError> {
    let file = TrustFile::parse(bytes)?;
    file.verify_intact()?;
    match file.trust().number == number {
        true => Ok(file),
        false => Err(FormatError::field("trust file", "number", file.trust().number, number)),
    }
}

/// The intact trust files that were kept.
pub fn kept(directory: &Path) -> impl Iterator<Item = TrustFile> {
    let paths = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter_map(|path| {
        let number = path.file_name()?.to_str()?.parse().ok()?;
        parse(&std::fs::read(&path).ok()?, number).ok()
    })
}

/// Puts back the trust files of which the repository has no intact copy any more, from those that were kept. Which one
/// counts, the journal says.
pub fn bring_back(store: &dyn Store, directory: &Path, of: RepositoryId) {
    for file in kept(directory).filter(|file| file.trust().repository == of) {
        let number = file.trust().number;
        let is_ours = |bytes: &Bytes| match parse(bytes, number) {
            Ok(file) if file.trust().repository == of => Ok(()),
            Ok(_) => Err("it is of another repository".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match twice::bring_back(store, &ObjectName::trust(number), &file.to_bytes().into(), is_ours) {
            Ok(true) => tracing::warn!(number, "a trust file was bad, and was healed from the one kept here"),
            Ok(false) => {}
            Err(error) => {
                tracing::error!(number, %error, "a trust file is bad, and the one kept here cannot replace it")
            }
        }
    }
}

/// Keeps the trust files up to the one in force.
pub fn keep(store: &dyn Store, directory: &Path, in_force: u64) -> Result<(), TrustError> {
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |error| TrustError::Store(StoreError::io("keep", path, error))
    };
    std::fs::create_dir_all(directory).map_err(failed(directory))?;
    for number in (1..=in_force).rev() {
        let (path, bytes) = (directory.join(format!("{number:020}")), read(store, number)?.to_bytes());
        if std::fs::read(&path).is_ok_and(|kept| kept == bytes) {
            continue;
        }
        let new = path.with_extension("new");
        std::fs::write(&new, &bytes).and_then(|()| std::fs::rename(&new, &path)).map_err(failed(&path))?;
    }
    Ok(())
}

/// A trust file with these log keys, for tests and simulations.
pub fn sample(
    repository: RepositoryId,
    log_keys: &[VerifyingKey],
    previous: Option<&TrustFile>,
) -> Result<TrustFile, FormatError> {
    let operator = SigningKey::from_seed(&[1; 32]);
    let recipient = Identity::from_bytes(&[1; 32])?.recipient();
    let trust = Trust {
        repository,
        number: previous.map_or(1, |file| file.trust().number + 1),
        previous: previous.map(TrustFile::digest),
        ca_certificates: vec![b"a certificate".to_vec()],
        restore_recipients: vec![recipient.clone()],
        recovery_recipients: vec![recipient],
        operators: vec![operator.verifying_key()],
        quorum: 1,
        recovery_operator: operator.verifying_key(),
        log_keys: log_keys.to_vec(),
        scopes: Vec::new(),
        addresses: vec!["backup.example:7420".to_owned()],
        writes_format: FORMAT_VERSION,
        writes_encoder: ENCODER_VERSION,
        extension: Vec::new(),
    };
    TrustFile::sign(&trust, &[&operator])
}
