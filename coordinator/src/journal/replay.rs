//! How a journal is opened: from the newest checkpoint that holds, else from the first batch (INV-75).
//!
//! Every batch that is read is checked against the one before it, signature included. Batches up to the checkpoint are
//! not read: [`Journal::batch`] checks each when it is needed, and `verify` reads all of them.

use super::checkpoint::{self, CheckpointError, Loaded};
use super::{Journal, JournalError, Keys, read_checked};
use crate::catalog::{Catalog, CatalogError};
use crate::store::twice::add_copy;
use crate::store::{ObjectKind, ObjectName, Store};
use crate::watch::Watch;
use lifeboat_format::FormatError;
use lifeboat_format::id::{Digest, RepositoryId};
use lifeboat_format::journal::{Batch, Chain, Event, SignedHead};
use lifeboat_format::sign::SigningKey;
use std::sync::Arc;

/// A journal that was read, and what it says.
#[derive(Debug)]
pub struct Opened {
    /// The journal, to be continued.
    pub journal: Journal,
    /// What all its records say.
    pub catalog: Catalog,
    /// The checkpoint from which it was read: the last batch that this includes. 0 if all batches were read.
    pub checkpoint: u64,
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The journal itself.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its records are not what this release understands.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a journal could not be opened from one checkpoint.
enum NotFrom {
    /// The checkpoint is to blame: another one, or all batches, may do.
    Checkpoint(CheckpointError),
    /// The journal is to blame.
    Journal(JournalError),
}

/// Opens the journal, which may be empty. The trust files that the batches name must be objects of the store: each batch
/// is signed by the log key in force. Writes nothing but missing second copies.
pub fn open(
    store: &Arc<dyn Store>,
    repository: RepositoryId,
    log_key: &SigningKey,
    watch: &Watch,
) -> Result<Opened, ReplayError> {
    for name in checkpoint::newest_first(store.as_ref()) {
        watch.check().map_err(JournalError::from)?;
        match open_from(&name, store, repository, log_key, watch) {
            Ok(opened) => return Ok(opened),
            Err(NotFrom::Journal(error)) => return Err(error.into()),
            Err(NotFrom::Checkpoint(error)) => {
                let why = lifeboat_proto::status::with_causes(&error);
                tracing::warn!(checkpoint = %name, %why, "this journal checkpoint is not used; more batches are read");
            }
        }
    }
    let mut replay = Replay::from_the_first(store.as_ref(), repository, log_key, watch)?;
    while replay.next()?.is_some() {}
    Ok(replay.finish(store, log_key, 0)?)
}

fn open_from(
    name: &ObjectName,
    store: &Arc<dyn Store>,
    repository: RepositoryId,
    log_key: &SigningKey,
    watch: &Watch,
) -> Result<Opened, NotFrom> {
    let loaded = checkpoint::load(store.as_ref(), repository, name).map_err(NotFrom::Checkpoint)?;
    let (number, digest) = (loaded.number, loaded.digest);
    let mut replay = Replay::from_checkpoint(store.as_ref(), watch, loaded).map_err(NotFrom::Checkpoint)?;
    let mut is_named = false;
    loop {
        match replay.next() {
            Ok(Some(batch)) => is_named |= names(&batch, number, digest),
            Ok(None) => break,
            Err(ReplayError::Journal(error @ JournalError::Interrupted(_))) => return Err(NotFrom::Journal(error)),
            Err(ReplayError::Journal(error)) if is_named => return Err(NotFrom::Journal(error)),
            Err(error) => return Err(NotFrom::Checkpoint(CheckpointError::NotContinued(error.into()))),
        }
    }
    // A hole behind the checkpoint is one without it too.
    refuse_a_cut(store.as_ref(), replay.chain.next_number()).map_err(NotFrom::Journal)?;
    match is_named {
        true => replay.finish(store, log_key, number).map_err(NotFrom::Journal),
        false => Err(NotFrom::Checkpoint(CheckpointError::NotNamed)),
    }
}

fn names(batch: &Batch, number: u64, digest: Digest) -> bool {
    let named = Event::JournalCheckpoint { number, digest };
    batch.records().iter().any(|record| record.act.event == named)
}

/// A reading of batches, one after the other.
struct Replay<'r> {
    store: &'r dyn Store,
    watch: &'r Watch,
    chain: Chain,
    keys: Keys,
    last: Option<SignedHead>,
    catalog: Catalog,
}

impl<'r> Replay<'r> {
    fn from_the_first(
        store: &'r dyn Store,
        repository: RepositoryId,
        log_key: &SigningKey,
        watch: &'r Watch,
    ) -> Result<Self, JournalError> {
        let keys = Keys { trust_file: 0, log_keys: vec![log_key.verifying_key()] };
        let mut chain = Chain::start(repository, keys.in_force());
        let is_ours = |first: &Batch| match first.signed_head().head().repository == repository {
            true => Ok(()),
            false => Err(FormatError::Broken { what: "batch", check: "that it is of this repository" }),
        };
        if let Some(first) = read_checked(store, 1, is_ours)? {
            // The first batch names the trust file whose key signs it.
            let named = Keys::named_by(&first, store)?;
            named.iter().for_each(|named| chain.set_log_key(named.in_force()));
        }
        Ok(Self { store, watch, chain, keys, last: None, catalog: Catalog::new() })
    }

    fn from_checkpoint(store: &'r dyn Store, watch: &'r Watch, loaded: Loaded) -> Result<Self, CheckpointError> {
        let Loaded { checkpoint, keys, .. } = loaded;
        let last = Some(*checkpoint.head());
        let (chain, state) = checkpoint.into_parts(keys.in_force());
        let catalog = Catalog::from_state(state).ok_or(CheckpointError::Twice)?;
        Ok(Self { store, watch, chain, keys, last, catalog })
    }

    /// Reads, checks and applies the next batch; none if there is none.
    fn next(&mut self) -> Result<Option<Batch>, ReplayError> {
        let number = self.chain.next_number();
        self.watch.batch(number).map_err(JournalError::from)?;
        let chain = &mut self.chain;
        let follows = |batch: &Batch| chain.append(batch.signed_head());
        let Some(batch) = read_checked(self.store, number, follows)? else { return Ok(None) };
        if let Some(named) = Keys::named_by(&batch, self.store).map_err(JournalError::from)? {
            self.chain.set_log_key(named.in_force());
            self.keys = named;
        }
        self.last = Some(*batch.signed_head());
        batch.records().iter().try_for_each(|record| self.catalog.apply(record))?;
        Ok(Some(batch))
    }

    fn finish(self, store: &Arc<dyn Store>, log_key: &SigningKey, checkpoint: u64) -> Result<Opened, JournalError> {
        refuse_a_cut(self.store, self.chain.next_number())?;
        if let Some(last) = &self.last {
            complete_last(self.store, last);
        }
        let Self { chain, keys, last, catalog, .. } = self;
        let (store, log_key, incarnation) = (store.clone(), log_key.clone(), chain.incarnation() + 1);
        let journal = Journal { store, log_key, keys, chain, last, incarnation, unsettled: None, lost: false };
        journal.refuse_a_former_key()?;
        Ok(Opened { journal, catalog, checkpoint })
    }
}

/// Writes the second copy of the last batch if it is missing: a process that was killed between both leaves it out.
fn complete_last(store: &dyn Store, last: &SignedHead) {
    let number = last.head().number;
    let name = ObjectName::journal(number);
    let is_last = |batch: &Batch| match batch.signed_head() == last {
        true => Ok(()),
        false => Err(FormatError::Broken { what: "batch", check: "that it is the last one" }),
    };
    if store.size(&name.copy()).is_err_and(|error| error.is_not_found())
        && let Ok(Some(batch)) = read_checked(store, number, is_last)
    {
        add_copy(store, &name, batch.to_bytes().into());
    }
}

/// A listing adds: if it has a batch beyond the end, the end is a hole.
fn refuse_a_cut(store: &dyn Store, missing: u64) -> Result<(), JournalError> {
    match store.greatest_number(ObjectKind::Journal)? {
        Some(later) if later >= missing => Err(JournalError::Cut { missing, later }),
        _ => Ok(()),
    }
}
