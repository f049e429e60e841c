//! Ed25519 signatures, each for one purpose: a signature over one kind of structure can never pass for another.
//!
//! What is signed is the purpose's context text, then the bytes. No context is the beginning of another one.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::Digest;
use crate::layout::Field;
use ed25519_dalek::Signer;
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// What a signature is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A host vouches for a snapshot.
    Manifest,
    /// The coordinator vouches for a journal batch.
    JournalHead,
    /// The coordinator vouches for a journal checkpoint.
    JournalCheckpoint,
    /// The coordinator vouches for a pack.
    Pack,
    /// An operator vouches for the keys of the repository.
    TrustFile,
    /// An operator orders a grant.
    GrantOrder,
    /// An operator says what is restored by an order, and how.
    RestoreTerms,
    /// A server shows that it has the key with which it enrols.
    Enrolment,
    /// Whoever can open a snapshot hands its opened root to one target.
    Grant,
}

impl Purpose {
    /// The text before the signed bytes.
    pub const fn context(self) -> &'static str {
        match self {
            Self::Manifest => "lifeboat 1 manifest",
            Self::JournalHead => "lifeboat 1 journal head",
            Self::JournalCheckpoint => "lifeboat 1 journal checkpoint",
            Self::Pack => "lifeboat 1 pack",
            Self::TrustFile => "lifeboat 1 trust file",
            Self::GrantOrder => "lifeboat 1 order for a grant",
            Self::RestoreTerms => "lifeboat 1 terms of a restore",
            Self::Enrolment => "lifeboat 1 enrolment",
            Self::Grant => "lifeboat 1 grant",
        }
    }

    /// The context, then `bytes`.
    fn message(self, bytes: &[u8]) -> Vec<u8> {
        [self.context().as_bytes(), bytes].concat()
    }
}

/// Signs. Wiped on drop, never printed.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Draws a new key. Fails only if the system has no randomness to give.
    pub fn generate() -> Result<Self, FormatError> {
        Ok(Self::from_seed(&*random::<32>()?))
    }

    /// The key that this seed makes (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Its seed, to be sealed or kept in a file of mode 0600.
    pub fn expose_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The half that everybody may have.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs `bytes` for one purpose.
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Signature {
        Signature(self.0.sign(&purpose.message(bytes)).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

/// Checks signatures. `Display` is whole, hexadecimal; `Debug` is short.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// How many bytes it has.
    pub const BYTES: usize = 32;

    /// Takes bytes that should be a key. Bytes that are no point of the curve, or a weak one, are refused.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, FormatError> {
        match ed25519_dalek::VerifyingKey::from_bytes(bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(key)),
            _ => Err(FormatError::field("verifying key", "bytes", "no Ed25519 key", "an Ed25519 public key")),
        }
    }

    /// Its bytes, as they stand in files and messages.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The BLAKE3 of its bytes: what people compare, and what the journal calls a person.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(self.as_bytes())
    }

    /// Whether this key signed `bytes` for this purpose; by the strict rules, under which one message and one key
    /// have one signature.
    pub fn verify(&self, purpose: Purpose, bytes: &[u8], signature: &Signature) -> Result<(), FormatError> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        self.0
            .verify_strict(&purpose.message(bytes), &signature)
            .map_err(|_| FormatError::Broken { what: purpose.context(), check: "signature" })
    }
}

/// The one of `keys` that signed `bytes` for this purpose.
pub fn verify_any<'k>(
    keys: &'k [VerifyingKey],
    purpose: Purpose,
    bytes: &[u8],
    signature: &Signature,
) -> Result<&'k VerifyingKey, FormatError> {
    keys.iter()
        .find(|key| key.verify(purpose, bytes, signature).is_ok())
        .ok_or(FormatError::Broken { what: purpose.context(), check: "signature by one of the known keys" })
}

impl PartialOrd for VerifyingKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for VerifyingKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::id::write_hex(f, self.as_bytes())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::id::write_hex(f, &self.as_bytes()[..4])
    }
}

impl FromStr for VerifyingKey {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        Self::from_bytes(&crate::id::read_hex("verifying key", text)?)
    }
}

impl Field for VerifyingKey {
    fn put(&self, to: &mut Encoder) {
        to.raw(self.as_bytes());
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        Self::from_bytes(&from.array(field)?)
    }
}

/// An Ed25519 signature, 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// How many bytes it has.
    pub const BYTES: usize = 64;

    /// Takes bytes that should be a signature; whether it holds, [`VerifyingKey::verify`] says.
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as they stand in files and messages.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::id::write_hex(f, &self.0[..4])
    }
}

impl Field for Signature {
    fn put(&self, to: &mut Encoder) {
        to.raw(&self.0);
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        from.array(field).map(Self)
    }
}

/// Random bytes from the system, wiped on drop.
pub(crate) fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, FormatError> {
    let mut bytes = Zeroizing::new([0; N]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| FormatError::field("random bytes", "system", error, "a system that gives randomness"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Purpose; 9] = [
        Purpose::Manifest,
        Purpose::JournalHead,
        Purpose::JournalCheckpoint,
        Purpose::Pack,
        Purpose::TrustFile,
        Purpose::GrantOrder,
        Purpose::RestoreTerms,
        Purpose::Enrolment,
        Purpose::Grant,
    ];

    #[test]
    fn a_signature_holds_for_its_key_its_bytes_and_its_purpose_alone() {
        let (key, other) = (SigningKey::from_seed(&[1; 32]), SigningKey::from_seed(&[2; 32]));
        let signature = key.sign(Purpose::Manifest, b"bytes");
        assert!(key.verifying_key().verify(Purpose::Manifest, b"bytes", &signature).is_ok());
        assert!(key.verifying_key().verify(Purpose::Manifest, b"byteS", &signature).is_err());
        assert!(other.verifying_key().verify(Purpose::Manifest, b"bytes", &signature).is_err());
        for purpose in ALL.into_iter().filter(|purpose| *purpose != Purpose::Manifest) {
            assert!(key.verifying_key().verify(purpose, b"bytes", &signature).is_err(), "{purpose:?}");
        }
    }

    #[test]
    fn no_context_begins_another() {
        for (a, b) in ALL.iter().flat_map(|a| ALL.iter().map(move |b| (a, b))).filter(|(a, b)| a != b) {
            assert!(!b.context().starts_with(a.context()), "{a:?} begins {b:?}");
        }
    }

    #[test]
    fn a_weak_key_is_refused() {
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        assert!(VerifyingKey::from_bytes(&identity_point).is_err());
    }

    #[test]
    fn inv_40_no_signing_key_prints_itself() {
        assert_eq!(format!("{:?}", SigningKey::from_seed(&[0x41; 32])), "SigningKey(…)");
    }
}
