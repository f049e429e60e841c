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
    log_key: VerifyingKey,
    newest: Mutex<Option<SignedHead>>,
}

impl HeadKeeper {
    /// Begins with the head that the state directory holds. `log_key` is the first one of the newest trust file: the
    /// others are former ones, and sign no new head.
    pub fn open(state: &StateDir, log_key: VerifyingKey) -> Result<Self, StateError> {
        let path = state.path().join(FILE);
        let damaged = |source: FormatError| StateError::Damaged { path: path.clone(), source: source.into() };
        let newest = match state.read_secret(FILE)? {
            None => None,
            Some(bytes) => Some(parse(&bytes).map_err(damaged)?),
        };
        Ok(Self { state: state.clone(), log_key, newest: Mutex::new(newest) })
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
            .and_then(|head| head.verify(&[self.log_key]).map(|()| head));
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
                self.keep_proof(held, &head)?;
                return Ok(Verdict::Parts(error));
            }
        }
        self.state.write_secret(FILE, &[&shown.head[..], &shown.signature].concat())?;
        *newest = Some(head);
        Ok(Verdict::Fits)
    }
}

/// The head that we held and the first one that did not extend it. A later head may take the place of ours once its
/// number is far enough above, since heads alone do not show what lies between; the two stay for people to look at.
const PROOF_FILE: &str = "heads-parted";

impl HeadKeeper {
    fn keep_proof(&self, held: &SignedHead, shown: &SignedHead) -> Result<(), StateError> {
        if self.state.read_secret(PROOF_FILE)?.is_some() {
            return Ok(());
        }
        let bytes = [held, shown].map(|head| [&head.head_bytes()[..], head.signature().as_bytes()].concat());
        self.state.write_secret(PROOF_FILE, &bytes.concat())
    }
}

/// What a shown head means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one we hold, or comes after it.
    Fits,
    /// It does not extend what we saw: rolled back, or forked.
    Parts(FormatError),
    /// It is not signed by the log key of the trust file that is in force.
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
        journal_signed_by(&log_key(), objects)
    }

    fn journal_signed_by(key: &SigningKey, objects: &[&str]) -> Vec<UncheckedHead> {
        let mut chain = Chain::start(RepositoryId::from_bytes([7; 16]), key.verifying_key());
        let mut batch_of = |object: &&str| {
            let mut batch = chain.next_batch(1);
            let (verb, object) = ("test".to_owned(), (*object).to_owned());
            let (principal, decision, event) = (Principal::Coordinator, Decision::Done, Event::Nothing);
            batch.push(Act { time_ns: 1, principal, verb, object, decision, event }).unwrap();
            let signed = *batch.sign(key).unwrap().signed_head();
            chain.append(&signed).unwrap();
            UncheckedHead { head: signed.head_bytes().into(), signature: *signed.signature().as_bytes() }
        };
        objects.iter().map(&mut batch_of).collect()
    }

    #[test]
    fn inv_53_a_coordinator_that_was_rolled_back_or_forked_is_found_out() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let keeper = || HeadKeeper::open(&state, log_key().verifying_key()).unwrap();
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

    #[test]
    fn inv_53_two_heads_that_part_are_kept_whatever_comes_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let keeper = || HeadKeeper::open(&state, log_key().verifying_key()).unwrap();
        let (heads, fork) = (journal(&["a", "b"]), journal(&["a", "other", "c", "d", "e"]));
        assert_eq!(keeper().take(&heads[1]).unwrap(), Verdict::Fits);
        for head in &fork[..3] {
            assert!(matches!(keeper().take(head).unwrap(), Verdict::Parts(_)));
            assert_eq!(keeper().newest().as_ref(), Some(&heads[1]));
        }
        assert_eq!(keeper().take(&fork[4]).unwrap(), Verdict::Fits, "heads alone do not show what lies between");
        let bytes = |head: &UncheckedHead| [&head.head[..], &head.signature].concat();
        let proof = state.read_secret(PROOF_FILE).unwrap().unwrap();
        assert_eq!(*proof, [bytes(&heads[1]), bytes(&fork[0])].concat());
    }

    #[test]
    fn inv_53_a_head_signed_by_a_former_log_key_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let former = SigningKey::from_seed(&[6; 32]);
        let keeper = HeadKeeper::open(&state, log_key().verifying_key()).unwrap();
        assert!(matches!(keeper.take(&journal_signed_by(&former, &["a"])[0]).unwrap(), Verdict::Forged(_)));
        assert_eq!(keeper.take(&journal(&["a"])[0]).unwrap(), Verdict::Fits);
    }
}
