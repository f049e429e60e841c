//! Root and inner nodes are in two packs, and either place will do (INV-79).

use super::lab::*;
use crate::repository::{Coordinator, Damage};
use crate::run::commit::CommitError;
use crate::run::upload::{IncomingChunk, IncomingNode};
use crate::run::{Ending, RunError};
use crate::spool::NODE_PACKS;
use crate::store::faulty::Fault;
use crate::store::{ByteRange, ObjectName, Store};
use lifeboat_format::id::SnapshotNumber;
use lifeboat_format::journal::event::Holds;
use lifeboat_format::link::Target;
use std::collections::BTreeSet;
use std::slice::from_ref;

fn chunks() -> Vec<IncomingChunk> {
    (0..8).map(chunk).collect()
}

/// Leaves of two chunks each, inner nodes of two leaves each, then the root, children first.
fn deep(chunks: &[IncomingChunk]) -> Vec<IncomingNode> {
    let above = |below: &[IncomingNode]| -> Vec<IncomingNode> {
        below.chunks(2).map(|pair| node(&pair.iter().map(to_node).collect::<Vec<_>>())).collect()
    };
    let mut nodes = tree(chunks);
    nodes.pop();
    let inner = above(&nodes);
    let root = above(&inner);
    nodes.extend(inner);
    nodes.extend(root);
    nodes
}

fn back_up_deep(coordinator: &Coordinator) -> SnapshotNumber {
    let agent = Agent::begin(coordinator, A);
    let nodes = deep(&chunks());
    assert_eq!(agent.send(&chunks(), &nodes), []);
    agent.commit(nodes.last().unwrap()).number
}

/// The packs in which a node lies, the one of first copies before the other.
fn packs_of(coordinator: &Coordinator, node: &IncomingNode) -> Vec<ObjectName> {
    let found = coordinator.locate(Target::Node(node.id), A).unwrap();
    let packs = found.iter().map(|found| coordinator.shared.index.pack_id(found.place.pack).unwrap());
    let held =
        |pack| coordinator.catalog(|catalog| catalog.packs().iter().find(|(known, _)| *known == pack).unwrap().1);
    let mut packs: Vec<_> = packs.map(|pack| (held(pack) == Holds::NodeCopies, ObjectName::pack(pack))).collect();
    packs.sort();
    packs.into_iter().map(|(_, pack)| pack).collect()
}

fn readable_places(coordinator: &Coordinator, node: &IncomingNode) -> usize {
    let index = &coordinator.shared.index;
    index.node(&node.id).unwrap().map_or(0, |row| index.readable_places(&row))
}

/// Flips a bit of the node in this pack.
fn flip(lab: &Lab, coordinator: &Coordinator, node: &IncomingNode, pack: &ObjectName) {
    let number = coordinator.shared.index.pack(&pack.as_pack().unwrap()).unwrap().0;
    let found = coordinator.locate(Target::Node(node.id), A).unwrap();
    let place = found.iter().find(|found| found.place.pack == number).unwrap().place;
    let mut bytes = lab.objects.get(pack, ByteRange::Whole).unwrap().to_vec();
    bytes[place.offset as usize + 70] ^= 2;
    lab.objects.damage(pack, Some(bytes.into()));
}

fn verify(coordinator: &Coordinator) -> Vec<Damage> {
    coordinator.verify(None, &mut |_| {}).unwrap()
}

fn named(damages: &[Damage]) -> BTreeSet<SnapshotNumber> {
    damages.iter().flat_map(|damage| damage.snapshots.clone()).collect()
}

fn reopen(lab: &Lab, coordinator: Coordinator, is_index_lost: bool) -> Coordinator {
    drop(coordinator);
    if is_index_lost {
        lab.delete_index();
    }
    lab.open()
}

/// All nodes that must be in two packs are.
fn assert_twice(coordinator: &Coordinator) {
    for node in deep(&chunks()).iter().filter(|node| height(node) > 1) {
        assert!(readable_places(coordinator, node) >= 2, "height {}", height(node));
    }
}

#[test]
fn inv_79_root_and_inner_nodes_are_in_two_packs_and_leaves_in_one() {
    let lab = Lab::new();
    let mut coordinator = lab.open();
    back_up_deep(&coordinator);
    for is_index_lost in [false, true] {
        coordinator = reopen(&lab, coordinator, is_index_lost);
        for node in deep(&chunks()) {
            let packs = packs_of(&coordinator, &node);
            assert_eq!(packs.len(), if height(&node) > 1 { 2 } else { 1 });
            assert_eq!(packs.iter().collect::<BTreeSet<_>>().len(), packs.len(), "different packs");
        }
        let held: Vec<Holds> = coordinator.catalog(|catalog| catalog.packs().iter().map(|(_, holds)| *holds).collect());
        assert_eq!(held.iter().filter(|holds| **holds == Holds::NodeCopies).count(), 1, "{held:?}");
        assert_eq!(verify(&coordinator), []);
    }
    let packs_before = packs(&lab).len();
    Agent::begin(&coordinator, B);
    Agent::begin(&coordinator, A).commit(deep(&chunks()).last().unwrap());
    assert_eq!(packs(&lab).len(), packs_before, "an unchanged backup writes nothing");
}

#[test]
fn inv_79_a_node_that_is_corrupt_in_one_pack_harms_nothing_and_is_written_again() {
    let nodes = deep(&chunks());
    for target in nodes.iter().filter(|node| height(node) > 1) {
        for copy in [0, 1] {
            for is_index_lost in [false, true] {
                let what = format!("height {}, copy {copy}, index lost: {is_index_lost}", height(target));
                let lab = Lab::new();
                let coordinator = lab.open();
                let first = back_up_deep(&coordinator);
                let pack = packs_of(&coordinator, target)[copy].clone();
                flip(&lab, &coordinator, target, &pack);
                let coordinator = reopen(&lab, coordinator, is_index_lost);
                assert!(restore_all(&coordinator).is_ok(), "{what}");
                let damages = verify(&coordinator);
                assert!(damages.len() == 1 && damages[0].is_healed && damages[0].is_harmless, "{what}: {damages:?}");
                assert_eq!((&damages[0].object, named(&damages)), (&pack, BTreeSet::new()), "{what}");
                assert!(damages[0].what.contains(&format!("node {}", target.id)), "{what}: {damages:?}");
                assert!(damages[0].what.contains("written again"), "{what}: {damages:?}");
                assert_twice(&coordinator);
                assert_eq!(coordinator.harm(first), None);
                // The copy that was written survives what else may come.
                let coordinator = reopen(&lab, coordinator, true);
                assert_twice(&coordinator);
                let damages = verify(&coordinator);
                assert!(damages.iter().all(|damage| damage.is_harmless && !damage.is_healed), "{what}: {damages:?}");
                assert!(restore_all(&coordinator).is_ok(), "{what}");
            }
        }
    }
}

#[test]
fn inv_79_with_both_copies_corrupt_the_loss_is_named_and_a_backup_heals_it() {
    let nodes = deep(&chunks());
    for target in nodes.iter().filter(|node| height(node) > 1) {
        for is_index_lost in [false, true] {
            let lab = Lab::new();
            let coordinator = lab.open();
            let first = back_up_deep(&coordinator);
            packs_of(&coordinator, target).iter().for_each(|pack| flip(&lab, &coordinator, target, pack));
            let coordinator = reopen(&lab, coordinator, is_index_lost);
            assert!(restore_all(&coordinator).is_err());
            for _ in 0..2 {
                let damages = verify(&coordinator);
                assert_eq!((damages.len(), named(&damages)), (2, BTreeSet::from([first])), "{damages:?}");
                assert!(damages.iter().all(|damage| !damage.is_harmless && !damage.is_healed), "{damages:?}");
            }
            back_up_deep(&coordinator);
            assert!(restore_all(&coordinator).is_ok());
            assert!(verify(&coordinator).iter().all(|damage| damage.is_harmless));
            assert_twice(&coordinator);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Gone {
    Deleted,
    Emptied,
    Unreadable,
}

/// The pack of all nodes, or that of second copies, as a whole.
fn lose_pack(copy: usize, gone: Gone, is_index_lost: bool) {
    let what = format!("{gone:?} {:?}, index lost: {is_index_lost}", NODE_PACKS[copy]);
    let lab = Lab::new();
    let coordinator = lab.open();
    let first = back_up_deep(&coordinator);
    let nodes = deep(&chunks());
    let pack = packs_of(&coordinator, nodes.last().unwrap())[copy].clone();
    let whole = lab.objects.get(&pack, ByteRange::Whole).unwrap();
    match gone {
        Gone::Deleted => lab.objects.damage(&pack, None),
        Gone::Emptied => lab.objects.damage(&pack, Some(bytes::Bytes::new())),
        Gone::Unreadable => lab.store.fail_reads_of(&pack, true),
    }
    let coordinator = reopen(&lab, coordinator, is_index_lost);
    for node in &nodes {
        let reads = coordinator.read_node(&node.id).is_ok();
        assert_eq!(reads, copy == 1 || height(node) > 1, "{what}: a node of height {}", height(node));
    }
    let damages = verify(&coordinator);
    let is_harmed = copy == 0;
    assert_eq!((damages.len(), damages[0].object.clone()), (1, pack.clone()), "{what}: {damages:?}");
    assert_eq!(named(&damages), if is_harmed { BTreeSet::from([first]) } else { BTreeSet::new() }, "{what}");
    assert_eq!((damages[0].is_harmless, damages[0].is_healed), (!is_harmed, !is_harmed), "{what}: {damages:?}");
    assert!(damages[0].what.ends_with("from their other copies: 3"), "{what}: {damages:?}");
    assert_twice(&coordinator);
    back_up_deep(&coordinator);
    assert!(restore_all(&coordinator).is_ok(), "{what}");
    assert_twice(&coordinator);
    lab.objects.damage(&pack, Some(whole));
    lab.store.fail_reads_of(&pack, false);
    assert_eq!(verify(&coordinator), [], "{what}: brought back");
    assert!(restore_all(&coordinator).is_ok(), "{what}");
}

#[test]
fn inv_79_without_the_pack_of_copies_nothing_is_lost_and_without_the_other_one_only_leaves() {
    for copy in [0, 1] {
        for gone in [Gone::Deleted, Gone::Emptied, Gone::Unreadable] {
            for is_index_lost in [false, true] {
                lose_pack(copy, gone, is_index_lost);
            }
        }
    }
}

#[test]
fn inv_79_copies_that_cannot_be_written_again_are_named_and_the_next_verify_writes_them() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up_deep(&coordinator);
    let root = deep(&chunks()).pop().unwrap();
    let pack = packs_of(&coordinator, &root)[1].clone();
    lab.objects.damage(&pack, None);
    // The loss is recorded first, twice; then the pack is put.
    lab.store.fault(2, Fault::Full);
    let damages = verify(&coordinator);
    assert!(damages[0].what.contains("cannot be written again: 3") && !damages[0].is_healed, "{damages:?}");
    assert_eq!(readable_places(&coordinator, &root), 1);
    assert!(verify(&coordinator)[0].is_healed);
    assert_twice(&coordinator);
}

#[test]
fn inv_79_a_node_that_is_sent_again_makes_up_for_a_copy_that_is_missing() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up_deep(&coordinator);
    let nodes = deep(&chunks());
    let pack = packs_of(&coordinator, &nodes[4])[1].clone();
    lab.store.fail_reads_of(&pack, true);
    coordinator.note_unreadable(pack.as_pack().unwrap(), "a test").unwrap();
    assert_eq!(readable_places(&coordinator, &nodes[4]), 1);
    let agent = Agent::begin(&coordinator, A);
    let root = nodes.last().unwrap();
    assert_eq!(agent.send(&[], &[node(&[to_node(&nodes[0])])]), [], "one place is enough to rely on a node");
    agent.commit(root);
    assert_eq!((readable_places(&coordinator, root), readable_places(&coordinator, &nodes[4])), (2, 1), "the root");
    back_up_deep(&coordinator);
    assert_twice(&coordinator);
}

/// Has one open pack made an object, and waits for that.
fn close(coordinator: &Coordinator, node: &IncomingNode, kind: usize) {
    let mut state = coordinator.shared.lock();
    let ticket = state.open.node(&node.id).unwrap().tickets[kind].unwrap();
    assert_eq!(state.open.close(ticket), Some(NODE_PACKS[kind]));
    coordinator.spool().close(NODE_PACKS[kind], ticket).unwrap();
    while state.open.is_unfinished(ticket) {
        state = coordinator.shared.wait(state, None);
    }
}

#[test]
fn inv_79_a_run_that_sends_what_another_one_has_sent_waits_for_the_copy_too() {
    for put_first in 0..NODE_PACKS.len() {
        let lab = Lab::new();
        let coordinator = lab.open();
        let nodes = deep(&chunks());
        let root = nodes.last().unwrap();
        let killed = Agent::begin(&coordinator, A);
        killed.send(&chunks(), &nodes);
        coordinator.abort(killed.caller).unwrap();
        close(&coordinator, root, put_first);
        let second = Agent::begin(&coordinator, A);
        second.send(&chunks(), &nodes);
        let other = coordinator.shared.lock().open.node(&root.id).unwrap().tickets[1 - put_first].unwrap();
        assert!(coordinator.shared.lock().runs.get(second.caller).unwrap().waits.contains(&other));
        // The packs of chunks and of the other copies: neither comes to be.
        (0..2).for_each(|at| lab.store.fault(at, Fault::Fails));
        let void = second.try_commit(root);
        assert!(
            matches!(void, Err(CommitError::Run(RunError::Ended { ending: Ending::PutFailed(_), .. }))),
            "{void:?}"
        );
        wait_for_open_packs(&coordinator);
        assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 0);
        back_up_deep(&coordinator);
        assert_twice(&coordinator);
    }
}

/// A root that is a leaf: so large that it is not kept in memory, or small.
fn leaf_root(is_large: bool) -> IncomingNode {
    let links = if is_large { 3_000 } else { 1 };
    node(&vec![to_chunk(&chunk(0)); links])
}

#[test]
fn inv_79_a_root_that_is_a_leaf_is_in_two_packs_too() {
    for is_large in [false, true] {
        for is_last in [false, true] {
            let lab = Lab::new();
            let mut coordinator = lab.open();
            let root = leaf_root(is_large);
            let agent = Agent::begin(&coordinator, A);
            agent.send(&[chunk(0)], from_ref(&root));
            if !is_last {
                agent.send(&[], &[node(&[])]);
            }
            let before = lab.store.calls().len();
            agent.commit(&root);
            assert_eq!(lab.store.calls().len() - before, 3 + 6, "three packs, three objects twice");
            for is_index_lost in [false, true] {
                coordinator = reopen(&lab, coordinator, is_index_lost);
                let packs = packs_of(&coordinator, &root);
                assert!(packs.len() == 2 && packs[0] != packs[1], "large: {is_large}, last: {is_last}: {packs:?}");
            }
            for copy in [0, 1] {
                let packs = packs_of(&coordinator, &root);
                let whole = lab.objects.get(&packs[copy], ByteRange::Whole).unwrap();
                lab.objects.damage(&packs[copy], None);
                assert!(restore_all(&coordinator).is_ok());
                let damages = verify(&coordinator);
                assert!(damages.len() == 1 && damages[0].is_harmless, "{damages:?}");
                assert_eq!(damages[0].is_healed, copy == 0, "the second time there is a third place");
                assert_eq!(readable_places(&coordinator, &root), 2);
                lab.objects.damage(&packs[copy], Some(whole));
                assert_eq!(verify(&coordinator), []);
            }
        }
    }
}

#[test]
fn inv_79_a_leaf_that_another_run_has_sent_becomes_a_root_in_two_packs() {
    for is_durable in [false, true] {
        let lab = Lab::new();
        let coordinator = lab.open();
        let leaf = leaf_root(false);
        let first = Agent::begin(&coordinator, A);
        first.send(&[chunk(0)], from_ref(&leaf));
        if is_durable {
            first.send(&[], &[node(&[to_node(&leaf)])]);
            first.commit(&node(&[to_node(&leaf)]));
        }
        let second = Agent::begin(&coordinator, B);
        second.send(&[chunk(0)], from_ref(&leaf));
        second.send(&[], &[node(&[])]);
        second.commit(&leaf);
        let packs = packs_of(&coordinator, &leaf);
        assert!(packs.len() == 2 && packs[0] != packs[1], "durable before: {is_durable}: {packs:?}");
    }
}

#[test]
fn inv_79_no_snapshot_is_committed_while_the_copy_of_its_root_is_not_durable() {
    for is_large in [false, true] {
        let lab = Lab::new();
        let coordinator = lab.open();
        let root = leaf_root(is_large);
        let agent = Agent::begin(&coordinator, A);
        agent.send(&[chunk(0)], from_ref(&root));
        // Small, it is put beside the other two; large, after them.
        match is_large {
            true => lab.store.fault(2, Fault::Fails),
            false => (0..3).for_each(|at| lab.store.fault(at, Fault::Fails)),
        }
        assert!(agent.try_commit(&root).is_err());
        wait_for_open_packs(&coordinator);
        assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 0);
        let again = Agent::begin(&coordinator, A);
        again.send(&[chunk(0)], from_ref(&root));
        again.commit(&root);
        assert_eq!(readable_places(&coordinator, &root), 2);
    }
}

#[test]
fn inv_79_packs_of_copies_that_no_batch_names_are_adopted_as_what_they_are() {
    // So small that each record fills one.
    let lab = Lab { pack_bytes: 200, ..Lab::new() };
    let coordinator = lab.open();
    let agent = Agent::begin(&coordinator, A);
    agent.send(&chunks(), &deep(&chunks()));
    wait_for_open_packs(&coordinator);
    let coordinator = reopen(&lab, coordinator, true);
    let held = |holds| coordinator.caught_up().adopted.iter().filter(|added| added.holds == holds).count();
    assert_eq!([Holds::Chunks, Holds::Nodes, Holds::NodeCopies].map(held), [8, 7, 3]);
    assert_twice(&coordinator);
    back_up_deep(&coordinator);
    assert!(restore_all(&coordinator).is_ok());
}
