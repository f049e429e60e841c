//! Who this host is: its signing, box and TLS keys, made here and never sent, and what enrolment gave it.
//!
//! The signing key vouches for snapshots, the box key receives group secrets and grants, the TLS key proves the host
//! to the coordinator. All lie in the state directory, mode 0600; nothing here prints them.

mod tls;

pub use tls::{ForAnotherKey, TlsIdentity, TlsKey};

use crate::state::{StateDir, StateError};
use lifeboat_format::FormatError;
use lifeboat_format::envelope;
use lifeboat_format::id::{HostId, RepositoryId, Scope};
use lifeboat_format::key::{GroupSecret, ScopeKeys};
use lifeboat_format::sign::SigningKey;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const FILE: &str = "identity.json";

/// The keys that a host makes for itself.
#[derive(Debug, Clone)]
pub struct HostKeys {
    /// Signs manifests.
    pub signing: SigningKey,
    /// Opens what is sealed to this host.
    pub unboxer: envelope::Identity,
}

impl HostKeys {
    /// Draws new keys.
    pub fn generate() -> Result<Self, FormatError> {
        Ok(Self { signing: SigningKey::generate()?, unboxer: envelope::Identity::generate() })
    }
}

/// A group secret, and where it belongs.
#[derive(Debug, Clone)]
pub struct ScopeSecret {
    /// Its scope.
    pub scope: Scope,
    /// Whether cuts and boundaries of the group come from it.
    pub first: bool,
    /// The secret.
    pub secret: GroupSecret,
}

/// An enrolled host.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its number.
    pub host: HostId,
    /// Its name, as it was enrolled.
    pub name: String,
    /// The repository it belongs to.
    pub repository: RepositoryId,
    /// Where the coordinator listens: `HOST:PORT`.
    pub address: String,
    /// Its own keys.
    pub keys: HostKeys,
    /// The secrets of its group, all epochs, rising.
    pub secrets: Vec<ScopeSecret>,
}

impl Identity {
    /// Reads the identity in a state directory.
    pub fn load(state: &StateDir) -> Result<Self, StateError> {
        let path = state.path().join(FILE);
        let Some(bytes) = state.read_secret(FILE)? else {
            return Err(StateError::NotEnrolled { path: state.path().to_owned() });
        };
        let damaged =
            |source: Box<dyn std::error::Error + Send + Sync>| StateError::Damaged { path: path.clone(), source };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.into()))?;
        stored.to_identity().map_err(|error| damaged(error.into()))
    }

    /// Whether a state directory holds one.
    pub fn exists(state: &StateDir) -> Result<bool, StateError> {
        Ok(state.read_secret(FILE)?.is_some())
    }

    /// Writes it, durably.
    pub fn save(&self, state: &StateDir) -> Result<(), StateError> {
        let path = state.path().join(FILE);
        let bytes = serde_json::to_vec_pretty(&Stored::of(self)).map(Zeroizing::new);
        let bytes = bytes.map_err(|source| StateError::Damaged { path, source: source.into() })?;
        state.write_secret(FILE, &bytes)
    }

    /// The newest scope, and its keys: under these new data is sealed. None if the group has no secret yet.
    pub fn newest_scope(&self) -> Option<(Scope, ScopeKeys)> {
        let first = self.secrets.iter().find(|secret| secret.first)?;
        let newest = self.secrets.iter().max_by_key(|secret| secret.scope)?;
        Some((newest.scope, ScopeKeys::derive(&newest.secret, &first.secret)))
    }
}

/// The identity as it stands in its file.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Stored {
    host: u32,
    name: String,
    repository: String,
    address: String,
    signing_seed: String,
    box_identity: String,
    secrets: Vec<StoredSecret>,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct StoredSecret {
    scope: u32,
    first: bool,
    secret: String,
}

impl Stored {
    fn of(identity: &Identity) -> Self {
        Self {
            host: identity.host.get(),
            name: identity.name.clone(),
            repository: identity.repository.to_string(),
            address: identity.address.clone(),
            signing_seed: to_hex(&identity.keys.signing.expose_seed()),
            box_identity: identity.keys.unboxer.expose_text().to_string(),
            secrets: identity.secrets.iter().map(StoredSecret::of).collect(),
        }
    }

    fn to_identity(&self) -> Result<Identity, FormatError> {
        let seed = from_hex("signing_seed", &self.signing_seed)?;
        Ok(Identity {
            host: HostId::new(self.host),
            name: self.name.clone(),
            repository: self.repository.parse()?,
            address: self.address.clone(),
            keys: HostKeys {
                signing: SigningKey::from_seed(&seed),
                unboxer: envelope::Identity::from_text(&self.box_identity)?,
            },
            secrets: self.secrets.iter().map(StoredSecret::to_secret).collect::<Result<_, _>>()?,
        })
    }
}

impl StoredSecret {
    fn of(secret: &ScopeSecret) -> Self {
        Self { scope: secret.scope.get(), first: secret.first, secret: to_hex(secret.secret.expose()) }
    }

    fn to_secret(&self) -> Result<ScopeSecret, FormatError> {
        Ok(ScopeSecret {
            scope: Scope::new(self.scope),
            first: self.first,
            secret: GroupSecret::from_bytes(*from_hex("secret", &self.secret)?),
        })
    }
}

fn to_hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

fn from_hex(field: &'static str, text: &str) -> Result<Zeroizing<[u8; 32]>, FormatError> {
    let wrong = |_| FormatError::field("identity", field, "not hexadecimal", "64 hexadecimal digits");
    blake3::Hash::from_hex(text).map(|hash| Zeroizing::new(*hash.as_bytes())).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        let secret = |scope, first, byte| ScopeSecret {
            scope: Scope::new(scope),
            first,
            secret: GroupSecret::from_bytes([byte; 32]),
        };
        Identity {
            host: HostId::new(7),
            name: "web-1".to_owned(),
            repository: RepositoryId::from_bytes([3; 16]),
            address: "backup.example:7420".to_owned(),
            keys: HostKeys::generate().unwrap(),
            secrets: vec![secret(1, true, 0x41), secret(5, false, 0x42)],
        }
    }

    #[test]
    fn an_identity_reads_back_and_seals_under_the_newest_scope() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        assert!(matches!(Identity::load(&state), Err(StateError::NotEnrolled { .. })));
        let identity = identity();
        identity.save(&state).unwrap();
        let read = Identity::load(&state).unwrap();
        assert_eq!(read.keys.signing.verifying_key(), identity.keys.signing.verifying_key());
        assert_eq!(read.keys.unboxer.recipient(), identity.keys.unboxer.recipient());
        assert_eq!(read.newest_scope().map(|(scope, _)| scope), Some(Scope::new(5)));
    }

    #[test]
    fn inv_40_an_identity_does_not_print_its_secrets() {
        let identity = identity();
        let printed = format!("{identity:?}");
        assert!(!printed.contains(&to_hex(&identity.keys.signing.expose_seed())), "{printed}");
        assert!(!printed.contains("AGE-SECRET-KEY"), "{printed}");
        assert!(!printed.contains("4141"), "{printed}");
    }
}
