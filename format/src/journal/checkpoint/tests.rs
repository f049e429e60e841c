//! What a checkpoint holds is read back, and whatever was changed in it is found.

use super::state::{Named, PackRow, RefusedAgentRow};
use super::*;
use crate::codec::Decoder;
use crate::id::{HostId, PackId, RepositoryId};
use crate::journal::event::{Custody, Holds};
use crate::journal::{Act, Decision, Event, Principal};
use proptest::prelude::*;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn act() -> Act {
    let (verb, object) = ("test".into(), "test".into());
    let (principal, decision) = (Principal::Coordinator, Decision::Done);
    Act { time_ns: 1, principal, verb, object, decision, event: Event::Nothing }
}

/// A chain of some batches, each with two records, and the head of the last one.
fn chain_of(batches: u64) -> (Chain, SignedHead) {
    let mut chain = Chain::start(RepositoryId::from_bytes([7; 16]), key(1).verifying_key());
    let mut head = None;
    for _ in 0..batches {
        let mut builder = chain.next_batch(3);
        builder.push(act()).unwrap();
        builder.push(act()).unwrap();
        let batch = builder.sign(&key(1)).unwrap();
        chain.append(batch.signed_head()).unwrap();
        head = Some(*batch.signed_head());
    }
    (chain, head.unwrap())
}

fn state(applied: u64) -> State {
    let named = Named { number: 1, hash: Digest::of(b"trust") };
    State {
        applied,
        custody: Some(Custody::Managed),
        trust_file: Some(named),
        scopes: Rows(Vec::new()),
        tokens: Rows(Vec::new()),
        hosts: Rows(Vec::new()),
        snapshots: Rows(Vec::new()),
        source_sets: Rows(Vec::new()),
        packs_ever: 2,
        packs: Rows(vec![PackRow { place: 2, pack: PackId::from_bytes([2; 32]), holds: Holds::Nodes }]),
        dead: Rows(vec![PackId::from_bytes([1; 32])]),
        losses: Rows(Vec::new()),
        grants: Rows(Vec::new()),
        diverged: Rows(Vec::new()),
        given_up: Rows(vec![named]),
        refused_enrolments: Rows(Vec::new()),
        refused_agents: Rows(vec![RefusedAgentRow { host: HostId::new(1), count: 2, last_ns: 3 }]),
        checkpoints: Rows(Vec::new()),
    }
}

fn sample() -> Vec<u8> {
    let (chain, head) = chain_of(3);
    Checkpoint::to_bytes(&head, chain.hashes().to_vec(), &state(6), &key(1)).unwrap()
}

#[test]
fn inv_75_the_chain_continues_from_a_checkpoint_as_from_all_batches() {
    let (whole, head) = chain_of(3);
    let checkpoint = Checkpoint::parse(&sample()).unwrap();
    assert!(checkpoint.verify(&key(1).verifying_key()).is_ok());
    assert_eq!((checkpoint.head(), checkpoint.trust_file()), (&head, Ok((1, Digest::of(b"trust")))));
    let (mut chain, restored) = checkpoint.into_parts(key(1).verifying_key());
    assert_eq!(restored, state(6));
    assert_eq!(chain.hashes(), whole.hashes());
    assert_eq!((chain.next_sequence(), chain.incarnation()), (whole.next_sequence(), whole.incarnation()));
    let mut next = whole.next_batch(3);
    next.push(act()).unwrap();
    chain.append(next.sign(&key(1)).unwrap().signed_head()).unwrap();
}

#[test]
fn inv_75_every_changed_byte_of_a_checkpoint_is_found() {
    let good = sample();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(Checkpoint::parse(&changed).is_err(), "byte {at}");
    }
    for kept in 0..good.len() {
        assert!(Checkpoint::parse(&good[..kept]).is_err(), "cut after {kept}");
    }
    assert!(Checkpoint::parse(&[&good[..], &[0]].concat()).is_err());
}

#[test]
fn inv_75_a_checkpoint_that_another_key_signed_is_refused() {
    let (chain, head) = chain_of(3);
    let forged = Checkpoint::to_bytes(&head, chain.hashes().to_vec(), &state(6), &key(2)).unwrap();
    let forged = Checkpoint::parse(&forged).unwrap();
    for seed in [1, 2] {
        assert!(forged.verify(&key(seed).verifying_key()).is_err(), "head and checkpoint are of different keys");
    }
    let mut bytes = sample();
    let body = bytes.len() - Digest::BYTES;
    bytes.truncate(body);
    bytes[body - 1] ^= 1;
    let resealed = Checkpoint::parse(&layout::with_digest(bytes)).unwrap();
    assert!(resealed.verify(&key(1).verifying_key()).is_err(), "a digest can be made by anybody");
}

#[test]
fn inv_75_a_state_of_another_batch_than_the_head_is_refused() {
    let (chain, head) = chain_of(3);
    let hashes = || chain.hashes().to_vec();
    let write = |hashes, applied| Checkpoint::to_bytes(&head, hashes, &state(applied), &key(1));
    assert!(write(hashes(), 6).is_ok());
    assert!(write(hashes(), 5).is_err());
    assert!(write(hashes()[..2].to_vec(), 6).is_err());
    assert!(write(vec![Digest::of(b"another head"); 3], 6).is_err());
}

proptest! {
    #[test]
    fn inv_09_no_bytes_make_a_checkpoint_panic(bytes: Vec<u8>) {
        let _ = Checkpoint::parse(&bytes);
        let _ = Checkpoint::parse(&layout::with_digest([&[0; 64], &bytes[..]].concat()));
        let _ = State::take(&mut Decoder::new("state", &bytes), "state");
    }
}
