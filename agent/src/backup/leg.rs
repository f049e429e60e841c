//! One leg of a backup: threads between the walk and the tree, until the source or the leg ends.

use super::bench::{Sealery, Window};
use super::budget::Budget;
use super::build::Worker;
use super::first_names::FirstNames;
use super::grow::{Grower, Grown};
use super::jobs::{Holds, Jobs, LeafJob, Work};
use super::{BackupError, Gaps, Plan, Surroundings};
use crate::descriptors;
use crate::uplink::Run;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How far the walk may be ahead of the tree, in leaf jobs. Bounds memory, and what waits behind one huge file.
const JOBS_AHEAD: usize = 32;
/// And in bytes of the paths of these jobs, of which one alone may have megabytes: above this the walk waits.
const PATH_BYTES_AHEAD: usize = 4 << 20;
/// And in directories that are held open for these jobs: of all that may be open, one in so many.
const SHARE_OF_DESCRIPTORS: usize = 4;
/// How much plaintext is collected before it is asked for, where everything runs on one thread.
const WINDOW_BYTES: usize = 4 << 20;

/// Why a leg ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The source is through.
    Whole,
    /// It is time for a checkpoint.
    More,
    /// Somebody asked to stop.
    Stopped,
}

/// Walks until the leg ends. All that was begun is grown into the tree when it returns.
pub fn walk(
    plan: &Plan,
    around: &Surroundings<'_>,
    sealery: &Sealery,
    run: &dyn Run,
    jobs: &mut Jobs<'_>,
    grower: &mut Grower<'_>,
    (gaps, first_names): (&Gaps, &FirstNames),
) -> Result<Ended, BackupError> {
    let limit = Limit {
        until: around.clock.elapsed() + plan.checkpoint.after,
        sent_bytes: around.progress.sent_bytes.load(Ordering::Relaxed) + plan.checkpoint.sent_bytes,
    };
    let budget = plan.budget();
    let window_bytes = budget.map_or(WINDOW_BYTES, |budget| budget.window_bytes);
    let worker = || Worker::new(Window::new(sealery, run, around.progress, window_bytes), around, gaps, first_names);
    let work = |worker: &mut Worker<'_>, job: LeafJob| {
        let _running = first_names.begin(job.number);
        match job.work {
            Work::Keep(leaf) => Ok(Grown::Kept(leaf)),
            Work::Build(members) => worker.build(job.number, members).map(Grown::Built),
        }
    };
    let Some(Budget { workers, .. }) = budget else {
        let mut worker = worker();
        loop {
            if let Some(ended) = limit.reached(around) {
                return Ok(ended);
            }
            let Some(job) = jobs.next()? else { return Ok(Ended::Whole) };
            grower.push(run, work(&mut worker, job)?)?;
        }
    };

    let (permits, permitted) = mpsc::channel();
    let (job_sender, job_receiver) = mpsc::channel::<LeafJob>();
    let (grown_sender, grown_receiver) = mpsc::channel();
    let job_receiver = Mutex::new(job_receiver);
    thread::scope(|scope| {
        let walker = scope.spawn(move || {
            let job_sender = job_sender;
            let mut ahead = Ahead::within(descriptors::limit() as usize / SHARE_OF_DESCRIPTORS);
            loop {
                while ahead.is_far() {
                    let Ok(holds) = permitted.recv() else { return Ok(Ended::Stopped) };
                    ahead.grown(holds);
                }
                if let Some(ended) = limit.reached(around) {
                    return Ok(ended);
                }
                let Some(job) = jobs.next()? else { return Ok(Ended::Whole) };
                ahead.walked(job.holds);
                if job_sender.send(job).is_err() {
                    return Ok(Ended::Stopped); // The workers are gone; one of them has said why.
                }
            }
        });
        for _ in 0..workers {
            let (jobs, grown) = (&job_receiver, grown_sender.clone());
            scope.spawn(move || {
                let mut worker = worker();
                loop {
                    let Ok(job) = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv() else { return };
                    let (number, holds) = (job.number, job.holds);
                    if grown.send((number, holds, work(&mut worker, job))).is_err() {
                        return; // The tree has stopped growing; its error is returned.
                    }
                }
            });
        }
        drop(grown_sender);
        let mut waiting = BTreeMap::new();
        for (number, holds, grown) in grown_receiver {
            waiting.insert(number, (holds, grown?));
            while let Some((holds, grown)) = waiting.remove(&grower.jobs()) {
                grower.push(run, grown)?;
                // The walk may have ended: then nobody waits for a permit.
                let _sent = permits.send(holds);
            }
        }
        drop(permits);
        walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What the walk has handed out and the tree has not taken yet.
#[derive(Debug)]
struct Ahead {
    jobs: usize,
    holds: Holds,
    directories_max: usize,
}

impl Ahead {
    fn within(directories_max: usize) -> Self {
        Self { jobs: 0, holds: Holds::default(), directories_max }
    }

    fn walked(&mut self, holds: Holds) {
        self.jobs += 1;
        self.holds.path_bytes += holds.path_bytes;
        self.holds.directories += holds.directories;
    }

    fn grown(&mut self, holds: Holds) {
        self.jobs -= 1;
        self.holds.path_bytes -= holds.path_bytes;
        self.holds.directories -= holds.directories;
    }

    /// Whether the walk has to wait. Never if there is nothing to wait for.
    fn is_far(&self) -> bool {
        let Holds { path_bytes, directories } = self.holds;
        self.jobs >= JOBS_AHEAD || path_bytes > PATH_BYTES_AHEAD || directories > self.directories_max
    }
}

/// Where a leg ends.
#[derive(Debug, Clone, Copy)]
struct Limit {
    until: Duration,
    sent_bytes: u64,
}

impl Limit {
    fn reached(&self, around: &Surroundings<'_>) -> Option<Ended> {
        if around.stop.load(Ordering::Relaxed) {
            return Some(Ended::Stopped);
        }
        let over = around.clock.elapsed() >= self.until
            || around.progress.sent_bytes.load(Ordering::Relaxed) >= self.sent_bytes;
        over.then_some(Ended::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_67_the_walk_waits_for_the_tree_by_jobs_by_bytes_of_paths_and_by_directories() {
        let holds = |path_bytes, directories| Holds { path_bytes, directories };
        let mut ahead = Ahead::within(256);
        (1..JOBS_AHEAD).for_each(|_| ahead.walked(holds(100, 1)));
        assert!(!ahead.is_far());
        ahead.walked(holds(100, 1));
        assert!(ahead.is_far(), "too many jobs");
        (0..JOBS_AHEAD).for_each(|_| ahead.grown(holds(100, 1)));
        ahead.walked(holds(PATH_BYTES_AHEAD, 256));
        assert!(!ahead.is_far());
        ahead.walked(holds(1, 0));
        assert!(ahead.is_far(), "too many bytes, of two jobs");
        ahead.grown(holds(1, 0));
        ahead.walked(holds(0, 1));
        assert!(ahead.is_far(), "too many directories, of two jobs");
        ahead.grown(holds(0, 1));
        assert!(!ahead.is_far());
    }
}
