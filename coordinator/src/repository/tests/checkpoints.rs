//! Starts from a checkpoint of the journal: never a wrong state, whatever became of checkpoints and batches (INV-75).

use super::lab::*;
use crate::catalog::Catalog;
use crate::journal::{JournalError, read_batch};
use crate::repository::checkpoints::NoCheckpoint;
use crate::repository::{Config, Coordinator, Damage, OpenError};
use crate::store::faulty::{Call, Fault};
use crate::store::{Body, ByteRange, ObjectKind, ObjectName, Store};
use crate::trust;
use bytes::Bytes;
use lifeboat_format::id::Digest;
use lifeboat_format::journal::checkpoint::State;
use lifeboat_format::journal::event::HostState;
use lifeboat_format::journal::{Act, Checkpoint, Event, Standing};
use lifeboat_format::sign::SigningKey;

fn catalog(coordinator: &Coordinator) -> Catalog {
    coordinator.catalog(Clone::clone)
}

fn listed(lab: &Lab) -> Vec<ObjectName> {
    lab.objects.list(ObjectKind::Checkpoint).unwrap()
}

fn verify(coordinator: &Coordinator) -> Vec<Damage> {
    coordinator.verify(None, &mut |_| {}).unwrap()
}

/// The catalog as all batches give it.
fn replayed(lab: &Lab) -> Catalog {
    let mut catalog = Catalog::new();
    for number in 1.. {
        let Some(batch) = read_batch(&lab.objects, number).unwrap() else { break };
        batch.records().iter().for_each(|record| catalog.apply(record).unwrap());
    }
    catalog
}

/// From now on no batch before this one can be read.
fn hide_batches_before(lab: &Lab, number: u64) {
    for number in 1..number {
        let name = ObjectName::journal(number);
        [&name, &name.copy()].iter().for_each(|name| lab.store.fail_reads_of(name, true));
    }
}

/// A repository with some history and two checkpoints, which is closed.
fn with_two_checkpoints() -> Lab {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(1), chunk(2)]);
    coordinator.write_checkpoint().unwrap();
    back_up(&coordinator, B, &[chunk(1), chunk(3)]);
    coordinator.record(vec![act(Event::HostState { host: C, state: HostState::Retired })]).unwrap();
    coordinator.write_checkpoint().unwrap();
    back_up(&coordinator, A, &[chunk(4)]);
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    drop(coordinator);
    assert_eq!(listed(&lab).len(), 2);
    lab
}

fn newest(lab: &Lab) -> ObjectName {
    listed(lab).pop().unwrap()
}

#[test]
fn inv_75_a_start_from_a_checkpoint_reads_no_batch_before_it_and_has_the_same_state() {
    let lab = with_two_checkpoints();
    let number = newest(&lab).as_number().unwrap();
    hide_batches_before(&lab, number);
    let coordinator = lab.open();
    assert_eq!(catalog(&coordinator), replayed(&lab));
    restore_all(&coordinator).unwrap();
    back_up(&coordinator, B, &[chunk(9)]);
    let unread: Vec<_> = verify(&coordinator).into_iter().map(|damage| damage.object).collect();
    let hidden: Vec<_> = (1..number).map(ObjectName::journal).collect();
    assert_eq!(unread, hidden, "verify reads all of them");
    lab.store.forget_faults();
    assert_eq!(verify(&coordinator), []);
}

#[test]
fn inv_75_where_a_former_head_stands_is_known_without_its_batch() {
    let lab = with_two_checkpoints();
    let heads: Vec<_> =
        (1..4).map(|number| *read_batch(&lab.objects, number).unwrap().unwrap().signed_head()).collect();
    let other = Lab::new();
    let coordinator = other.open();
    coordinator.record(vec![Act { verb: "elsewhere".into(), ..act(Event::Nothing) }]).unwrap();
    let parted = *read_batch(&other.objects, 3).unwrap().unwrap().signed_head();
    hide_batches_before(&lab, newest(&lab).as_number().unwrap());
    let coordinator = lab.open();
    for head in &heads {
        assert_eq!(coordinator.standing(head), Ok(Standing::Known));
    }
    assert_eq!(coordinator.standing(&parted), Ok(Standing::Forked));
}

#[test]
fn inv_03_a_lost_index_is_rebuilt_also_where_the_start_reads_a_checkpoint() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(1), chunk(2)]);
    Agent::begin(&coordinator, B).send(&[chunk(1)], &[]);
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    coordinator.write_checkpoint().unwrap();
    let before = dump(&coordinator);
    assert!(before.values().flatten().any(|body| body.starts_with("0 ")), "something is witnessed");
    drop(coordinator);
    lab.delete_index();
    let coordinator = lab.open();
    assert_eq!(dump(&coordinator), before);
    restore_all(&coordinator).unwrap();
}

#[test]
fn inv_75_the_newest_two_are_kept_and_nothing_else_is_deleted() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let mut written = Vec::new();
    for _ in 0..4 {
        coordinator.record(vec![act(Event::Nothing)]).unwrap();
        written.push(coordinator.head().unwrap().head().number);
        coordinator.write_checkpoint().unwrap();
    }
    let names: Vec<_> = written.iter().map(|number| ObjectName::checkpoint(*number)).collect();
    assert_eq!(listed(&lab), names[2..]);
    let deleted: Vec<_> = lab
        .store
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Delete(name) => Some(name),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, names[..2]);
    assert_eq!(verify(&coordinator), []);
}

#[test]
fn inv_75_a_checkpoint_is_due_after_so_many_batches_and_after_a_start_that_read_so_many() {
    let lab = Lab::new();
    let open = || lab.try_open_with(lab.store.clone(), |config| config.checkpoint_every = Some(5)).unwrap();
    let coordinator = open();
    let record = |coordinator: &Coordinator, count| {
        for _ in 0..count {
            coordinator.record(vec![act(Event::Nothing)]).unwrap();
        }
    };
    assert!(!coordinator.is_checkpoint_due());
    record(&coordinator, 4);
    assert!(coordinator.is_checkpoint_due());
    drop(coordinator);
    let coordinator = open();
    assert!(coordinator.is_checkpoint_due(), "no checkpoint was written");
    coordinator.write_checkpoint().unwrap();
    assert!(!coordinator.is_checkpoint_due());
    drop(coordinator);
    assert!(!open().is_checkpoint_due());
    let never = lab.try_open_with(lab.store.clone(), |config| config.checkpoint_every = None).unwrap();
    record(&never, 9);
    assert!(!never.is_checkpoint_due());
}

/// Each call to the store fails in each way while a checkpoint is written, and then the process is killed.
#[test]
fn inv_75_whatever_fails_while_a_checkpoint_is_written_the_state_is_that_of_all_batches() {
    for fault in [Fault::Fails, Fault::DoneButSaysFailed, Fault::Full, Fault::Crash] {
        for at in 0.. {
            let mut lab = with_two_checkpoints();
            let coordinator = lab.open();
            lab.store.fault(at, fault);
            let calls = lab.store.calls().len();
            let written = coordinator.write_checkpoint();
            let is_over = lab.store.calls().len() <= calls + at;
            drop(coordinator);
            lab.after_crash();
            let coordinator = lab.open();
            assert_eq!(catalog(&coordinator), replayed(&lab), "{fault:?} at call {at}");
            let damages = verify(&coordinator);
            assert!(damages.iter().all(|damage| damage.object.is_copy()), "{fault:?} at call {at}: {damages:?}");
            coordinator.write_checkpoint().unwrap();
            assert!(listed(&lab).len() <= 3, "{:?}", listed(&lab));
            back_up(&coordinator, A, &[chunk(7)]);
            restore_all(&coordinator).unwrap();
            if is_over {
                assert!(written.is_ok() && at >= 3, "the checkpoint, its batch, what is old");
                break;
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    Bit,
    Cut,
    Deleted,
    /// Its bytes and those of the older one are exchanged.
    Exchanged,
    /// It, and the journal, are there as they were before the last batches: brought back from an older copy.
    OlderJournal,
    Unreadable,
}

const HARMS: [Harm; 6] = [Harm::Bit, Harm::Cut, Harm::Deleted, Harm::Exchanged, Harm::OlderJournal, Harm::Unreadable];

fn inflict(lab: &Lab, harm: Harm, name: &ObjectName) {
    let whole = lab.objects.get(name, ByteRange::Whole).unwrap();
    match harm {
        Harm::Bit => {
            let mut bytes = whole.to_vec();
            let at = bytes.len() / 2;
            bytes[at] ^= 8;
            lab.objects.damage(name, Some(bytes.into()));
        }
        Harm::Cut => lab.objects.damage(name, Some(whole.slice(..whole.len() - 1))),
        Harm::Deleted => lab.objects.damage(name, None),
        Harm::Exchanged => {
            let [older, newer] = &listed(lab)[..] else { panic!("two checkpoints") };
            let [old, new] = [older, newer].map(|name| lab.objects.get(name, ByteRange::Whole).unwrap());
            lab.objects.damage(older, Some(new));
            lab.objects.damage(newer, Some(old));
        }
        Harm::OlderJournal => {
            let batches = lab.objects.list(ObjectKind::Journal).unwrap();
            for batch in batches.into_iter().filter(|batch| batch.as_number() > name.as_number()) {
                [&batch, &batch.copy()].iter().for_each(|batch| lab.objects.damage(batch, None));
            }
        }
        Harm::Unreadable => lab.store.fail_reads_of(name, true),
    }
}

/// Damage × index × newest or older checkpoint: start, restore, backup, verify. The state is always that of all batches;
/// verify names what is bad, and replaces it.
#[test]
fn inv_75_a_bad_checkpoint_costs_time_and_nothing_else() {
    for harm in HARMS {
        for (index_lost, of_newest) in [(false, true), (true, true), (false, false)] {
            let what = format!("{harm:?}, index lost: {index_lost}, the newest: {of_newest}");
            let lab = with_two_checkpoints();
            let names = listed(&lab);
            let bad = &names[usize::from(of_newest)];
            inflict(&lab, harm, bad);
            if index_lost {
                lab.delete_index();
            }
            let coordinator = lab.open();
            assert_eq!(catalog(&coordinator), replayed(&lab), "start: {what}");
            restore_all(&coordinator).unwrap_or_else(|error| panic!("restore: {what}: {error}"));
            back_up(&coordinator, B, &[chunk(20)]);
            let damages = verify(&coordinator);
            let is_silent = match harm {
                // The older one is not needed.
                Harm::Deleted => !of_newest,
                // It is right, and no batch names it any more; but a newer one is of batches that are gone.
                Harm::OlderJournal => of_newest,
                _ => false,
            };
            assert_eq!(damages.is_empty(), is_silent, "verify: {what}: {damages:?}");
            for damage in &damages {
                assert_eq!(damage.object.kind(), ObjectKind::Checkpoint, "verify: {what}: {damages:?}");
                assert!(damage.is_harmless && (damage.is_healed || harm == Harm::Unreadable), "{what}: {damages:?}");
            }
            lab.store.forget_faults();
            verify(&coordinator);
            assert_eq!(verify(&coordinator), [], "then all is good: {what}");
            drop(coordinator);
            let coordinator = lab.open();
            assert_eq!(catalog(&coordinator), replayed(&lab), "started again: {what}");
            restore_all(&coordinator).unwrap();
        }
    }
}

/// Puts a checkpoint of this state after the last batch, signed by this key. If `named`, a batch names it.
fn forge(lab: &Lab, key: &SigningKey, named: bool, change: impl FnOnce(&mut State)) -> ObjectName {
    let coordinator = lab.open();
    let head = coordinator.head().unwrap();
    let mut state = catalog(&coordinator).to_state();
    change(&mut state);
    let hashes = coordinator.journal().hashes().to_vec();
    let bytes = Checkpoint::to_bytes(&head, hashes, &state, key).unwrap();
    let (number, digest) = (head.head().number, Digest::of(&bytes));
    let name = ObjectName::checkpoint(number);
    lab.objects.damage(&name, Some(bytes.into()));
    if named {
        coordinator.record(vec![act(Event::JournalCheckpoint { number, digest })]).unwrap();
    }
    name
}

fn without_hosts(state: &mut State) {
    state.hosts.0.clear();
}

#[test]
fn inv_75_a_checkpoint_that_no_batch_names_or_that_a_stranger_signed_is_not_used() {
    let stranger = SigningKey::from_seed(&[0x66; 32]);
    for (ours, named) in [(true, false), (false, true), (false, false)] {
        let lab = with_two_checkpoints();
        let key = if ours { lab.log_key.clone() } else { stranger.clone() };
        let forged = forge(&lab, &key, named, without_hosts);
        let coordinator = lab.open();
        assert_eq!(catalog(&coordinator), replayed(&lab), "ours: {ours}, named: {named}");
        let damages = verify(&coordinator);
        assert!(damages.iter().any(|damage| damage.object == forged), "ours: {ours}, named: {named}: {damages:?}");
        assert!(!listed(&lab).contains(&forged));
        assert_eq!(verify(&coordinator), []);
    }
}

#[test]
fn inv_75_a_named_checkpoint_with_other_bytes_is_not_used() {
    let lab = with_two_checkpoints();
    let name = forge(&lab, &lab.log_key, true, |_| {});
    let good = lab.objects.get(&name, ByteRange::Whole).unwrap();
    let checkpoint = Checkpoint::parse(&good).unwrap();
    let mut state = checkpoint.state().clone();
    without_hosts(&mut state);
    let hashes = lab.open().journal().hashes()[..name.as_number().unwrap() as usize].to_vec();
    let other = Checkpoint::to_bytes(checkpoint.head(), hashes, &state, &lab.log_key).unwrap();
    lab.objects.damage(&name, Some(other.into()));
    let coordinator = lab.open();
    assert_eq!(catalog(&coordinator), replayed(&lab));
    assert!(verify(&coordinator).iter().any(|damage| damage.object == name && damage.is_healed));
}

/// By a fault of ours: signed, named, and wrong. Only a replay of all batches can find that.
#[test]
fn inv_75_verify_finds_a_signed_and_named_checkpoint_whose_state_is_wrong() {
    let lab = with_two_checkpoints();
    let name = forge(&lab, &lab.log_key, true, |state| state.snapshots.0[0].held = true);
    let coordinator = lab.open();
    assert_ne!(catalog(&coordinator), replayed(&lab), "the start cannot know");
    let damages = verify(&coordinator);
    assert!(damages.iter().any(|damage| damage.object == name), "{damages:?}");
    assert!(damages.iter().any(|damage| !damage.is_harmless && damage.what.contains("restart")), "{damages:?}");
    assert!(matches!(coordinator.write_checkpoint(), Err(NoCheckpoint::NotNow)), "what is wrong is not written down");
    assert!(verify(&coordinator).iter().any(|damage| !damage.is_harmless), "until it is restarted");
    drop(coordinator);
    let coordinator = lab.open();
    assert_eq!(catalog(&coordinator), replayed(&lab));
    verify(&coordinator);
    assert_eq!(verify(&coordinator), []);
}

#[test]
fn inv_75_a_checkpoint_of_another_repository_or_another_history_is_not_used() {
    let (lab, other) = (with_two_checkpoints(), with_two_checkpoints());
    other.open().record(vec![act(Event::Nothing)]).unwrap();
    other.open().write_checkpoint().unwrap();
    let theirs = newest(&other);
    let bytes = other.objects.get(&theirs, ByteRange::Whole).unwrap();
    let coordinator = lab.open();
    while coordinator.head().unwrap().head().number <= theirs.as_number().unwrap() {
        coordinator.record(vec![Act { verb: "here".into(), ..act(Event::Nothing) }]).unwrap();
    }
    drop(coordinator);
    lab.objects.put(&theirs, Body::Bytes(bytes.to_vec())).unwrap();
    let coordinator = lab.open();
    assert_eq!(catalog(&coordinator), replayed(&lab));
    assert!(verify(&coordinator).iter().any(|damage| damage.object == theirs && damage.is_healed));
}

#[test]
fn inv_75_a_hole_behind_the_checkpoint_is_refused_and_one_before_it_is_found_by_verify() {
    let lab = with_two_checkpoints();
    let number = newest(&lab).as_number().unwrap();
    let hole = |lab: &Lab, number| {
        let name = ObjectName::journal(number);
        let bytes = lab.objects.get(&name, ByteRange::Whole).unwrap();
        [&name, &name.copy()].iter().for_each(|name| lab.objects.damage(name, None));
        bytes
    };
    for missing in [number + 1, number + 2] {
        let bytes: Bytes = hole(&lab, missing);
        let refused = lab.try_open(lab.store.clone());
        let is_named =
            matches!(refused, Err(OpenError::Journal(JournalError::Cut { missing: found, .. })) if found == missing);
        assert!(is_named, "{refused:?}");
        let name = ObjectName::journal(missing);
        [&name, &name.copy()].iter().for_each(|name| lab.objects.damage(name, Some(bytes.clone())));
    }
    for missing in [2, number] {
        let bytes = hole(&lab, missing);
        let coordinator = lab.open();
        assert_eq!(catalog(&coordinator).hosts().count(), 3);
        let damages = verify(&coordinator);
        assert!(
            matches!(&damages[..], [damage] if damage.object == ObjectName::journal(missing) && !damage.is_harmless),
            "{damages:?}"
        );
        lab.objects.damage(&ObjectName::journal(missing), Some(bytes));
        assert!(verify(&coordinator).iter().all(|damage| damage.is_healed));
        assert_eq!(verify(&coordinator), []);
    }
}

#[test]
fn inv_75_checkpoints_hold_before_and_after_a_rotation_of_the_log_key() {
    let mut lab = with_two_checkpoints();
    let new = SigningKey::from_seed(&[0x11; 32]);
    let first = trust::read(&lab.objects, 1).unwrap();
    let keys = [new.verifying_key(), lab.log_key.verifying_key()];
    let second = trust::sample(repository(), &keys, Some(&first)).unwrap();
    lab.objects.put(&ObjectName::trust(2), Body::Bytes(second.to_bytes())).unwrap();
    let coordinator = lab.open();
    coordinator.record(vec![act(Event::TrustFile { number: 2, digest: second.digest() })]).unwrap();
    assert!(matches!(coordinator.write_checkpoint(), Err(NoCheckpoint::NotNow)), "the former key signs nothing");
    drop(coordinator);
    lab.log_key = new;
    for _ in 0..3 {
        hide_batches_before(&lab, newest(&lab).as_number().unwrap());
        let coordinator = lab.open();
        lab.store.forget_faults();
        assert_eq!(catalog(&coordinator), replayed(&lab));
        assert_eq!(coordinator.journal().log_keys(), keys);
        assert_eq!(verify(&coordinator), []);
        coordinator.write_checkpoint().unwrap();
    }
}

#[test]
fn a_start_that_is_ended_leaves_everything_as_it_is() {
    let lab = with_two_checkpoints();
    let calls = lab.store.calls().len();
    let stopped = lab.try_open_with(lab.store.clone(), |config: &mut Config| config.watch.stop());
    assert!(matches!(&stopped, Err(error) if error.is_interrupted()), "{stopped:?}");
    assert_eq!(lab.store.calls().len(), calls);
    drop(lab.open());
}
