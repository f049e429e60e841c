//! A journal that lacks batches: what is intact is listed and restored.

use super::lab::*;
use crate::catalog::Snapshot;
use crate::repository::Coordinator;
use crate::store::ObjectName;
use bytes::Bytes;
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};

/// Two hosts, and their snapshots in order.
fn history() -> (Lab, [Vec<SnapshotId>; 2], u64) {
    let lab = Lab::new();
    let coordinator = lab.open();
    let mut snapshots = [Vec::new(), Vec::new()];
    for (host, contents) in [(A, 0..4), (B, 0..4), (A, 2..6), (B, 10..12), (A, 0..6)] {
        let chunks: Vec<_> = contents.map(chunk).collect();
        snapshots[host.get() as usize - 1].push(back_up(&coordinator, host, &chunks).snapshot);
    }
    let batches = coordinator.journal().len();
    (lab, snapshots, batches)
}

fn listed(coordinator: &Coordinator, host: HostId) -> Vec<SnapshotId> {
    let of_host = |(_, one): (SnapshotNumber, &Snapshot)| (one.host == host).then_some(one.id);
    coordinator.catalog(|catalog| catalog.snapshots().filter_map(of_host).collect())
}

fn damage(lab: &Lab, batch: u64, bytes: Option<&'static [u8]>) {
    let name = ObjectName::journal(batch);
    [name.copy(), name].iter().for_each(|copy| lab.objects.damage(copy, bytes.map(Bytes::from_static)));
}

#[test]
fn inv_73_without_any_one_batch_every_snapshot_is_listed_in_order_and_restored() {
    let (_, _, batches) = history();
    for gone in 1..=batches {
        for bytes in [Some(b"corrupt".as_slice()), None] {
            let (lab, snapshots, _) = history();
            damage(&lab, gone, bytes);
            let opened = lab.try_open(lab.store.clone());
            if gone == batches && bytes.is_none() {
                assert!(opened.is_ok(), "without its last batch a journal is that of an older copy");
                continue;
            }
            assert!(opened.is_err_and(|error| error.is_damage()), "{gone}");
            let coordinator = lab.open_despite_damage().unwrap();
            assert_eq!([A, B].map(|host| listed(&coordinator, host)), snapshots, "without batch {gone}");
            restore_all(&coordinator).unwrap_or_else(|error| panic!("without batch {gone}: {error}"));
        }
    }
}

#[test]
fn inv_73_without_most_batches_what_the_others_and_the_manifests_say_is_restored() {
    let (lab, snapshots, batches) = history();
    (2..=batches).for_each(|batch| damage(&lab, batch, Some(b"corrupt")));
    let coordinator = lab.open_despite_damage().unwrap();
    for (host, snapshots) in [A, B].into_iter().zip(snapshots) {
        assert_eq!(listed(&coordinator, host), snapshots);
    }
    restore_all(&coordinator).unwrap();
}

/// Batches of another repository, and batches signed with a foreign key, are not read.
#[test]
fn inv_52_despite_gaps_only_batches_of_this_journal_are_read() {
    let (lab, snapshots, batches) = history();
    let mut stranger = lab.in_place_of();
    stranger.log_key = lifeboat_format::sign::SigningKey::from_seed(&[0x77; 32]);
    stranger.begin_journal(stranger.store.clone());
    let other = stranger.open();
    let forged = back_up(&other, C, &[chunk(99)]).snapshot;
    for batch in 2..=other.journal().len().min(batches) {
        let name = ObjectName::journal(batch);
        let bytes = crate::store::Store::get(&stranger.objects, &name, crate::store::ByteRange::Whole).unwrap();
        [name.copy(), name].iter().for_each(|copy| lab.objects.damage(copy, Some(bytes.clone())));
    }
    let coordinator = lab.open_despite_damage().unwrap();
    coordinator.catalog(|catalog| {
        assert!(catalog.snapshot_by_id(&forged).is_none());
        snapshots.iter().flatten().for_each(|id| assert!(catalog.snapshot_by_id(id).is_some()));
    });
}
