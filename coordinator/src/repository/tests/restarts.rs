//! Restarts, and the index lost, stale or of another repository (INV-3, 5, 26).

use super::lab::*;
use crate::index::Seen;
use crate::journal::JournalError;
use crate::repository::{Coordinator, OpenError};
use crate::store::{ObjectName, Store};
use lifeboat_format::id::Digest;
use lifeboat_format::journal::Event;
use std::slice::from_ref;

/// Three hosts, some content shared, some in two forms.
fn some_history(coordinator: &Coordinator) {
    let shared: Vec<_> = (0..6).map(chunk).collect();
    back_up(coordinator, A, &shared);
    back_up(coordinator, B, &shared[..4]);
    let mut other: Vec<_> = (3..9).map(chunk).collect();
    other[0] = chunk_in_form(3, 1);
    other[3] = chunk_in_form(6, 1);
    back_up(coordinator, C, &other);
    back_up(coordinator, A, &(0..8).map(chunk).collect::<Vec<_>>());
}

#[test]
fn inv_03_the_rebuilt_index_has_equal_rows_witnesses_included() {
    let mut lab = Lab::new();
    lab.pack_bytes = 1_500;
    let coordinator = lab.open();
    some_history(&coordinator);
    let before = dump(&coordinator);
    assert!(before.values().flatten().any(|body| body.starts_with("0 ")), "something is witnessed");
    assert!(before.values().any(|bodies| bodies.len() == 2), "something has two forms");
    drop(coordinator);
    lab.delete_index();
    let coordinator = lab.open();
    assert_eq!(dump(&coordinator), before);
    restore_all(&coordinator).unwrap();
}

#[test]
fn inv_03_an_index_made_anew_while_the_coordinator_stands_has_equal_rows_and_ends_the_runs() {
    let lab = Lab::new();
    let coordinator = lab.open();
    some_history(&coordinator);
    let run = Agent::begin(&coordinator, B);
    run.send(&[chunk(50)], &[]);
    coordinator.rebuild_index(&mut |_| {}).unwrap();
    assert!(run.try_send(&[chunk(51)], &[]).is_err());
    let before = dump(&coordinator);
    assert!(Agent::begin(&coordinator, B).has(&chunk(50)), "its pack was put, and is in the rows");
    restore_all(&coordinator).unwrap();
    coordinator.rebuild_index(&mut |_| {}).unwrap();
    assert_eq!(dump(&coordinator), before);
    back_up(&coordinator, A, &[chunk(60)]);
}

#[test]
fn inv_03_a_witness_that_came_while_the_pack_was_open_outlives_the_index() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let a = Agent::begin(&coordinator, A);
    let root = node(&[to_chunk(&chunk(0))]);
    a.send(&[chunk(0)], from_ref(&root));
    Agent::begin(&coordinator, B).send(&[chunk(0)], &[]);
    a.commit(&root);
    drop(coordinator);
    lab.delete_index();
    assert!(Agent::begin(&lab.open(), C).has(&chunk(0)));
}

#[test]
fn inv_03_witnesses_that_no_batch_has_yet_are_not_lost_by_a_restart() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0)]);
    Agent::begin(&coordinator, B).send(&[chunk(0)], &[]);
    drop(coordinator);
    let before = dump(&lab.open());
    lab.delete_index();
    let coordinator = lab.open();
    assert_eq!(dump(&coordinator), before);
    assert!(Agent::begin(&coordinator, C).has(&chunk(0)));
}

#[test]
fn inv_26_a_restart_voids_runs_and_drops_open_packs() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let agent = Agent::begin(&coordinator, A);
    agent.send(&[chunk(0)], &[]);
    let caller = agent.caller;
    drop(coordinator);
    let coordinator = lab.open();
    assert!(coordinator.has(caller, &[chunk(0).id]).is_err());
    assert!(!Agent::begin(&coordinator, A).has(&chunk(0)));
    assert_eq!(packs(&lab), []);
}

#[test]
fn a_pack_that_was_put_just_before_a_crash_is_adopted_and_what_is_in_it_need_not_be_sent_again() {
    let mut lab = Lab::new();
    lab.pack_bytes = 400;
    let coordinator = lab.open();
    let agent = Agent::begin(&coordinator, A);
    agent.send(&[chunk(0)], &[]);
    drop(coordinator);
    assert_eq!(packs(&lab).len(), 1, "it was full, so it is an object; no batch names it");
    lab.delete_index();
    let coordinator = lab.open();
    assert_eq!(coordinator.caught_up().adopted.len(), 1);
    assert_eq!(coordinator.catalog(|catalog| catalog.packs().len()), 1);
    assert!(Agent::begin(&coordinator, A).has(&chunk(0)));
}

#[test]
fn an_index_of_another_repository_or_one_that_is_ahead_is_made_anew() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0)]);
    let before = dump(&coordinator);
    let index = &coordinator.shared.index;
    let seen = index.journal_seen().unwrap().unwrap();
    index.set_journal_seen(Seen { number: 1_000, ..seen }).unwrap();
    drop(coordinator);
    let coordinator = lab.open();
    assert_eq!(dump(&coordinator), before);
    coordinator.shared.index.set_journal_seen(Seen { hash: Digest::of(b"another history"), ..seen }).unwrap();
    drop(coordinator);
    let coordinator = lab.open();
    assert_eq!(dump(&coordinator), before);
    coordinator.shared.index.set_repository(lifeboat_format::id::RepositoryId::from_bytes([1; 16])).unwrap();
    drop(coordinator);
    assert_eq!(dump(&lab.open()), before);
}

#[test]
fn inv_05_an_index_that_has_followed_a_pack_which_the_repository_lost_is_made_anew() {
    let mut lab = Lab::new();
    lab.pack_bytes = 400;
    let coordinator = lab.open();
    Agent::begin(&coordinator, A).send(&[chunk(0)], &[]);
    wait_for_open_packs(&coordinator);
    drop(coordinator);
    let no_batch_names_it = packs(&lab);
    lab.objects.damage(&no_batch_names_it[0], None);
    let coordinator = lab.open();
    assert!(!Agent::begin(&coordinator, A).has(&chunk(0)));
    back_up(&coordinator, A, &[chunk(0)]);
    restore_all(&coordinator).unwrap();
}

#[test]
fn inv_52_a_journal_with_a_hole_or_a_changed_batch_is_not_opened() {
    let lab = Lab::new();
    drop(lab.open());
    drop(lab.open());
    let name = ObjectName::journal(2);
    let whole = lab.objects.get(&name, crate::store::ByteRange::Whole).unwrap();
    let damage = |bytes: Option<&[u8]>| {
        [name.clone(), name.copy()]
            .iter()
            .for_each(|copy| lab.objects.damage(copy, bytes.map(|bytes| bytes.to_vec().into())));
    };
    damage(None);
    let cut = lab.try_open(lab.store.clone());
    assert!(matches!(cut, Err(OpenError::Journal(JournalError::Cut { missing: 2, later: 3 }))), "{cut:?}");
    let mut changed = whole.to_vec();
    changed[150] ^= 1;
    damage(Some(&changed));
    let broken = lab.try_open(lab.store.clone());
    assert!(matches!(broken, Err(OpenError::Journal(JournalError::Broken { number: 2, .. }))), "{broken:?}");
}

#[test]
fn each_start_moves_the_epoch_on() {
    let lab = Lab::new();
    let first = lab.open().shared.index.epoch().unwrap();
    assert_eq!(lab.open().shared.index.epoch().unwrap(), first + 1);
}

#[test]
fn inv_77_a_history_that_parted_stays_recorded_until_it_is_given_up() {
    let lab = Lab::new();
    let (number, hash) = (9, Digest::of(b"the head that a host holds"));
    let parted = |coordinator: &Coordinator| coordinator.catalog(|catalog| catalog.diverged().collect::<Vec<_>>());
    lab.open().record(vec![act(Event::HistoryDiverged { host: A, number, hash })]).unwrap();
    let coordinator = lab.open();
    assert_eq!(parted(&coordinator), [(A, number, hash)], "after a restart");
    coordinator.record(vec![act(Event::HistoryAccepted { number, hash: Digest::of(b"another one") })]).unwrap();
    assert_eq!(parted(&coordinator).len(), 1);
    coordinator.record(vec![act(Event::HistoryAccepted { number, hash })]).unwrap();
    drop(coordinator);
    let coordinator = lab.open();
    assert_eq!(parted(&coordinator), []);
    assert!(coordinator.catalog(|catalog| catalog.knows_divergence(A, number, hash)), "it is not recorded again");
}
