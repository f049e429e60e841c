//! Stores that fail, coordinators that lose their repository (INV-1, 5, 6, 26, 38).

use super::lab::*;
use crate::journal::JournalError;
use crate::repository::FactError;
use crate::run::commit::{CommitAnswer, CommitError};
use crate::run::{Ending, RunError};
use crate::store::faulty::Fault;
use std::slice::from_ref;

/// Whatever the put at which it happens, what was acknowledged restores after a restart, and nothing is half there.
#[test]
fn inv_01_a_fault_or_crash_at_any_put_loses_nothing_that_was_acknowledged() {
    for fault in [Fault::Crash, Fault::Fails, Fault::DoneButSaysFailed, Fault::Full] {
        for at in 0..18 {
            let mut lab = Lab::new();
            let coordinator = lab.open();
            lab.store.fault(at, fault);
            let acked = [0..4, 2..8].map(|contents| try_back_up(&coordinator, A, contents).is_some());
            let acked = acked.into_iter().filter(|acked| *acked).count();
            drop(coordinator);
            lab.after_crash();
            if at % 2 == 0 {
                lab.delete_index();
            }
            let coordinator = lab.open();
            let snapshots = coordinator.catalog(|catalog| catalog.snapshots().count());
            assert!(snapshots >= acked, "{fault:?} at put {at}: {snapshots} of {acked}");
            assert!(restore_all(&coordinator).is_ok(), "{fault:?} at put {at}");
            let damages = coordinator.verify(None, &mut |_| {}).unwrap();
            assert!(damages.iter().all(|damage| damage.is_healed), "{fault:?} at put {at}: {damages:?}");
            assert_eq!(coordinator.verify(None, &mut |_| {}).unwrap(), [], "{fault:?} at put {at}");
            assert!(try_back_up(&coordinator, A, 0..4).is_some(), "{fault:?} at put {at}: backups go on");
        }
    }
}

#[test]
fn inv_06_a_pack_that_cannot_be_put_is_thrown_away_and_the_runs_that_wait_for_it_are_void() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let (first, second) = (Agent::begin(&coordinator, A), Agent::begin(&coordinator, B));
    let bystander = Agent::begin(&coordinator, C);
    let root = node(&[to_chunk(&chunk(0))]);
    first.send(&[chunk(0)], from_ref(&root));
    second.send(&[chunk(0)], &[]);
    // The packs are put at the same time: whichever comes first, none is there.
    (0..3).for_each(|at| lab.store.fault(at, Fault::Fails));
    let void = first.try_commit(&root);
    assert!(matches!(void, Err(CommitError::Run(RunError::Ended { ending: Ending::PutFailed(_), .. }))), "{void:?}");
    wait_for_open_packs(&coordinator);
    assert!(second.try_send(&[chunk(1)], &[]).is_err(), "it relied on a chunk in that pack");
    assert!(bystander.try_send(&[chunk(1)], &[]).is_ok());
    let again = Agent::begin(&coordinator, A);
    assert!(!again.has(&chunk(0)), "the promise is gone with the pack");
    assert_eq!(again.send(&[chunk(0)], from_ref(&root)), []);
    again.commit(&root);
    assert_eq!(restore_all(&coordinator), Ok(2));
}

#[test]
fn inv_06_a_batch_with_unknown_outcome_is_settled_before_anything_else_commits() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let root = node(&[to_chunk(&chunk(0))]);
    let agent = Agent::begin(&coordinator, A);
    agent.send(&[chunk(0)], from_ref(&root));
    let (manifest, envelope) = agent.manifest(&root);
    // Three packs, manifest and envelope twice; then the batch is put, says that it failed, and cannot be read back.
    lab.store.fault(7, Fault::DoneButSaysFailed);
    lab.store.fail_reads_after_puts(8);
    let unknown = coordinator.commit(agent.caller, &manifest, &envelope);
    assert!(matches!(unknown, Err(CommitError::Fact(FactError::Journal(JournalError::Unknown { .. })))), "{unknown:?}");
    assert!(coordinator.begin(B, "system").is_err(), "nothing goes on until it is known");
    lab.store.fail_reads(false);
    match coordinator.commit(agent.caller, &manifest, &envelope) {
        Ok(CommitAnswer::Committed(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 1);
}

#[test]
fn inv_38_a_coordinator_that_lost_the_repository_commits_nothing() {
    let lab = Lab::new();
    let old = lab.open();
    let root = node(&[to_chunk(&chunk(0))]);
    let agent = Agent::begin(&old, A);
    agent.send(&[chunk(0)], from_ref(&root));
    let elsewhere = Lab { index: directory(), ..lab };
    let new = elsewhere.open();
    let refused = agent.try_commit(&root);
    assert!(
        matches!(refused, Err(CommitError::Fact(FactError::Journal(JournalError::LostOwnership { .. })))),
        "{refused:?}"
    );
    assert!(old.is_lost());
    assert!(old.begin(A, "system").is_err() && old.record(Vec::new()).is_err());
    back_up(&new, A, &[chunk(0)]);
    assert_eq!(new.catalog(|catalog| catalog.snapshots().count()), 1);
}

#[test]
fn inv_26_have_from_an_open_pack_makes_the_run_wait_for_it() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let first = Agent::begin(&coordinator, A);
    first.send(&[chunk(0)], &[]);
    coordinator.abort(first.caller).unwrap();
    let second = Agent::begin(&coordinator, A);
    assert!(second.has(&chunk(0)));
    let waits = coordinator.shared.lock().runs.get(second.caller).unwrap().waits.len();
    assert_eq!(waits, 1);
    let root = node(&[to_chunk(&chunk(0))]);
    second.send(&[], from_ref(&root));
    (0..3).for_each(|at| lab.store.fault(at, Fault::Full));
    assert!(second.try_commit(&root).is_err(), "void: the pack with the chunk was thrown away");
    wait_for_open_packs(&coordinator);
    assert!(!Agent::begin(&coordinator, A).has(&chunk(0)));
}

#[test]
fn inv_05_rows_of_an_open_pack_are_not_in_the_database() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let agent = Agent::begin(&coordinator, A);
    let root = node(&[to_chunk(&chunk(0))]);
    agent.send(&[chunk(0)], from_ref(&root));
    assert!(agent.has(&chunk(0)));
    assert_eq!(dump(&coordinator).len(), 0);
    agent.commit(&root);
    assert_eq!(dump(&coordinator).len(), 2);
}
