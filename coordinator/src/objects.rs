//! Reads the small objects without which much cannot be restored: manifests, envelopes, key objects. Each exists twice,
//! and shows without a key whether it is intact; either copy will do (INV-73). Batches are for [`crate::journal`], trust
//! files for [`crate::trust`].

use crate::store::twice::read_either;
use crate::store::{ObjectKind, ObjectName, Store, StoreError};
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Envelope;
use lifeboat_format::id::{RepositoryId, SnapshotId};
use lifeboat_format::manifest::Manifest;
use lifeboat_format::secret::{KeyKind, KeyObject};

/// Why an object is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Neither copy could be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No copy that could be read is intact.
    #[error("{object} is damaged")]
    Damaged {
        /// The object.
        object: ObjectName,
        /// What is wrong with it.
        source: FormatError,
    },
}

fn read<T>(
    store: &dyn Store,
    object: ObjectName,
    parse: impl Fn(&[u8]) -> Result<T, FormatError>,
) -> Result<T, ObjectError> {
    let read = read_either(store, &object, |bytes| parse(bytes))?;
    read.map_err(|source| ObjectError::Damaged { object, source })
}

/// The manifest of a snapshot.
pub fn read_manifest(store: &dyn Store, id: SnapshotId) -> Result<Manifest, ObjectError> {
    read(store, ObjectName::manifest(id), |bytes| parse_manifest(bytes, id))
}

/// The envelope of a snapshot.
pub fn read_envelope(store: &dyn Store, id: SnapshotId) -> Result<Envelope, ObjectError> {
    read(store, ObjectName::envelope(id), |bytes| parse_envelope(bytes, id))
}

/// A key object.
pub fn read_key_object(store: &dyn Store, name: &ObjectName, of: RepositoryId) -> Result<KeyObject, ObjectError> {
    read(store, name.clone(), |bytes| parse_key_object(bytes, name, of))
}

/// A manifest with the hash that is its name.
pub fn parse_manifest(bytes: &[u8], id: SnapshotId) -> Result<Manifest, FormatError> {
    let manifest = Manifest::parse(bytes)?;
    match manifest.id() == id {
        true => Ok(manifest),
        false => Err(FormatError::Broken { what: "manifest", check: "that it matches its name" }),
    }
}

/// The envelope of this snapshot.
pub fn parse_envelope(bytes: &[u8], id: SnapshotId) -> Result<Envelope, FormatError> {
    let envelope = Envelope::parse(bytes)?;
    match envelope.snapshot() == id {
        true => Ok(envelope),
        false => Err(FormatError::Broken { what: "envelope", check: "that it belongs to this snapshot" }),
    }
}

/// A key object of this repository. One that has a name of ours must hold what the name says; others may hold anything.
pub fn parse_key_object(bytes: &[u8], name: &ObjectName, of: RepositoryId) -> Result<KeyObject, FormatError> {
    let object = KeyObject::parse(bytes)?;
    if object.repository() != of {
        return Err(FormatError::field("key object", "repository", object.repository(), of));
    }
    let own = match object.kind() {
        KeyKind::GroupSecret { scope, .. } => format!("scope-{scope}"),
        KeyKind::Authority { number } => format!("authority-{number}"),
    };
    let is_ours = ["scope-", "authority-"].iter().any(|start| {
        name.name().strip_prefix(start).is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    });
    match is_ours && own != name.name() {
        true => Err(FormatError::field("key object", "content", own, name.name())),
        false => Ok(object),
    }
}

/// The names under which a key object lies, in whichever copy.
pub fn list_key_objects(store: &dyn Store) -> Result<Vec<ObjectName>, StoreError> {
    crate::store::twice::list_either(store, ObjectKind::Key)
}
