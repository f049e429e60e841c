//! What is restored by an order, and how: signed by operators beside the order for its grant.
//!
//! The grant says which tree may be read, by whom, until when, and where its target may write. The terms say the rest, so
//! that nobody between the operator and the host can make `only what is missing` into `everything, and delete the rest`.

use super::SignedOrder;
use crate::codec::Encoder;
use crate::error::FormatError;
use crate::id::Digest;
use crate::layout::{self, Field};
use crate::sign::{Purpose, SigningKey};
use crate::tree::check_path;
use crate::trust::{OperatorSignature, Trust, operators_signed};

const WHAT: &str = "terms of a restore";
const MAGIC: &[u8; 4] = b"LBRT";
/// The most bytes that signed terms have.
pub const TERMS_BYTES_MAX: usize = 1 << 20;

tagged! {
    /// What becomes of what is in the place of an entry.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum Existing {
        /// The target must be new or empty.
        #[default]
        1 => Refuse,
        /// It becomes as it was.
        2 => Overwrite,
        /// The same, but a file of equal size and time is taken as equal, unread.
        3 => OverwriteIfChanged,
        /// It stays unless the one in the snapshot was modified later.
        4 => OverwriteIfNewer,
        /// It stays.
        5 => Keep,
    }
}

layout! {
    /// What is restored, and how.
    #[derive(Debug, Clone, PartialEq, Eq, Default)]
    pub struct RestoreTerms {
        /// Paths in the tree, each with all below it; one at least.
        pub paths: Vec<Vec<u8>>,
        /// Patterns in the syntax of gitignore: only what matches one; none for everything.
        pub include: Vec<String>,
        /// What matches one of these is left out.
        pub exclude: Vec<String>,
        /// How many parts of each path are left out; none for what is usual.
        pub strip: Option<u32>,
        /// What becomes of what is there.
        pub existing: Existing,
        /// Whether what the tree does not have is deleted.
        pub delete: bool,
        /// Whether owners go by number and not by name.
        pub numeric_ids: bool,
        /// `OLD=NEW` for users, NEW being a name or a number of the target.
        pub users: Vec<String>,
        /// The same for groups.
        pub groups: Vec<String>,
        /// Whether it is only told what would be done.
        pub dry_run: bool,
        /// Whether nothing is begun for which there is no room.
        pub check_room: bool,
    }
}

impl RestoreTerms {
    /// The digest of what they say: two orders of one command have equal ones.
    pub fn digest(&self) -> Digest {
        let mut encoder = Encoder::new();
        self.put(&mut encoder);
        Digest::of(&encoder.finish())
    }

    fn check(&self) -> Result<(), FormatError> {
        self.paths.iter().filter(|path| !path.is_empty()).try_for_each(|path| check_path(path))?;
        let wrong = |field, found: &str, allowed| Err(FormatError::field(WHAT, field, found, allowed));
        if self.paths.is_empty() {
            return wrong("paths", "none", "one at least");
        }
        if self.delete && self.existing == Existing::Refuse {
            return wrong("delete", "in an empty target", "only over what is there");
        }
        if self.delete && !(self.include.is_empty() && self.exclude.is_empty()) {
            return wrong("delete", "together with patterns", "without patterns");
        }
        Ok(())
    }
}

/// Terms with the signatures of operators. Parsed means well formed; [`SignedTerms::verify`] says whether to obey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedTerms {
    order: Digest,
    terms: RestoreTerms,
    signatures: Vec<OperatorSignature>,
}

impl SignedTerms {
    /// Signs terms for one order of a grant, with one or more operator keys.
    ///
    /// # Errors
    /// When a field is not what [`SignedTerms::parse`] takes.
    pub fn sign(order: &SignedOrder, terms: &RestoreTerms, operators: &[&SigningKey]) -> Result<Self, FormatError> {
        let order = order.digest();
        let signatures = OperatorSignature::all(operators, Purpose::RestoreTerms, &body(&order, terms));
        Self::parse(&Self { order, terms: terms.clone(), signatures }.to_bytes())
    }

    /// Reads terms and checks their shape.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > TERMS_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", bytes.len(), "at most 1 MiB"));
        }
        let mut decoder = layout::open(WHAT, MAGIC, bytes)?;
        let order = Digest::take(&mut decoder, "order")?;
        let terms = RestoreTerms::take(&mut decoder, "terms")?;
        terms.check()?;
        let signatures = OperatorSignature::take_all(&mut decoder)?;
        decoder.end()?;
        Ok(Self { order, terms, signatures })
    }

    /// Their bytes, as they stand in messages.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&body(&self.order, &self.terms));
        self.signatures.put(&mut encoder);
        encoder.finish()
    }

    /// What is restored, and how; meaningful after [`SignedTerms::verify`].
    pub fn terms(&self) -> &RestoreTerms {
        &self.terms
    }

    /// Whether they belong to this order, and `needed` operators of this trust file signed them, or its recovery
    /// operator did. The order itself must be verified too.
    pub fn verify(&self, order: &SignedOrder, trust: &Trust, needed: usize) -> Result<(), FormatError> {
        let broken = |check| Err(FormatError::Broken { what: WHAT, check });
        if self.order != order.digest() {
            return broken("order that they belong to");
        }
        let body = body(&self.order, &self.terms);
        match operators_signed(trust, needed, Purpose::RestoreTerms, &body, &self.signatures) {
            true => Ok(()),
            false => broken("signature by enough operators of the trust file"),
        }
    }
}

fn body(order: &Digest, terms: &RestoreTerms) -> Vec<u8> {
    let mut encoder = layout::begin(MAGIC);
    order.put(&mut encoder);
    terms.put(&mut encoder);
    encoder.finish()
}
