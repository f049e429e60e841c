//! Power cuts (INV-1, 2): at each call that changes something on the disk, what was not made durable is there or not, in
//! any mixture; what was acknowledged before restores.
//!
//! The index may be lost, older than the repository, or newer: it lies elsewhere, and nobody syncs it in step. A process
//! may also have been killed before, so that the one after it found names which were not durable.

use super::lab::*;
use crate::repository::{Coordinator, OpenError};
use crate::store::local::LocalStore;
use crate::store::power::{Change, Recorder, left_after_cut, materialise};
use lifeboat_format::id::{HostId, SnapshotNumber};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
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
    /// After how many changes the process was killed, if it was.
    killed: Option<usize>,
    /// After how many changes which snapshot was acknowledged.
    acked: Vec<(usize, SnapshotNumber)>,
    /// The index at some moments.
    indexes: Vec<PathBuf>,
}

/// What happens in it.
enum Step {
    BackUp(HostId, Range<u32>),
    /// Sends chunks, enough to fill a pack, and gives up.
    Abort(HostId, Range<u32>),
    Restart,
}

const STEPS: [Step; 8] = [
    Step::BackUp(A, 0..4),
    Step::BackUp(B, 0..3),
    Step::Abort(A, 70..73),
    Step::BackUp(A, 2..9),
    Step::Restart,
    Step::BackUp(C, 7..12),
    Step::BackUp(B, 0..5),
    Step::BackUp(A, 0..12),
];

/// Without another process: until it begins, it would hold the locks of this one.
fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from).into_iter().map(Result::unwrap) {
        let copy = to.join(entry.path().strip_prefix(from).unwrap());
        let copied = match entry.file_type().is_dir() {
            true => fs::create_dir(copy),
            false => fs::copy(entry.path(), copy).map(|_| ()),
        };
        copied.unwrap();
    }
}

/// Plays the steps. A process that is killed, once so many names have appeared, is followed by another one.
fn history(kill_after_names: Option<usize>) -> History {
    let mut lab = Lab::new();
    lab.pack_bytes = 1_500;
    let place = lab.index.path().to_owned();
    let (empty, root) = (place.join("empty"), place.join("repository"));
    drop(LocalStore::create(&empty).unwrap());
    copy(&empty, &root);
    let recorder = Arc::new(Recorder::new(&root));
    let store = || Arc::new(LocalStore::open_on(recorder.clone(), &root).unwrap());
    lab.begin_journal(store());
    let (mut acked, mut indexes, mut killed) = (Vec::new(), Vec::new(), None);
    let mut open = || {
        if recorder.is_killed() {
            killed = Some(recorder.changes().len());
            recorder.kill_after_names(usize::MAX);
        }
        lab.try_open(store())
    };
    let mut coordinator = open().unwrap();
    recorder.kill_after_names(kill_after_names.unwrap_or(usize::MAX));
    for (at, step) in STEPS.into_iter().enumerate() {
        let restart = matches!(step, Step::Restart);
        if let Some(number) = play(&coordinator, step) {
            acked.push((recorder.changes().len(), number));
        }
        if restart || recorder.is_killed() {
            drop(coordinator);
            // It may be killed while it starts.
            coordinator = open().or_else(|_| open()).unwrap();
        }
        wait_for_open_packs(&coordinator);
        indexes.push(place.join(format!("index-{at}")));
        copy(&lab.index_path(), &indexes[at]);
    }
    drop(coordinator);
    let changes = recorder.changes().clone();
    History { lab, empty, changes, killed, acked, indexes }
}

fn play(coordinator: &Coordinator, step: Step) -> Option<SnapshotNumber> {
    match step {
        Step::BackUp(host, contents) => try_back_up(coordinator, host, contents).map(|committed| committed.number),
        Step::Abort(host, contents) => {
            let run = Agent::begin(coordinator, host);
            // Whether it comes through does not matter: nothing was promised.
            let _ = run.try_send(&contents.map(chunk).collect::<Vec<_>>(), &[]);
            let _ = coordinator.abort(run.caller);
            None
        }
        Step::Restart => None,
    }
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
        if let Some(index) = self.indexes.get(chance(self.indexes.len() + 1)) {
            copy(index, &place.path().join("index"));
        }
        let lab = Lab { index: place, ..self.lab.in_place_of() };
        let store = Arc::new(LocalStore::open(&root).map_err(|error| error.to_string())?);
        let coordinator = match lab.try_open(store) {
            Err(OpenError::NoJournal) if self.acked_by(after).next().is_none() => return Ok(()),
            opened => opened.map_err(|error| error.to_string())?,
        };
        self.check(&coordinator, after)
    }

    /// What was acknowledged is there, all of it restores, and a backup relies only on what is there.
    fn check(&self, coordinator: &Coordinator, after: usize) -> Result<(), String> {
        for number in self.acked_by(after) {
            if !coordinator.catalog(|catalog| catalog.snapshots().any(|(there, _)| there == number)) {
                return Err(format!("snapshot {number} was acknowledged and is gone"));
            }
        }
        for contents in [5..8, 70..73] {
            restore_all(coordinator)?;
            try_back_up(coordinator, A, contents).ok_or("the next backup failed")?;
        }
        restore_all(coordinator)?;
        match coordinator.verify(None, &mut |_| {}).map_err(|error| error.to_string())? {
            damage if damage.is_empty() => Ok(()),
            damage => Err(format!("{damage:?}")),
        }
    }

    fn acked_by(&self, changes: usize) -> impl Iterator<Item = SnapshotNumber> {
        self.acked.iter().filter(move |(at, _)| *at <= changes).map(|(_, number)| *number)
    }

    fn assert_survives(&self, after: usize, seed: usize) {
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.cut(after, seed)));
        let cut = cut.unwrap_or_else(|_| Err("it panicked".to_owned()));
        let last = &self.changes[after.saturating_sub(1)..after];
        let (all, killed) = (self.changes.len(), self.killed);
        assert_eq!(cut, Ok(()), "cut after {after} of {all} changes, seed {seed}, killed {killed:?}: {last:?}");
    }
}

/// Shares numbers below `all` among threads.
fn for_each(all: usize, act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mine = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        mine.take_while(|at| *at < all).for_each(&act);
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

/// How many states are tried.
fn states() -> usize {
    std::env::var("LIFEBOAT_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(STATES)
}

#[test]
fn inv_02_what_was_acknowledged_survives_a_power_cut_at_any_call() {
    let history = history(None);
    let prefixes = history.changes.len() + 1;
    for_each(states().max(prefixes), |at| history.assert_survives(at % prefixes, at / prefixes));
}

/// The one that is killed leaves names that are there and not durable; the one after it must not rely on them so.
#[test]
fn inv_02_what_a_killed_process_left_is_durable_before_another_relies_on_it() {
    let names = |changes: &[Change]| changes.iter().filter(|change| change.is_name()).count();
    let kills = names(&history(None).changes) * 3 / 4;
    for_each(kills, |kill| {
        let history = history(Some(kill + 1));
        let Some(killed) = history.killed else { return };
        let rest = history.changes.len() - killed;
        for seed in 0..4 * states().div_ceil(STATES) {
            history.assert_survives(killed + rest * (seed % 4) / 4, kill + seed);
        }
    });
}
