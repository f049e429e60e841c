//! What a reader knows of a journal: the hash of each head, and what the next one must be.

use super::{BEFORE_THE_FIRST, BatchBuilder, HEAD, Head, SignedHead};
use crate::error::FormatError;
use crate::id::{Digest, RepositoryId};
use crate::sign::VerifyingKey;

/// Where a head that somebody shows stands in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is one of this chain's heads: the journal extends it.
    Known,
    /// Its number is above the last one here: this journal was cut, or restored from an older copy.
    Ahead,
    /// It has a number that is here, and another hash: somebody wrote another history.
    Forked,
}

/// In place of the hash of a head that is missing.
const UNKNOWN: Digest = Digest::from_bytes([0xff; 32]);

/// A batch has fewer records: its length is limited.
const RECORDS_MAX: u64 = 1 << 20;

/// The heads of one journal from its first batch on, each checked against the one before. 32 bytes a batch.
#[derive(Debug, Clone)]
pub struct Chain {
    repository: RepositoryId,
    log_key: VerifyingKey,
    hashes: Vec<Digest>,
    incarnation: u64,
    next_sequence: u64,
}

impl Chain {
    /// Of a journal without any batch. `log_key` is the first one of the first trust file.
    pub fn start(repository: RepositoryId, log_key: VerifyingKey) -> Self {
        Self { repository, log_key, hashes: Vec::new(), incarnation: 0, next_sequence: 1 }
    }

    /// Of a journal up to this head, whose hash is the last of `hashes`: those of all heads from the first batch on.
    pub(super) fn resume(log_key: VerifyingKey, head: &Head, hashes: Vec<Digest>) -> Self {
        let next_sequence = head.first_sequence + u64::from(head.record_count);
        Self { repository: head.repository, log_key, hashes, incarnation: head.incarnation, next_sequence }
    }

    /// Takes the next head, if it is that: signed by the log key in force, numbered without a gap, naming the hash of
    /// the one before, with an incarnation that does not fall and sequences that go on. If the batch names a trust
    /// file, [`Chain::set_log_key`] comes next.
    pub fn append(&mut self, signed: &SignedHead) -> Result<(), FormatError> {
        let head = signed.head();
        self.check_next(head)?;
        signed.verify(&[self.log_key])?;
        self.hashes.push(signed.hash());
        self.incarnation = head.incarnation;
        self.next_sequence = head.first_sequence + u64::from(head.record_count);
        Ok(())
    }

    /// Checks a head before which some may be missing: that one of these keys signed it, and that it can follow.
    pub fn check_after_gap(&self, signed: &SignedHead, log_keys: &[VerifyingKey]) -> Result<(), FormatError> {
        let head = signed.head();
        signed.verify(log_keys)?;
        if head.number == self.next_number() {
            return self.check_next(head);
        }
        let follows = head.repository == self.repository
            && head.number > self.next_number()
            && head.incarnation >= self.incarnation
            && head.first_sequence >= self.next_sequence;
        match follows {
            true => Ok(()),
            false => Err(FormatError::Broken { what: HEAD, check: "that it can follow the heads before" }),
        }
    }

    /// Takes a head that was checked by [`Chain::check_after_gap`]. Of missing ones only the last one's hash is known then.
    pub fn append_after_gap(&mut self, signed: &SignedHead) {
        let head = signed.head();
        self.skip_to(head.number - 1);
        if let Some(before) = self.hashes.last_mut() {
            *before = head.previous;
        }
        self.hashes.push(signed.hash());
        self.incarnation = head.incarnation;
        self.next_sequence = head.first_sequence + u64::from(head.record_count);
    }

    /// Counts the batches up to this one as there and missing. The number of their records is not known.
    pub fn skip_to(&mut self, number: u64) {
        while self.len() < number {
            self.hashes.push(UNKNOWN);
            self.next_sequence += RECORDS_MAX;
        }
    }

    /// A trust file is in force whose first log key is this one: it signs the batches from the next one on, and former
    /// ones sign nothing new.
    pub fn set_log_key(&mut self, log_key: VerifyingKey) {
        self.log_key = log_key;
    }

    /// The log key in force: it signs the next batch.
    pub fn log_key(&self) -> VerifyingKey {
        self.log_key
    }

    /// Starts the batch that follows; `incarnation` is the writer's.
    pub fn next_batch(&self, incarnation: u64) -> BatchBuilder {
        let head = Head {
            repository: self.repository,
            number: self.next_number(),
            incarnation,
            previous: self.last_hash(),
            first_sequence: self.next_sequence,
            record_count: 0,
            record_bytes: 0,
            records: Digest::of(&[]),
        };
        BatchBuilder { head, bytes: Vec::new(), records: Vec::new() }
    }

    /// Where the head that somebody shows stands; its signature is for the caller to verify.
    pub fn standing(&self, shown: &SignedHead) -> Standing {
        let place = usize::try_from(shown.head().number - 1).unwrap_or(usize::MAX);
        match self.hashes.get(place) {
            None => Standing::Ahead,
            Some(hash) if *hash == shown.hash() => Standing::Known,
            Some(_) => Standing::Forked,
        }
    }

    /// How many batches there are; also the number of the last one.
    pub fn len(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// Whether there is no batch yet.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The number of the next batch.
    pub fn next_number(&self) -> u64 {
        self.len() + 1
    }

    /// The sequence of the next record.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The incarnation that wrote the last batch; 0 before the first one.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The hashes of all heads, from that of the first batch on.
    pub fn hashes(&self) -> &[Digest] {
        &self.hashes
    }

    /// H of the last head, or [`BEFORE_THE_FIRST`].
    pub fn last_hash(&self) -> Digest {
        self.hashes.last().copied().unwrap_or(BEFORE_THE_FIRST)
    }

    fn check_next(&self, head: &Head) -> Result<(), FormatError> {
        let wrong =
            |field, found: String, allowed: String| Err(FormatError::Field { what: HEAD, field, found, allowed });
        if head.repository != self.repository {
            return wrong("repository", head.repository.to_string(), self.repository.to_string());
        }
        if head.number != self.next_number() {
            return wrong("number", head.number.to_string(), self.next_number().to_string());
        }
        if head.previous != self.last_hash() {
            return wrong("hash of the head before", head.previous.to_string(), self.last_hash().to_string());
        }
        if head.incarnation < self.incarnation {
            return wrong("incarnation", head.incarnation.to_string(), format!("at least {}", self.incarnation));
        }
        if head.first_sequence != self.next_sequence {
            return wrong("first sequence", head.first_sequence.to_string(), self.next_sequence.to_string());
        }
        Ok(())
    }
}
