//! What the writer and the slots that it hands out have in common.

use super::attributes::{apply, strip};
use super::deferred::DeferredFlags;
use super::directory::Directory;
use super::flags;
use super::owner::{Owner, Owners};
use super::report::Report;
use super::slot::{rename_over, temporary_name};
use super::target::{Target, of_disk};
use crate::metadata::{EARLY_FLAGS, KEPT_FLAGS, UNWRITABLE_FLAGS};
use crate::walk::{Held, Stat, stat_at};
use lifeboat_format::tree::{Attributes, Time};
use lifeboat_proto::status::Failure;
use rustix::fs::{AtFlags, Gid, Uid, linkat, syncfs};
use rustix::io::{self, Errno};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// So many files with several names are left as they are; more are written anew. About 64 MiB.
const CLAIMS_MAX: usize = 1 << 20;

/// One restore, as its threads see it.
#[derive(Debug)]
pub struct Shared {
    pub target: Target,
    pub owners: Owners,
    pub deferred: DeferredFlags,
    report: Mutex<Report>,
    /// File systems other than the target's that were entered, by device.
    file_systems: Mutex<BTreeMap<u64, Arc<OwnedFd>>>,
    /// Files that are being written, and the further names they are to get.
    in_flight: Mutex<HashMap<Vec<u8>, InFlight>>,
    landed: Condvar,
    /// Files with several names that were there, and are entries of the tree.
    claimed: Mutex<HashSet<(u64, u64)>>,
    /// Set when something could not be made for want of room: what the system said.
    want_of_room: OnceLock<Errno>,
}

/// A place for an entry: the directory it belongs into, held open, and its name there.
#[derive(Debug)]
pub struct Place {
    pub path: Vec<u8>,
    pub name: Vec<u8>,
    pub directory: Arc<Directory>,
    pub descriptor: Arc<OwnedFd>,
    /// Whether what is made there may inherit attributes that are not its own: its directory was there before.
    pub inherits: bool,
}

/// A further name for a file that has not got its first yet.
#[derive(Debug)]
struct PendingLink {
    place: Place,
    over: bool,
}

/// What is known of a file that has not got its name yet.
#[derive(Debug)]
struct InFlight {
    mtime: Time,
    links: Vec<PendingLink>,
}

/// A file on its way to its name: further names wait for it, and so does its directory. Dropped, it is a failure.
#[derive(Debug)]
pub struct Flight {
    shared: Arc<Shared>,
    place: Place,
    ended: bool,
}

impl Flight {
    /// It takes off. `mtime` is the time of modification that it will have.
    pub fn begin(shared: Arc<Shared>, place: Place, mtime: Time) -> Self {
        place.directory.hold();
        shared.in_flight().insert(place.path.clone(), InFlight { mtime, links: Vec::new() });
        Self { shared, place, ended: false }
    }

    /// Its path in the tree.
    pub fn path(&self) -> &[u8] {
        &self.place.path
    }

    /// Where it is to get its name.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The restore that it belongs to.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The file has its name.
    pub fn land(mut self) {
        self.end(Ok(()));
    }

    /// It will not be there: the report says why.
    pub fn fail(mut self, reason: impl fmt::Display) {
        self.end(Err(&reason.to_string()));
    }

    fn end(&mut self, outcome: Result<(), &str>) {
        self.ended = true;
        if let Err(reason) = outcome {
            self.shared.fail(&self.place.path, reason);
        }
        self.shared.land(&self.place, outcome);
        self.place.directory.release(&self.shared);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Err("its content was not completed"));
        }
    }
}

impl Shared {
    pub fn new(target: Target, owners: Owners) -> Self {
        Self {
            target,
            owners,
            deferred: DeferredFlags::new(),
            report: Mutex::default(),
            file_systems: Mutex::default(),
            in_flight: Mutex::default(),
            landed: Condvar::new(),
            claimed: Mutex::default(),
            want_of_room: OnceLock::new(),
        }
    }

    pub fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to be said of an error at making something. Remembers whether it is for want of room: of bytes, of inodes,
    /// or of what a quota leaves.
    pub fn told(&self, error: Errno) -> String {
        if matches!(error, Errno::NOSPC | Errno::DQUOT) {
            // The first will do.
            let _ = self.want_of_room.set(error);
        }
        match error {
            Errno::EXIST => format!(
                "{error}: made by somebody meanwhile, or the file system takes capital and small letters for the same"
            ),
            _ => error.to_string(),
        }
    }

    /// A failure if something could not be made because there is no room: all that is still to come would fail too.
    pub fn check_room(&self) -> Result<(), Failure> {
        self.want_of_room.get().map_or(Ok(()), |error| Err(of_disk(&(*error).into())))
    }

    pub fn fail(&self, path: &[u8], reason: impl fmt::Display) {
        self.report().fail(path, reason);
    }

    /// A directory on another file system is entered: what is written there is to reach that disk too.
    pub fn note_file_system(&self, device: u64, directory: &Arc<OwnedFd>) {
        self.file_systems().entry(device).or_insert_with(|| directory.clone());
    }

    /// Waits until all that was written is on disk, on each file system.
    pub fn sync(&self) -> io::Result<()> {
        self.sync_with(|directory| syncfs(directory))
    }

    fn sync_with(&self, mut sync: impl FnMut(BorrowedFd<'_>) -> io::Result<()>) -> io::Result<()> {
        sync(self.target.as_fd())?;
        self.file_systems().values().try_for_each(|directory| sync(directory.as_fd()))
    }

    fn file_systems(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<OwnedFd>>> {
        self.file_systems.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an entry that is there now.
    pub fn made(&self, bytes: u64) {
        let mut report = self.report();
        report.entries += 1;
        report.bytes = report.bytes.saturating_add(bytes);
    }

    /// Gives an entry all its attributes but flags.
    pub fn set_attributes(&self, held: &Held, path: &[u8], attributes: &Attributes) {
        let owner = self.owner_of(path, attributes);
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

    /// A file has got its name, or never will: so do the further ones.
    fn land(&self, first: &Place, outcome: Result<(), &str>) {
        let links = self.in_flight().remove(&first.path).map(|file| file.links).unwrap_or_default();
        for PendingLink { place, over } in links {
            match outcome {
                Ok(()) => self.link(&first.descriptor, &first.name, &place, over),
                Err(reason) => self.fail(&place.path, format_args!("the file that it is a name of: {reason}")),
            }
            place.directory.release(self);
        }
        self.landed.notify_all();
    }

    /// Makes the link when its file has landed, if it is in flight; else gives the place back.
    pub fn link_later(&self, to: &[u8], place: Place, over: bool) -> Option<Place> {
        match self.in_flight().get_mut(to) {
            Some(file) => {
                place.directory.hold();
                file.links.push(PendingLink { place, over });
                None
            }
            None => Some(place),
        }
    }

    /// When a file that has not got its name yet was modified.
    pub fn time_in_flight(&self, path: &[u8]) -> Option<Time> {
        self.in_flight().get(path).map(|file| file.mtime)
    }

    /// One more name for a file; `over` what is there.
    pub fn link(&self, from: &OwnedFd, name: &[u8], place: &Place, over: bool) {
        match self.try_link(from, name, place, over) {
            Ok(()) => self.made(0),
            Err(error) => {
                let told = self.told(error);
                self.fail(&place.path, format_args!("cannot link it: {told}"));
            }
        }
    }

    fn try_link(&self, from: &OwnedFd, name: &[u8], place: &Place, over: bool) -> io::Result<()> {
        if !over {
            return linkat(from, name, &place.descriptor, &*place.name, AtFlags::empty());
        }
        let file = stat_at(from, name)?;
        if stat_at(&place.descriptor, &place.name).is_ok_and(|there| there.is_same_file(&file)) {
            self.report().unchanged += 1;
            return Ok(());
        }
        let temporary = temporary_name()?;
        linkat(from, name, &place.descriptor, temporary.as_str(), AtFlags::empty())?;
        rename_over(&place.descriptor, &temporary, &place.name)
    }

    /// Who is to own an entry; that nobody here has the name is in the report.
    pub fn owner_of(&self, path: &[u8], attributes: &Attributes) -> (Uid, Gid) {
        let Owner { ids, unknown } = self.owners.of(attributes);
        for (attribute, reason) in unknown {
            self.report().lose(path, attribute, reason);
        }
        ids
    }

    /// The same for an entry that was there: what it should not have is taken away first.
    pub fn change_attributes(&self, held: &Held, path: &[u8], attributes: &Attributes) {
        strip(held, attributes, &mut |attribute, reason| self.report().lose(path, attribute, reason));
        self.set_attributes(held, path, attributes);
    }

    /// Says that an entry of the tree is this file, which has several names. False if another entry has said so.
    pub fn claim(&self, stat: &Stat) -> bool {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.len() < CLAIMS_MAX && claimed.insert((stat.device, stat.inode))
    }

    /// Waits until no file is being written.
    pub fn wait_for_landing(&self) {
        let mut in_flight = self.in_flight();
        while !in_flight.is_empty() {
            in_flight = self.landed.wait(in_flight).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Vec<u8>, InFlight>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
