//! What the writer and the slots that it hands out have in common.

use super::attributes::apply;
use super::deferred::DeferredFlags;
use super::directory::Directory;
use super::flags;
use super::owner::Owners;
use super::report::Report;
use super::target::Target;
use crate::metadata::{EARLY_FLAGS, KEPT_FLAGS, UNWRITABLE_FLAGS};
use crate::walk::Held;
use lifeboat_format::tree::Attributes;
use rustix::fs::{AtFlags, linkat};
use std::collections::HashMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// One restore, as its threads see it.
#[derive(Debug)]
pub struct Shared {
    pub target: Target,
    pub owners: Owners,
    pub deferred: DeferredFlags,
    report: Mutex<Report>,
    /// Files that are being written, and the further names they are to get.
    in_flight: Mutex<HashMap<Vec<u8>, Vec<PendingLink>>>,
    landed: Condvar,
}

/// A place for an entry: the directory it belongs into, held open, and its name there.
#[derive(Debug)]
pub struct Place {
    pub path: Vec<u8>,
    pub name: Vec<u8>,
    pub directory: Arc<Directory>,
    pub descriptor: Arc<OwnedFd>,
}

/// A further name for a file that has not got its first yet.
#[derive(Debug)]
pub struct PendingLink(pub Place);

impl Shared {
    pub fn new(target: Target, owners: Owners) -> Self {
        Self {
            target,
            owners,
            deferred: DeferredFlags::new(),
            report: Mutex::default(),
            in_flight: Mutex::default(),
            landed: Condvar::new(),
        }
    }

    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn fail(&self, path: &[u8], reason: impl fmt::Display) {
        self.report().fail(path, reason);
    }

    /// Counts an entry that is there now.
    pub fn made(&self, bytes: u64) {
        let mut report = self.report();
        report.entries += 1;
        report.bytes += bytes;
    }

    /// Gives an entry all its attributes but flags.
    pub fn set_attributes(&self, held: &Held, path: &[u8], attributes: &Attributes) {
        let owner = self.owners.of(attributes);
        apply(held, attributes, owner, &mut |attribute, reason| self.report().lose(path, attribute, reason));
    }

    /// Sets the flags that `mask` names.
    pub fn set_flags(&self, held: &Held, path: &[u8], wanted: u32, mask: u32) {
        if let Some((attribute, error)) = flags::set(held, wanted, mask) {
            self.report().lose(path, attribute, error);
        }
    }

    /// Sets the flags of a complete file, but those that forbid further names: they wait for the end.
    pub fn set_file_flags(&self, held: &Held, path: &[u8], wanted: u32) {
        self.set_flags(held, path, wanted, KEPT_FLAGS & !EARLY_FLAGS & !UNWRITABLE_FLAGS);
        let unwritable = wanted & UNWRITABLE_FLAGS;
        if unwritable != 0
            && let Err(error) = self.deferred.push(path, unwritable)
        {
            self.report().lose(path, super::Attribute::Flags(unwritable), error);
        }
    }

    /// A file begins to be written.
    pub fn take_off(&self, path: &[u8]) {
        self.in_flight().insert(path.to_vec(), Vec::new());
    }

    /// A file has got its name, or never will: so do the further ones.
    pub fn land(&self, path: &[u8], first: Result<&Place, &str>) {
        let links = self.in_flight().remove(path).unwrap_or_default();
        for PendingLink(place) in links {
            match first {
                Ok(first) => self.link(&first.descriptor, &first.name, &place),
                Err(reason) => self.fail(&place.path, format_args!("the file that it is a name of: {reason}")),
            }
            place.directory.release(self);
        }
        self.landed.notify_all();
    }

    /// Makes the link when its file has landed, if it is in flight; else gives the place back.
    pub fn link_later(&self, to: &[u8], place: Place) -> Option<Place> {
        match self.in_flight().get_mut(to) {
            Some(links) => {
                place.directory.hold();
                links.push(PendingLink(place));
                None
            }
            None => Some(place),
        }
    }

    /// One more name for a file.
    pub fn link(&self, from: &OwnedFd, name: &[u8], place: &Place) {
        match linkat(from, name, &place.descriptor, &*place.name, AtFlags::empty()) {
            Ok(()) => self.made(0),
            Err(error) => self.fail(&place.path, format_args!("cannot link it: {error}")),
        }
    }

    /// Waits until no file is being written.
    pub fn wait_for_landing(&self) {
        let mut in_flight = self.in_flight();
        while !in_flight.is_empty() {
            in_flight = self.landed.wait(in_flight).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Vec<PendingLink>>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
