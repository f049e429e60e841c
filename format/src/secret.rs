//! Key objects: secrets that lie in the repository itself, sealed to the people who may need them.
//!
//! With them, packs and manifests, one restore or recovery key restores all data (INV-4), and a recovery kit brings
//! back a whole coordinator. New recipients mean new key objects beside the old ones.

use crate::codec::{Decoder, Encoder};
use crate::envelope::{Identity, Recipient, Role, unwrap, wrap};
use crate::error::FormatError;
use crate::id::{RepositoryId, Scope};
use crate::key::GroupSecret;
use crate::layout::{self, Field};
use crate::sign::SigningKey;
use std::fmt;
use zeroize::Zeroizing;

const WHAT: &str = "key object";
const MAGIC: &[u8; 4] = b"LBKO";
/// The most bytes that a key object has.
pub const KEY_OBJECT_BYTES_MAX: usize = 1 << 20;

tagged! {
    /// What a key object holds.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum KeyKind {
        /// The secret of one scope; sealed to restore and recovery recipients.
        1 => GroupSecret {
            /// Group and epoch.
            scope: Scope,
            /// The group's name.
            group: String,
            /// Whether it is the group's first secret: cuts and boundaries come from it.
            first: bool,
        },
        /// The CA's, the issuing and the log key; sealed to the recovery recipients.
        2 => Authority {
            /// Rises when the keys are renewed.
            number: u32,
        },
    }
}

/// A sealed secret, and in clear what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyObject {
    repository: RepositoryId,
    kind: KeyKind,
    sealed: Vec<u8>,
}

impl KeyObject {
    /// Seals the secret of one scope.
    pub fn seal_group_secret(
        repository: RepositoryId,
        (scope, group, first): (Scope, &str, bool),
        secret: &GroupSecret,
        recipients: &[Recipient],
    ) -> Result<Self, FormatError> {
        let kind = KeyKind::GroupSecret { scope, group: group.to_owned(), first };
        Self::seal(repository, kind, secret.expose(), recipients)
    }

    /// Seals the coordinator's own keys.
    pub fn seal_authority(
        repository: RepositoryId,
        number: u32,
        keys: &AuthorityKeys,
        recipients: &[Recipient],
    ) -> Result<Self, FormatError> {
        Self::seal(repository, KeyKind::Authority { number }, &keys.to_bytes(), recipients)
    }

    /// Reads a key object's clear part and checks its digest; needs no key.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > KEY_OBJECT_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", bytes.len(), "at most 1 MiB"));
        }
        let mut decoder = layout::open(WHAT, MAGIC, layout::without_digest(WHAT, bytes)?)?;
        let repository = Field::take(&mut decoder, "repository")?;
        let kind = Field::take(&mut decoder, "kind")?;
        let sealed = Field::take(&mut decoder, "sealed part")?;
        decoder.end()?;
        Ok(Self { repository, kind, sealed })
    }

    /// Its bytes, as they stand in the repository.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&Self::clear(self.repository, &self.kind)).bytes(&self.sealed);
        layout::with_digest(encoder.finish())
    }

    /// The repository that it belongs to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// What it holds.
    pub fn kind(&self) -> &KeyKind {
        &self.kind
    }

    /// The secret of its scope, if it holds one and `identity` is one of the recipients. Compare it with the trust
    /// file before use ([`crate::trust::TrustFile::names_secret`]): anybody can seal to a recipient.
    pub fn open_group_secret(&self, identity: &Identity) -> Result<GroupSecret, FormatError> {
        let KeyKind::GroupSecret { .. } = self.kind else {
            return Err(FormatError::field(WHAT, "kind", "authority", "group secret"));
        };
        let secret = self.open(Role::GroupSecret, identity)?;
        let wrong = |_| FormatError::Broken { what: WHAT, check: "length of the secret" };
        let secret = Zeroizing::new(<[u8; 32]>::try_from(secret.as_slice()).map_err(wrong)?);
        Ok(GroupSecret::from_bytes(*secret))
    }

    /// The coordinator's own keys, if it holds them and `identity` is one of the recipients. Compare them with the
    /// trust file before use: it names the log key and the CA.
    pub fn open_authority(&self, identity: &Identity) -> Result<AuthorityKeys, FormatError> {
        let KeyKind::Authority { .. } = self.kind else {
            return Err(FormatError::field(WHAT, "kind", "group secret", "authority"));
        };
        AuthorityKeys::parse(&self.open(Role::Authority, identity)?)
    }

    fn seal(
        repository: RepositoryId,
        kind: KeyKind,
        secret: &[u8],
        recipients: &[Recipient],
    ) -> Result<Self, FormatError> {
        let role = role_of(&kind);
        let sealed = wrap(role, &Self::clear(repository, &kind), recipients, secret)?;
        Self::parse(&Self { repository, kind, sealed }.to_bytes())
    }

    fn open(&self, role: Role, identity: &Identity) -> Result<Zeroizing<Vec<u8>>, FormatError> {
        unwrap(role, &Self::clear(self.repository, &self.kind), identity, &self.sealed)
    }

    fn clear(repository: RepositoryId, kind: &KeyKind) -> Vec<u8> {
        let mut encoder = layout::begin(MAGIC);
        repository.put(&mut encoder);
        kind.put(&mut encoder);
        encoder.finish()
    }
}

fn role_of(kind: &KeyKind) -> Role {
    match kind {
        KeyKind::GroupSecret { .. } => Role::GroupSecret,
        KeyKind::Authority { .. } => Role::Authority,
    }
}

/// The keys by which a coordinator is one. Wiped on drop, never printed.
#[derive(Clone)]
pub struct AuthorityKeys {
    /// The CA's private key, PKCS #8 DER.
    pub ca_key: Zeroizing<Vec<u8>>,
    /// The online issuing key, PKCS #8 DER; empty where the CA's own key issues.
    pub issuing_key: Zeroizing<Vec<u8>>,
    /// The issuing key's certificate, DER; empty likewise.
    pub issuing_certificate: Vec<u8>,
    /// Signs journal heads and pack trailers.
    pub log_key: SigningKey,
}

impl AuthorityKeys {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut encoder = Encoder::new();
        encoder.bytes(&self.ca_key).bytes(&self.issuing_key).bytes(&self.issuing_certificate);
        encoder.raw(self.log_key.expose_seed().as_slice());
        Zeroizing::new(encoder.finish())
    }

    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new("authority keys", bytes);
        let der_bytes_max = 64 << 10;
        let ca_key = Zeroizing::new(decoder.bytes("CA key", der_bytes_max)?.to_vec());
        let issuing_key = Zeroizing::new(decoder.bytes("issuing key", der_bytes_max)?.to_vec());
        let issuing_certificate = decoder.bytes("issuing certificate", der_bytes_max)?.to_vec();
        let log_key = SigningKey::from_seed(&Zeroizing::new(decoder.array("log key")?));
        decoder.end()?;
        Ok(Self { ca_key, issuing_key, issuing_certificate, log_key })
    }
}

impl fmt::Debug for AuthorityKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorityKeys(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPOSITORY: RepositoryId = RepositoryId::from_bytes([7; 16]);

    fn authority() -> AuthorityKeys {
        AuthorityKeys {
            ca_key: Zeroizing::new(b"ca key".to_vec()),
            issuing_key: Zeroizing::new(Vec::new()),
            issuing_certificate: Vec::new(),
            log_key: SigningKey::from_seed(&[5; 32]),
        }
    }

    #[test]
    fn inv_04_a_group_secret_opens_with_either_key_and_with_no_other() {
        let (restore, recovery) = (Identity::generate(), Identity::generate());
        let recipients = [restore.recipient(), recovery.recipient()];
        let secret = GroupSecret::from_bytes([3; 32]);
        let name = (Scope::new(1), "all", true);
        let object = KeyObject::seal_group_secret(REPOSITORY, name, &secret, &recipients).unwrap();
        let read = KeyObject::parse(&object.to_bytes()).unwrap();
        assert_eq!(read, object);
        assert_eq!(read.open_group_secret(&restore), Ok(secret.clone()));
        assert_eq!(read.open_group_secret(&recovery), Ok(secret));
        assert_eq!(read.open_group_secret(&Identity::generate()), Err(FormatError::NoKey { what: "sealed secret" }));
        assert!(read.open_authority(&recovery).is_err());
    }

    #[test]
    fn inv_13_a_secret_opens_only_under_its_own_name() {
        let recovery = Identity::generate();
        let secret = GroupSecret::from_bytes([3; 32]);
        let name = (Scope::new(1), "all", true);
        let mut object = KeyObject::seal_group_secret(REPOSITORY, name, &secret, &[recovery.recipient()]).unwrap();
        object.kind = KeyKind::GroupSecret { scope: Scope::new(2), group: "all".into(), first: true };
        assert!(object.open_group_secret(&recovery).is_err());
        object.kind = KeyKind::Authority { number: 1 };
        assert!(object.open_authority(&recovery).is_err());
    }

    #[test]
    fn the_coordinators_keys_come_back_and_do_not_print_themselves() {
        let recovery = Identity::generate();
        let object = KeyObject::seal_authority(REPOSITORY, 1, &authority(), &[recovery.recipient()]).unwrap();
        let opened = KeyObject::parse(&object.to_bytes()).unwrap().open_authority(&recovery).unwrap();
        assert_eq!(opened.to_bytes(), authority().to_bytes());
        assert_eq!(format!("{opened:?}"), "AuthorityKeys(…)");
    }

    #[test]
    fn inv_09_every_changed_or_cut_byte_is_an_error_or_another_name_and_never_a_panic() {
        let recovery = Identity::generate();
        let object = KeyObject::seal_authority(REPOSITORY, 1, &authority(), &[recovery.recipient()]).unwrap();
        let bytes = object.to_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(KeyObject::parse(&changed).and_then(|read| read.open_authority(&recovery)).is_err(), "byte {at}");
            assert!(KeyObject::parse(&bytes[..at]).is_err());
        }
    }
}
