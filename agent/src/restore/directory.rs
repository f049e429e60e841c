//! A directory that is being filled, and its completion when nothing more will come into it.

use super::shared::Shared;
use super::target::open_beneath;
use crate::metadata::KEPT_FLAGS;
use crate::walk::{Held, Stat, stat_open};
use lifeboat_format::tree::Attributes;
use rustix::fs::{AtFlags, OFlags, Timespec, Timestamps, UTIME_OMIT, utimensat};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shared by the writer and by the files that are still to get their names in it.
///
/// It is completed once the writer has left it and nobody holds it: by whoever of them comes last. Directories within
/// it need not be complete, for completing one changes nothing in the one above.
#[derive(Debug)]
pub struct Directory {
    /// None for the target itself, until its entry comes.
    pub attributes: Option<Attributes>,
    /// To recognise it when it is opened again.
    pub stat: Stat,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None while the writer is too far below.
    descriptor: Option<Arc<OwnedFd>>,
    /// How many names are still to come into it from elsewhere.
    holds: usize,
    /// Its path, once the writer has left it.
    left: Option<Vec<u8>>,
}

impl Directory {
    pub fn new(attributes: Option<Attributes>, stat: Stat, descriptor: OwnedFd) -> Self {
        let state = State { descriptor: Some(Arc::new(descriptor)), holds: 0, left: None };
        Self { attributes, stat, state: Mutex::new(state) }
    }

    pub fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        self.state().descriptor.clone()
    }

    /// Closes it until the writer is back.
    pub fn close(&self) {
        self.state().descriptor = None;
    }

    pub fn reopen(&self, descriptor: OwnedFd) {
        self.state().descriptor = Some(Arc::new(descriptor));
    }

    /// A name will come into it later.
    pub fn hold(&self) {
        self.state().holds += 1;
    }

    /// The name is there, or never will be.
    pub fn release(&self, shared: &Shared) {
        let mut state = self.state();
        state.holds -= 1;
        self.complete_if_last(state, shared);
    }

    /// The writer has nothing more for it.
    pub fn leave(&self, path: &[u8], shared: &Shared) {
        let mut state = self.state();
        state.left = Some(path.to_vec());
        self.complete_if_last(state, shared);
    }

    fn complete_if_last(&self, mut state: MutexGuard<'_, State>, shared: &Shared) {
        if state.holds > 0 {
            return;
        }
        if let Some(path) = state.left.take() {
            let descriptor = state.descriptor.take();
            drop(state);
            self.complete(descriptor, &path, shared);
        }
    }

    fn complete(&self, descriptor: Option<Arc<OwnedFd>>, path: &[u8], shared: &Shared) {
        let Some(attributes) = &self.attributes else {
            return descriptor.iter().for_each(|descriptor| self.keep_time(descriptor));
        };
        let Some(descriptor) = descriptor else {
            return shared.fail(path, "the directory was moved away while it was restored");
        };
        // What the writer had opened again is open as a place only.
        match open_beneath(&*descriptor, b".", OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(open) => {
                let held = Held::of_open(open);
                shared.change_attributes(&held, path, attributes);
                shared.set_flags(&held, path, attributes.flags, KEPT_FLAGS);
            }
            Err(error) => shared.fail(path, format_args!("cannot open the directory again: {error}")),
        }
    }

    /// A directory that stays as it is keeps its time, though something was made or removed in it.
    pub fn keep_time(&self, descriptor: &OwnedFd) {
        let mtime = self.stat.mtime;
        if stat_open(descriptor).is_ok_and(|now| now.mtime == mtime) {
            return;
        }
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanos.into() },
        };
        // Who does not own it may write into it and not set its time: nothing is lost that the snapshot holds.
        let _ = utimensat(descriptor, ".", &times, AtFlags::empty());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
