//! Journal checkpoints as objects: put, read, and removed when newer ones are there (INV-75).
//!
//! A checkpoint is derived data. It counts if it is intact, signed by the log key in force, of this repository, does not
//! contradict the batch that it ends with, and is named by a later batch; otherwise more batches are read. So nothing
//! that is put or removed here can change what the journal says.

use super::{Dead, Journal, Keys, ReplayError, read_batch};
use crate::store::{Body, ByteRange, ObjectKind, ObjectName, Put, Store, StoreError};
use crate::trust::TrustError;
use lifeboat_format::FormatError;
use lifeboat_format::id::{Digest, RepositoryId};
use lifeboat_format::journal::checkpoint::{CHECKPOINT_BYTES_MAX, State};
use lifeboat_format::journal::{Checkpoint, SignedHead};
use lifeboat_format::sign::SigningKey;
use lifeboat_proto::status::with_causes;
use std::io::Write;

/// Why a checkpoint is of no use, or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed, or has no such object.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is corrupt, or not signed by the log key in force.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The trust file in force could not be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A table of it has a key twice.
    #[error("it has a row twice")]
    Twice,
    /// The batch with which it ends is another one.
    #[error("journal batch {number} is not the one with which it ends")]
    OtherBatch {
        /// The number of that batch.
        number: u64,
    },
    /// The batches after it do not continue from it.
    #[error("the journal does not continue from it")]
    NotContinued(#[source] Box<ReplayError>),
    /// No batch names it: it was put just before a crash, or by a stranger.
    #[error("no journal batch names it")]
    NotNamed,
    /// Another object has its name.
    #[error("another object has its name")]
    Taken,
}

/// A checkpoint that is intact, and signed by the log key in force.
pub(super) struct Loaded {
    pub(super) checkpoint: Checkpoint,
    /// The last batch that its state includes.
    pub(super) number: u64,
    /// Of the whole object.
    pub(super) digest: Digest,
    /// The log keys in force after that batch.
    pub(super) keys: Keys,
}

/// The checkpoints that are listed, newest first. A listing that fails costs time: then all batches are read.
pub fn newest_first(store: &dyn Store) -> Vec<ObjectName> {
    match store.list(ObjectKind::Checkpoint) {
        Ok(names) => names.into_iter().rev().collect(),
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "cannot list the journal checkpoints; all batches are read");
            Vec::new()
        }
    }
}

/// Reads a checkpoint and checks all of it that can be checked without the batches before.
pub(super) fn load(store: &dyn Store, repository: RepositoryId, name: &ObjectName) -> Result<Loaded, CheckpointError> {
    let bytes = store.size(name)?;
    if bytes > CHECKPOINT_BYTES_MAX {
        return Err(FormatError::field("journal checkpoint", "length", bytes, "at most 2 GiB").into());
    }
    let bytes = store.get(name, ByteRange::Whole)?;
    let (checkpoint, digest) = (Checkpoint::parse(&bytes)?, Digest::of(&bytes));
    drop(bytes);
    let head = checkpoint.head().head();
    if head.repository != repository {
        return Err(FormatError::field("journal checkpoint", "repository", head.repository, repository).into());
    }
    let number = head.number;
    if name.as_number() != Some(number) {
        return Err(FormatError::field("journal checkpoint", "number", number, name.name()).into());
    }
    let (trust_file, trust_digest) = checkpoint.trust_file()?;
    let keys = Keys::of(trust_file, trust_digest, store)?;
    checkpoint.verify(&keys.in_force())?;
    refuse_another_batch(store, checkpoint.head())?;
    Ok(Loaded { checkpoint, number, digest, keys })
}

/// The batch with which it ends may be damaged or gone; if there is an intact one, it is that.
fn refuse_another_batch(store: &dyn Store, last: &SignedHead) -> Result<(), CheckpointError> {
    let number = last.head().number;
    match read_batch(store, number) {
        Ok(Some(batch)) if batch.signed_head() != last => Err(CheckpointError::OtherBatch { number }),
        _ => Ok(()),
    }
}

/// A checkpoint that is to be written, as of the journal's last batch.
pub struct Draft {
    head: SignedHead,
    hashes: Vec<Digest>,
    state: State,
    log_key: SigningKey,
}

impl Draft {
    /// The last batch that it includes.
    pub fn number(&self) -> u64 {
        self.head.head().number
    }

    /// Encodes, signs and puts it. Answers its digest: it counts from the batch on that names this.
    pub fn put(self, store: &dyn Store) -> Result<Digest, CheckpointError> {
        let Self { head, hashes, state, log_key } = self;
        let bytes = Checkpoint::to_bytes(&head, hashes, &state, &log_key)?;
        drop(state);
        let (name, digest) = (ObjectName::checkpoint(head.head().number), Digest::of(&bytes));
        // By a file, as packs: what a full disk keeps free is for objects that cannot be made again.
        let mut file = store.spool()?;
        file.write_all(&bytes).map_err(|error| StoreError::io("write", name.path(), error))?;
        match store.put(&name, Body::Spooled(file))? {
            Put::Done => Ok(digest),
            // Put before, by a process that was killed, or by a coordinator with another history.
            Put::Taken => Err(CheckpointError::Taken),
        }
    }
}

impl Journal {
    /// A checkpoint with this state, which is that of all records so far; none if a log key is in force that is not
    /// ours, or there is no batch yet.
    pub fn draft_checkpoint(&self, state: State) -> Option<Draft> {
        let is_last = state.applied + 1 == self.next_sequence();
        let may_write = is_last && !self.lost && self.unsettled.is_none() && self.refuse_a_former_key().is_ok();
        let head = self.last.filter(|_| may_write)?;
        Some(Draft { head, hashes: self.chain.hashes().to_vec(), state, log_key: self.log_key.clone() })
    }
}

/// What is in a checkpoint that is intact and signed, for a comparison.
pub struct Inspected {
    /// The last batch that it includes.
    pub number: u64,
    /// The hash of the head of that batch.
    pub head: Digest,
    /// The digest of the state.
    pub state: Digest,
    /// The digest of the whole object.
    pub object: Digest,
}

/// Reads a checkpoint to compare it.
pub fn inspect(store: &dyn Store, repository: RepositoryId, name: &ObjectName) -> Result<Inspected, CheckpointError> {
    let Loaded { checkpoint, number, digest: object, .. } = load(store, repository, name)?;
    Ok(Inspected { number, head: checkpoint.head().hash(), state: checkpoint.state().digest(), object })
}

/// Removes all checkpoints but those of these numbers. A failure leaves one that is not needed.
pub fn remove_others(store: &dyn Store, kept: &[u64]) {
    for name in newest_first(store) {
        if name.as_number().is_some_and(|number| kept.contains(&number)) {
            continue;
        }
        if let Err(error) = store.delete(Dead(name.clone())) {
            tracing::warn!(checkpoint = %name, error = %with_causes(&error), "an old journal checkpoint was not removed");
        }
    }
}
