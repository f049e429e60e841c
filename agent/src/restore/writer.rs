//! Takes entries in the order of the tree and makes them, or makes of what is there what it should be.
//!
//! In a directory that the restore has made there is nothing else. Of one that was there, the names are read once, and
//! met by the entries; what is under a name is looked at then. What becomes of it is decided in `decide`.

mod links;
mod over;
mod special;
mod strays;

use super::decide::{ENTERED, Overwrite, Rules, UNFINISHED_MODE, Verdict, decide, is_entered};
use super::directory::Directory;
use super::existing::Existing;
use super::listing::Listings;
use super::mirror::{Mirror, Reason};
use super::own::{OURS, Own};
use super::owner::{Owners, Substitute};
use super::report::{Attribute, Report};
use super::shared::{Flight, Place, Shared};
use super::slot::FileSlot;
use super::target::{Target, forget_default_acl, open_beneath};
use super::visit::ways;
use crate::metadata::UNWRITABLE_FLAGS;
use crate::walk::{Held, Stat, stat_at, stat_open};
use jiff::Timestamp;
use lifeboat_format::tree::{Attributes, Completeness, Entry, EntryKind, Time, compare_paths, is_within, name, parent};
use rustix::fs::{AtFlags, Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io;
use rustix::process::{getegid, geteuid};
pub(super) use special::is_alike;
use special::make_special;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use strays::Before;

/// How many directories are held open. Shallower ones are closed, and opened again on the way back.
const OPEN_DIRECTORIES: usize = 128;

/// What is said of a directory of which the tree has the content but not the entry.
const NO_ENTRY: &str = "the snapshot does not hold the directory itself, so owner, mode and time stay unknown";

/// How a restore deals with what differs between hosts.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Owners by number, even if their names have other numbers here.
    pub numeric_ids: bool,
    /// Who takes the place of which user.
    pub users: Vec<Substitute>,
    /// And of which group.
    pub groups: Vec<Substitute>,
    /// How it deals with what is there.
    pub rules: Rules,
    /// What of what the snapshot does not have is removed; none: nothing.
    pub mirror: Option<Mirror>,
    /// What is left as it is, whatever the snapshot holds.
    pub own: Own,
    /// Whether the target itself keeps its time, though it is not restored itself.
    pub keep_target_time: bool,
}

/// What is to be done about an entry.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is there, or in the report.
    Settled,
    /// It is a file: fill it and finish it.
    Content(FileSlot),
    /// It is a file, and one is there: compare it.
    Compare(Existing),
    /// It is a further name of a file that is not in this restore. Add it again as a file, with that file's
    /// attributes and content.
    FirstIsAbsent,
}

/// Makes the entries of one restore. Used by one thread; its slots go to others. Without [`Writer::finish`] the
/// target stays closed to others.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    options: Options,
    listings: Listings,
    /// The directories that lead to `path`, the target first.
    levels: Vec<Level>,
    /// The directory that the writer is in.
    path: Vec<u8>,
    /// The last entry; None before the first.
    last: Option<Vec<u8>>,
    /// Where the first name of the last hard link was found.
    link_source: Option<(Vec<u8>, OwnedFd)>,
    /// An entry that stays as it is, although it is no directory: nothing below it can be restored.
    kept: Option<Vec<u8>>,
    /// The last entry that is no directory, or could not be made or entered: nothing below it can be restored.
    closed: Option<Vec<u8>>,
    /// Whether a part of the tree could not be read.
    is_damaged: bool,
    /// Files that stay as they are, by a hash of their paths: they are not the first name of anything in the snapshot.
    kept_files: HashSet<[u8; 32]>,
}

#[derive(Debug)]
struct Level {
    directory: Arc<Directory>,
    path_bytes: usize,
    /// What was in it, unless the restore has made it.
    before: Option<Before>,
    /// What the tree says of it, if it is restored itself, and not only on the way to what is: then what else is in it may
    /// be deleted.
    restored: Option<Completeness>,
    /// Existing entries in it that were kept, and why the first of them was.
    kept_back: Option<(u64, Reason)>,
}

impl Writer {
    /// A restore into a target that was just opened.
    pub fn new(target: Target, options: Options) -> std::io::Result<Self> {
        let descriptor = target.as_fd().try_clone_to_owned()?;
        let mut listings = Listings::new()?;
        let before = match target.is_empty() {
            true => None,
            false => Some(Before::of(listings.read(&descriptor)?)),
        };
        let directory = Directory::new(None, stat_open(&descriptor)?, descriptor);
        let levels =
            vec![Level { directory: Arc::new(directory), path_bytes: 0, before, restored: None, kept_back: None }];
        let owners = Owners::new(options.numeric_ids, options.users.clone(), options.groups.clone());
        let shared = Arc::new(Shared::new(target, owners));
        let (path, last, link_source, kept, closed, is_damaged, kept_files) = Default::default();
        Ok(Self { shared, options, listings, levels, path, last, link_source, kept, closed, is_damaged, kept_files })
    }

    /// Makes an entry. The root, the empty path, is the target itself; every other entry needs its directory before
    /// it. What cannot be made is in the report.
    pub fn add(&mut self, entry: Entry) -> Step {
        let (path, is_directory) = (entry.path.clone(), matches!(entry.kind, EntryKind::Directory(_)));
        let added = self.try_add(entry);
        if (!is_directory || added.is_err()) && !self.is_closed(&path) {
            self.closed = Some(path.clone());
        }
        added.unwrap_or_else(|reason| {
            self.shared.fail(&path, reason);
            Step::Settled
        })
    }

    /// Goes into a directory that is only on the way to what is restored: it is made if it is not there, and else stays
    /// as it is.
    pub fn pass(&mut self, entry: Entry) {
        let path = entry.path.clone();
        if let Err(reason) = self.try_pass(entry) {
            self.shared.fail(&path, reason);
            self.closed = Some(path);
        }
    }

    fn try_pass(&mut self, entry: Entry) -> Result<(), String> {
        entry.check().map_err(|error| error.to_string())?;
        if self.path == entry.path || is_within(&self.path, &entry.path) {
            return Ok(());
        }
        self.keep_order(&entry.path)?;
        self.reach(parent(&entry.path).unwrap_or_default())?;
        self.go_on_way(&entry.path, entry.attributes)
    }

    fn go_on_way(&mut self, path: &[u8], attributes: Attributes) -> Result<(), String> {
        let place = self.place(path)?;
        match self.look(&place)? {
            None => self.make_directory(&place, attributes),
            Some(there) if self.options.own.has(&there) => Err(OURS.into()),
            Some(there) if there.is_directory() => self.enter(&place, None, None),
            Some(_) => Err("it is on the way, and what is there is no directory".into()),
        }
    }

    /// Goes to a directory. Those on the way that the tree has no entries of, because they were gaps or are lost, are made
    /// if they are missing, and else stay as they are.
    fn reach(&mut self, path: &[u8]) -> Result<(), String> {
        if self.go_to(path) {
            return Ok(());
        }
        if self.is_closed(path) {
            return Err("its directory was not restored".into());
        }
        let here = self.path.len();
        for way in ways(path).filter(|way| way.len() > here) {
            self.shared.fail(way, NO_ENTRY);
            self.go_on_way(way, made_up()).inspect_err(|_| self.closed = Some(way.to_vec()))?;
        }
        Ok(())
    }

    fn is_closed(&self, path: &[u8]) -> bool {
        self.closed.as_ref().is_some_and(|closed| is_within(path, closed))
    }

    /// A part of the tree cannot be read, up to an entry of it. What was in it is not known: so from now on nothing is
    /// deleted, and directories that are missing are made without their attributes.
    pub fn lose_part(&mut self, up_to: &[u8], why: impl std::fmt::Display) {
        self.is_damaged = true;
        self.shared
            .fail(up_to, format_args!("nor were entries right before it: this part of the tree cannot be read: {why}"));
    }

    /// An entry that is not restored, and why.
    pub fn fail(&self, path: &[u8], reason: impl std::fmt::Display) {
        self.shared.fail(path, reason);
    }

    /// Ends early: directories stay as they are, and what the snapshot does not have is not touched. Another restore
    /// goes on from there. Waits for slots that are still out.
    pub fn stop(self) {
        self.shared.wait_for_landing();
    }

    /// Completes all directories, then sets what must come last, then sees to it that everything is on disk. Waits
    /// for slots that are still out.
    pub fn finish(mut self) -> std::io::Result<Report> {
        while self.levels.len() > 1 {
            self.leave();
        }
        self.clear_away();
        self.shared.wait_for_landing();
        self.set_deferred_flags()?;
        match self.levels.pop() {
            Some(root) if root.directory.attributes.is_some() => root.directory.leave(b"", &self.shared),
            root => {
                self.shared.target.give_back();
                let stays = root.filter(|root| root.restored.is_some() || self.options.keep_target_time);
                if let Some((root, descriptor)) =
                    stays.and_then(|root| Some((root.directory.clone(), root.directory.descriptor()?)))
                {
                    root.keep_time(&descriptor);
                }
            }
        }
        self.shared.sync()?;
        let report = self.shared.report().clone();
        Ok(report)
    }

    fn try_add(&mut self, entry: Entry) -> Result<Step, String> {
        entry.check().map_err(|error| error.to_string())?;
        self.keep_order(&entry.path)?;
        if entry.path.is_empty() {
            return self.take_root(entry);
        }
        if self.kept.as_ref().is_some_and(|kept| is_within(&entry.path, kept)) {
            self.shared.report().kept += 1;
            return Ok(Step::Settled);
        }
        let above = parent(&entry.path).unwrap_or_default();
        self.reach(above)?;
        let place = self.place(&entry.path)?;
        let there = self.look(&place)?;
        if there.is_some_and(|there| self.options.own.has(&there)) {
            let mut report = self.shared.report();
            report.protect(&entry.path);
            report.kept += 1;
            drop(report);
            self.kept = Some(entry.path);
            return Ok(Step::Settled);
        }
        self.take_up_part(&entry);
        if let EntryKind::HardLink { to } = &entry.kind {
            return self.link(to, place, there);
        }
        // What an earlier restore has completed belongs to its owner by now.
        let becomes = || self.shared.owners.of(&entry.attributes).ids.0;
        let own = there.is_some_and(|there| there.uid == geteuid().as_raw() || there.uid == becomes().as_raw());
        let is_alike = there.is_some_and(|there| is_alike(&place.descriptor, &place.name, &entry.kind, &there));
        let verdict = decide(&entry, there.as_ref(), is_alike, own, &self.options.rules);
        match (verdict, there) {
            (Verdict::Enter { attributes }, _) => {
                self.enter(&place, attributes.then_some(entry.attributes), completeness_of(&entry.kind))?
            }
            (Verdict::Keep, _) => self.keep(entry),
            (Verdict::Compare { unread }, Some(there)) => return self.compare(entry, place, &there, unread),
            (Verdict::Adopt, Some(there)) => self.adopt(&entry, &place, &there)?,
            (Verdict::Replace, Some(there)) => return self.replace(entry, place, &there),
            (_, _) => return self.make(entry, place),
        }
        Ok(Step::Settled)
    }

    fn make(&mut self, entry: Entry, place: Place) -> Result<Step, String> {
        let attributes = entry.attributes;
        match entry.kind {
            EntryKind::Directory(_) => self.make_directory(&place, attributes)?,
            EntryKind::File(content) => {
                let flight = Flight::begin(self.shared.clone(), place, attributes.mtime);
                let slot = FileSlot::begin(flight, attributes, content.bytes, false);
                return Ok(slot.map_or(Step::Settled, |slot| begun(slot, content.bytes)));
            }
            kind => {
                make_special(&kind, &place, &place.name).map_err(|error| self.cannot("make it", error))?;
                self.complete_special(&place, &attributes)?;
            }
        }
        Ok(Step::Settled)
    }

    /// Whoever made the tree: an entry out of order could name a directory that was completed long ago.
    fn keep_order(&mut self, path: &[u8]) -> Result<(), String> {
        if self.last.as_ref().is_some_and(|last| compare_paths(last, path) != Ordering::Less) {
            return Err("it comes out of order: the tree is damaged".into());
        }
        self.last = Some(path.to_vec());
        Ok(())
    }

    fn take_root(&mut self, entry: Entry) -> Result<Step, String> {
        let root = self.levels.first_mut().and_then(|level| {
            level.restored = completeness_of(&entry.kind);
            Arc::get_mut(&mut level.directory)
        });
        match (entry.kind, root) {
            (EntryKind::Directory(_), Some(root)) => {
                let (stat, attributes) = (root.stat, entry.attributes);
                let is_newer = attributes.mtime > stat.mtime;
                let keeps = match self.options.rules.overwrite {
                    Overwrite::Always | Overwrite::IfChanged => false,
                    Overwrite::IfNewer => !is_newer && !is_entered(&stat, &attributes, &self.options.rules),
                    Overwrite::Never => true,
                };
                // One that was closed to others was empty, or this restore goes on; it may be of this restore's making.
                let before = self.shared.target.before();
                let (is_open, is_made) = (before.is_none(), before.is_some_and(|before| before.is_made()));
                if let (false, true, Some(descriptor)) = (keeps, is_open, root.descriptor()) {
                    mark_entered(&self.options.rules, &descriptor, stat.mode, attributes.mode);
                }
                root.attributes = (!keeps || is_made).then_some(attributes);
                self.shared.made(0);
                Ok(Step::Settled)
            }
            _ => Err("the root of a tree is a directory, and its first entry".into()),
        }
    }

    /// Leaves directories until the writer is in `path`, or above it; says whether it is in it.
    fn go_to(&mut self, path: &[u8]) -> bool {
        while self.levels.len() > 1 && !is_within(path, &self.path) {
            self.leave();
        }
        self.path == path
    }

    fn place(&self, path: &[u8]) -> Result<Place, String> {
        let directory = self.levels.last().map(|level| level.directory.clone());
        let inherits = self.levels.last().is_some_and(|level| level.before.is_some());
        let descriptor = directory.as_ref().and_then(|directory| directory.descriptor());
        match (directory, descriptor) {
            (Some(directory), Some(descriptor)) => {
                Ok(Place { path: path.to_vec(), name: name(path).to_vec(), directory, descriptor, inherits })
            }
            _ => Err("its directory was moved away while it was restored".into()),
        }
    }

    fn make_directory(&mut self, place: &Place, attributes: Attributes) -> Result<(), String> {
        let made = mkdirat(&place.descriptor, &*place.name, Mode::from_raw_mode(UNFINISHED_MODE.into()))
            .and_then(|()| open_beneath(&place.descriptor, &place.name, OFlags::RDONLY | OFlags::DIRECTORY))
            .and_then(|descriptor| Ok((stat_open(&descriptor)?, descriptor)));
        let (stat, descriptor) = made.map_err(|error| self.cannot("make the directory", error))?;
        if place.inherits {
            forget_default_acl(&descriptor);
        }
        self.go_into(place, Directory::new(Some(attributes), stat, descriptor), None, None);
        Ok(())
    }

    fn cannot(&self, what: &str, error: io::Errno) -> String {
        format!("cannot {what}: {}", self.shared.told(error))
    }

    /// A failure if something could not be made because there is no room.
    pub fn check_room(&self) -> Result<(), lifeboat_proto::status::Failure> {
        self.shared.check_room()
    }

    /// Goes into a directory that was there.
    fn enter(
        &mut self,
        place: &Place,
        attributes: Option<Attributes>,
        restored: Option<Completeness>,
    ) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("cannot open the directory that is there: {error}");
        let opened = match attributes.is_some() {
            true => self.open_to_fill(place),
            // It stays as it is, be it closed to this user.
            false => open_beneath(&place.descriptor, &place.name, OFlags::RDONLY | OFlags::DIRECTORY),
        };
        let opened = opened.and_then(|descriptor| Ok((stat_open(&descriptor)?, descriptor)));
        let (stat, descriptor) = opened.map_err(|error| cannot(error.into()))?;
        if let Some(attributes) = &attributes {
            mark_entered(&self.options.rules, &descriptor, stat.mode, attributes.mode);
        }
        let listing = self.listings.read(&descriptor).map_err(cannot)?;
        let before = Before::of(listing);
        self.go_into(place, Directory::new(attributes, stat, descriptor), Some(before), restored);
        Ok(())
    }

    /// An ordinary user may have to allow themselves to write into a directory of their own.
    fn open_to_fill(&self, place: &Place) -> io::Result<OwnedFd> {
        let seen = stat_at(&place.descriptor, &place.name)?;
        let all = Mode::RWXU;
        if !geteuid().is_root()
            && seen.uid == geteuid().as_raw()
            && !Mode::from_raw_mode(seen.mode.into()).contains(all)
        {
            let held = Held::of_place(open_beneath(&place.descriptor, &place.name, OFlags::PATH | OFlags::DIRECTORY)?);
            if stat_open(&held)?.is_same_file(&seen) {
                let mode = Mode::from_raw_mode(seen.mode.into()) | all;
                rustix::fs::chmodat(rustix::fs::CWD, held.proc_path(), mode, AtFlags::empty())?;
            }
        }
        open_beneath(&place.descriptor, &place.name, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn go_into(&mut self, place: &Place, directory: Directory, before: Option<Before>, restored: Option<Completeness>) {
        self.shared.made(0);
        if place.directory.stat.device != directory.stat.device
            && let Some(descriptor) = directory.descriptor()
        {
            self.shared.note_file_system(directory.stat.device, &descriptor);
        }
        self.path.clone_from(&place.path);
        let path_bytes = self.path.len();
        self.levels.push(Level { directory: Arc::new(directory), path_bytes, before, restored, kept_back: None });
        let depth = self.levels.len();
        if depth > OPEN_DIRECTORIES {
            self.levels[depth - OPEN_DIRECTORIES].directory.close();
        }
    }

    /// Leaves the directory that the writer is in; the one above is open afterwards if it can be found.
    fn leave(&mut self) {
        self.clear_away();
        let Some(left) = self.levels.pop() else { return };
        let path = std::mem::take(&mut self.path);
        if let Some(above) = self.levels.last() {
            self.path = path[..above.path_bytes].to_vec();
            if above.directory.descriptor().is_none()
                && let Some(found) = self.reopen(&above.directory, left.directory.descriptor().as_deref())
            {
                above.directory.reopen(found);
            }
        }
        left.directory.leave(&path, &self.shared);
    }

    /// Opens a directory again: from the one below, or if that was moved, from the target.
    fn reopen(&self, directory: &Directory, below: Option<&OwnedFd>) -> Option<OwnedFd> {
        let is_same = |found: &OwnedFd| stat_open(found).is_ok_and(|stat: Stat| stat.is_same_file(&directory.stat));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upwards = below.and_then(|below| openat(below, "..", flags, Mode::empty()).ok()).filter(is_same);
        upwards.or_else(|| self.shared.target.open_directory(&self.path).ok().filter(is_same))
    }

    fn set_deferred_flags(&self) -> std::io::Result<()> {
        self.shared.deferred.for_each(|path, flags| {
            if let Err(error) = self.set_unwritable(path, flags) {
                self.shared.report().lose(path, Attribute::Flags(flags), error);
            }
        })
    }

    fn set_unwritable(&self, path: &[u8], flags: u32) -> io::Result<()> {
        let directory = self.shared.target.open_directory(parent(path).unwrap_or_default())?;
        let file = open_beneath(&directory, name(path), OFlags::RDONLY | OFlags::NONBLOCK)?;
        self.shared.set_flags(&Held::of_open(file), path, flags, UNWRITABLE_FLAGS);
        Ok(())
    }
}

/// Where not every directory gets its attributes, one that will is marked until it has them, unless it is to keep such a
/// mark.
fn mark_entered(rules: &Rules, directory: &OwnedFd, is: u16, becomes: u16) {
    let depends = matches!(rules.overwrite, Overwrite::IfNewer | Overwrite::Never);
    if depends && (is | becomes) & ENTERED == 0 {
        // Who may not do it cannot set its attributes either.
        let _ = fchmod(directory, Mode::from_raw_mode((is | ENTERED).into()));
    }
}

/// What a tree says of a directory.
pub(super) fn completeness_of(kind: &EntryKind) -> Option<Completeness> {
    match kind {
        EntryKind::Directory(completeness) => Some(*completeness),
        _ => None,
    }
}

/// The attributes of a directory of which the snapshot has none: nobody else may enter.
fn made_up() -> Attributes {
    let now = Timestamp::now();
    let mtime = Time { seconds: now.as_second(), nanos: now.subsec_nanosecond().unsigned_abs() };
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    Attributes { mode: 0o700, uid, gid, mtime, ..Attributes::default() }
}

/// A file without content is complete at once.
fn begun(slot: FileSlot, bytes: u64) -> Step {
    if bytes > 0 {
        return Step::Content(slot);
    }
    let _ = slot.finish(); // A failure is in the report.
    Step::Settled
}
