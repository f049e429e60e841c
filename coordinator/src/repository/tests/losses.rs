//! Damage: found without a key, named, and healed by the next backup (INV-11, 15).

use super::lab::*;
use crate::repository::{Coordinator, ReadError};
use crate::store::{ByteRange, ObjectName, Store};
use lifeboat_format::id::ChunkId;
use lifeboat_format::journal::Event;
use lifeboat_format::link::Target;

/// Flips one bit of the sealed bytes of a chunk; answers its pack.
fn flip(lab: &Lab, coordinator: &Coordinator, id: ChunkId) -> ObjectName {
    let found = coordinator.locate(Target::Chunk(id), A).unwrap()[0];
    let pack = ObjectName::pack(coordinator.shared.index.pack_id(found.place.pack).unwrap());
    let mut bytes = lab.objects.get(&pack, ByteRange::Whole).unwrap().to_vec();
    bytes[found.place.offset as usize + 7] ^= 0x10;
    lab.objects.damage(&pack, Some(bytes.into()));
    pack
}

#[test]
fn inv_15_a_lost_chunk_below_an_unchanged_leaf_is_asked_for_again_and_the_next_backup_heals_it() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let chunks: Vec<_> = (0..6).map(chunk).collect();
    let nodes = tree(&chunks);
    let root = &nodes[nodes.len() - 1];
    let first = back_up(&coordinator, A, &chunks);
    let other = back_up(&coordinator, B, &[chunk(77)]);
    let pack = flip(&lab, &coordinator, chunks[2].id);
    assert!(coordinator.read_chunk(&chunks[2].id, A).is_err(), "checked on every read");
    let damages = coordinator.verify(None, &mut |_| {}).unwrap();
    assert_eq!(damages.len(), 1);
    assert_eq!(damages[0].object, pack);
    assert_eq!(damages[0].snapshots.iter().copied().collect::<Vec<_>>(), [first.number], "not {}", other.number);

    let agent = Agent::begin(&coordinator, A);
    assert_eq!(agent.refused(root)[0].nodes, [root.id], "a damaged snapshot gives no homes");
    let refused = agent.send(&[], std::slice::from_ref(root));
    assert_eq!(refused[0].nodes.len(), 3, "its leaves are asked for");
    let refused = agent.send(&[], &nodes[..3]);
    assert_eq!((refused.len(), &refused[0].chunks), (1, &vec![chunks[2].id]), "then the lost chunk, and only it");
    assert!(!agent.has(&chunks[2]) && agent.has(&chunks[1]));
    assert_eq!(agent.send(&chunks[2..3], &nodes), []);
    agent.commit(root);
    assert_eq!(restore_all(&coordinator), Ok(2 * (6 + 3 + 1) + 3), "the old snapshot is whole again too");
    assert_eq!(Agent::begin(&coordinator, B).send(&[], &[node(&[to_node(&tree(&[chunk(77)])[0])])]), []);
}

#[test]
fn inv_15_from_the_moment_of_a_loss_no_snapshot_gives_homes_until_those_without_it_are_known() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0)]);
    let nodes = tree(&[chunk(0)]);
    let pack = packs(&lab)[0].as_pack().unwrap();
    let event = Event::Loss { pack, records: vec![Target::Chunk(chunk(99).id)] };
    let agent = Agent::begin(&coordinator, A);
    coordinator.record(vec![act(event)]).unwrap();
    assert_eq!(agent.refused(&nodes[1])[0].nodes, [nodes[1].id]);
    Agent::begin(&coordinator, A).commit(&nodes[1]);
}

#[test]
fn inv_15_a_loss_outlives_a_restart_and_a_lost_index() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let chunks: Vec<_> = (0..2).map(chunk).collect();
    back_up(&coordinator, A, &chunks);
    flip(&lab, &coordinator, chunks[0].id);
    coordinator.verify(None, &mut |_| {}).unwrap();
    drop(coordinator);
    for index_lost in [false, true] {
        if index_lost {
            lab.delete_index();
        }
        let coordinator = lab.open();
        let agent = Agent::begin(&coordinator, A);
        assert!(!agent.has(&chunks[0]) && agent.has(&chunks[1]), "index lost: {index_lost}");
    }
}

#[test]
fn inv_15_a_missing_or_cut_pack_is_found_and_its_chunks_are_asked_for_again() {
    for keep_bytes in [None, Some(600)] {
        let lab = Lab::new();
        let coordinator = lab.open();
        let chunks: Vec<_> = (0..3).map(chunk).collect();
        let committed = back_up(&coordinator, A, &chunks);
        let found = coordinator.locate(Target::Chunk(chunks[2].id), A).unwrap()[0];
        let pack = ObjectName::pack(coordinator.shared.index.pack_id(found.place.pack).unwrap());
        let bytes = lab.objects.get(&pack, ByteRange::Whole).unwrap();
        lab.objects.damage(&pack, keep_bytes.map(|keep| bytes.slice(..keep)));
        let damages = coordinator.verify(None, &mut |_| {}).unwrap();
        assert!(damages[0].snapshots.contains(&committed.number), "{damages:?}");
        let agent = Agent::begin(&coordinator, A);
        assert!(!agent.has(&chunks[2]));
        assert!(!agent.has(&chunks[0]), "without its footer, what is still whole is lost together with the index");
        assert_eq!(coordinator.read_chunk(&chunks[0].id, A).is_ok(), keep_bytes.is_some(), "it can still be read");
        back_up(&coordinator, A, &chunks);
        assert!(coordinator.verify(None, &mut |_| {}).unwrap().iter().all(|damage| damage.is_harmless));
        assert!(restore_all(&coordinator).is_ok());
    }
}

/// A pack is named by what it holds, so the new pack would have the name of the damaged one.
#[test]
fn inv_15_what_is_sent_again_does_not_land_in_the_very_pack_in_which_it_was_lost() {
    for (lose, times) in [(lose_to_bit_rot as Lose, 3), (lose_in_the_journal_only, 1), (lose_a_footer_and_the_index, 3)]
    {
        let lab = Lab::new();
        let mut coordinator = lab.open();
        back_up(&coordinator, A, &[chunk(0)]);
        // More than once: the new pack may be lost as well.
        for _ in 0..times {
            coordinator = lose(&lab, coordinator);
            assert!(!Agent::begin(&coordinator, A).has(&chunk(0)));
            back_up(&coordinator, A, &[chunk(0)]);
            assert!(restore_all(&coordinator).is_ok(), "all of them have the same tree");
        }
        drop(coordinator);
        lab.delete_index();
        assert!(restore_all(&lab.open()).is_ok());
    }
}

type Lose = fn(&Lab, Coordinator) -> Coordinator;

fn lose_to_bit_rot(lab: &Lab, coordinator: Coordinator) -> Coordinator {
    flip(lab, &coordinator, chunk(0).id);
    assert_ne!(coordinator.verify(None, &mut |_| {}).unwrap(), []);
    coordinator
}

/// The disk gave other bytes once, and gives the right ones again.
fn lose_in_the_journal_only(lab: &Lab, coordinator: Coordinator) -> Coordinator {
    let pack = flip(lab, &coordinator, chunk(0).id);
    coordinator.verify(None, &mut |_| {}).unwrap();
    let mut bytes = lab.objects.get(&pack, ByteRange::Whole).unwrap().to_vec();
    bytes[16 + 7] ^= 0x10;
    lab.objects.damage(&pack, Some(bytes.into()));
    coordinator
}

/// Nobody knows of a loss, but without their footers the rows cannot be made again.
fn lose_a_footer_and_the_index(lab: &Lab, coordinator: Coordinator) -> Coordinator {
    drop(coordinator);
    for pack in packs(lab) {
        let bytes = lab.objects.get(&pack, ByteRange::Whole).unwrap();
        lab.objects.damage(&pack, Some(bytes.slice(..bytes.len() - 1)));
    }
    lab.delete_index();
    lab.open()
}

/// As after a power cut, which takes the last writes of an index: the packs are filled in that came since, the losses
/// that came before them too.
#[test]
fn inv_03_an_index_from_before_a_loss_learns_what_was_sent_again() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0), chunk(1)]);
    drop(coordinator);
    let (index, before) = (lab.index.path().join("index"), lab.index.path().join("before"));
    std::fs::create_dir(&before).unwrap();
    for file in std::fs::read_dir(&index).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), before.join(file.file_name())).unwrap();
    }
    let coordinator = lose_to_bit_rot(&lab, lab.open());
    back_up(&coordinator, A, &[chunk(0), chunk(1)]);
    drop(coordinator);
    lab.delete_index();
    std::fs::rename(&before, &index).unwrap();
    assert!(restore_all(&lab.open()).is_ok());
}

#[test]
fn inv_28_a_disk_that_does_not_answer_proves_no_loss() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0)]);
    lab.store.fail_reads(true);
    assert!(!coordinator.verify(None, &mut |_| {}).unwrap().is_empty());
    let unread = coordinator.read_chunk(&chunk(0).id, A).unwrap_err();
    assert!(matches!(unread, ReadError::Store { .. }), "{unread}");
    lab.store.fail_reads(false);
    assert!(Agent::begin(&coordinator, A).has(&chunk(0)));
    assert_eq!(coordinator.verify(None, &mut |_| {}).unwrap(), []);
}

#[test]
fn inv_11_every_flipped_bit_of_every_object_is_found() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &[chunk(0)]);
    for kind in [crate::store::ObjectKind::Pack, crate::store::ObjectKind::Manifest, crate::store::ObjectKind::Journal]
    {
        for name in lab.objects.list(kind).unwrap() {
            let whole = lab.objects.get(&name, ByteRange::Whole).unwrap();
            for at in (0..whole.len()).step_by(97) {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << (at % 8);
                lab.objects.damage(&name, Some(bytes.into()));
                let damages = coordinator.verify(None, &mut |_| {}).unwrap();
                assert!(damages.iter().any(|damage| damage.object == name), "{name} at {at}");
            }
            lab.objects.damage(&name, Some(whole));
        }
    }
}
