//! The trust file: which keys this repository goes by, signed by the people who answer for it.
//!
//! An agent pins the first one by its digest, from the token, and from then on takes only what the operators of the
//! file before have signed, with the next number and its hash (INV-58). So no coordinator can slip in a recipient, an
//! operator or a CA of its own. Former log keys stay, since old packs and heads must verify; scopes stay too, each
//! with a hash of its secret, and an agent takes no other secret for it.

use crate::codec::{Decoder, Encoder};
use crate::envelope::Recipient;
use crate::error::FormatError;
use crate::id::{Digest, RepositoryId, Scope};
use crate::key::GroupSecret;
use crate::layout::{self, Field};
use crate::sign::{Purpose, Signature, SigningKey, VerifyingKey};

const WHAT: &str = "trust file";
const MAGIC: &[u8; 4] = b"LBTF";
/// The most bytes that a trust file has.
pub const TRUST_FILE_BYTES_MAX: usize = 4 << 20;

/// The hash of a group's secret, by which a trust file names it.
pub fn secret_hash(secret: &GroupSecret) -> Digest {
    Digest::from_bytes(blake3::derive_key("lifeboat 1 secret hash", secret.expose()))
}

layout! {
    /// A scope, and the only secret that belongs to it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TrustedScope {
        /// Group and epoch.
        pub scope: Scope,
        /// The group's name.
        pub group: String,
        /// Whether its secret is the group's first one.
        pub first: bool,
        /// [`secret_hash`] of the secret.
        pub secret_hash: Digest,
    }
}

layout! {
    /// What a trust file says.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Trust {
        /// The repository.
        pub repository: RepositoryId,
        /// The file's number, from 1.
        pub number: u64,
        /// The digest of the one before; none before the first.
        pub previous: Option<Digest>,
        /// The certificates of the CA, DER.
        pub ca_certificates: Vec<Vec<u8>>,
        /// Whom manifests and group secrets are sealed to, for daily restores.
        pub restore_recipients: Vec<Recipient>,
        /// Whom they are sealed to as well, for the last way in.
        pub recovery_recipients: Vec<Recipient>,
        /// The operators' keys, rising.
        pub operators: Vec<VerifyingKey>,
        /// How many operators sign the next file.
        pub quorum: u16,
        /// The operator key that comes from the recovery identity; enough alone.
        pub recovery_operator: VerifyingKey,
        /// The coordinator's log keys, the current one first; former ones stay.
        pub log_keys: Vec<VerifyingKey>,
        /// All scopes, rising; they stay.
        pub scopes: Vec<TrustedScope>,
        /// Where coordinators listen, `HOST:PORT`, the first to be tried first.
        pub addresses: Vec<String>,
        /// The format version that agents write.
        pub writes_format: u16,
        /// The encoder version that agents write, so that a mixed fleet still shares.
        pub writes_encoder: u16,
        /// For later versions; this one writes nothing and reads over it.
        pub extension: Vec<u8>,
    }
}

impl Trust {
    /// The log key in force: new batches and packs are signed with it. Only of a file that was parsed, which has one.
    pub fn log_key(&self) -> VerifyingKey {
        self.log_keys[0]
    }

    /// What the layout alone does not say.
    fn check(&self) -> Result<(), FormatError> {
        let wrong = |field, found: String, allowed| Err(FormatError::field(WHAT, field, found, allowed));
        if self.number == 0 || (self.number == 1) != self.previous.is_none() {
            return wrong("number", self.number.to_string(), "1 without a file before, or more with one");
        }
        let lists = [
            ("CA certificates", self.ca_certificates.len()),
            ("restore recipients", self.restore_recipients.len()),
            ("recovery recipients", self.recovery_recipients.len()),
            ("log keys", self.log_keys.len()),
        ];
        if let Some((field, _)) = lists.into_iter().find(|(_, items)| *items == 0) {
            return wrong(field, "none".into(), "at least one");
        }
        if self.quorum == 0 || usize::from(self.quorum) > self.operators.len() {
            return wrong("quorum", self.quorum.to_string(), "1 to the number of operators");
        }
        layout::rising(WHAT, "operators", &self.operators)?;
        layout::rising(WHAT, "scopes", &self.scopes.iter().map(|scope| scope.scope).collect::<Vec<_>>())
    }
}

layout! {
    /// An operator's signature, under a trust file or an order.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct OperatorSignature {
        /// Whose.
        pub key: VerifyingKey,
        /// Over the structure's body.
        pub signature: Signature,
    }
}

impl OperatorSignature {
    /// Signs `body` with each of these keys; the signatures stand in rising order of their keys.
    pub(crate) fn all(keys: &[&SigningKey], purpose: Purpose, body: &[u8]) -> Vec<Self> {
        let sign = |key: &&SigningKey| Self { key: key.verifying_key(), signature: key.sign(purpose, body) };
        let mut signatures: Vec<_> = keys.iter().map(sign).collect();
        signatures.sort_by_key(|signature| signature.key);
        signatures
    }

    /// Reads a list of signatures, each key at most once.
    pub(crate) fn take_all(decoder: &mut Decoder<'_>) -> Result<Vec<Self>, FormatError> {
        let signatures = Vec::<Self>::take(decoder, "signatures")?;
        let keys: Vec<_> = signatures.iter().map(|signature| signature.key).collect();
        layout::rising(decoder.what(), "signatures", &keys)?;
        Ok(signatures)
    }
}

/// Whether `needed` of the operators that `trust` names signed `body`, or its recovery operator did. Signatures of
/// others do not count.
pub(crate) fn operators_signed(
    trust: &Trust,
    needed: usize,
    purpose: Purpose,
    body: &[u8],
    signatures: &[OperatorSignature],
) -> bool {
    let signed = |key: &VerifyingKey| {
        signatures.iter().any(|given| given.key == *key && key.verify(purpose, body, &given.signature).is_ok())
    };
    let operators = trust.operators.iter().filter(|key| signed(key)).count();
    operators >= needed.max(1) || signed(&trust.recovery_operator)
}

/// A trust file with its signatures. Parsed means well formed; whether to trust it, [`TrustFile::verify_first`] and
/// [`TrustFile::verify_successor`] say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustFile {
    trust: Trust,
    body: Vec<u8>,
    signatures: Vec<OperatorSignature>,
}

impl TrustFile {
    /// Writes a trust file and signs it with `operators`' keys.
    ///
    /// # Errors
    /// When a field is not what [`TrustFile::parse`] takes.
    pub fn sign(trust: &Trust, operators: &[&SigningKey]) -> Result<Self, FormatError> {
        let mut encoder = layout::begin(MAGIC);
        trust.put(&mut encoder);
        let body = encoder.finish();
        let signatures = OperatorSignature::all(operators, Purpose::TrustFile, &body);
        Self::parse(&Self { trust: trust.clone(), signatures, body }.to_bytes())
    }

    /// Reads a trust file and checks its shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > TRUST_FILE_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", bytes.len(), "at most 4 MiB"));
        }
        let mut decoder = layout::open(WHAT, MAGIC, bytes)?;
        let trust = Trust::take(&mut decoder, "body")?;
        trust.check()?;
        let body = bytes[..bytes.len() - decoder.rest().len()].to_vec();
        let signatures = OperatorSignature::take_all(&mut decoder)?;
        decoder.end()?;
        Ok(Self { trust, body, signatures })
    }

    /// Whether each signature is valid under the key beside it. Of two copies the one for which this holds is intact;
    /// it proves nothing about who signed.
    pub fn verify_intact(&self) -> Result<(), FormatError> {
        let valid = |given: &OperatorSignature| given.key.verify(Purpose::TrustFile, &self.body, &given.signature);
        match self.signatures.iter().all(|given| valid(given).is_ok()) && !self.signatures.is_empty() {
            true => Ok(()),
            false => Err(FormatError::Broken { what: WHAT, check: "each signature under its own key" }),
        }
    }

    /// Whether this is the file that a token or a recovery kit names, and its own operators have signed it.
    pub fn verify_first(&self, digest: &Digest) -> Result<(), FormatError> {
        if self.digest() != *digest {
            return Err(FormatError::Broken { what: WHAT, check: "digest that the token or the kit names" });
        }
        self.verify_signed_under(&self.trust)
    }

    /// Whether this is the file after `previous`: signed by enough of *its* operators or by its recovery operator,
    /// with the next number and its digest, and without taking away a log key or changing a scope.
    pub fn verify_successor(&self, previous: &Self) -> Result<(), FormatError> {
        let broken = |check| Err(FormatError::Broken { what: WHAT, check });
        let (new, old) = (&self.trust, &previous.trust);
        if new.repository != old.repository {
            return broken("repository");
        }
        if Some(new.number) != old.number.checked_add(1) || new.previous != Some(previous.digest()) {
            return broken("place after the file before: next number, and its digest");
        }
        if old.log_keys.iter().any(|key| !new.log_keys.contains(key)) {
            return broken("list of log keys: former ones stay");
        }
        if old.scopes.iter().any(|scope| !new.scopes.contains(scope)) {
            return broken("list of scopes: they stay as they are");
        }
        self.verify_signed_under(old)
    }

    /// The digest of its body: what tokens, kits, the journal and the next file name. More signatures do not change
    /// it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// What it says.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Its bytes, as they stand in files and messages.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&self.body);
        self.signatures.put(&mut encoder);
        encoder.finish()
    }

    /// Whom manifests and group secrets are sealed to: restore recipients, then recovery recipients.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.trust.restore_recipients.iter().chain(&self.trust.recovery_recipients).cloned().collect()
    }

    /// Whether `secret` is the one that belongs to `scope`.
    pub fn names_secret(&self, scope: Scope, secret: &GroupSecret) -> bool {
        let hash = secret_hash(secret);
        self.trust.scopes.iter().any(|trusted| trusted.scope == scope && trusted.secret_hash == hash)
    }

    /// The keys that may order a grant: the operators' and the recovery operator's.
    pub fn ordering_keys(&self) -> Vec<VerifyingKey> {
        self.trust.operators.iter().chain([&self.trust.recovery_operator]).copied().collect()
    }

    fn verify_signed_under(&self, judge: &Trust) -> Result<(), FormatError> {
        let quorum = usize::from(judge.quorum);
        match operators_signed(judge, quorum, Purpose::TrustFile, &self.body, &self.signatures) {
            true => Ok(()),
            false => Err(FormatError::Broken { what: WHAT, check: "signature by enough of its operators" }),
        }
    }
}

#[cfg(test)]
mod tests;
