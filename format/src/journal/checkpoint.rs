//! The state of a journal after one of its batches, so that a start need not read the batches up to it.
//!
//! A checkpoint says nothing that the batches do not say, and a reader may ignore all of them. It is signed by the log
//! key in force, and counts only if a later batch names it with its digest; that is for the coordinator.

pub mod state;

pub use state::{Rows, State};

use super::{Chain, HEAD_BYTES, SignedHead};
use crate::codec::Encoder;
use crate::error::FormatError;
use crate::id::Digest;
use crate::layout::{self, Field};
use crate::sign::{Purpose, Signature, SigningKey, VerifyingKey};

const WHAT: &str = "journal checkpoint";
const MAGIC: &[u8; 4] = b"LBJC";
/// The most bytes that a checkpoint has.
pub const CHECKPOINT_BYTES_MAX: u64 = 2 << 30;

/// A checkpoint that was read. Parsed means well formed and undamaged; [`Checkpoint::verify`] checks who signed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    head: SignedHead,
    hashes: Vec<Digest>,
    state: State,
    signed: Digest,
    signature: Signature,
}

impl Checkpoint {
    /// The bytes of the checkpoint after the last batch of `chain`, whose head is `head`.
    ///
    /// # Errors
    /// When the checkpoint would be one that no reader takes: larger than allowed, or of a state that does not belong to
    /// this head.
    pub fn to_bytes(
        head: &SignedHead,
        hashes: Vec<Digest>,
        state: &State,
        log_key: &SigningKey,
    ) -> Result<Vec<u8>, FormatError> {
        check(head, &hashes, state)?;
        let mut encoder = Encoder::with_capacity(hashes.len() * Digest::BYTES + state.bytes_about());
        encoder.raw(&layout::begin(MAGIC).finish());
        encoder.raw(&head.head_bytes()).raw(head.signature().as_bytes()).bytes(&[]);
        Rows(hashes).put(&mut encoder);
        state.put(&mut encoder);
        let mut bytes = encoder.finish();
        let signature = log_key.sign(Purpose::JournalCheckpoint, Digest::of(&bytes).as_bytes());
        bytes.extend_from_slice(signature.as_bytes());
        let bytes = layout::with_digest(bytes);
        check_length(bytes.len() as u64).map(|()| bytes)
    }

    /// Reads a checkpoint.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        check_length(bytes.len() as u64)?;
        let body = layout::without_digest(WHAT, bytes)?;
        let Some((body, signature)) = body.split_last_chunk::<{ Signature::BYTES }>() else {
            return Err(FormatError::Truncated { what: WHAT, field: "signature" });
        };
        let mut decoder = layout::open(WHAT, MAGIC, body)?;
        let head = decoder.raw("head", HEAD_BYTES)?;
        let head = SignedHead::parse(head, decoder.raw("signature of the head", Signature::BYTES)?)?;
        let _extension: Vec<u8> = Field::take(&mut decoder, "extension")?;
        let Rows(hashes) = Field::take(&mut decoder, "hashes of heads")?;
        let state = State::take(&mut decoder, "state")?;
        decoder.end()?;
        check(&head, &hashes, &state)?;
        Ok(Self { head, hashes, state, signed: Digest::of(body), signature: Signature::from_bytes(*signature) })
    }

    /// Whether this log key signed both the checkpoint and the head in it.
    pub fn verify(&self, log_key: &VerifyingKey) -> Result<(), FormatError> {
        log_key.verify(Purpose::JournalCheckpoint, self.signed.as_bytes(), &self.signature)?;
        self.head.verify(&[*log_key])
    }

    /// The head of the last batch that the state includes.
    pub fn head(&self) -> &SignedHead {
        &self.head
    }

    /// The state after that batch.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Number and digest of the trust file in force after that batch.
    pub fn trust_file(&self) -> Result<(u64, Digest), FormatError> {
        let named = self.state.trust_file.map(|named| (named.number, named.hash));
        named.ok_or(FormatError::field(WHAT, "trust file", "none", "the one in force"))
    }

    /// The chain up to that batch, and the state. `log_key` is the one in force.
    pub fn into_parts(self, log_key: VerifyingKey) -> (Chain, State) {
        (Chain::resume(log_key, self.head.head(), self.hashes), self.state)
    }
}

fn check_length(bytes: u64) -> Result<(), FormatError> {
    match bytes <= CHECKPOINT_BYTES_MAX {
        true => Ok(()),
        false => Err(FormatError::field(WHAT, "length", bytes, "at most 2 GiB")),
    }
}

/// Whether chain and state end with this head.
fn check(head: &SignedHead, hashes: &[Digest], state: &State) -> Result<(), FormatError> {
    let number = head.head().number;
    if hashes.len() as u64 != number || hashes.last() != Some(&head.hash()) {
        return Err(FormatError::Broken { what: WHAT, check: "that its hashes end with its head" });
    }
    let applied = head.head().first_sequence + u64::from(head.head().record_count) - 1;
    if state.applied != applied {
        return Err(FormatError::field(WHAT, "last record", state.applied, applied));
    }
    Ok(())
}

impl State {
    /// About how many bytes it takes, rather more: a buffer that grows takes twice as much memory for a while.
    fn bytes_about(&self) -> usize {
        let rows = [
            (self.snapshots.0.len(), 160),
            (self.source_sets.0.len(), 256),
            (self.packs.0.len(), 41),
            (self.dead.0.len(), 32),
            (self.losses.0.len(), 256),
            (self.grants.0.len(), 30),
        ];
        rows.iter().map(|(count, bytes)| count * bytes).sum::<usize>() + (1 << 20)
    }

    /// The BLAKE3 of its bytes: equal states have equal ones.
    pub fn digest(&self) -> Digest {
        let mut encoder = Encoder::with_capacity(self.bytes_about());
        self.put(&mut encoder);
        Digest::of(&encoder.finish())
    }
}

#[cfg(test)]
mod tests;
