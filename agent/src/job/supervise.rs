//! Runs a backup on a thread that can be given up: a call into a file system whose server does not answer may never
//! return, and neither may the job wait for it for ever, nor other source sets.

use crate::backup::{BackupError, Progress};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a backup may run without any progress, and how long once it was asked to stop.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// While it runs.
    pub running: Duration,
    /// After it was asked to stop.
    pub stopping: Duration,
    /// How often it is looked at.
    pub every: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { running: seconds(30 * 60), stopping: seconds(15), every: Duration::from_millis(200) }
    }
}

/// Runs `work` until it ends, or makes no progress for longer than `patience` allows. Then it is asked to stop, and its
/// thread stays behind until the call that it waits for returns.
pub fn run<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
    progress: &Arc<Progress>,
    stop: &Arc<AtomicBool>,
    patience: Patience,
) -> Result<T, BackupError> {
    let (sender, ended) = sync_channel(1);
    let thread = thread::Builder::new().name("backup".into()).spawn(move || {
        // The job may have been given up.
        let _sent = sender.send(work());
    });
    let thread = thread.map_err(|error| BackupError::local("cannot start a thread for the backup", error))?;
    let (mut seen, mut since, mut was_stopping) = (progress.sum(), Instant::now(), false);
    loop {
        match ended.recv_timeout(patience.every) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => match thread.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => return Err(BackupError::Stopped),
            },
            Err(RecvTimeoutError::Timeout) => {}
        }
        let (now, is_stopping) = (progress.sum(), stop.load(Ordering::Relaxed));
        if now != seen || is_stopping != was_stopping {
            (seen, since, was_stopping) = (now, Instant::now(), is_stopping);
        }
        let limit = if is_stopping { patience.stopping } else { patience.running };
        if since.elapsed() >= limit {
            stop.store(true, Ordering::Relaxed);
            return Err(BackupError::Hangs { minutes: limit.as_secs() / 60, was_stopped: is_stopping });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    const SOON: Duration = Duration::from_millis(50);

    fn patience(running: Duration, stopping: Duration) -> Patience {
        Patience { running, stopping, every: Duration::from_millis(5) }
    }

    #[test]
    fn a_backup_that_hangs_is_given_up_and_asked_to_stop() {
        let (progress, stop) = (Arc::<Progress>::default(), Arc::<AtomicBool>::default());
        let (_never, wait) = channel::<()>();
        let hangs = move || {
            let _disconnected = wait.recv();
            Ok(())
        };
        let error = run(hangs, &progress, &stop, patience(SOON, Duration::MAX)).unwrap_err();
        assert!(matches!(error, BackupError::Hangs { was_stopped: false, .. }), "{error}");
        assert!(stop.load(Ordering::Relaxed));
    }

    #[test]
    fn a_backup_that_hangs_ends_soon_after_it_was_asked_to_stop() {
        let (progress, stop) = (Arc::<Progress>::default(), Arc::new(AtomicBool::new(true)));
        let (_never, wait) = channel::<()>();
        let hangs = move || {
            let _disconnected = wait.recv();
            Ok(())
        };
        let error = run(hangs, &progress, &stop, patience(Duration::MAX, SOON)).unwrap_err();
        assert!(matches!(error, BackupError::Hangs { was_stopped: true, .. }), "{error}");
    }

    #[test]
    fn a_backup_that_makes_progress_is_waited_for() {
        let (progress, stop) = (Arc::<Progress>::default(), Arc::<AtomicBool>::default());
        let moving = progress.clone();
        let works = move || {
            for _ in 0..60 {
                moving.beat();
                thread::sleep(Duration::from_millis(5));
            }
            Ok(7)
        };
        assert_eq!(run(works, &progress, &stop, patience(Duration::from_millis(250), SOON)).unwrap(), 7);
    }
}
