//! Every kind of damage × every kind of pack × verify, restore, backup, start, with the expected outcome as a table. In
//! no case is all good while something cannot be restored, and each is over when the good bytes return.

use super::lab::*;
use crate::repository::Coordinator;
use crate::run::upload::IncomingChunk;
use crate::store::{ByteRange, ObjectName, Store};
use bytes::Bytes;
use lifeboat_format::id::{HostId, SnapshotNumber};
use lifeboat_format::journal::event::Holds;
use lifeboat_format::link::Target;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Bit,
    Footer,
    Cut,
    Emptied,
    Deleted,
    Exchanged,
    Unreadable,
}

/// What is expected while the damage is there.
struct Expected {
    /// Whether the snapshots restore through the index as it was. With a lost index, none does.
    restores: bool,
    /// Whether the journal has a loss after `verify`: with the index as it was, and with a lost one.
    recorded: [bool; 2],
}

/// The same for packs of chunks and of nodes. In each case `verify` fails and names the snapshots, an unchanged backup is
/// refused, a full one is committed and heals them, and a start succeeds.
const TABLE: [(Damage, Expected); 7] = [
    (Damage::Bit, Expected { restores: false, recorded: [true, true] }),
    (Damage::Footer, Expected { restores: true, recorded: [false, false] }),
    (Damage::Cut, Expected { restores: true, recorded: [false, false] }),
    (Damage::Emptied, Expected { restores: false, recorded: [false, false] }),
    (Damage::Deleted, Expected { restores: false, recorded: [true, false] }),
    (Damage::Exchanged, Expected { restores: false, recorded: [false, false] }),
    (Damage::Unreadable, Expected { restores: false, recorded: [false, false] }),
];

const HOSTS: [HostId; 2] = [A, B];

/// What each of two hosts backs up.
fn content(host: HostId) -> Vec<IncomingChunk> {
    (0..4).map(|number| chunk(100 * host.get() + number)).collect()
}

fn pack_of(coordinator: &Coordinator, holds: Holds, host: HostId) -> ObjectName {
    let target = match holds {
        Holds::Nodes => Target::Node(tree(&content(host))[0].id),
        _ => Target::Chunk(content(host)[0].id),
    };
    let found = coordinator.locate(target, host).unwrap()[0];
    ObjectName::pack(coordinator.shared.index.pack_id(found.place.pack).unwrap())
}

/// Does the damage; answers what the objects were before.
fn inflict(lab: &Lab, damage: Damage, pack: &ObjectName, other: &ObjectName) -> Vec<(ObjectName, Bytes)> {
    let [whole, others] = [pack, other].map(|name| lab.objects.get(name, ByteRange::Whole).unwrap());
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 4;
        Bytes::from(bytes)
    };
    match damage {
        Damage::Bit => lab.objects.damage(pack, Some(flipped(60))),
        Damage::Footer => lab.objects.damage(pack, Some(flipped(whole.len() - 150))),
        Damage::Cut => lab.objects.damage(pack, Some(whole.slice(..whole.len() - 1))),
        Damage::Emptied => lab.objects.damage(pack, Some(Bytes::new())),
        Damage::Deleted => lab.objects.damage(pack, None),
        Damage::Exchanged => {
            lab.objects.damage(pack, Some(others.clone()));
            lab.objects.damage(other, Some(whole.clone()));
        }
        Damage::Unreadable => lab.store.fail_reads_of(pack, true),
    }
    vec![(pack.clone(), whole), (other.clone(), others)]
}

/// The snapshots that `verify` names, and whether it fails.
fn verify(coordinator: &Coordinator) -> (BTreeSet<SnapshotNumber>, bool) {
    let damages = coordinator.verify(None, &mut |_| {}).unwrap();
    let named = damages.iter().flat_map(|damage| damage.snapshots.clone()).collect();
    (named, damages.iter().any(|damage| !damage.is_harmless))
}

/// Whether every snapshot restores. All are tried.
fn restores_all(coordinator: &Coordinator) -> bool {
    let roots: Vec<_> = coordinator
        .catalog(|catalog| catalog.snapshots().map(|(_, snapshot)| (snapshot.host, snapshot.root.id)).collect());
    roots.into_iter().filter(|(host, root)| restore(coordinator, *host, *root).is_err()).count() == 0
}

fn has_losses(coordinator: &Coordinator) -> bool {
    coordinator.catalog(|catalog| catalog.losses().next().is_some())
}

struct Case {
    damage: Damage,
    holds: Holds,
    index_lost: bool,
    verified: bool,
}

fn play(case: &Case, expected: &Expected) {
    let what = format!(
        "{:?} of a pack of {:?}, index lost: {}, verified before the backup: {}",
        case.damage, case.holds, case.index_lost, case.verified
    );
    let lab = Lab::new();
    let coordinator = lab.open();
    let [first, second] = HOSTS.map(|host| back_up(&coordinator, host, &content(host)).number);
    let touched =
        if case.damage == Damage::Exchanged { BTreeSet::from([first, second]) } else { BTreeSet::from([first]) };
    let [pack, other] = HOSTS.map(|host| pack_of(&coordinator, case.holds, host));
    let before = inflict(&lab, case.damage, &pack, &other);
    drop(coordinator);
    if case.index_lost {
        lab.delete_index();
    }
    let mut coordinator = lab.open();
    let restores = expected.restores && !case.index_lost;
    assert_eq!(restores_all(&coordinator), restores, "restore: {what}");
    if case.verified {
        for _ in 0..2 {
            assert_eq!(verify(&coordinator), (touched.clone(), true), "verify: {what}");
        }
        assert_eq!(has_losses(&coordinator), expected.recorded[usize::from(case.index_lost)], "recorded: {what}");
        drop(coordinator);
        coordinator = lab.open();
    }
    if case.verified || !restores {
        let root = tree(&content(A)).pop().unwrap();
        assert_eq!(Agent::begin(&coordinator, A).refused(&root)[0].nodes, [root.id], "unchanged backup: {what}");
    }
    for host in HOSTS {
        back_up(&coordinator, host, &content(host));
    }
    if case.verified || !restores {
        assert!(restores_all(&coordinator), "healed: {what}");
        assert_eq!(verify(&coordinator), (BTreeSet::new(), false), "verify after healing: {what}");
    }
    before.into_iter().for_each(|(name, bytes)| lab.objects.damage(&name, Some(bytes)));
    lab.store.fail_reads_of(&pack, false);
    assert_eq!(coordinator.verify(None, &mut |_| {}).unwrap(), [], "brought back: {what}");
    assert!(!has_losses(&coordinator) && restores_all(&coordinator), "brought back: {what}");
    for host in HOSTS {
        Agent::begin(&coordinator, host).commit(tree(&content(host)).last().unwrap());
    }
}

#[test]
fn inv_72_whatever_is_damaged_is_named_healed_by_a_backup_and_over_when_it_is_brought_back() {
    for (damage, expected) in &TABLE {
        for holds in [Holds::Chunks, Holds::Nodes] {
            for index_lost in [false, true] {
                for verified in [false, true] {
                    play(&Case { damage: *damage, holds, index_lost, verified }, expected);
                }
            }
        }
    }
}
