//! Takes entries in the order of the tree and makes them.

use super::directory::Directory;
use super::owner::Owners;
use super::report::{Attribute, Report};
use super::shared::{Place, Shared};
use super::slot::FileSlot;
use super::target::{Target, open_beneath};
use crate::metadata::UNWRITABLE_FLAGS;
use crate::walk::{Held, Stat, stat_open};
use lifeboat_format::tree::{Attributes, Device, Entry, EntryKind, compare_paths, is_within, name, parent};
use rustix::fs::{FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat, symlinkat, syncfs};
use rustix::io::{self, Errno};
use std::cmp::Ordering;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// How many directories are held open. Shallower ones are closed, and opened again on the way back.
const OPEN_DIRECTORIES: usize = 128;

/// How a restore deals with what differs between hosts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Owners by number, even if their names have other numbers here.
    pub numeric_ids: bool,
}

/// What is to be done about an entry.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it is there, or in the report.
    Settled,
    /// It is a file: fill it and finish it.
    Content(FileSlot),
    /// It is a further name of a file that is not in this restore. Add it again as a file, with that file's
    /// attributes and content.
    FirstIsAbsent,
}

/// Makes the entries of one restore. Used by one thread; its slots go to others. Without [`Writer::finish`] the
/// target stays closed to others.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    /// The directories that lead to `path`, the target first.
    levels: Vec<Level>,
    /// The directory that the writer is in.
    path: Vec<u8>,
    /// The last entry; None before the first.
    last: Option<Vec<u8>>,
    /// Where the first name of the last hard link was found.
    link_source: Option<(Vec<u8>, OwnedFd)>,
}

#[derive(Debug)]
struct Level {
    directory: Arc<Directory>,
    path_bytes: usize,
}

impl Writer {
    /// A restore into a target that was just opened.
    pub fn new(target: Target, options: Options) -> std::io::Result<Self> {
        let descriptor = target.as_fd().try_clone_to_owned()?;
        let directory = Directory::new(None, stat_open(&descriptor)?, descriptor);
        let levels = vec![Level { directory: Arc::new(directory), path_bytes: 0 }];
        let shared = Arc::new(Shared::new(target, Owners::new(options.numeric_ids)));
        Ok(Self { shared, levels, path: Vec::new(), last: None, link_source: None })
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

    /// Completes all directories, then sets what must come last, then sees to it that everything is on disk. Waits
    /// for slots that are still out.
    pub fn finish(mut self) -> std::io::Result<Report> {
        while self.levels.len() > 1 {
            self.leave();
        }
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
        self.go_to(parent(&entry.path).unwrap_or_default())?;
        let place = self.place(&entry.path)?;
        let attributes = entry.attributes;
        match entry.kind {
            EntryKind::Directory => self.make_directory(&place, attributes)?,
            EntryKind::File(content) => {
                let slot = FileSlot::begin(self.shared.clone(), place, attributes, content.bytes)?;
                if content.bytes > 0 {
                    return Ok(Step::Content(slot));
                }
                let _ = slot.finish(); // A failure is in the report.
            }
            EntryKind::HardLink { to } => return self.link(&to, place),
            kind => self.make_special(&kind, &place, &attributes)?,
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
        let root = self.levels.first_mut().and_then(|level| Arc::get_mut(&mut level.directory));
        match (entry.kind, root) {
            (EntryKind::Directory, Some(root)) => {
                root.attributes = Some(entry.attributes);
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
        let descriptor = directory.as_ref().and_then(|directory| directory.descriptor());
        match (directory, descriptor) {
            (Some(directory), Some(descriptor)) => {
                Ok(Place { path: path.to_vec(), name: name(path).to_vec(), directory, descriptor })
            }
            _ => Err("its directory was moved away while it was restored".into()),
        }
    }

    fn make_directory(&mut self, place: &Place, attributes: Attributes) -> Result<(), String> {
        let made = mkdirat(&place.descriptor, &*place.name, Mode::RWXU)
            .and_then(|()| open_beneath(&place.descriptor, &place.name, OFlags::RDONLY | OFlags::DIRECTORY))
            .and_then(|descriptor| Ok((stat_open(&descriptor)?, descriptor)));
        let (stat, descriptor) = made.map_err(|error| format!("cannot make the directory: {error}"))?;
        self.shared.made(0);
        let directory = Arc::new(Directory::new(Some(attributes), stat, descriptor));
        self.path.clone_from(&place.path);
        self.levels.push(Level { directory, path_bytes: self.path.len() });
        let depth = self.levels.len();
        if depth > OPEN_DIRECTORIES {
            self.levels[depth - OPEN_DIRECTORIES].directory.close();
        }
        Ok(())
    }

    /// Leaves the directory that the writer is in; the one above is open afterwards if it can be found.
    fn leave(&mut self) {
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

    fn make_special(&self, kind: &EntryKind, place: &Place, attributes: &Attributes) -> Result<(), String> {
        let node = |file_type, device: Device| {
            let number = makedev(device.major, device.minor);
            mknodat(&place.descriptor, &*place.name, file_type, Mode::RUSR | Mode::WUSR, number)
        };
        let none = Device { major: 0, minor: 0 };
        let made = match kind {
            EntryKind::Symlink { target } => symlinkat(&**target, &place.descriptor, &*place.name),
            EntryKind::Fifo => node(FileType::Fifo, none),
            EntryKind::Socket => node(FileType::Socket, none),
            EntryKind::CharDevice(device) => node(FileType::CharacterDevice, *device),
            EntryKind::BlockDevice(device) => node(FileType::BlockDevice, *device),
            EntryKind::Directory | EntryKind::File(_) | EntryKind::HardLink { .. } => Err(Errno::INVAL),
        };
        let held = made.and_then(|()| open_beneath(&place.descriptor, &place.name, OFlags::PATH));
        let held = Held::of_place(held.map_err(|error| format!("cannot make it: {error}"))?);
        self.shared.made(0);
        self.shared.set_attributes(&held, &place.path, attributes);
        Ok(())
    }

    fn link(&mut self, to: &[u8], place: Place) -> Result<Step, String> {
        let Some(place) = self.shared.link_later(to, place) else { return Ok(Step::Settled) };
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
                self.shared.link(&source, name(to), &place);
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
