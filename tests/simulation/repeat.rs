//! The same history makes the same bytes (INV-19), on one thread, with one clock and one seed.
//!
//! Two labs back up the same directories in turn: the time at which a file was made is in the tree, and no test can set
//! it. What is drawn from the system on purpose is left out: the key of a manifest, and what age draws to wrap it. So the
//! bytes of manifests and envelopes differ, their hashes in the journal, and the hashes of its batches.

use crate::lab::Lab;
use crate::source::Source;
use lifeboat_coordinator::clock::Clock;
use lifeboat_coordinator::journal::read_batch;
use lifeboat_coordinator::store::{ObjectKind, ObjectName, Store};
use lifeboat_format::id::SnapshotId;
use lifeboat_format::journal::{Act, Event};
use std::path::Path;

fn packs(lab: &Lab) -> Vec<ObjectName> {
    lab.objects().list(ObjectKind::Pack).unwrap()
}

/// The journal, without the hashes of manifests.
fn journal(lab: &Lab) -> Vec<Vec<Act>> {
    let batches = (1..).map_while(|number| read_batch(lab.objects(), number).unwrap());
    let acts = |batch: lifeboat_format::journal::Batch| {
        batch.records().iter().map(|record| without_hash(&record.act)).collect()
    };
    batches.map(acts).collect()
}

fn without_hash(act: &Act) -> Act {
    let mut act = act.clone();
    if let Event::SnapshotCommitted(committed) = &mut act.event {
        committed.snapshot = SnapshotId::from_bytes([0; 32]);
    }
    act
}

#[test]
fn inv_19_the_same_history_makes_the_same_packs_and_the_same_journal() {
    // Where nobody changes the directories on the way, which are in the tree too.
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let labs = ["repeat-1", "repeat-2"].map(|name| Lab::new(name, 200_000));
    let paths = [1, 2].map(|id| directory.path().join(format!("source-{id}")));
    let source = |path: &Path, seed| Source::new(path, seed, labs[0].clock().clone());
    let mut sources = [source(&paths[0], 4), source(&paths[1], 5)];
    sources.iter_mut().for_each(|source| source.fill(40));
    for round in 0..4 {
        labs[1].clock().jump_to(labs[0].clock().now_ns());
        for lab in &labs {
            [1, 2].iter().zip(&paths).for_each(|(id, path)| drop(lab.backup(&lab.host_with(*id, path))));
            if round == 1 {
                lab.restart();
            }
        }
        sources.iter_mut().for_each(|source| source.change(8));
    }
    assert!(packs(&labs[0]).len() > 10);
    assert_eq!(packs(&labs[0]), packs(&labs[1]));
    assert_eq!(journal(&labs[0]), journal(&labs[1]));
}
