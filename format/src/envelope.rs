//! Small secrets, sealed to people and machines with age (X25519): whoever holds one of the identities opens them.
//!
//! age says to whom something is sealed, not what it is for. So each sealed secret begins with its role and the hash
//! of the clear bytes that it belongs to, and opens in that role and that place only (INV-13).
//!
//! A manifest is sealed once, under a random key; that key lies in an [`Envelope`], an object of its own. New restore
//! or recovery keys mean new envelopes beside the old ones; the manifest and its signature stand.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{Digest, RepositoryId, SnapshotId};
use crate::layout::{self, Field};
use crate::manifest::ManifestKey;
use std::fmt;
use std::io::{Read, Write};
use std::str::FromStr;
use zeroize::Zeroizing;

/// The most bytes that are sealed at once.
pub const SECRET_BYTES_MAX: usize = 1 << 20;
/// The most bytes that sealing adds: age's header, with a stanza for each of at most [`RECIPIENTS_MAX`] recipients.
const SEALED_BYTES_MAX: usize = SECRET_BYTES_MAX + HEADER_BYTES_MAX;
/// The most bytes of age's header: enough for [`RECIPIENTS_MAX`] recipients of 2 KB each, as post-quantum ones have.
const HEADER_BYTES_MAX: usize = 128 << 10;
/// The most recipients of one secret.
pub const RECIPIENTS_MAX: usize = 64;

/// Whom something can be sealed to: an age X25519 public key, `age1…`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Recipient(age::x25519::Recipient);

impl FromStr for Recipient {
    type Err = FormatError;

    /// Reads `age1…` as age prints it: lower case, nothing around it.
    fn from_str(text: &str) -> Result<Self, FormatError> {
        let wrong = |why| FormatError::field("recipient", "text", why, "an age X25519 recipient, age1…");
        let recipient = Self(text.parse().map_err(wrong)?);
        if recipient.to_string() != text {
            return Err(wrong("not in lower case"));
        }
        Ok(recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_string();
        f.write_str(text.get(..12).unwrap_or(&text))
    }
}

impl Field for Recipient {
    fn put(&self, to: &mut Encoder) {
        self.to_string().put(to);
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        String::take(from, field)?.parse()
    }
}

/// Opens what was sealed to its recipient: an age X25519 secret key. Wiped on drop, never printed.
#[derive(Clone)]
pub struct Identity(age::x25519::Identity);

impl Identity {
    /// Draws a new identity.
    pub fn generate() -> Self {
        Self(age::x25519::Identity::generate())
    }

    /// The identity of these 32 secret bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, FormatError> {
        let wrong = || FormatError::field("identity", "bytes", "not encodable", "32 bytes");
        let text = bech32::encode_upper::<bech32::Bech32>(Self::prefix(), bytes).map_err(|_| wrong())?;
        Self::from_text(&Zeroizing::new(text))
    }

    /// Reads `AGE-SECRET-KEY-1…`.
    pub fn from_text(text: &str) -> Result<Self, FormatError> {
        let wrong = |why| FormatError::field("identity", "text", why, "an age X25519 identity, AGE-SECRET-KEY-1…");
        text.parse().map(Self).map_err(wrong)
    }

    /// `AGE-SECRET-KEY-1…`, to be kept in a file of mode 0600, or on paper.
    pub fn expose_text(&self) -> Zeroizing<String> {
        use age::secrecy::ExposeSecret;
        Zeroizing::new(self.0.to_string().expose_secret().to_owned())
    }

    /// Its 32 secret bytes.
    pub fn expose_bytes(&self) -> Result<Zeroizing<[u8; 32]>, FormatError> {
        let wrong = || FormatError::field("identity", "text", "not 32 bytes of Bech32", "what age prints");
        let (_, bytes) = bech32::decode(&self.expose_text()).map_err(|_| wrong())?;
        let bytes = Zeroizing::new(bytes);
        Ok(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| wrong())?))
    }

    /// The half that everybody may have.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    fn prefix() -> bech32::Hrp {
        bech32::Hrp::parse_unchecked("AGE-SECRET-KEY-")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// What a sealed secret is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The key of a manifest's sealed part.
    ManifestKey = 1,
    /// A group's secret, in a key object.
    GroupSecret = 2,
    /// The CA, issuing and log keys, in a key object.
    Authority = 3,
    /// The opened root of one tree, in a grant.
    Grant = 4,
    /// The key that checks a new host's keys, in a token record.
    TokenKey = 5,
}

/// Seals `secret` to all of `recipients`, in one role, for the place that `clear` describes.
///
/// # Errors
/// No recipient, too many of them, or a secret above [`SECRET_BYTES_MAX`].
pub fn wrap(role: Role, clear: &[u8], recipients: &[Recipient], secret: &[u8]) -> Result<Vec<u8>, FormatError> {
    let wrong = |field, found: String, allowed| Err(FormatError::field("sealed secret", field, found, allowed));
    if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX {
        return wrong("recipients", recipients.len().to_string(), "1 to 64");
    }
    if secret.len() > SECRET_BYTES_MAX {
        return wrong("length", secret.len().to_string(), "at most 1 MiB");
    }
    let mut plaintext = Zeroizing::new(opening(role, clear));
    plaintext.reserve_exact(secret.len());
    plaintext.extend_from_slice(secret);
    seal_with_age(recipients, &plaintext)
        .or_else(|error| wrong("recipients", error.to_string(), "X25519 keys of full order"))
}

/// Opens what [`wrap`] sealed in the same role and place, if this identity is one of the recipients.
///
/// # Errors
/// `NoKey` if it is not; `Broken` if the bytes are damaged or belong to another role or place.
pub fn unwrap(role: Role, clear: &[u8], identity: &Identity, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let broken = |check| FormatError::Broken { what: "sealed secret", check };
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(FormatError::field("sealed secret", "length", sealed.len(), "at most 1 MiB"));
    }
    let decryptor = age::Decryptor::new_buffered(sealed).map_err(|_| broken("age header"))?;
    let mut reader =
        decryptor.decrypt(std::iter::once(&identity.0 as &dyn age::Identity)).map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => FormatError::NoKey { what: "sealed secret" },
            _ => broken("age header"),
        })?;
    let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
    reader.read_to_end(&mut plaintext).map_err(|_| broken("age payload"))?;
    let opening = opening(role, clear);
    match plaintext.strip_prefix(opening.as_slice()) {
        Some(secret) => Ok(Zeroizing::new(secret.to_vec())),
        None => Err(broken("role and place")),
    }
}

/// What every sealed plaintext begins with: version, role, and the hash of the clear bytes it belongs to.
fn opening(role: Role, clear: &[u8]) -> Vec<u8> {
    let mut encoder = layout::begin(b"LBSS");
    encoder.u8(role as u8).raw(Digest::of(clear).as_bytes());
    encoder.finish()
}

fn seal_with_age(recipients: &[Recipient], plaintext: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let recipients = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let mut sealed = Vec::with_capacity(plaintext.len() + 1024);
    let mut writer = age::Encryptor::with_recipients(recipients)?.wrap_output(&mut sealed)?;
    writer.write_all(plaintext)?;
    writer.finish()?;
    Ok(sealed)
}

const WHAT: &str = "envelope";
const MAGIC: &[u8; 4] = b"LBEN";

/// The key of one manifest, sealed to the restore and recovery recipients of its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    repository: RepositoryId,
    snapshot: SnapshotId,
    sealed: Vec<u8>,
}

impl Envelope {
    /// Seals a manifest's key to `recipients`.
    pub fn seal(
        repository: RepositoryId,
        snapshot: SnapshotId,
        key: &ManifestKey,
        recipients: &[Recipient],
    ) -> Result<Self, FormatError> {
        let clear = Self::clear(repository, snapshot).finish();
        Ok(Self { repository, snapshot, sealed: wrap(Role::ManifestKey, &clear, recipients, key.expose())? })
    }

    /// Reads an envelope's clear part and checks its digest; needs no key.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = layout::open(WHAT, MAGIC, layout::without_digest(WHAT, bytes)?)?;
        let repository = Field::take(&mut decoder, "repository")?;
        let snapshot = Field::take(&mut decoder, "snapshot")?;
        let sealed = decoder.bytes("sealed key", HEADER_BYTES_MAX as u64)?.to_vec();
        decoder.end()?;
        Ok(Self { repository, snapshot, sealed })
    }

    /// Its bytes, as they stand in the repository.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Self::clear(self.repository, self.snapshot);
        encoder.bytes(&self.sealed);
        layout::with_digest(encoder.finish())
    }

    /// The snapshot whose manifest its key opens.
    pub fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    /// The repository that it belongs to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The manifest's key, if `identity` is one of the recipients.
    pub fn open(&self, identity: &Identity) -> Result<ManifestKey, FormatError> {
        let clear = Self::clear(self.repository, self.snapshot).finish();
        let secret = unwrap(Role::ManifestKey, &clear, identity, &self.sealed)?;
        let mut decoder = Decoder::new(WHAT, &secret);
        let key = Zeroizing::new(decoder.array::<32>("key")?);
        decoder.end()?;
        Ok(ManifestKey::from_bytes(&key))
    }

    fn clear(repository: RepositoryId, snapshot: SnapshotId) -> Encoder {
        let mut encoder = layout::begin(MAGIC);
        repository.put(&mut encoder);
        snapshot.put(&mut encoder);
        encoder
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    #[test]
    fn an_identity_and_its_recipient_read_back_from_text_and_bytes() {
        let identity = Identity::generate();
        let same = Identity::from_bytes(&identity.expose_bytes().unwrap()).unwrap();
        assert_eq!(same.expose_text(), identity.expose_text());
        assert_eq!(Identity::from_text(&identity.expose_text()).unwrap().recipient(), identity.recipient());
        let text = identity.recipient().to_string();
        assert_eq!(text.parse(), Ok(identity.recipient()));
        assert!(text.to_uppercase().parse::<Recipient>().is_err(), "a recipient has one spelling");
        assert!(identity.expose_text().parse::<Recipient>().is_err());
    }

    #[test]
    fn inv_13_a_secret_opens_for_each_recipient_in_its_own_role_and_place_alone() {
        let (a, b) = (Identity::generate(), Identity::generate());
        let recipients = [a.recipient(), b.recipient()];
        let sealed = wrap(Role::Grant, b"here", &recipients, b"secret").unwrap();
        for identity in [&a, &b] {
            assert_eq!(*unwrap(Role::Grant, b"here", identity, &sealed).unwrap(), b"secret");
            assert!(unwrap(Role::Authority, b"here", identity, &sealed).is_err());
            assert!(unwrap(Role::Grant, b"there", identity, &sealed).is_err());
        }
        let stranger = unwrap(Role::Grant, b"here", &Identity::generate(), &sealed);
        assert_eq!(stranger, Err(FormatError::NoKey { what: "sealed secret" }));
    }

    #[test]
    fn nothing_is_sealed_to_nobody_or_beyond_its_limits() {
        let recipient = Identity::generate().recipient();
        assert!(wrap(Role::Grant, b"", &[], b"secret").is_err());
        assert!(wrap(Role::Grant, b"", &vec![recipient.clone(); RECIPIENTS_MAX + 1], b"secret").is_err());
        assert!(wrap(Role::Grant, b"", &[recipient], &vec![0; SECRET_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn inv_40_no_identity_prints_itself() {
        assert_eq!(format!("{:?}", Identity::generate()), "Identity(…)");
    }

    #[test]
    fn inv_11_a_changed_byte_of_an_envelope_is_found_without_a_key() {
        let key = ManifestKey::from_bytes(&[5; 32]);
        let recipient = Identity::generate().recipient();
        let (repository, snapshot) = (RepositoryId::from_bytes([1; 16]), SnapshotId::from_bytes([2; 32]));
        let bytes = Envelope::seal(repository, snapshot, &key, &[recipient]).unwrap().to_bytes();
        assert!(Envelope::parse(&bytes).is_ok());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Envelope::parse(&changed).is_err(), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn inv_09_changed_or_foreign_bytes_are_an_error_and_never_a_panic(bytes: Vec<u8>, at: usize, bit in 0_u8..8) {
            let identity = Identity::from_bytes(&[4; 32]).unwrap();
            prop_assert!(unwrap(Role::Grant, b"", &identity, &bytes).is_err());
            prop_assert!(Envelope::parse(&bytes).is_err());
            static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| {
                let identity = Identity::from_bytes(&[4; 32]).unwrap();
                wrap(Role::Grant, b"", &[identity.recipient()], b"secret").unwrap()
            });
            let mut sealed = GOOD.clone();
            let at = at % sealed.len();
            sealed[at] ^= 1 << bit;
            prop_assert!(unwrap(Role::Grant, b"", &identity, &sealed).is_err());
            prop_assert!(unwrap(Role::Grant, b"", &identity, &sealed[..at]).is_err());
        }
    }
}
