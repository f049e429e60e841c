//! What a run may rely on: "have", witnesses, nodes and their homes (INV-21, 22, 24, 44).

use super::lab::*;
use crate::index::{Changes, Mark};
use crate::repository::Coordinator;
use crate::run::upload::{IncomingChunk, IncomingNode};
use lifeboat_format::id::{Digest, HostId};
use lifeboat_format::journal::event::SnapshotState;
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use std::slice::from_ref;

fn mark_chunk(coordinator: &Coordinator, chunk: &IncomingChunk, mark: u64) {
    let index = &coordinator.shared.index;
    let mut row = index.chunk(&chunk.id).unwrap().unwrap();
    row.mark = Mark(mark);
    let mut changes = Changes::default();
    index.set_chunk(&mut changes, &chunk.id, &row).unwrap();
    index.write(changes).unwrap();
}

fn mark_of(coordinator: &Coordinator, chunk: &IncomingChunk) -> Mark {
    coordinator.shared.index.chunk(&chunk.id).unwrap().unwrap().mark
}

#[test]
fn inv_44_a_chunk_of_one_host_is_offered_to_others_only_once_a_second_one_brought_the_same_bytes() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let [x, y] = [chunk(0), chunk(1)];
    back_up(&coordinator, A, &[x.clone(), y.clone()]);
    let (b, c) = (Agent::begin(&coordinator, B), Agent::begin(&coordinator, C));
    assert!(Agent::begin(&coordinator, A).has(&x));
    assert!(!b.has(&x) && !c.has(&x), "one host is no witness");
    b.send(from_ref(&x), &[]);
    assert!(b.has(&x) && c.has(&x), "two are");
    let other_form = chunk_in_form(1, 9);
    b.send(from_ref(&other_form), &[]);
    assert!(b.has(&y) && !c.has(&y), "other bytes are kept beside, and witness nothing");
    b.send(&[], &[node(&[to_chunk(&x), to_chunk(&y)])]);
    b.commit(&node(&[to_chunk(&x), to_chunk(&y)]));
    let bodies = coordinator.shared.index.chunk(&y.id).unwrap().unwrap().bodies;
    assert_eq!(bodies.iter().map(|body| body.host).collect::<Vec<_>>(), [A, B]);
    assert_eq!(coordinator.read_chunk(&y.id, A).unwrap(), y.sealed);
    assert_eq!(coordinator.read_chunk(&y.id, B).unwrap(), other_form.sealed);
    Agent::begin(&coordinator, C).send(from_ref(&y), &[]);
    let bodies = coordinator.shared.index.chunk(&y.id).unwrap().unwrap().bodies;
    let hosts = bodies.iter().map(|body| (body.host, body.digest)).collect::<Vec<_>>();
    let digests = [&y, &other_form].map(|chunk| Digest::of(&chunk.sealed));
    assert_eq!(hosts, [(HostId::WITNESSED, digests[0]), (B, digests[1])], "only for the bytes that came twice");
}

#[test]
fn inv_21_a_node_is_admitted_only_if_each_of_its_links_was_acquired() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let [sent, foreign, nowhere] = [chunk(0), chunk(1), chunk(2)];
    back_up(&coordinator, A, from_ref(&foreign));
    let agent = Agent::begin(&coordinator, B);
    agent.send(from_ref(&sent), &[]);
    let stranger = node(&[to_chunk(&sent)]);
    let parent = node(&[to_chunk(&sent), to_chunk(&foreign), to_chunk(&nowhere), to_node(&stranger)]);
    let refused = agent.send(&[], from_ref(&parent));
    let mut missing = vec![foreign.id, nowhere.id];
    missing.sort();
    assert_eq!(
        (refused[0].node, &refused[0].chunks, &refused[0].nodes),
        (Some(parent.id), &missing, &vec![stranger.id])
    );
    assert_eq!(agent.refused(&parent)[0].nodes, [parent.id], "a refused node was not sent");
    assert_eq!(agent.send(&[foreign, nowhere], &[stranger, parent.clone()]), []);
    agent.commit(&parent);
}

#[test]
fn inv_21_a_node_that_merely_exists_is_not_relied_on() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let x = chunk(0);
    let leaf = node(&[to_chunk(&x)]);
    let first = Agent::begin(&coordinator, A);
    first.send(from_ref(&x), from_ref(&leaf));
    let other = node(&[to_chunk(&x), to_node(&leaf)]);
    first.send(&[], from_ref(&other));
    coordinator.abort(first.caller).unwrap();
    lab.close_packs(&coordinator);
    assert!(coordinator.shared.index.node(&leaf.id).unwrap().is_some(), "it exists");
    let second = Agent::begin(&coordinator, A);
    let reader = node(&[to_node(&leaf)]);
    assert_eq!(second.send(&[], &[reader])[0].nodes, [leaf.id]);
    assert_eq!(second.refused(&leaf)[0].nodes, [leaf.id]);
}

#[test]
fn inv_37_only_nodes_that_the_root_reaches_get_a_home() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let x = chunk(0);
    let (reached, stray) = (node(&[to_chunk(&x)]), node(&[to_chunk(&x), to_chunk(&x)]));
    let agent = Agent::begin(&coordinator, A);
    agent.send(&[x], &[reached.clone(), stray.clone()]);
    let index = &coordinator.shared.index;
    let home = |node: &IncomingNode| index.node(&node.id).unwrap().and_then(|row| row.home);
    assert_eq!(home(&reached), None);
    let committed = agent.commit(&reached);
    assert_eq!((home(&reached), home(&stray)), (Some(committed.number), None));
}

#[test]
fn inv_21_a_foreign_home_serves_only_where_all_below_is_witnessed() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let x = chunk(0);
    let (leaf, parent) = (node(&[to_chunk(&x)]), |leaf: &IncomingNode| node(&[to_node(leaf)]));
    let a = Agent::begin(&coordinator, A);
    a.send(from_ref(&x), from_ref(&leaf));
    a.commit(&leaf);
    let b = Agent::begin(&coordinator, B);
    assert_eq!(b.send(&[], &[parent(&leaf)])[0].nodes, [leaf.id], "home of another host, unwitnessed chunk");
    b.send(&[x], from_ref(&leaf));
    b.commit(&leaf);
    let c = Agent::begin(&coordinator, C);
    assert_eq!(c.send(&[], &[parent(&leaf)]), [], "two hosts brought everything below it");
    assert_eq!(c.commit(&parent(&leaf)).snapshot, c.coordinator.catalog(|all| all.snapshots().last().unwrap().1.id));
}

#[test]
fn inv_21_a_purged_home_serves_nobody() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let leaf = node(&[to_chunk(&chunk(0))]);
    let a = Agent::begin(&coordinator, A);
    a.send(&[chunk(0)], from_ref(&leaf));
    let snapshot = a.commit(&leaf).number;
    let set_state = |state| {
        let event = Event::SnapshotState { snapshot, state };
        let (verb, object) = ("forget".into(), "it".into());
        let act = Act { time_ns: 1, principal: Principal::LocalRoot, verb, object, decision: Decision::Done, event };
        coordinator.record(vec![act]).unwrap();
    };
    set_state(SnapshotState::Trash);
    let trashed = Agent::begin(&coordinator, A);
    assert_eq!(trashed.send(&[], &[node(&[to_node(&leaf)])]), []);
    assert!(coordinator.shared.lock().runs.is_pinned(snapshot), "it must not be purged now");
    coordinator.abort(trashed.caller).unwrap();
    assert!(!coordinator.shared.lock().runs.is_pinned(snapshot));
    set_state(SnapshotState::Purged);
    assert_eq!(Agent::begin(&coordinator, A).refused(&leaf)[0].nodes, [leaf.id]);
}

#[test]
fn inv_22_have_and_a_dropped_upload_and_a_link_clear_the_mark() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let x = chunk(0);
    back_up(&coordinator, A, from_ref(&x));
    let agent = Agent::begin(&coordinator, A);
    let acquire: [(&str, &dyn Fn()); 3] = [
        ("have", &|| assert!(agent.has(&x))),
        ("an upload whose bytes are dropped", &|| assert_eq!(agent.send(from_ref(&x), &[]), [])),
        ("a link of a node", &|| assert_eq!(agent.send(&[], &[node(&[to_chunk(&x)])]), [])),
    ];
    for (how, acquire) in acquire {
        mark_chunk(&coordinator, &x, 3);
        acquire();
        assert_eq!(mark_of(&coordinator, &x), Mark::NONE, "{how}");
    }
    mark_chunk(&coordinator, &x, 3);
    assert!(!Agent::begin(&coordinator, B).has(&x));
    assert_eq!(mark_of(&coordinator, &x), Mark(3), "who is told to send acquires nothing");
}

#[test]
fn inv_24_a_commit_looks_again_at_what_was_sent_and_refuses_what_is_gone() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let [x, y] = [chunk(0), chunk(1)];
    back_up(&coordinator, A, from_ref(&x));
    let agent = Agent::begin(&coordinator, A);
    let root = node(&[to_chunk(&x), to_chunk(&y)]);
    assert_eq!(agent.send(from_ref(&y), from_ref(&root)), []);
    // As if the first net had a hole: the row goes although the run relies on it.
    let index = &coordinator.shared.index;
    let mut row = index.chunk(&x.id).unwrap().unwrap();
    row.bodies.clear();
    let mut changes = Changes::default();
    index.set_chunk(&mut changes, &x.id, &row).unwrap();
    index.write(changes).unwrap();
    let refused = agent.refused(&root);
    assert_eq!((refused[0].node, &refused[0].chunks), (Some(root.id), &vec![x.id]));
    agent.send(&[x], &[]);
    agent.commit(&root);
    assert_eq!(restore(&coordinator, A, root.id), Ok(3));
}

#[test]
fn inv_24_a_commit_clears_marks_that_came_after_the_first_net() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let x = chunk(0);
    back_up(&coordinator, A, from_ref(&x));
    let agent = Agent::begin(&coordinator, A);
    let root = node(&[to_chunk(&x), to_chunk(&x)]);
    agent.send(&[], from_ref(&root));
    mark_chunk(&coordinator, &x, 8);
    agent.commit(&root);
    assert_eq!(mark_of(&coordinator, &x), Mark::NONE);
}

#[test]
fn inv_11_bytes_that_do_not_match_their_digest_or_id_are_refused() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let agent = Agent::begin(&coordinator, A);
    let mut flipped = chunk(0);
    flipped.sealed[100] ^= 1;
    assert!(agent.try_send(&[flipped], &[]).is_err());
    let mut forged = node(&[]);
    forged.record.push(0);
    assert!(agent.try_send(&[], &[forged]).is_err());
    let liar = node(&[lifeboat_format::link::Link::node(SCOPE, node(&[]).id, 2)]);
    agent.send(&[], &[node(&[])]);
    assert!(agent.try_send(&[], &[liar]).is_err(), "the height of a link is checked");
}
