//! Power cuts (INV-1, 2): at each call that changes something on the disk, what was not made durable is there or not, in
//! any mixture; what was acknowledged before restores.
//!
//! The index may be lost, older than the repository, or newer: it lies elsewhere, and nobody syncs it in step.

use super::lab::*;
use crate::repository::Coordinator;
use crate::store::Store;
use crate::store::local::LocalStore;
use crate::store::power::{Change, Recorder, left_after_cut, materialise};
use lifeboat_format::id::SnapshotNumber;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// States that are tried; `LIFEBOAT_POWER_CUTS` asks for more.
const STATES: usize = 1200;

/// A history, and what a power cut may find of it.
struct History {
    lab: Lab,
    /// The empty repository that it began with.
    empty: PathBuf,
    changes: Vec<Change>,
    /// After how many changes which snapshot was acknowledged.
    acked: Vec<(usize, SnapshotNumber)>,
    /// The index as it was in the middle, and at the end.
    indexes: [PathBuf; 2],
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Backups of two hosts with shared content, full packs, a run that was aborted, an index that began anew.
fn history() -> History {
    let mut lab = Lab::new();
    lab.pack_bytes = 1_500;
    let place = lab.index.path().to_owned();
    let (empty, root) = (place.join("empty"), place.join("repository"));
    drop(LocalStore::create(&empty).unwrap());
    copy(&empty, &root);
    let recorder = Arc::new(Recorder::new(&root));
    let store = || -> Arc<dyn Store> { Arc::new(LocalStore::open_on(recorder.clone(), &root).unwrap()) };
    let mut acked = Vec::new();
    let mut back_up = |coordinator: &Coordinator, host, contents: std::ops::Range<u32>| {
        let committed = super::lab::back_up(coordinator, host, &contents.map(chunk).collect::<Vec<_>>());
        acked.push((recorder.changes().len(), committed.number));
    };
    lab.begin_journal(store());
    let coordinator = lab.try_open(store()).unwrap();
    back_up(&coordinator, A, 0..4);
    back_up(&coordinator, B, 0..3);
    let aborted = Agent::begin(&coordinator, A);
    aborted.send(&[chunk(70), chunk(71), chunk(72)], &[]);
    coordinator.abort(aborted.caller).unwrap();
    back_up(&coordinator, A, 2..9);
    drop(coordinator);
    let indexes = ["index-middle", "index-end"].map(|name| place.join(name));
    copy(&lab.index_path(), &indexes[0]);
    let coordinator = lab.try_open(store()).unwrap();
    back_up(&coordinator, C, 7..12);
    back_up(&coordinator, A, 0..12);
    drop(coordinator);
    copy(&lab.index_path(), &indexes[1]);
    let changes = recorder.changes().clone();
    History { lab, empty, changes, acked, indexes }
}

impl History {
    /// Cuts the power after so many changes, and looks at what is left.
    fn cut(&self, after: usize, seed: usize) -> Result<(), String> {
        let mut state = seed as u64 * 0x9e37_79b9 + after as u64 + 1;
        let mut chance = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let place = directory();
        let root = place.path().join("repository");
        copy(&self.empty, &root);
        materialise(&root, &left_after_cut(&self.changes[..after], &mut chance));
        if let Some(index) = self.indexes.get(chance(3)) {
            copy(index, &place.path().join("index"));
        }
        let lab = Lab { index: place, ..self.lab.in_place_of() };
        let store = Arc::new(LocalStore::open(&root).map_err(|error| error.to_string())?);
        let coordinator = match lab.try_open(store) {
            Err(crate::repository::OpenError::NoJournal) if self.acked_by(after).next().is_none() => return Ok(()),
            opened => opened.map_err(|error| error.to_string())?,
        };
        for number in self.acked_by(after) {
            if !coordinator.catalog(|catalog| catalog.snapshots().any(|(there, _)| there == number)) {
                return Err(format!("snapshot {number} was acknowledged and is gone"));
            }
        }
        restore_all(&coordinator)?;
        let damage = coordinator.verify(None, &mut |_| {}).map_err(|error| error.to_string())?;
        if !damage.is_empty() {
            return Err(format!("{damage:?}"));
        }
        back_up(&coordinator, A, &(5..8).map(chunk).collect::<Vec<_>>());
        Ok(())
    }

    fn acked_by(&self, changes: usize) -> impl Iterator<Item = SnapshotNumber> {
        self.acked.iter().filter(move |(at, _)| *at <= changes).map(|(_, number)| *number)
    }
}

#[test]
fn inv_02_what_was_acknowledged_survives_a_power_cut_at_any_call() {
    let history = history();
    let wanted = std::env::var("LIFEBOAT_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(STATES);
    let (next, prefixes) = (AtomicUsize::new(0), history.changes.len() + 1);
    let try_out = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= wanted.max(prefixes) {
                return;
            }
            let (after, seed) = (at % prefixes, at / prefixes);
            let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| history.cut(after, seed)));
            let cut = cut.unwrap_or_else(|_| Err("the next backup failed".to_owned()));
            assert_eq!(
                cut,
                Ok(()),
                "cut after {after} of {prefixes} changes, seed {seed}: {:?}",
                last(&history, after)
            );
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(try_out)).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
    println!("{} states of {prefixes} prefixes", wanted.max(prefixes));
    fs::remove_dir_all(history.empty).unwrap();
}

fn last(history: &History, after: usize) -> &[Change] {
    &history.changes[after.saturating_sub(1)..after]
}
