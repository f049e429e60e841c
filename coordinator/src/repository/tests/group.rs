//! Group commit: what waits while a batch is written is written together, and nobody else waits for it.

use super::lab::*;
use crate::journal::JournalError;
use crate::repository::{Coordinator, FactError};
use crate::store::ObjectKind;
use crate::store::faulty::Fault;
use lifeboat_format::journal::event::HostState;
use lifeboat_format::journal::{Act, Event};
use std::thread::{Scope, ScopedJoinHandle, yield_now};

type Recording<'s> = ScopedJoinHandle<'s, Result<std::ops::Range<u64>, FactError>>;

/// Waits until so many entries wait while another one is being written.
fn record_one_by_one<'s>(scope: &'s Scope<'s, '_>, coordinator: &'s Coordinator, acts: Vec<Act>) -> Vec<Recording<'s>> {
    let before = coordinator.queue.waiting();
    let start = |(waiting, act): (usize, Act)| {
        let recording = scope.spawn(move || coordinator.record(vec![act]));
        wait_for(coordinator, before + waiting);
        recording
    };
    (1..).zip(acts).map(start).collect()
}

fn wait_for(coordinator: &Coordinator, waiting: usize) {
    while coordinator.queue.waiting() < waiting {
        yield_now();
    }
}

/// Holds the journal's disk, and waits until a batch is being put.
fn record_held<'s>(scope: &'s Scope<'s, '_>, lab: &Lab, coordinator: &'s Coordinator) -> Recording<'s> {
    let puts = || lab.store.calls().len();
    let before = puts();
    lab.store.hold_puts_of(Some(ObjectKind::Journal));
    let held = scope.spawn(|| coordinator.record(vec![act(Event::Nothing)]));
    while puts() == before {
        yield_now();
    }
    held
}

#[test]
fn what_waits_while_a_batch_is_written_goes_into_the_next_one_and_a_backup_begins_meanwhile() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let batches = coordinator.journal().len();
    std::thread::scope(|scope| {
        let held = record_held(scope, &lab, &coordinator);
        let waiting = record_one_by_one(scope, &coordinator, vec![act(Event::Nothing); 40]);
        let head = coordinator.head().unwrap();
        assert_eq!((head.head().number, coordinator.is_lost()), (batches, false));
        let agent = Agent::begin(&coordinator, A);
        agent.send(&[chunk(1)], &tree(&[chunk(1)]));
        lab.store.hold_puts_of(None);
        let first = held.join().unwrap().unwrap();
        let sequences = waiting.into_iter().map(|one| one.join().unwrap().unwrap()).collect::<Vec<_>>();
        assert_eq!(sequences, (first.end..).take(40).map(|start| start..start + 1).collect::<Vec<_>>());
    });
    assert_eq!(coordinator.journal().len(), batches + 2);
    assert_eq!(coordinator.head().unwrap().head().number, batches + 2);
}

#[test]
fn a_record_that_cannot_be_written_takes_no_other_with_it() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let mut bad = act(Event::Nothing);
    bad.object = "o".repeat(1 << 17);
    std::thread::scope(|scope| {
        let held = record_held(scope, &lab, &coordinator);
        let acts = vec![act(Event::Nothing), bad, act(Event::Nothing)];
        let waiting = record_one_by_one(scope, &coordinator, acts);
        lab.store.hold_puts_of(None);
        held.join().unwrap().unwrap();
        let ended: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(ended[0].is_ok() && ended[2].is_ok(), "{ended:?}");
        assert!(matches!(ended[1], Err(FactError::Journal(JournalError::Record(_)))), "{ended:?}");
    });
}

#[test]
fn inv_43_a_host_that_is_retired_while_its_commit_waits_does_not_commit() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let nodes = tree(&[chunk(1)]);
    let agent = Agent::begin(&coordinator, A);
    agent.send(&[chunk(1)], &nodes);
    let (manifest, envelope) = agent.manifest(&nodes[nodes.len() - 1]);
    std::thread::scope(|scope| {
        let held = record_held(scope, &lab, &coordinator);
        let retire = act(Event::HostState { host: A, state: HostState::Retired });
        let retired = record_one_by_one(scope, &coordinator, vec![retire]);
        let commit = scope.spawn(|| coordinator.commit(agent.caller, &manifest, &envelope));
        wait_for(&coordinator, 2);
        lab.store.hold_puts_of(None);
        held.join().unwrap().unwrap();
        retired.into_iter().for_each(|one| assert!(one.join().unwrap().is_ok()));
        let refused = commit.join().unwrap().unwrap_err();
        assert!(refused.to_string().contains("may not back up"), "{refused}");
    });
    assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 0);
}

#[test]
fn inv_06_what_was_written_together_with_unknown_outcome_is_settled_together() {
    let mut lab = Lab::new();
    let coordinator = lab.open();
    let batches = coordinator.journal().len();
    std::thread::scope(|scope| {
        let held = record_held(scope, &lab, &coordinator);
        let waiting = record_one_by_one(scope, &coordinator, vec![act(Event::Nothing); 3]);
        // After the second copy of the batch that is held.
        lab.store.fault(1, Fault::DoneButSaysFailed);
        lab.store.fault(2, Fault::Fails);
        lab.store.hold_puts_of(None);
        held.join().unwrap().unwrap();
        for one in waiting {
            let error = one.join().unwrap().unwrap_err();
            assert!(matches!(error, FactError::Journal(JournalError::Unknown { .. })), "{error}");
        }
    });
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    assert_eq!(coordinator.journal().len(), batches + 3, "held, the three together, the last");
    drop(coordinator);
    lab.after_crash();
    assert_eq!(lab.open().journal().len(), batches + 4);
}
