//! Reads a journal that lacks batches, as far as it is intact: to list and to restore, on a store that forgets what is
//! written.
//!
//! A batch shows by itself whether it is intact: its digest and its signature. Behind a gap the link to the batch before
//! cannot be checked, and the log key in force is not known if a missing batch named another one: any known one will do.

use super::{Journal, JournalError, Keys, read_checked};
use crate::store::{ObjectKind, Store};
use lifeboat_format::id::RepositoryId;
use lifeboat_format::journal::{Batch, Chain};
use lifeboat_format::sign::{SigningKey, VerifyingKey};
use std::sync::Arc;

/// How many batches behind the last listed one are looked for: a listing may lack those that cannot be read.
const UNLISTED_MAX: u64 = 16;

impl Journal {
    /// Shows each intact batch to `replay`, and names the others in the log. The next batch has a number behind all of
    /// them. Writes nothing.
    pub fn open_despite_gaps(
        store: Arc<dyn Store>,
        repository: RepositoryId,
        log_key: SigningKey,
        mut replay: impl FnMut(&Batch),
    ) -> Result<Self, JournalError> {
        let own = log_key.verifying_key();
        let mut keys = Keys { trust_file: 0, log_keys: vec![own] };
        let mut in_force: Option<VerifyingKey> = None;
        let mut chain = Chain::start(repository, own);
        let mut last = None;
        let listed = store.greatest_number(ObjectKind::Journal)?.unwrap_or(0);
        let mut number = 0;
        loop {
            number += 1;
            let fits = |batch: &Batch| {
                // The first batch names the trust file whose key signs it.
                let named = if number == 1 { Keys::named_by(batch, store.as_ref()).ok().flatten() } else { None };
                let known = keys.log_keys.iter().copied().chain([own]).chain(named.map(|named| named.in_force()));
                let known = in_force.map_or_else(|| known.collect(), |key| vec![key]);
                chain.check_after_gap(batch.signed_head(), &known)
            };
            let batch = match read_checked(store.as_ref(), number, fits) {
                Ok(Some(batch)) => batch,
                Ok(None) if number > listed => break,
                Err(_) if number > listed + UNLISTED_MAX => break,
                Ok(None) | Err(_) => {
                    tracing::error!(number, "no copy of this journal batch is intact; what it alone says is lost");
                    in_force = None;
                    continue;
                }
            };
            chain.append_after_gap(batch.signed_head());
            last = Some(*batch.signed_head());
            match Keys::named_by(&batch, store.as_ref()) {
                Ok(Some(named)) => {
                    in_force = Some(named.in_force());
                    keys = named;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(number, %error, "a trust file that the journal names is not intact");
                    in_force = None;
                }
            }
            replay(&batch);
        }
        chain.skip_to(number - 1);
        // What this process writes is forgotten, and signed by the key that it has.
        chain.set_log_key(own);
        let incarnation = chain.incarnation() + 1;
        Ok(Self { store, log_key, keys, chain, last, incarnation, unsettled: None, lost: false })
    }
}
