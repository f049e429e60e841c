//! What a commit is, and who may do it.

use super::lab::*;
use crate::repository::{BeginError, Coordinator};
use crate::run::RunError;
use crate::run::commit::{CommitAnswer, CommitError};
use crate::run::upload::{IncomingChunk, UploadError};
use crate::run::{Ending, RUN_AGE_MAX, RunRef};
use crate::store::faulty::Call;
use crate::store::{ObjectKind, Put};

fn chunks() -> Vec<IncomingChunk> {
    (0..5).map(chunk).collect()
}

#[test]
fn what_was_committed_restores_and_an_unchanged_backup_sends_nothing() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let nodes = tree(&chunks());
    let root = &nodes[nodes.len() - 1];
    let first = back_up(&coordinator, A, &chunks());
    assert_eq!(restore(&coordinator, A, root.id), Ok(5 + 3 + 1));
    let packs_before = packs(&lab).len();
    let second = Agent::begin(&coordinator, A).commit(root);
    assert!(second.number > first.number && second.suspect.is_none());
    assert_eq!(packs(&lab).len(), packs_before, "nothing was sent");
}

#[test]
fn inv_02_packs_then_manifest_then_batch_then_answer() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let before = lab.store.calls().len();
    back_up(&coordinator, A, &chunks());
    let order: Vec<ObjectKind> = lab.store.calls()[before..]
        .iter()
        .map(|call| match call {
            Call::Put(name, Some(Put::Done)) => name.kind(),
            other => panic!("{other:?}"),
        })
        .collect();
    let (packs, rest) = order.split_at(3);
    assert_eq!(packs, [ObjectKind::Pack; 3], "chunks, nodes, and the root once more");
    let twice = [ObjectKind::Manifest, ObjectKind::Envelope, ObjectKind::Journal].map(|kind| [kind, kind]);
    assert_eq!(rest, twice.as_flattened());
}

#[test]
fn a_commit_repeated_after_a_lost_answer_gives_the_answer_again_also_after_a_restart() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let nodes = tree(&chunks());
    let agent = Agent::begin(&coordinator, A);
    agent.send(&chunks(), &nodes);
    let (manifest, envelope) = agent.manifest(&nodes[nodes.len() - 1]);
    let commit = |coordinator: &Coordinator| match coordinator.commit(agent.caller, &manifest, &envelope) {
        Ok(CommitAnswer::Committed(committed)) => (committed.snapshot, committed.number),
        other => panic!("{other:?}"),
    };
    let first = commit(&coordinator);
    assert_eq!(commit(&coordinator), first);
    let caller = agent.caller;
    drop(coordinator);
    let coordinator = lab.open();
    match coordinator.commit(caller, &manifest, &envelope) {
        Ok(CommitAnswer::Committed(committed)) => assert_eq!((committed.snapshot, committed.number), first),
        other => panic!("{other:?}"),
    }
    assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 1);
}

#[test]
fn inv_25_after_abort_a_newer_run_expiry_or_a_restart_nothing_is_taken() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let nodes = tree(&chunks());
    let root = &nodes[nodes.len() - 1];
    let ended = |agent: &Agent<'_>, ending| {
        let late = Err(RunError::Ended { run: agent.caller.run, ending });
        assert!(
            matches!(agent.try_send(&chunks(), &[]), Err(UploadError::Run(error)) if Err::<(), _>(error.clone()) == late)
        );
        assert!(matches!(agent.try_commit(root), Err(CommitError::Run(error)) if Err::<(), _>(error.clone()) == late));
    };
    let aborted = Agent::begin(&coordinator, A);
    aborted.send(&chunks(), &nodes);
    coordinator.abort(aborted.caller).unwrap();
    ended(&aborted, Ending::Aborted);
    let older = Agent::begin(&coordinator, A);
    older.send(&chunks(), &nodes);
    let newer = Agent::begin(&coordinator, A);
    ended(&older, Ending::Superseded);
    lab.clock.advance(RUN_AGE_MAX);
    coordinator.expire_runs().unwrap();
    ended(&newer, Ending::Expired);
    let last = Agent::begin(&coordinator, A);
    last.send(&chunks(), &nodes);
    let (caller, (manifest, envelope)) = (last.caller, last.manifest(root));
    drop(coordinator);
    let coordinator = lab.open();
    let refused = coordinator.commit(caller, &manifest, &envelope);
    assert!(matches!(refused, Err(CommitError::Run(RunError::Unknown { .. }))), "{refused:?}");
    assert_eq!(coordinator.catalog(|catalog| catalog.snapshots().count()), 0);
}

#[test]
fn inv_43_a_manifest_of_another_host_sequence_or_run_is_refused() {
    let lab = Lab::new();
    let coordinator = lab.open();
    let nodes = tree(&chunks());
    let root = &nodes[nodes.len() - 1];
    back_up(&coordinator, A, &chunks());
    let (mine, theirs) = (Agent::begin(&coordinator, A), Agent::begin(&coordinator, B));
    theirs.send(&chunks(), &nodes);
    let (manifest, envelope) = mine.manifest(root);
    let forged = coordinator.commit(theirs.caller, &manifest, &envelope);
    assert!(matches!(forged, Err(CommitError::Manifest(_))), "signed by another host: {forged:?}");
    let stale = Agent::begin(&coordinator, A);
    stale.commit(root);
    let again = Agent::begin(&coordinator, A);
    let old = coordinator.commit(again.caller, &manifest, &envelope);
    assert!(matches!(old, Err(CommitError::NotThisRun { field: "sequence", .. })), "{old:?}");
}

#[test]
fn inv_17_the_second_empty_night_is_suspect_too() {
    let lab = Lab::new();
    let coordinator = lab.open();
    back_up(&coordinator, A, &chunks());
    let nodes = tree(&chunks());
    for _ in 0..2 {
        let mut agent = Agent::begin(&coordinator, A);
        agent.entries = 0;
        assert!(agent.commit(&nodes[nodes.len() - 1]).suspect.is_some());
    }
    assert!(Agent::begin(&coordinator, A).commit(&nodes[nodes.len() - 1]).suspect.is_none());
}

#[test]
fn a_full_pack_becomes_an_object_without_a_commit() {
    let mut lab = Lab::new();
    lab.pack_bytes = 2_000;
    let coordinator = lab.open();
    let many: Vec<_> = (0..40).map(chunk).collect();
    back_up(&coordinator, A, &many);
    assert!(packs(&lab).len() > 8, "{}", packs(&lab).len());
    assert_eq!(restore_all(&coordinator), Ok(40 + 20 + 1));
}

#[test]
fn two_runs_that_end_together_share_a_pack() {
    let lab = Lab::new();
    let mut coordinator = lab.open();
    coordinator.config.share_wait = std::time::Duration::from_secs(60);
    let (a, b) = (Agent::begin(&coordinator, A), Agent::begin(&coordinator, B));
    let of_b: Vec<_> = (10..15).map(chunk).collect();
    let (nodes_a, nodes_b) = (tree(&chunks()), tree(&of_b));
    a.send(&chunks(), &nodes_a);
    std::thread::scope(|scope| {
        scope.spawn(|| a.commit(&nodes_a[nodes_a.len() - 1]));
        b.send(&of_b, &nodes_b);
        b.commit(&nodes_b[nodes_b.len() - 1]);
    });
    assert_eq!(packs(&lab).len(), 3, "one for chunks, one for nodes, one for copies of nodes");
}

#[test]
fn inv_67_no_more_runs_are_at_work_than_there_may_be_and_a_lost_one_gives_its_place_away() {
    let lab = Lab::new();
    let mut coordinator = lab.open();
    coordinator.config.runs_max = 1;
    let a = Agent::begin(&coordinator, A);
    assert!(matches!(coordinator.begin(B, "system"), Err(BeginError::Busy { runs: 1 })));
    let again = coordinator.begin(A, "system").unwrap();
    let b = coordinator.begin(B, "system");
    assert!(b.is_err(), "the same source set begins again in its own place");
    coordinator.lost_connection(RunRef { run: again.run, fence: again.fence, ..a.caller });
    assert!(coordinator.begin(B, "system").is_ok());
}
