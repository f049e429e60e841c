//! The newest signed journal head that this host saw (TRUST section 10).
//!
//! A coordinator whose journal does not extend it was rolled back, or is another one. The agent goes on adding
//! backups, and obeys no restore order, until operators sign which history holds (INV-53).

use super::{StateDir, StateError};
use lifeboat_format::FormatError;
use lifeboat_format::journal::SignedHead;
use lifeboat_format::sign::{Signature, VerifyingKey};
use lifeboat_proto::convert::UncheckedHead;
use std::sync::{Mutex, PoisonError};

const FILE: &str = "head";

/// Keeps the newest head, and tells when a coordinator shows one that does not fit.
#[derive(Debug)]
pub struct HeadKeeper {
    state: StateDir,
    log_keys: Vec<VerifyingKey>,
    newest: Mutex<Option<SignedHead>>,
}

impl HeadKeeper {
    /// Begins with the head that the state directory holds. `log_keys` are those of the trust file.
    pub fn open(state: &StateDir, log_keys: Vec<VerifyingKey>) -> Result<Self, StateError> {
        let path = state.path().join(FILE);
        let damaged = |source: FormatError| StateError::Damaged { path: path.clone(), source: source.into() };
        let newest = match state.read_secret(FILE)? {
            None => None,
            Some(bytes) => Some(parse(&bytes).map_err(damaged)?),
        };
        Ok(Self { state: state.clone(), log_keys, newest: Mutex::new(newest) })
    }

    /// The newest head, to be shown to the coordinator.
    pub fn newest(&self) -> Option<UncheckedHead> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest
            .as_ref()
            .map(|head| UncheckedHead { head: head.head_bytes().into(), signature: *head.signature().as_bytes() })
    }

    /// Takes a head that the coordinator showed. A head that does not extend the one we hold is not kept: the newer
    /// one stays as the proof, and the return value says that the histories part.
    pub fn take(&self, shown: &UncheckedHead) -> Result<Verdict, StateError> {
        let checked = SignedHead::parse(&shown.head, &shown.signature)
            .and_then(|head| head.verify(&self.log_keys).map(|()| head));
        let head = match checked {
            Ok(head) => head,
            Err(error) => return Ok(Verdict::Forged(error)),
        };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = newest.as_ref() {
            if *held == head {
                return Ok(Verdict::Fits);
            }
            if let Err(error) = held.may_give_way_to(&head) {
                return Ok(Verdict::Parts(error));
            }
        }
        self.state.write_secret(FILE, &[&shown.head[..], &shown.signature].concat())?;
        *newest = Some(head);
        Ok(Verdict::Fits)
    }
}

/// What a shown head means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one we hold, or comes after it.
    Fits,
    /// It does not extend what we saw: rolled back, or forked.
    Parts(FormatError),
    /// It is not signed by a log key of the trust file.
    Forged(FormatError),
}

fn parse(bytes: &[u8]) -> Result<SignedHead, FormatError> {
    match bytes.split_last_chunk::<{ Signature::BYTES }>() {
        Some((head, signature)) => SignedHead::parse(head, signature),
        None => Err(FormatError::Truncated { what: "journal head", field: "signature" }),
    }
}
