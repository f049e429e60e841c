//! Takes entries in the order of the tree and makes them, or makes of what is there what it should be.
//!
//! In a directory that the restore has made there is nothing else. Of one that was there, the names are read once, and
//! met by the entries; what is under a name is looked at then. What becomes of it is decided in `decide`.

use super::attributes::differ;
use super::decide::{Overwrite, Rules, UNFINISHED_MODE, Verdict, decide};
use super::directory::Directory;
use super::existing::{Existing, IMMUTABLE};
use super::listing::{Listing, Listings};
use super::owner::Owners;
use super::remove::remove;
use super::report::{Attribute, Report};
use super::shared::{Place, Shared};
use super::slot::{FileSlot, PART_BYTES, is_temporary, part_name, rename_over, temporary_name};
use super::target::{Target, forget_default_acl, open_beneath};
use crate::metadata::UNWRITABLE_FLAGS;
use crate::walk::{Held, Stat, stat_at, stat_open};
use lifeboat_format::tree::{Attributes, Device, Entry, EntryKind, compare_paths, is_within, name, parent};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, readlinkat, symlinkat, syncfs, unlinkat,
};
use rustix::io::{self, Errno};
use rustix::process::geteuid;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// How many directories are held open. Shallower ones are closed, and opened again on the way back.
const OPEN_DIRECTORIES: usize = 128;

/// How a restore deals with what differs between hosts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Owners by number, even if their names have other numbers here.
    pub numeric_ids: bool,
    /// How it deals with what is there.
    pub rules: Rules,
    /// Whether what the snapshot does not have is removed, in directories that it has.
    pub delete: bool,
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
    /// Whether a part of the tree could not be read.
    is_damaged: bool,
    /// Files that stay as they are, by a hash of their paths: they are not the first name of anything in the snapshot.
    kept_files: HashSet<[u8; 32]>,
}

/// So many files that stay as they are remembered. About 4 MiB; when there are more, no further name is made a link.
const KEPT_FILES_MAX: usize = 100_000;

#[derive(Debug)]
struct Level {
    directory: Arc<Directory>,
    path_bytes: usize,
    /// What was in it, unless the restore has made it.
    before: Option<Before>,
    /// Whether it is restored itself, and not only on the way to what is: then what else is in it may be deleted.
    is_whole: bool,
}

/// What was in a directory before.
#[derive(Debug)]
struct Before {
    listing: Listing,
    /// What an interrupted restore has left in it.
    remains: Vec<Vec<u8>>,
    /// The parts of entries: they are taken up.
    parts: HashSet<String>,
}

impl Before {
    fn of(listing: Listing) -> Self {
        Self { listing, remains: Vec::new(), parts: HashSet::new() }
    }
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
        let levels = vec![Level { directory: Arc::new(directory), path_bytes: 0, before, is_whole: false }];
        let shared = Arc::new(Shared::new(target, Owners::new(options.numeric_ids)));
        let (path, last, link_source, kept, is_damaged, kept_files) = Default::default();
        Ok(Self { shared, options, listings, levels, path, last, link_source, kept, is_damaged, kept_files })
    }

    /// Makes an entry. The root, the empty path, is the target itself; every other entry needs its directory before
    /// it. What cannot be made is in the report.
    pub fn add(&mut self, entry: Entry) -> Step {
        let path = entry.path.clone();
        self.try_add(entry).unwrap_or_else(|reason| {
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
        }
    }

    fn try_pass(&mut self, entry: Entry) -> Result<(), String> {
        entry.check().map_err(|error| error.to_string())?;
        if self.path == entry.path || is_within(&self.path, &entry.path) {
            return Ok(());
        }
        self.keep_order(&entry.path)?;
        self.go_to(parent(&entry.path).unwrap_or_default())?;
        let place = self.place(&entry.path)?;
        match self.look(&place)? {
            None => self.make_directory(&place, entry.attributes),
            Some(there) if there.is_directory() => self.enter(&place, None, false),
            Some(_) => Err("it is on the way, and what is there is no directory".into()),
        }
    }

    /// A part of the tree cannot be read, up to an entry of it. What was in it is not known: so from now on nothing is
    /// deleted, and directories that are missing are made without their attributes.
    pub fn lose_part(&mut self, up_to: &[u8], why: impl std::fmt::Display) {
        self.is_damaged = true;
        self.shared
            .fail(up_to, format_args!("nor were entries right before it: this part of the tree cannot be read: {why}"));
    }

    /// Makes the directories on the way to an entry, which were in a part that is lost.
    fn make_lost(&mut self, path: &[u8]) {
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        for directory in ends.map(|end| &path[..end]).filter(|path| !path.is_empty()) {
            let is_here = self.path == directory || is_within(&self.path, directory);
            if !is_here {
                let attributes = Attributes { mode: 0o700, ..Attributes::default() };
                self.shared.fail(directory, "its attributes are lost with a part of the tree");
                self.pass(Entry { path: directory.to_vec(), kind: EntryKind::Directory, attributes });
            }
        }
    }

    /// An entry that is not restored, and why.
    pub fn fail(&self, path: &[u8], reason: impl std::fmt::Display) {
        self.shared.fail(path, reason);
    }

    /// Waits for slots that are still out.
    pub fn wait(&self) {
        self.shared.wait_for_landing();
    }

    /// Ends early: directories stay as they are, and what the snapshot does not have is not touched. Another restore
    /// goes on from there. Waits for slots that are still out.
    pub fn stop(self) {
        self.wait();
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
            _ => self.shared.target.give_back(),
        }
        syncfs(&self.shared.target)?;
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
        if self.is_damaged {
            self.make_lost(above);
        }
        self.go_to(above)?;
        let place = self.place(&entry.path)?;
        let there = self.look(&place)?;
        self.take_up_part(&entry);
        if let EntryKind::HardLink { to } = &entry.kind {
            return self.link(to, place, there);
        }
        let own = there.is_some_and(|there| there.uid == geteuid().as_raw());
        let is_alike = there.is_some_and(|there| is_alike(&place.descriptor, &place.name, &entry.kind, &there));
        let verdict = decide(&entry, there.as_ref(), is_alike, own, &self.options.rules);
        match (verdict, there) {
            (Verdict::Enter { attributes }, _) => self.enter(&place, attributes.then_some(entry.attributes), true)?,
            (Verdict::Keep, _) => self.keep(entry),
            (Verdict::Compare { unread }, Some(there)) => return self.compare(entry, place, &there, unread),
            (Verdict::Adopt, Some(there)) => self.adopt(&entry, &place, &there)?,
            (Verdict::Replace, Some(there)) => return self.replace(entry, place, &there),
            (_, _) => return self.make(entry, place),
        }
        Ok(Step::Settled)
    }

    /// What is at a place. Nothing, if the restore has made its directory.
    fn look(&mut self, place: &Place) -> Result<Option<Stat>, String> {
        let cannot = |error: std::io::Error| format!("cannot look at what is there: {error}");
        let Some(Level { before: Some(before), .. }) = self.levels.last_mut() else { return Ok(None) };
        let mut strays = Vec::new();
        let is_there = self.listings.meet(&mut before.listing, &place.name, &mut strays).map_err(cannot)?;
        for stray in strays {
            self.stray(stray);
        }
        if !is_there {
            return Ok(None);
        }
        match stat_at(&place.descriptor, &place.name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(cannot(error.into())),
        }
    }

    /// What an earlier restore has written of a large file is not a remain.
    fn take_up_part(&mut self, entry: &Entry) {
        let Some(Level { before: Some(before), .. }) = self.levels.last_mut() else { return };
        if let EntryKind::File(content) = &entry.kind
            && content.bytes >= PART_BYTES
        {
            before.parts.insert(part_name(&entry.path));
        }
    }

    /// Something that the snapshot does not have.
    fn stray(&mut self, name: Vec<u8>) {
        let Some(level) = self.levels.last_mut() else { return };
        match &mut level.before {
            // It may be the part of an entry that is still to come.
            Some(before) if is_temporary(&name) => before.remains.push(name),
            _ if self.options.delete && level.is_whole && !self.is_damaged => self.delete(&name),
            _ => {}
        }
    }

    fn delete(&mut self, name: &[u8]) {
        let path =
            |below: &[u8]| if self.path.is_empty() { below.to_vec() } else { [&self.path, &b"/"[..], below].concat() };
        let descriptor = self.levels.last().and_then(|level| level.directory.descriptor());
        let removed = match &descriptor {
            Some(descriptor) => remove(&mut self.listings, descriptor, name),
            None => Err(Errno::NOENT),
        };
        match removed {
            Ok(removed) => {
                self.shared.report().deleted += removed.entries;
                for (below, reason) in removed.refused {
                    self.shared.fail(&path(&below), format_args!("cannot be deleted: {reason}"));
                }
            }
            Err(error) => self.shared.fail(&path(name), format_args!("cannot be deleted: {error}")),
        }
    }

    /// What is left in a directory when all its entries are made: strays, and the remains of interrupted restores.
    fn clear_away(&mut self) {
        loop {
            let Some(Level { before: Some(before), .. }) = self.levels.last_mut() else { return };
            match self.listings.next_stray(&mut before.listing) {
                Ok(Some(name)) => self.stray(name),
                Ok(None) => break,
                Err(error) => {
                    let path = self.path.clone();
                    self.shared.fail(&path, format_args!("cannot read what else is in it: {error}"));
                    break;
                }
            }
        }
        let Some(level) = self.levels.last_mut() else { return };
        let (Some(before), Some(descriptor)) = (level.before.take(), level.directory.descriptor()) else { return };
        let is_taken = |name: &&Vec<u8>| std::str::from_utf8(name).is_ok_and(|name| before.parts.contains(name));
        for name in before.remains.iter().filter(|name| !is_taken(name)) {
            let own = |stat: Stat| stat.kind == FileType::RegularFile && stat.uid == geteuid().as_raw();
            if stat_at(&descriptor, name).is_ok_and(own) {
                // Nobody will miss it, whether or not it can be removed.
                let _ = unlinkat(&descriptor, &**name, AtFlags::empty());
            }
        }
        self.listings.leave(&before.listing);
    }

    fn make(&mut self, entry: Entry, place: Place) -> Result<Step, String> {
        let attributes = entry.attributes;
        match entry.kind {
            EntryKind::Directory => self.make_directory(&place, attributes)?,
            EntryKind::File(content) => {
                let slot = FileSlot::begin(self.shared.clone(), place, attributes, content.bytes)?;
                return Ok(begun(slot, content.bytes));
            }
            kind => {
                make_special(&kind, &place, &place.name).map_err(|error| format!("cannot make it: {error}"))?;
                self.complete_special(&place, &attributes)?;
            }
        }
        Ok(Step::Settled)
    }

    /// It stays, and nothing of the snapshot is a further name of it.
    fn keep(&mut self, entry: Entry) {
        self.shared.report().kept += 1;
        match entry.kind {
            EntryKind::Directory => self.kept = Some(entry.path),
            EntryKind::File(_) if self.kept_files.len() < KEPT_FILES_MAX => {
                self.kept_files.insert(*blake3::hash(&entry.path).as_bytes());
            }
            _ => {}
        }
    }

    fn is_kept(&self, path: &[u8]) -> bool {
        self.kept_files.len() >= KEPT_FILES_MAX || self.kept_files.contains(blake3::hash(path).as_bytes())
    }

    fn compare(&self, entry: Entry, place: Place, there: &Stat, unread: bool) -> Result<Step, String> {
        let EntryKind::File(content) = entry.kind else { return Err("it is no file".into()) };
        let shared = self.shared.clone();
        Existing::open(shared, place, entry.attributes, content.bytes, there, unread).map(Step::Compare)
    }

    /// A link, device, FIFO or socket that is what it should be.
    fn adopt(&self, entry: &Entry, place: &Place, there: &Stat) -> Result<(), String> {
        let held = open_beneath(&place.descriptor, &place.name, OFlags::PATH);
        let held = Held::of_place(held.map_err(|error| format!("cannot look at what is there: {error}"))?);
        if !stat_open(&held).is_ok_and(|now| now.is_same_file(there)) {
            return Err("it was replaced while it was restored".into());
        }
        let wanted = &entry.attributes;
        match differ(&held, there, wanted, self.shared.owners.of(wanted)) {
            true if there.links > 1 => {
                return Err("it has other names too, and other attributes: remove it first".into());
            }
            true => self.shared.change_attributes(&held, &place.path, wanted),
            false => self.shared.report().unchanged += 1,
        }
        self.shared.made(0);
        Ok(())
    }

    /// Puts an entry in the place of something else.
    fn replace(&mut self, entry: Entry, place: Place, there: &Stat) -> Result<Step, String> {
        if there.is_directory() {
            self.make_room(&place)?;
            return self.make(entry, place);
        }
        if there.kind == FileType::RegularFile && is_protected(&place) {
            return Err(IMMUTABLE.into());
        }
        let unlink = || unlinkat(&place.descriptor, &*place.name, AtFlags::empty());
        match &entry.kind {
            EntryKind::Directory | EntryKind::File(_) => {
                unlink().map_err(|error| format!("cannot remove what is there: {error}"))?;
                self.make(entry, place)
            }
            kind => {
                let made = temporary_name().and_then(|temporary| {
                    make_special(kind, &place, temporary.as_bytes())?;
                    rename_over(&place.descriptor, &temporary, &place.name)
                });
                made.map_err(|error| format!("cannot put it in the place of what is there: {error}"))?;
                self.complete_special(&place, &entry.attributes)?;
                Ok(Step::Settled)
            }
        }
    }

    /// A directory is in the way of something that is none.
    fn make_room(&mut self, place: &Place) -> Result<(), String> {
        if self.options.delete {
            self.delete(&place.name);
        }
        match unlinkat(&place.descriptor, &*place.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err("a directory that is not empty is in its place: remove it, or let --delete do it".into())
            }
            Err(error) => Err(format!("cannot remove the directory in its place: {error}")),
        }
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
            level.is_whole = true;
            Arc::get_mut(&mut level.directory)
        });
        match (entry.kind, root) {
            (EntryKind::Directory, Some(root)) => {
                let is_newer = entry.attributes.mtime > root.stat.mtime;
                let keeps = match self.options.rules.overwrite {
                    Overwrite::Always | Overwrite::IfChanged => false,
                    Overwrite::IfNewer => !is_newer,
                    Overwrite::Never => true,
                };
                // One that was closed to others was empty, or this restore goes on.
                let is_open = self.shared.target.before().is_none();
                root.attributes = (!(keeps && is_open)).then_some(entry.attributes);
                self.shared.made(0);
                Ok(Step::Settled)
            }
            _ => Err("the root of a tree is a directory, and its first entry".into()),
        }
    }

    /// Leaves directories until the writer is in `path`.
    fn go_to(&mut self, path: &[u8]) -> Result<(), String> {
        while self.levels.len() > 1 && !is_within(path, &self.path) {
            self.leave();
        }
        if self.path == path { Ok(()) } else { Err("its directory was not restored".into()) }
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
        let (stat, descriptor) = made.map_err(|error| format!("cannot make the directory: {error}"))?;
        if place.inherits {
            forget_default_acl(&descriptor);
        }
        self.go_into(place, Directory::new(Some(attributes), stat, descriptor), None, true);
        Ok(())
    }

    /// Goes into a directory that was there.
    fn enter(&mut self, place: &Place, attributes: Option<Attributes>, is_whole: bool) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("cannot open the directory that is there: {error}");
        let opened = self.open_to_fill(place).and_then(|descriptor| Ok((stat_open(&descriptor)?, descriptor)));
        let (stat, descriptor) = opened.map_err(|error| cannot(error.into()))?;
        let listing = self.listings.read(&descriptor).map_err(cannot)?;
        let before = Before::of(listing);
        self.go_into(place, Directory::new(attributes, stat, descriptor), Some(before), is_whole);
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

    fn go_into(&mut self, place: &Place, directory: Directory, before: Option<Before>, is_whole: bool) {
        self.shared.made(0);
        self.path.clone_from(&place.path);
        let path_bytes = self.path.len();
        self.levels.push(Level { directory: Arc::new(directory), path_bytes, before, is_whole });
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

    fn complete_special(&self, place: &Place, attributes: &Attributes) -> Result<(), String> {
        let held = open_beneath(&place.descriptor, &place.name, OFlags::PATH);
        let held = Held::of_place(held.map_err(|error| format!("cannot open it: {error}"))?);
        self.shared.made(0);
        match place.inherits {
            true => self.shared.change_attributes(&held, &place.path, attributes),
            false => self.shared.set_attributes(&held, &place.path, attributes),
        }
        Ok(())
    }

    fn link(&mut self, to: &[u8], place: Place, there: Option<Stat>) -> Result<Step, String> {
        if let Some(there) = there {
            if there.is_directory() {
                self.make_room(&place)?;
            } else if self.stays(to, &there) {
                self.shared.report().kept += 1;
                return Ok(Step::Settled);
            }
        }
        if self.is_kept(to) {
            self.last = None; // It is added again.
            return Ok(Step::FirstIsAbsent);
        }
        let over = there.is_some_and(|there| !there.is_directory());
        let Some(place) = self.shared.link_later(to, place, over) else { return Ok(Step::Settled) };
        let above = parent(to).unwrap_or_default();
        let known = self.link_source.take_if(|(path, _)| path == above);
        let source = match known {
            Some((_, source)) => Ok(source),
            None => self.shared.target.open_directory(above),
        };
        let found = source.and_then(|source| {
            open_beneath(&source, name(to), OFlags::PATH)?;
            Ok(source)
        });
        match found {
            Ok(source) => {
                self.shared.link(&source, name(to), &place, over);
                self.link_source = Some((above.to_vec(), source));
                Ok(Step::Settled)
            }
            Err(error @ (Errno::NOENT | Errno::NOTDIR | Errno::ACCESS)) => {
                if error == Errno::ACCESS {
                    self.shared.report().lose(&place.path, Attribute::HardLink, error);
                }
                self.last = None; // It is added again.
                Ok(Step::FirstIsAbsent)
            }
            Err(error) => Err(format!("cannot find the file that it is a name of: {error}")),
        }
    }

    /// Whether what is at the place of a further name stays as it is.
    fn stays(&self, to: &[u8], there: &Stat) -> bool {
        match self.options.rules.overwrite {
            Overwrite::Always | Overwrite::IfChanged => false,
            Overwrite::Never => true,
            Overwrite::IfNewer => {
                let landed = || {
                    let above = self.shared.target.open_directory(parent(to).unwrap_or_default()).ok()?;
                    stat_at(&above, name(to)).ok().map(|first| first.mtime)
                };
                self.shared.time_in_flight(to).or_else(landed).is_none_or(|first| first <= there.mtime)
            }
        }
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

/// A file without content is complete at once.
fn begun(slot: FileSlot, bytes: u64) -> Step {
    if bytes > 0 {
        return Step::Content(slot);
    }
    let _ = slot.finish(); // A failure is in the report.
    Step::Settled
}

/// Makes a link, device, FIFO or socket.
fn make_special(kind: &EntryKind, place: &Place, name: &[u8]) -> io::Result<()> {
    let node = |file_type, device: Device| {
        let number = makedev(device.major, device.minor);
        mknodat(&place.descriptor, name, file_type, Mode::RUSR | Mode::WUSR, number)
    };
    let none = Device { major: 0, minor: 0 };
    match kind {
        EntryKind::Symlink { target } => symlinkat(&**target, &place.descriptor, name),
        EntryKind::Fifo => node(FileType::Fifo, none),
        EntryKind::Socket => node(FileType::Socket, none),
        EntryKind::CharDevice(device) => node(FileType::CharacterDevice, *device),
        EntryKind::BlockDevice(device) => node(FileType::BlockDevice, *device),
        EntryKind::Directory | EntryKind::File(_) | EntryKind::HardLink { .. } => Err(Errno::INVAL),
    }
}

/// Whether a link leads where this one does, a device is that device, and so on.
pub(super) fn is_alike(directory: &OwnedFd, name: &[u8], kind: &EntryKind, there: &Stat) -> bool {
    match (kind, there.kind) {
        (EntryKind::Symlink { target }, FileType::Symlink) => {
            readlinkat(directory, name, Vec::new()).is_ok_and(|found| found.to_bytes() == target)
        }
        (EntryKind::Fifo, FileType::Fifo) | (EntryKind::Socket, FileType::Socket) => true,
        (EntryKind::CharDevice(device), FileType::CharacterDevice)
        | (EntryKind::BlockDevice(device), FileType::BlockDevice) => there.names_device == *device,
        _ => false,
    }
}

/// Whether a file is immutable or append-only.
fn is_protected(place: &Place) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = open_beneath(&place.descriptor, &place.name, flags) else { return false };
    stat_open(&file).is_ok_and(|stat| crate::metadata::flags_of(&Held::of_open(file), &stat) & UNWRITABLE_FLAGS != 0)
}
