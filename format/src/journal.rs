//! Numbered batches and their chain: the record of everything that happened beside the data itself.
//!
//! A batch is a head, records, and a signature over the head. The head names the hash of the head before and the
//! digest of its records, so whoever checks heads alone can tell that a journal extends the one it knew, without
//! seeing what other hosts did; and whoever holds one old head can tell any cut, edit or reorder (INV-52). Batches
//! are put if absent under their number, which is the fence between coordinators; that is for the coordinator.
//!
//! What one record says is for [`record`] and [`event`]; what a reader knows of the chain so far is [`Chain`]; the state
//! after a batch, for a quick start, is [`checkpoint`].

pub mod chain;
pub mod checkpoint;
pub mod event;
pub mod record;

pub use chain::{Chain, Standing};
pub use checkpoint::Checkpoint;
pub use event::Event;
pub use record::{Act, Decision, Principal, Record};

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{Digest, RepositoryId};
use crate::layout::{self, Field};
use crate::sign::{Purpose, Signature, SigningKey, VerifyingKey, verify_any};

const WHAT: &str = "journal batch";
const HEAD: &str = "journal head";
const MAGIC: &[u8; 4] = b"LBJH";
/// The most bytes that a batch has.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// How many bytes a head has.
pub const HEAD_BYTES: usize = 118;
/// The hash that the first head names as the one before.
pub const BEFORE_THE_FIRST: Digest = Digest::from_bytes([0; 32]);

layout! {
    /// The head of one batch.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Head {
        /// Whose journal this is.
        pub repository: RepositoryId,
        /// The batch's number, from 1, without a gap.
        pub number: u64,
        /// Which take-over of the repository wrote it; never falls.
        pub incarnation: u64,
        /// H of the head before, or [`BEFORE_THE_FIRST`].
        pub previous: Digest,
        /// The sequence of its first record; records are counted through all batches, from 1.
        pub first_sequence: u64,
        /// How many records it has, at least 1.
        pub record_count: u32,
        /// How many bytes they have together.
        pub record_bytes: u32,
        /// The BLAKE3 of these bytes.
        pub records: Digest,
    }
}

impl Head {
    fn to_bytes(self) -> Vec<u8> {
        let mut encoder = layout::begin(MAGIC);
        self.put(&mut encoder);
        encoder.finish()
    }

    fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = layout::open(HEAD, MAGIC, bytes)?;
        let head = Self::take(&mut decoder, "head")?;
        decoder.end()?;
        let wrong = |field, found: u64, allowed| Err(FormatError::field(HEAD, field, found, allowed));
        if head.number == 0 || (head.number == 1) != (head.previous == BEFORE_THE_FIRST) {
            return wrong("number", head.number, "1 with nothing before, or more");
        }
        if head.record_count == 0 {
            return wrong("record count", 0, "at least 1");
        }
        if head.first_sequence == 0 || head.first_sequence.checked_add(u64::from(head.record_count)).is_none() {
            return wrong("first sequence", head.first_sequence, "from 1, room for all records");
        }
        Ok(head)
    }
}

/// A head with its signature: all that goes to agents. Parsed means well formed; [`SignedHead::verify`] says whether
/// the coordinator vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignedHead {
    head: Head,
    signature: Signature,
}

impl SignedHead {
    /// Takes a head's bytes and signature from a message or a file.
    pub fn parse(head: &[u8], signature: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new(HEAD, signature);
        let signature = Field::take(&mut decoder, "signature")?;
        decoder.end()?;
        Ok(Self { head: Head::parse(head)?, signature })
    }

    /// Whether one of these log keys signed it.
    pub fn verify(&self, log_keys: &[VerifyingKey]) -> Result<(), FormatError> {
        verify_any(log_keys, Purpose::JournalHead, &self.head_bytes(), &self.signature).map(|_| ())
    }

    /// What it says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The head's bytes, as they stand in files and messages.
    pub fn head_bytes(&self) -> Vec<u8> {
        self.head.to_bytes()
    }

    /// The signature over them.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// H: the hash of the head alone, which the next head names.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.head_bytes())
    }

    /// Whether a holder of `self` may take `newer` in its place: of the same repository and not behind it, and the
    /// very same where both have one number. What lies between two numbers only the coordinator's [`Chain`] can show.
    pub fn may_give_way_to(&self, newer: &Self) -> Result<(), FormatError> {
        let (old, new) = (&self.head, &newer.head);
        let same = self.hash() == newer.hash();
        let ahead = new.number > old.number && new.incarnation >= old.incarnation;
        let after = new.number != old.number.wrapping_add(1) || new.previous == self.hash();
        match new.repository == old.repository && (same || (ahead && after)) {
            true => Ok(()),
            false => Err(FormatError::Broken { what: HEAD, check: "that it extends the head seen before" }),
        }
    }
}

/// A batch as it stands in the repository. Parsed means that its records are those that its head names.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    signed: SignedHead,
    records: Vec<Record>,
}

impl Batch {
    /// Reads a batch; whether it is the next one of its chain is for [`Chain::append`].
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", bytes.len(), "at most 16 MiB"));
        }
        let mut decoder = Decoder::new(WHAT, bytes);
        let head_bytes = decoder.raw("head", HEAD_BYTES)?;
        let head = Head::parse(head_bytes)?;
        let records = decoder.raw("records", head.record_bytes as usize)?;
        let signature = decoder.raw("signature", Signature::BYTES)?;
        decoder.end()?;
        if !head.records.matches(records) {
            return Err(FormatError::Broken { what: WHAT, check: "digest of its records" });
        }
        Ok(Self { signed: SignedHead::parse(head_bytes, signature)?, records: read_records(&head, records)? })
    }

    /// Its head, with signature.
    pub fn signed_head(&self) -> &SignedHead {
        &self.signed
    }

    /// Number and digest of the trust file that is in force after this batch, if the batch changes that.
    pub fn trust_file(&self) -> Option<(u64, Digest)> {
        self.records.iter().rev().find_map(|record| match record.act.event {
            Event::RepositoryCreated { trust_file, .. } => Some((1, trust_file)),
            Event::TrustFile { number, digest } => Some((number, digest)),
            _ => None,
        })
    }

    /// What happened, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Its bytes, as they stand in the repository.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encoder.raw(&self.signed.head_bytes());
        self.records.iter().for_each(|record| record.put(&mut encoder));
        encoder.raw(self.signed.signature.as_bytes());
        encoder.finish()
    }
}

/// The records that a head promises: so many, with these sequences.
fn read_records(head: &Head, bytes: &[u8]) -> Result<Vec<Record>, FormatError> {
    let mut decoder = Decoder::new("journal record", bytes);
    let mut records = Vec::new();
    for at in 0..u64::from(head.record_count) {
        let record = Record::take(&mut decoder, "record")?;
        let allowed = head.first_sequence + at;
        if record.sequence != allowed {
            return Err(FormatError::field("journal record", "sequence", record.sequence, allowed));
        }
        records.push(record);
    }
    decoder.end()?;
    Ok(records)
}

/// The next batch of a chain, while it is filled. Made by [`Chain::next_batch`].
#[derive(Debug)]
pub struct BatchBuilder {
    head: Head,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

impl BatchBuilder {
    /// Adds what was done, and says which sequence it has: of a commit, the snapshot's number.
    ///
    /// # Errors
    /// When there is no more room, or the record is not one that a reader takes (a text too long or with control
    /// characters: see [`layout::fit_text`]). The batch stays as it was.
    pub fn push(&mut self, act: Act) -> Result<u64, FormatError> {
        let sequence = self.head.first_sequence + u64::from(self.head.record_count);
        let record = Record { sequence, act };
        let mut encoder = Encoder::new();
        record.put(&mut encoder);
        let bytes = encoder.finish();
        let total = self.bytes.len() + bytes.len();
        if total + HEAD_BYTES + Signature::BYTES > BATCH_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", total, "at most 16 MiB; start the next batch"));
        }
        let mut decoder = Decoder::new("journal record", &bytes);
        Record::take(&mut decoder, "record")?;
        decoder.end()?;
        self.bytes.extend_from_slice(&bytes);
        self.head.record_count += 1;
        self.records.push(record);
        Ok(sequence)
    }

    /// Whether nothing was added yet; such a batch cannot be signed.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The number that the batch will have.
    pub fn number(&self) -> u64 {
        self.head.number
    }

    /// Closes and signs the batch. Append it to the chain once it is a durable object, not before.
    pub fn sign(mut self, log_key: &SigningKey) -> Result<Batch, FormatError> {
        self.head.record_bytes = u32::try_from(self.bytes.len())
            .map_err(|_| FormatError::field(WHAT, "length", self.bytes.len(), "at most 16 MiB"))?;
        self.head.records = Digest::of(&self.bytes);
        let head_bytes = self.head.to_bytes();
        Head::parse(&head_bytes)?;
        let signature = log_key.sign(Purpose::JournalHead, &head_bytes);
        Ok(Batch { signed: SignedHead { head: self.head, signature }, records: self.records })
    }
}

#[cfg(test)]
mod tests;
