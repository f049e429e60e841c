//! A grant: the opened root of one tree, handed to one target, for a while; and the order that asks for it.
//!
//! An operator signs the order. Whoever holds the restore key (managed custody: the coordinator's vault; strict: the
//! operator) opens the snapshot's manifest and seals what opens that one tree to the target's box key. The outside
//! says which root may be served to whom until when, so a coordinator can serve exactly that without any key, and
//! a host can check, before it obeys, that people it knows gave the order.

mod coverage;
mod terms;

pub use coverage::Coverage;
pub use terms::{Existing, RestoreTerms, SignedTerms, TERMS_BYTES_MAX};

use crate::codec::{Decoder, Encoder};
use crate::envelope::{Identity, Recipient, Role, unwrap, wrap};
use crate::error::FormatError;
use crate::id::{Digest, RepositoryId, Scope, SnapshotId, SnapshotNumber};
use crate::journal::event::GrantTarget;
use crate::key::{ContentHash, OpenKeys};
use crate::layout::{self, Field};
use crate::manifest::RootRef;
use crate::sign::{Purpose, Signature, SigningKey, verify_any};
use crate::trust::{OperatorSignature, Trust, TrustFile, operators_signed};
use zeroize::Zeroizing;

const ORDER: &str = "grant order";
const ORDER_MAGIC: &[u8; 4] = b"LBGO";
const WHAT: &str = "grant";
const MAGIC: &[u8; 4] = b"LBGR";
/// The longest time from an order to its end: seven days, in nanoseconds.
pub const GRANT_LIFE_NS_MAX: i64 = 7 * 24 * 3600 * 1_000_000_000;
/// The most bytes that a grant has.
pub const GRANT_BYTES_MAX: usize = 2 << 20;
/// The most bytes that a signed order has.
const ORDER_BYTES_MAX: u64 = 64 << 10;

layout! {
    /// What an operator asks for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct GrantOrder {
        /// The repository.
        pub repository: RepositoryId,
        /// The snapshot to open.
        pub snapshot: SnapshotId,
        /// Who may read it.
        pub target: GrantTarget,
        /// The target's box key, to which the opened root is sealed.
        pub recipient: Recipient,
        /// Where the target may write: `staging`, or a directory that its own policy allows.
        pub directory: String,
        /// Why, for the journal.
        pub purpose: String,
        /// When it was signed: nanoseconds since 1970, UTC.
        pub issued_ns: i64,
        /// When the grant ends; at most [`GRANT_LIFE_NS_MAX`] later.
        pub expires_ns: i64,
        /// Random, so that no two orders are the same.
        pub nonce: [u8; 16],
    }
}

impl GrantOrder {
    fn check(&self) -> Result<(), FormatError> {
        let life = self.expires_ns.checked_sub(self.issued_ns).filter(|life| (1..=GRANT_LIFE_NS_MAX).contains(life));
        match life {
            Some(_) => Ok(()),
            None => {
                Err(FormatError::field(ORDER, "expiry", self.expires_ns, "later than its issue, by 7 days at most"))
            }
        }
    }
}

/// An order with the signatures of operators. Parsed means well formed; [`SignedOrder::verify`] says whether to obey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedOrder {
    order: GrantOrder,
    signatures: Vec<OperatorSignature>,
}

impl SignedOrder {
    /// Signs an order with one or more operator keys.
    ///
    /// # Errors
    /// When a field is not what [`SignedOrder::parse`] takes.
    pub fn sign(order: &GrantOrder, operators: &[&SigningKey]) -> Result<Self, FormatError> {
        let body = Self::body(order);
        let signatures = OperatorSignature::all(operators, Purpose::GrantOrder, &body);
        Self::parse(&Self { order: order.clone(), signatures }.to_bytes())
    }

    /// Reads an order and checks its shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = layout::open(ORDER, ORDER_MAGIC, bytes)?;
        let order = GrantOrder::take(&mut decoder, "order")?;
        order.check()?;
        let signatures = OperatorSignature::take_all(&mut decoder)?;
        decoder.end()?;
        Ok(Self { order, signatures })
    }

    /// Its bytes, as they stand in grants and messages.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&Self::body(&self.order));
        self.signatures.put(&mut encoder);
        encoder.finish()
    }

    /// What is asked for.
    pub fn order(&self) -> &GrantOrder {
        &self.order
    }

    /// The digest of the order, without its signatures: how the journal names it.
    pub fn digest(&self) -> Digest {
        Digest::of(&Self::body(&self.order))
    }

    /// Whether `needed` operators of this trust file signed it, or its recovery operator did; and whether it is for
    /// this repository and `now_ns` lies before its end.
    pub fn verify(&self, trust: &Trust, needed: usize, now_ns: i64) -> Result<(), FormatError> {
        let broken = |check| Err(FormatError::Broken { what: ORDER, check });
        if self.order.repository != trust.repository {
            return broken("repository");
        }
        if now_ns >= self.order.expires_ns {
            return broken("time: it has expired");
        }
        match operators_signed(trust, needed, Purpose::GrantOrder, &Self::body(&self.order), &self.signatures) {
            true => Ok(()),
            false => broken("signature by enough operators of the trust file"),
        }
    }

    /// The fingerprints of those who signed, for the journal; meaningful after [`SignedOrder::verify`].
    pub fn signers(&self) -> Vec<Digest> {
        self.signatures.iter().map(|signature| signature.key.fingerprint()).collect()
    }

    fn body(order: &GrantOrder) -> Vec<u8> {
        let mut encoder = layout::begin(ORDER_MAGIC);
        order.put(&mut encoder);
        encoder.finish()
    }
}

/// What opens one tree: nothing more of the repository opens with it.
#[derive(Debug, Clone)]
pub struct GrantKeys {
    /// The root's content hash.
    pub root_content: ContentHash,
    /// `K_hash` and `K_enc` of each scope that the tree refers to, the scopes rising.
    pub scopes: Vec<(Scope, OpenKeys)>,
    /// What of the tree is complete.
    pub coverage: Coverage,
}

impl GrantKeys {
    fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut encoder = Encoder::new();
        encoder.raw(self.root_content.expose()).varint(self.scopes.len() as u64);
        for (scope, keys) in &self.scopes {
            let (hash, enc) = keys.expose();
            encoder.u32(scope.get()).raw(hash).raw(enc);
        }
        self.coverage.put(&mut encoder);
        Zeroizing::new(encoder.finish())
    }

    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new("grant's sealed part", bytes);
        let root_content = ContentHash::from_bytes(decoder.array("root content hash")?);
        let mut scopes = Vec::new();
        for _ in 0..decoder.bounded("scopes", layout::LIST_ITEMS_MAX)? {
            let scope = Scope::new(decoder.u32("scope")?);
            let hash = Zeroizing::new(decoder.array("K_hash")?);
            let enc = Zeroizing::new(decoder.array("K_enc")?);
            scopes.push((scope, OpenKeys::from_parts(*hash, *enc)));
        }
        let coverage = Coverage::take(&mut decoder, "coverage")?;
        coverage.check()?;
        decoder.end()?;
        let numbers: Vec<_> = scopes.iter().map(|(scope, _)| *scope).collect();
        layout::rising("grant's sealed part", "scopes", &numbers)?;
        Ok(Self { root_content, scopes, coverage })
    }
}

layout! {
    /// What everybody may know of a grant.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct GrantClear {
        /// Its number in the journal.
        pub number: u64,
        /// The snapshot's number.
        pub snapshot: SnapshotNumber,
        /// The root that may be served.
        pub root: RootRef,
    }
}

/// A grant: its bytes, and what stands in them in clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    clear: GrantClear,
    order: SignedOrder,
    sealed: Vec<u8>,
    signature: Signature,
}

impl Grant {
    /// Grants what `order` asks for: seals `keys` to the order's recipient, and signs with the key of whoever grants.
    ///
    /// # Errors
    /// When a field is not what [`Grant::parse`] takes.
    pub fn make(
        clear: &GrantClear,
        order: &SignedOrder,
        keys: &GrantKeys,
        signer: &SigningKey,
    ) -> Result<Self, FormatError> {
        let outside = Self::outside(clear, order);
        let recipient = std::slice::from_ref(&order.order.recipient);
        let sealed = wrap(Role::Grant, &outside, recipient, &keys.to_bytes())?;
        let signature = signer.sign(Purpose::Grant, &Self::signed(&outside, &sealed));
        Self::parse(&Self { clear: clear.clone(), order: order.clone(), sealed, signature }.to_bytes())
    }

    /// Reads a grant's outside; needs no key and proves nothing about who made it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > GRANT_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", bytes.len(), "at most 2 MiB"));
        }
        let mut decoder = layout::open(WHAT, MAGIC, bytes)?;
        let clear = GrantClear::take(&mut decoder, "clear part")?;
        let order = SignedOrder::parse(decoder.bytes("order", ORDER_BYTES_MAX)?)?;
        let sealed = Vec::<u8>::take(&mut decoder, "sealed part")?;
        let signature = Field::take(&mut decoder, "signature")?;
        decoder.end()?;
        Ok(Self { clear, order, sealed, signature })
    }

    /// Its bytes, as they stand in messages.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Self::signed(&Self::outside(&self.clear, &self.order), &self.sealed);
        bytes.extend_from_slice(self.signature.as_bytes());
        bytes
    }

    /// Whether to act on it: signed by a log key or an operator of this trust file, on an order that
    /// [`SignedOrder::verify`] takes.
    pub fn verify(&self, trust_file: &TrustFile, needed: usize, now_ns: i64) -> Result<(), FormatError> {
        let trust = trust_file.trust();
        self.order.verify(trust, needed, now_ns)?;
        let signers: Vec<_> = trust.log_keys.iter().copied().chain(trust_file.ordering_keys()).collect();
        let signed = Self::signed(&Self::outside(&self.clear, &self.order), &self.sealed);
        verify_any(&signers, Purpose::Grant, &signed, &self.signature).map(|_| ())
    }

    /// What opens the tree, if `identity` is the target's.
    pub fn open(&self, identity: &Identity) -> Result<GrantKeys, FormatError> {
        GrantKeys::parse(&unwrap(Role::Grant, &Self::outside(&self.clear, &self.order), identity, &self.sealed)?)
    }

    /// What everybody may know.
    pub fn clear(&self) -> &GrantClear {
        &self.clear
    }

    /// The order that it obeys: snapshot, target, directory and end stand there.
    pub fn order(&self) -> &SignedOrder {
        &self.order
    }

    /// All before the sealed part.
    fn outside(clear: &GrantClear, order: &SignedOrder) -> Vec<u8> {
        let mut encoder = layout::begin(MAGIC);
        clear.put(&mut encoder);
        encoder.bytes(&order.to_bytes());
        encoder.finish()
    }

    /// All before the signature.
    fn signed(outside: &[u8], sealed: &[u8]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(outside).bytes(sealed);
        encoder.finish()
    }
}

#[cfg(test)]
mod tests;
