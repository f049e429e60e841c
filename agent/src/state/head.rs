//! The newest signed journal head that this host saw.
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lifeboat_format::id::RepositoryId;
    use lifeboat_format::journal::Chain;
    use lifeboat_format::journal::event::Event;
    use lifeboat_format::journal::record::{Act, Decision, Principal};
    use lifeboat_format::sign::SigningKey;

    /// The log key of [`journal`].
    pub fn log_key() -> SigningKey {
        SigningKey::from_seed(&[5; 32])
    }

    /// The heads of a journal in which these things were done, one a batch.
    pub fn journal(objects: &[&str]) -> Vec<UncheckedHead> {
        let mut chain = Chain::start(RepositoryId::from_bytes([7; 16]));
        let mut batch_of = |object: &&str| {
            let mut batch = chain.next_batch(1);
            let (verb, object) = ("test".to_owned(), (*object).to_owned());
            let (principal, decision, event) = (Principal::Coordinator, Decision::Done, Event::Nothing);
            batch.push(Act { time_ns: 1, principal, verb, object, decision, event }).unwrap();
            let signed = *batch.sign(&log_key()).unwrap().signed_head();
            chain.append(&signed, &[log_key().verifying_key()]).unwrap();
            UncheckedHead { head: signed.head_bytes().into(), signature: *signed.signature().as_bytes() }
        };
        objects.iter().map(&mut batch_of).collect()
    }

    #[test]
    fn inv_53_a_coordinator_that_was_rolled_back_or_forked_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let keeper = || HeadKeeper::open(&state, vec![log_key().verifying_key()]).unwrap();
        let (heads, fork) = (journal(&["a", "b", "c"]), journal(&["a", "b", "other"]));
        assert_eq!(keeper().newest(), None);
        for head in &heads {
            assert_eq!(keeper().take(head).unwrap(), Verdict::Fits);
        }
        assert!(matches!(keeper().take(&heads[0]).unwrap(), Verdict::Parts(_)), "rolled back");
        assert!(matches!(keeper().take(&fork[2]).unwrap(), Verdict::Parts(_)), "forked");
        let forged = UncheckedHead { signature: [9; 64], ..heads[2].clone() };
        assert!(matches!(keeper().take(&forged).unwrap(), Verdict::Forged(_)));
        assert_eq!(keeper().newest().as_ref(), Some(&heads[2]), "the newest head is kept as the proof");
    }
}
