//! The next batch, and the fence: how anything becomes a fact.
//!
//! A batch is put under its number if that is still free. If another process has put one there, this coordinator
//! has lost the repository: it can commit nothing and name nothing dead any more (INV-38), and every later call says
//! so. What the records mean is for [`crate::catalog`]; what a batch looks like, for the format.
//!
//! How it is read at a start is for [`replay`], how a start is spared most of it for [`checkpoint`].
//!
//! # Invariants
//! * A put with unknown outcome is settled before anything else is written (INV-6).
//! * Only a pack that a durable batch named dead, and a checkpoint, which is derived data, can be deleted: a [`Dead`] is
//!   made here and below, and nowhere else (INV-7).

pub mod checkpoint;
mod gaps;
pub mod replay;

pub use replay::ReplayError;

use crate::store::twice::{add_copy, read_either};
use crate::store::{ObjectName, Settled, Store, StoreError, Unsettled, put_settled};
use crate::trust::{self, TrustError};
use crate::watch::Interrupted;
use lifeboat_format::FormatError;
use lifeboat_format::id::Digest;
use lifeboat_format::journal::{Act, Batch, Chain, Event, SignedHead, Standing};
use lifeboat_format::sign::{SigningKey, VerifyingKey};
use std::sync::Arc;

/// Why the journal could not be read or continued.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed.
    #[error("cannot read the journal")]
    Store(#[from] StoreError),
    /// A batch is damaged, or is not the one that follows.
    #[error("journal batch {number} ({}) is damaged", ObjectName::journal(*.number))]
    Broken {
        /// The batch.
        number: u64,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A trust file that the journal names.
    #[error("cannot read the log keys of the journal")]
    Trust(#[from] TrustError),
    /// Our log key signs nothing any more.
    #[error(
        "the coordinator's log key is not the first one of trust file {trust_file}, which is in force; restore the \
         credential and the vault of that time"
    )]
    FormerKey {
        /// The trust file in force.
        trust_file: u64,
    },
    /// A batch is missing although later ones are there.
    #[error(
        "journal batch {missing} ({}) is missing, though batch {later} is there", ObjectName::journal(*.missing)
    )]
    Cut {
        /// The first one that is not there.
        missing: u64,
        /// One that is.
        later: u64,
    },
    /// Another coordinator has written the next batch.
    #[error(
        "another coordinator has taken over this repository (it wrote journal batch {number}); this one has stopped: \
         nothing more is written"
    )]
    LostOwnership {
        /// The number that was not free.
        number: u64,
    },
    /// The batch could not be written; nothing has changed.
    #[error("journal batch {number} was not written; nothing has changed")]
    NotWritten {
        /// Its number.
        number: u64,
        /// Why.
        source: Unsettled,
    },
    /// Nobody knows whether the batch is there.
    #[error("nobody knows yet whether journal batch {number} was written; nothing more is committed until it is known")]
    Unknown {
        /// Its number.
        number: u64,
        /// Why.
        source: Unsettled,
    },
    /// The start was ended.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A record that no reader would take.
    #[error("a record cannot be written into the journal")]
    Record(#[source] FormatError),
}

/// An object that a durable batch has named dead, or a checkpoint that is not needed: the only things that can be
/// deleted.
#[derive(Debug)]
pub struct Dead(ObjectName);

impl Dead {
    /// Which object.
    pub fn object(&self) -> &ObjectName {
        &self.0
    }

    /// For the suite that every store must pass, which has objects of its own and no journal.
    pub(crate) fn named_for_conformance(object: &ObjectName) -> Self {
        Self(object.clone())
    }

    /// What this batch, which is durable, names dead.
    fn named_by(batch: &Batch) -> Vec<Self> {
        let dead = |event: &Event| match event {
            Event::PackDead { pack } => Some(Self(ObjectName::pack(*pack))),
            _ => None,
        };
        batch.records().iter().filter_map(|record| dead(&record.act.event)).collect()
    }
}

/// A batch that is a fact now.
#[derive(Debug)]
pub struct Appended {
    /// The batch, for the catalog to apply.
    pub batch: Batch,
    /// What it named dead, for the store to delete.
    pub dead: Vec<Dead>,
}

/// The log keys of the trust file in force, its first one first, and the number of that file; 0 before the first.
#[derive(Clone, Debug)]
struct Keys {
    trust_file: u64,
    log_keys: Vec<VerifyingKey>,
}

impl Keys {
    /// Those that are in force after this batch; none if it does not change them.
    fn named_by(batch: &Batch, store: &dyn Store) -> Result<Option<Self>, TrustError> {
        batch.trust_file().map(|(number, digest)| Self::of(number, digest, store)).transpose()
    }

    /// Those of this trust file.
    fn of(number: u64, digest: Digest, store: &dyn Store) -> Result<Self, TrustError> {
        let file = trust::read_named(store, number, digest)?;
        Ok(Self { trust_file: number, log_keys: file.trust().log_keys.clone() })
    }

    fn in_force(&self) -> VerifyingKey {
        self.log_keys[0]
    }
}

/// The chain, and the right to continue it.
pub struct Journal {
    store: Arc<dyn Store>,
    log_key: SigningKey,
    keys: Keys,
    chain: Chain,
    last: Option<SignedHead>,
    incarnation: u64,
    unsettled: Option<(Batch, Option<Keys>)>,
    lost: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Journal up to batch {}, incarnation {}", self.chain.len(), self.incarnation)
    }
}

impl Journal {
    /// Puts these acts as the next batch, in order. On success they are facts.
    pub fn append(&mut self, acts: Vec<Act>) -> Result<Appended, JournalError> {
        let number = self.chain.next_number();
        if self.lost || self.unsettled.is_some() {
            return self.refuse(number);
        }
        self.refuse_a_former_key()?;
        let mut next = self.chain.next_batch(self.incarnation);
        for act in acts {
            next.push(act).map_err(JournalError::Record)?;
        }
        let batch = next.sign(&self.log_key).map_err(JournalError::Record)?;
        let named = Keys::named_by(&batch, self.store.as_ref())?;
        self.put(batch, named)
    }

    /// Finds out what became of a batch whose put had no known outcome. Call it before [`Journal::append`]; what it
    /// returns is a fact that was not applied yet.
    pub fn settle(&mut self) -> Result<Option<Appended>, JournalError> {
        if self.lost {
            return Err(JournalError::LostOwnership { number: self.chain.next_number() });
        }
        match self.unsettled.take() {
            None => Ok(None),
            Some((batch, named)) => match self.put(batch, named) {
                Ok(appended) => Ok(Some(appended)),
                Err(JournalError::NotWritten { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    fn refuse(&self, number: u64) -> Result<Appended, JournalError> {
        match self.lost {
            true => Err(JournalError::LostOwnership { number }),
            false => {
                let source = StoreError::NotFound { object: ObjectName::journal(number) };
                Err(JournalError::Unknown { number, source: Unsettled { absent: false, source } })
            }
        }
    }

    /// A batch that a former log key signed would be an object that no reader takes.
    fn refuse_a_former_key(&self) -> Result<(), JournalError> {
        match self.log_key.verifying_key() == self.chain.log_key() {
            true => Ok(()),
            false => Err(JournalError::FormerKey { trust_file: self.keys.trust_file }),
        }
    }

    fn put(&mut self, batch: Batch, named: Option<Keys>) -> Result<Appended, JournalError> {
        let number = batch.signed_head().head().number;
        match put_settled(self.store.as_ref(), &ObjectName::journal(number), &batch.to_bytes()) {
            Ok(Settled::There) => {
                let broken = |source| JournalError::Broken { number, source };
                self.chain.append(batch.signed_head()).map_err(broken)?;
                if let Some(named) = named {
                    self.chain.set_log_key(named.in_force());
                    self.keys = named;
                }
                self.last = Some(*batch.signed_head());
                // Never before the first: a copy alone would make a fact of what was not written.
                add_copy(self.store.as_ref(), &ObjectName::journal(number), batch.to_bytes().into());
                Ok(Appended { dead: Dead::named_by(&batch), batch })
            }
            Ok(Settled::Other) => {
                self.lost = true;
                tracing::error!(number, "another coordinator has taken over this repository");
                Err(JournalError::LostOwnership { number })
            }
            Err(source) if source.absent => Err(JournalError::NotWritten { number, source }),
            Err(source) => {
                self.unsettled = Some((batch, named));
                Err(JournalError::Unknown { number, source })
            }
        }
    }

    /// Whether nobody knows yet what became of the last batch.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Whether another coordinator has taken over.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The incarnation that this process writes under.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The number of the last batch; 0 before the first.
    pub fn len(&self) -> u64 {
        self.chain.len()
    }

    /// Whether there is no batch yet.
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// The sequence that the next record will have.
    pub fn next_sequence(&self) -> u64 {
        self.chain.next_sequence()
    }

    /// The last head, signed; none before the first batch.
    pub fn head(&self) -> Option<&SignedHead> {
        self.last.as_ref()
    }

    /// The keys under which packs and old heads verify, the one in force first.
    pub fn log_keys(&self) -> &[VerifyingKey] {
        &self.keys.log_keys
    }

    /// The hash of the head of this batch; none if there is no such batch yet.
    pub fn hash(&self, number: u64) -> Option<Digest> {
        let place = usize::try_from(number.checked_sub(1)?).ok()?;
        self.hashes().get(place).copied()
    }

    /// The hashes of all heads, from that of the first batch on.
    pub fn hashes(&self) -> &[Digest] {
        self.chain.hashes()
    }

    /// A batch of this journal, from either copy.
    pub fn batch(&self, number: u64) -> Result<Batch, JournalError> {
        let hash = self.hash(number);
        let is_ours = |batch: &Batch| match Some(batch.signed_head().hash()) == hash {
            true => Ok(()),
            false => Err(FormatError::Broken { what: "batch", check: "that it is one of this journal" }),
        };
        let missing = JournalError::Cut { missing: number, later: self.len() };
        read_checked(self.store.as_ref(), number, is_ours)?.ok_or(missing)
    }

    /// Where a head that an agent shows stands in this journal; an error if nobody here ever signed it.
    pub fn standing(&self, shown: &SignedHead) -> Result<Standing, FormatError> {
        let standing = self.chain.standing(shown);
        // A head that is not ours yet can only be one that the key in force signed: former ones sign nothing new.
        match standing {
            Standing::Ahead => shown.verify(&[self.chain.log_key()])?,
            Standing::Known | Standing::Forked => shown.verify(self.log_keys())?,
        }
        Ok(standing)
    }
}

/// The batch of this number; none if it is certainly not there.
pub fn read_batch(store: &dyn Store, number: u64) -> Result<Option<Batch>, JournalError> {
    read_checked(store, number, |_| Ok(()))
}

/// The batch of this number that passes the check, from either copy; none if there is certainly none.
fn read_checked(
    store: &dyn Store,
    number: u64,
    mut check: impl FnMut(&Batch) -> Result<(), FormatError>,
) -> Result<Option<Batch>, JournalError> {
    let read = read_either(store, &ObjectName::journal(number), |bytes| {
        let batch = parse_batch(bytes, number)?;
        check(&batch).map(|()| batch)
    });
    match read {
        Ok(Ok(batch)) => Ok(Some(batch)),
        Ok(Err(source)) => Err(JournalError::Broken { number, source }),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A batch that has this number.
pub fn parse_batch(bytes: &[u8], number: u64) -> Result<Batch, FormatError> {
    let batch = Batch::parse(bytes)?;
    let found = batch.signed_head().head().number;
    match found == number {
        true => Ok(batch),
        false => Err(FormatError::field("batch", "number", found, number)),
    }
}
