//! Lost, unreadable, and there again: three states, found by reading (INV-72).

use super::lab::*;
use crate::index::Harm;
use crate::repository::{Coordinator, Damage};
use crate::store::{ByteRange, ObjectName, Store};
use lifeboat_format::id::SnapshotNumber;
use lifeboat_format::link::Target;
use std::collections::BTreeSet;

fn chunks() -> Vec<crate::run::upload::IncomingChunk> {
    (0..4).map(chunk).collect()
}

/// The pack of something.
fn pack_of(coordinator: &Coordinator, target: Target) -> ObjectName {
    let found = coordinator.locate(target, A).unwrap()[0];
    ObjectName::pack(coordinator.shared.index.pack_id(found.place.pack).unwrap())
}

fn verify(coordinator: &Coordinator) -> Vec<Damage> {
    coordinator.verify(None, &mut |_| {}).unwrap()
}

fn named(damages: &[Damage]) -> BTreeSet<SnapshotNumber> {
    damages.iter().flat_map(|damage| damage.snapshots.clone()).collect()
}

fn has_losses(coordinator: &Coordinator) -> bool {
    coordinator.catalog(|catalog| catalog.losses().next().is_some())
}

#[test]
fn inv_72_several_missing_packs_ask_for_the_disk_and_nothing_is_recorded_as_lost() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let first = back_up(&coordinator, A, &chunks()).number;
    let away: Vec<_> =
        packs(&lab).into_iter().map(|pack| (lab.objects.get(&pack, ByteRange::Whole).unwrap(), pack)).collect();
    away.iter().for_each(|(_, pack)| lab.objects.damage(pack, None));
    for _ in 0..2 {
        let damages = verify(&coordinator);
        assert!(
            damages[0].what.contains("one of 3 packs missing in packs: is the right disk mounted there?"),
            "{damages:?}"
        );
        assert_eq!((named(&damages), has_losses(&coordinator)), (BTreeSet::from([first]), false));
        assert_eq!(coordinator.harm(first), Some(Harm::Unreadable));
        assert!(!Agent::begin(&coordinator, A).has(&chunk(0)));
    }
    away.iter().for_each(|(bytes, pack)| lab.objects.damage(pack, Some(bytes.clone())));
    assert_eq!(verify(&coordinator), []);
    assert_eq!(coordinator.harm(first), None);
    Agent::begin(&coordinator, A).commit(tree(&chunks()).last().unwrap());
    assert!(restore_all(&coordinator).is_ok());
}

#[test]
fn inv_72_the_same_is_found_at_a_start_and_is_over_when_they_are_back() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &chunks());
    drop(coordinator);
    let away: Vec<_> =
        packs(&lab).into_iter().map(|pack| (lab.objects.get(&pack, ByteRange::Whole).unwrap(), pack)).collect();
    away.iter().for_each(|(_, pack)| lab.objects.damage(pack, None));
    for index_lost in [false, true] {
        if index_lost {
            lab.delete_index();
        }
        let coordinator = lab.open();
        assert!(!Agent::begin(&coordinator, A).has(&chunk(0)), "index lost: {index_lost}");
        assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 1);
    }
    away.iter().for_each(|(bytes, pack)| lab.objects.damage(pack, Some(bytes.clone())));
    let coordinator = lab.open();
    assert_eq!(verify(&coordinator), []);
    Agent::begin(&coordinator, A).commit(tree(&chunks()).last().unwrap());
    assert!(restore_all(&coordinator).is_ok());
}

#[test]
fn inv_72_a_lost_pack_is_named_on_every_run_and_withdrawn_when_it_returns() {
    let lab = Lab::new();
    let mut coordinator = lab.open();
    let first = back_up(&coordinator, A, &chunks()).number;
    let other = back_up(&coordinator, B, &[chunk(50)]).number;
    let pack = pack_of(&coordinator, Target::Chunk(chunk(0).id));
    let whole = lab.objects.get(&pack, ByteRange::Whole).unwrap();
    lab.objects.damage(&pack, None);
    for round in 0..4 {
        let damages = verify(&coordinator);
        assert_eq!((damages.len(), named(&damages)), (1, BTreeSet::from([first])), "round {round}: {damages:?}");
        assert!(has_losses(&coordinator));
        assert_eq!((coordinator.harm(first), coordinator.harm(other)), (Some(Harm::Lost), None), "round {round}");
        drop(coordinator);
        if round == 1 {
            lab.delete_index();
        }
        coordinator = lab.open();
    }
    lab.objects.damage(&pack, Some(whole));
    assert_eq!(verify(&coordinator), []);
    assert_eq!((has_losses(&coordinator), coordinator.harm(first)), (false, None));
    assert!(Agent::begin(&coordinator, A).has(&chunk(0)));
    for index_lost in [false, true] {
        drop(coordinator);
        if index_lost {
            lab.delete_index();
        }
        coordinator = lab.open();
        assert!(restore_all(&coordinator).is_ok(), "index lost: {index_lost}");
        assert_eq!(verify(&coordinator), []);
    }
}

#[test]
fn inv_72_what_the_next_backup_has_healed_is_no_failure() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let first = back_up(&coordinator, A, &chunks()).number;
    let pack = pack_of(&coordinator, Target::Chunk(chunk(0).id));
    lab.objects.damage(&pack, None);
    assert_eq!(named(&verify(&coordinator)), BTreeSet::from([first]));
    back_up(&coordinator, A, &chunks());
    let damages = verify(&coordinator);
    assert!(damages.iter().all(|damage| damage.is_harmless), "{damages:?}");
    assert_eq!(coordinator.harm(first), None);
    assert!(restore_all(&coordinator).is_ok());
}

/// Neither missing nor fine: the disk fails for one pack of chunks, or of nodes.
#[test]
fn inv_72_what_is_in_an_unreadable_pack_is_sent_again_and_its_rows_stay() {
    let nodes = tree(&chunks());
    for target in [Target::Chunk(chunk(0).id), Target::Node(nodes[0].id)] {
        let lab = Lab::new();
        let mut coordinator = lab.open();
        back_up(&coordinator, A, &chunks());
        let pack = pack_of(&coordinator, target);
        lab.store.fail_reads_of(&pack, true);
        let _unread = coordinator.read_chunk(&chunk(0).id, A).is_err() || coordinator.read_node(&nodes[0].id).is_err();
        for restarted in [false, true] {
            if restarted {
                drop(coordinator);
                coordinator = lab.open();
            }
            let agent = Agent::begin(&coordinator, A);
            assert_eq!(agent.refused(&nodes[2])[0].nodes, [nodes[2].id], "it gives no homes; restarted: {restarted}");
            assert!(!has_losses(&coordinator));
            assert!(!verify(&coordinator).iter().all(|damage| damage.is_harmless));
        }
        back_up(&coordinator, A, &chunks());
        assert!(restore_all(&coordinator).is_ok(), "also the one before, whose tree is the same");
        assert!(verify(&coordinator).iter().all(|damage| damage.is_harmless), "{target:?}");
        assert!(!has_losses(&coordinator));
        lab.store.fail_reads_of(&pack, false);
        assert_eq!(verify(&coordinator), []);
        assert_eq!(coordinator.locate(target, A).unwrap().len(), 2, "its rows stayed");
    }
}

/// The rows still lead to its records, but nothing can make them again.
#[test]
fn inv_72_a_pack_with_a_damaged_footer_names_its_snapshots_also_after_the_index_was_rebuilt() {
    let lab = Lab::new();
    let mut coordinator = lab.open();
    let first = back_up(&coordinator, A, &chunks()).number;
    back_up(&coordinator, B, &[chunk(50)]);
    let pack = pack_of(&coordinator, Target::Chunk(chunk(0).id));
    let whole = lab.objects.get(&pack, ByteRange::Whole).unwrap();
    let mut bytes = whole.to_vec();
    let at = bytes.len() - 120;
    bytes[at] ^= 1;
    lab.objects.damage(&pack, Some(bytes.into()));
    for round in 0..4 {
        let damages = verify(&coordinator);
        assert_eq!((damages.len(), named(&damages)), (1, BTreeSet::from([first])), "round {round}: {damages:?}");
        drop(coordinator);
        if round == 1 {
            lab.delete_index();
        }
        coordinator = lab.open();
        assert_eq!(restore_all(&coordinator).is_ok(), round < 1);
    }
    lab.objects.damage(&pack, Some(whole));
    assert_eq!(verify(&coordinator), []);
    assert!(restore_all(&coordinator).is_ok());
}

#[test]
fn inv_28_one_read_that_fails_is_repeated_before_it_is_believed() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &chunks());
    let pack = pack_of(&coordinator, Target::Chunk(chunk(0).id));
    lab.store.fail_next_read_of(&pack);
    assert!(coordinator.read_chunk(&chunk(0).id, A).is_ok());
    assert_eq!(coordinator.shared.index.unreadable().unwrap().len(), 0);
}

#[test]
fn inv_37_a_lost_index_gives_homes_back_to_what_snapshots_reach_and_to_nothing_else() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &chunks());
    back_up(&coordinator, B, &chunks());
    let uncommitted = node(&[to_chunk(&chunk(9))]);
    let agent = Agent::begin(&coordinator, A);
    agent.send(&[chunk(9)], std::slice::from_ref(&uncommitted));
    lab.close_packs(&coordinator);
    drop(coordinator);
    lab.delete_index();
    let coordinator = lab.open();
    let root = tree(&chunks()).pop().unwrap();
    for host in [A, B, C] {
        Agent::begin(&coordinator, host).commit(&root);
    }
    assert!(Agent::begin(&coordinator, A).has(&chunk(9)), "it is there");
    assert_eq!(Agent::begin(&coordinator, A).refused(&uncommitted)[0].nodes, [uncommitted.id]);
}
