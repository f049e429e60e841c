//! The walk itself: a stack of directories, and where in each of them it is.

use super::file_system::FileSystemKind;
use super::held::open_quietly;
use super::names::{Budget, NameReader, Names};
use super::plan::{Plan, tree_path};
use super::rules::Rules;
use super::spool::Spool;
use super::stat::{Stat, stat_at, stat_open};
use super::{Gap, GapReason};
use lifeboat_format::manifest::PARTS_MAX;
use lifeboat_format::tree::Completeness;
use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many directories are held open. Shallower ones are closed, and opened again on the way back.
const OPEN_DIRECTORIES: usize = 128;

/// Why a walk cannot begin. Once it has begun, trouble is a [`Gap`].
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// A root that could mean several places.
    #[error("cannot back up {path:?}: a source needs an absolute path without \"..\"")]
    Root {
        /// The root.
        path: PathBuf,
    },
    /// The root directory or the directory for temporary files cannot be used.
    #[error("cannot open {path:?}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What the walk comes upon.
#[derive(Debug)]
pub enum Item<'a> {
    /// An entry to keep.
    Entry(Scanned<'a>),
    /// Something it could not read.
    Gap(Gap),
}

/// An entry, as the walk found it.
#[derive(Debug)]
pub struct Scanned<'a> {
    /// Its path in the tree: no leading slash; empty for the root.
    pub path: &'a [u8],
    /// What `statx` said.
    pub stat: Stat,
    /// The directory it lies in, to open it by name. It may be open only as a path (`O_PATH`).
    pub directory: Arc<OwnedFd>,
    /// Its name in that directory; `.` for the root.
    pub name: &'a [u8],
    /// Whether all children of a directory follow; complete for anything else.
    pub completeness: Completeness,
    /// The part of the source set that it belongs to: see [`Scan::parts`]. None on the way to a source path.
    pub part: Option<usize>,
}

/// A walk over the roots of a source set.
///
/// Besides what lies under the roots it yields the directories on the way to them, from `/` (the empty path) on.
#[derive(Debug)]
pub struct Scan {
    rules: Rules,
    plan: Plan,
    spool: Spool,
    reader: NameReader,
    levels: Vec<Level>,
    path: Vec<u8>,
    name: Vec<u8>,
    /// The root directory, until the walk has begun.
    start: Option<Arc<OwnedFd>>,
    gaps: VecDeque<Gap>,
    /// The topmost paths of the parts of the source set.
    parts: Vec<Vec<u8>>,
    part_at: HashMap<Vec<u8>, usize>,
}

/// A directory that the walk is in.
#[derive(Debug)]
struct Level {
    /// None while the walk is too far below. The first level and the last always have it.
    directory: Option<Arc<OwnedFd>>,
    stat: Stat,
    path_bytes: usize,
    names: Names,
    /// Whether everything in it is backed up, and not only what leads to a root.
    whole: bool,
    part: Option<usize>,
}

impl Scan {
    /// Walks over `roots`, absolute paths. `scratch` is a directory on disk for names that do not fit in memory.
    pub fn new(roots: &[PathBuf], rules: Rules, scratch: &Path) -> Result<Self, ScanError> {
        Self::with_budget(roots, rules, scratch, Budget::default())
    }

    pub(super) fn with_budget(
        roots: &[PathBuf],
        rules: Rules,
        scratch: &Path,
        budget: Budget,
    ) -> Result<Self, ScanError> {
        let root = |path: &PathBuf| tree_path(path).ok_or_else(|| ScanError::Root { path: path.clone() });
        let parts: Vec<Vec<u8>> = roots.iter().map(root).collect::<Result<_, _>>()?;
        let plan = Plan::new(parts.clone());
        let cannot_open = |path: &Path, source| ScanError::Open { path: path.to_owned(), source };
        let top = Path::new("/");
        let start = open_directory(CWD, b"/", OFlags::PATH).map_err(|error| cannot_open(top, error.into()))?;
        Ok(Self {
            rules,
            plan,
            spool: Spool::new(scratch).map_err(|error| cannot_open(scratch, error))?,
            reader: NameReader::new(budget),
            levels: Vec::new(),
            path: Vec::new(),
            name: b".".to_vec(),
            start: Some(Arc::new(start)),
            gaps: VecDeque::new(),
            part_at: parts.iter().enumerate().map(|(at, path)| (path.clone(), at)).collect(),
            parts,
        })
    }

    /// Counts what lies below these paths apart, although they may be no source paths, and no other file system is
    /// mounted there any more. To be called before the walk begins.
    pub fn count_apart(&mut self, paths: impl IntoIterator<Item = Vec<u8>>) {
        paths.into_iter().for_each(|path| {
            self.part_named(&path);
        });
    }

    /// The topmost path of each part that was met so far: of each source path, and of each other file system that lies
    /// below one and is entered. What lies in one of them and not in another further down belongs to it.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }

    /// The number of the part that begins here, a new one if there is room.
    fn part_named(&mut self, path: &[u8]) -> Option<usize> {
        if let Some(part) = self.part_at.get(path) {
            return Some(*part);
        }
        let next = self.parts.len();
        (next < PARTS_MAX).then(|| {
            self.parts.push(path.to_vec());
            self.part_at.insert(path.to_vec(), next);
            next
        })
    }

    /// The next entry or gap; None at the end. An entry is valid until the next call.
    #[allow(clippy::should_implement_trait)] // An item borrows from the walk, which no `Iterator` can say.
    pub fn next(&mut self) -> Option<Item<'_>> {
        let step = match self.start.take() {
            Some(root) => match self.look(&root) {
                Ok(stat) => self.visit(stat, root),
                Err(gap) => Step::Gap(gap),
            },
            None => self.step()?,
        };
        Some(match step {
            Step::Entry(stat, directory, found) => {
                let Found { completeness, part } = found;
                Item::Entry(Scanned { path: &self.path, stat, directory, name: &self.name, completeness, part })
            }
            Step::Gap(gap) => Item::Gap(gap),
        })
    }

    #[cfg(test)]
    pub(super) fn open_directories(&self) -> usize {
        self.levels.iter().filter(|level| level.directory.is_some()).count()
    }

    fn step(&mut self) -> Option<Step> {
        loop {
            if let Some(gap) = self.gaps.pop_front() {
                return Some(Step::Gap(gap));
            }
            let Some(directory) = self.next_name()? else { continue };
            match self.look(&directory) {
                Ok(stat) if self.rules.excludes(&self.path, &stat) => {}
                Ok(stat) => return Some(self.visit(stat, directory)),
                Err(gap) => return Some(Step::Gap(gap)),
            }
        }
    }

    /// Goes on to the next name of the directory the walk is in, or leaves it. None when there is none to be in.
    fn next_name(&mut self) -> Option<Option<Arc<OwnedFd>>> {
        let level = self.levels.last_mut()?;
        self.path.truncate(level.path_bytes);
        match level.names.next(&self.spool, &mut self.name) {
            Ok(true) => {
                if !self.path.is_empty() {
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(&self.name);
                return Some(level.directory.clone());
            }
            Ok(false) => {}
            Err(error) => self
                .gaps
                .push_back(Gap { path: self.path.clone(), reason: GapReason::of("read back its sorted names", error) }),
        }
        self.leave();
        Some(None)
    }

    /// Looks at the entry that `path` and `name` stand for.
    fn look(&self, directory: &OwnedFd) -> Result<Stat, Gap> {
        let look = stat_at(directory, &self.name);
        look.map_err(|error| Gap { path: self.path.clone(), reason: GapReason::of("look at it", error) })
    }

    /// Takes the entry the walk is at. A directory is entered first: whether its entry is complete depends on the names
    /// in it.
    fn visit(&mut self, stat: Stat, directory: Arc<OwnedFd>) -> Step {
        let above = self.levels.last().and_then(|level| level.part);
        if stat.is_directory() {
            let found = self.enter(stat).unwrap_or_else(|reason| {
                self.gaps.push_back(Gap { path: self.path.clone(), reason });
                Found { completeness: Completeness::UNREADABLE, part: above }
            });
            return Step::Entry(stat, directory, found);
        }
        if !self.is_whole() {
            self.gaps.push_back(Gap { path: self.path.clone(), reason: GapReason::LinkToRoot });
        }
        let part = above.or_else(|| self.part_at.get(&self.path).copied());
        Step::Entry(stat, directory, Found { completeness: Completeness::COMPLETE, part })
    }

    /// Whether the entry the walk is at is a root or within one.
    fn is_whole(&self) -> bool {
        self.levels.last().is_some_and(|level| level.whole) || self.plan.is_root(&self.path)
    }

    /// Enters the directory the walk is at, unless nothing of its content is to be kept.
    fn enter(&mut self, stat: Stat) -> Result<Found, GapReason> {
        let unreadable = |error: Errno| GapReason::of("read the directory", error);
        if let Some(above) = self.levels.last_mut() {
            above.names.rest();
        }
        let is_root = self.plan.is_root(&self.path);
        let mut completeness = match self.is_whole() {
            false => Completeness::ANCESTOR,
            true if is_root || !self.is_skipped_file_system(&stat).map_err(unreadable)? => Completeness::COMPLETE,
            true => Completeness::OTHER_FILE_SYSTEM,
        };
        let part = self.part_of(&stat, is_root, completeness.is_complete());
        let mut directory = None;
        if completeness.is_complete() {
            let opened = self.open(OFlags::RDONLY).map_err(unreadable)?;
            if !is_root && self.rules.skips_as_cache(&opened) {
                completeness = Completeness::CACHE;
            }
            directory = Some(opened);
        }
        let whole = completeness.is_complete();
        let names = if let (true, Some(directory)) = (whole, &directory) {
            self.reader.read(directory, &mut self.spool)
        } else {
            let towards = self.plan.names_towards_roots(&self.path);
            if towards.is_empty() {
                return Ok(Found { completeness, part });
            }
            self.reader.take(&towards, &mut self.spool)
        };
        let names = names.map_err(|error| GapReason::of("read the directory", error))?;
        if let (true, Some(directory)) = (whole, &directory) {
            let is_left_out = self.leaves_out_any(&names, directory);
            if is_left_out.map_err(|error| GapReason::of("read back its sorted names", error))? {
                completeness |= Completeness::EXCLUDED;
            }
        }
        let directory = match directory {
            Some(directory) => directory,
            None => self.open(OFlags::PATH).map_err(unreadable)?,
        };
        let path_bytes = self.path.len();
        self.push(Level { directory: Some(Arc::new(directory)), stat, path_bytes, names, whole, part });
        Ok(Found { completeness, part })
    }

    /// The part that a directory belongs to: one of its own if it is a source path, if another file system begins there
    /// that is entered, or if it was such a place before.
    fn part_of(&mut self, stat: &Stat, is_root: bool, is_entered: bool) -> Option<usize> {
        let above = self.levels.last();
        let begins_file_system = above.is_some_and(|above| !above.stat.is_on_file_system_of(stat));
        let above = above.and_then(|above| above.part);
        let is_known = self.part_at.contains_key(&self.path);
        match is_root || (is_entered && (is_known || (begins_file_system && above.is_some()))) {
            true => self.part_named(&self.path.clone()).or(above),
            false => above,
        }
    }

    /// Whether a rule leaves out any child of the directory the walk is at.
    fn leaves_out_any(&self, names: &Names, directory: &OwnedFd) -> io::Result<bool> {
        if self.rules.take_every_name() {
            return Ok(false);
        }
        let mut path = self.path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        let start = path.len();
        names.any(&self.spool, |name| {
            path.truncate(start);
            path.extend_from_slice(name);
            self.rules.leaves_out(&path, || stat_at(directory, name).ok())
        })
    }

    fn push(&mut self, level: Level) {
        self.levels.push(level);
        let depth = self.levels.len();
        if depth > OPEN_DIRECTORIES {
            self.levels[depth - OPEN_DIRECTORIES].directory = None;
        }
    }

    /// Whether the directory the walk is at begins another file system, and the rules leave its content out.
    fn is_skipped_file_system(&self, stat: &Stat) -> rustix::io::Result<bool> {
        let Some((above, directory)) = self.levels.last().and_then(|level| Some((level, level.directory.as_ref()?)))
        else {
            return Ok(false);
        };
        if above.stat.is_on_file_system_of(stat) {
            return Ok(false);
        }
        Ok(self.rules.one_file_system || self.rules.skips(FileSystemKind::at(directory, &self.name)?))
    }

    fn open(&self, access: OFlags) -> rustix::io::Result<OwnedFd> {
        match self.levels.last().and_then(|level| level.directory.as_ref()) {
            Some(directory) => open_directory(directory, &self.name, access),
            None => open_directory(CWD, b"/", access),
        }
    }

    /// Leaves the directory the walk is in, and sees to it that the one above is open.
    fn leave(&mut self) {
        let Some(left) = self.levels.pop() else { return };
        self.reader.leave(&left.names, &mut self.spool);
        while let Some(level) = self.levels.last()
            && level.directory.is_none()
        {
            let found = self.reopen(level, left.directory.as_deref());
            let last = self.levels.len() - 1;
            match found {
                Some(directory) => self.levels[last].directory = Some(Arc::new(directory)),
                None => self.give_up(last),
            }
        }
    }

    /// Drops a directory that is not where it was.
    fn give_up(&mut self, index: usize) {
        let level = self.levels.remove(index);
        self.path.truncate(level.path_bytes);
        self.gaps.push_back(Gap { path: self.path.clone(), reason: GapReason::Moved });
        self.reader.leave(&level.names, &mut self.spool);
    }

    /// Opens the last directory again: from the one below, or if that was moved, from the top.
    fn reopen(&self, level: &Level, below: Option<&OwnedFd>) -> Option<OwnedFd> {
        let is_same = |found: &OwnedFd| stat_open(found).is_ok_and(|stat| stat.is_same_file(&level.stat));
        let upwards = below.and_then(|below| open_directory(below, b"..", OFlags::PATH).ok()).filter(is_same);
        upwards.or_else(|| self.open_from_top().filter(is_same))
    }

    fn open_from_top(&self) -> Option<OwnedFd> {
        let mut found = open_directory(self.levels.first()?.directory.as_ref()?, b".", OFlags::PATH).ok()?;
        for pair in self.levels.windows(2) {
            let name_at = if pair[0].path_bytes == 0 { 0 } else { pair[0].path_bytes + 1 };
            found = open_directory(&found, self.path.get(name_at..pair[1].path_bytes)?, OFlags::PATH).ok()?;
        }
        Some(found)
    }
}

/// What a directory proved to be when it was entered.
struct Found {
    completeness: Completeness,
    part: Option<usize>,
}

/// What the walk comes upon, before it is lent out.
enum Step {
    Entry(Stat, Arc<OwnedFd>, Found),
    Gap(Gap),
}

fn open_directory(directory: impl AsFd, name: &[u8], access: OFlags) -> rustix::io::Result<OwnedFd> {
    open_quietly(directory, name, access | OFlags::DIRECTORY)
}
