//! The walk itself: a stack of directories, and where in each of them it is.

use super::file_system::{Mount, Mounts};
use super::held::open_quietly;
use super::left_out::LeftOut;
use super::name_filter::{NameFilter, is_repository};
use super::names::{Budget, NameReader, Names};
use super::plan::{Plan, tree_path};
use super::probe::{ANSWER_TIMEOUT, answers};
use super::rules::Rules;
use super::spool::Spool;
use super::stat::{Stat, stat_at, stat_open};
use super::{Gap, GapReason};
use lifeboat_format::manifest::PARTS_MAX;
use lifeboat_format::tree::Completeness;
use rustix::fs::{CWD, FileType, OFlags, readlinkat};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How many directories are held open. Shallower ones are closed, and opened again on the way back.
const OPEN_DIRECTORIES: usize = 128;
/// How many things that were left out as a whole are named.
const LEFT_OUT_NAMED_MAX: usize = 1000;

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
    /// Of a directory, whether all of its children follow.
    pub completeness: Completeness,
    /// Whether `stat` is made up, because a call into the mount at this path might never return.
    pub is_placeholder: bool,
    /// The part of the source that it belongs to, as an index of [`Scan::parts`]; None on the way to a root.
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
    /// The directory that was found last, if there is something in it to walk over.
    to_enter: Option<Level>,
    gaps: VecDeque<Gap>,
    mounts: Mounts,
    left_out: Vec<(Vec<u8>, LeftOut)>,
    /// The topmost paths of the parts of the source.
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
    /// Whether there is a root below it.
    roots_below: bool,
    /// Whether something is mounted below it.
    mounts_below: bool,
    part: Option<usize>,
}

/// An entry that the walk is at, before it is known what is in it.
#[derive(Debug)]
struct Place {
    /// Whether it is a root, or leads to one.
    is_root: bool,
    leads_to_root: bool,
    /// What is mounted there.
    mount: Option<Mount>,
    /// Whether everything in it is to be backed up.
    whole: bool,
    flags: Completeness,
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
        let plan = Plan::new(roots.iter().map(root).collect::<Result<_, _>>()?);
        let parts = plan.roots().to_vec();
        let cannot_open = |path: &Path, source| ScanError::Open { path: path.to_owned(), source };
        let (top, table) = (Path::new("/"), Path::new("/proc/self/mountinfo"));
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
            to_enter: None,
            gaps: VecDeque::new(),
            mounts: Mounts::read().map_err(|error| cannot_open(table, error))?,
            left_out: Vec::new(),
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
        let first = self.start.take().and_then(|root| self.look(root));
        let step = match first {
            Some(step) => step,
            None => self.step()?,
        };
        Some(match step {
            Step::Entry(entry) => {
                let Found { stat, directory, completeness, is_placeholder, part } = *entry;
                let (path, name) = (&*self.path, &*self.name);
                Item::Entry(Scanned { path, stat, directory, name, completeness, is_placeholder, part })
            }
            Step::Gap(gap) => Item::Gap(gap),
        })
    }

    /// What was left out as a whole so far, by its path in the tree.
    pub fn left_out(&self) -> &[(Vec<u8>, LeftOut)] {
        &self.left_out
    }

    /// The topmost paths of the parts of the source: each source path, and each file system that was entered below one.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
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
            if let Some(level) = self.to_enter.take() {
                self.push(level);
                continue;
            }
            let Some(directory) = self.next_name()? else { continue };
            if let Some(step) = self.look(directory) {
                return Some(step);
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

    /// Looks at the entry that `path` and `name` stand for. None if it is a source path that may not be read.
    fn look(&mut self, directory: Arc<OwnedFd>) -> Option<Step> {
        let mut place = self.place();
        if place.leads_to_root && self.refuses(place.is_root) {
            return None;
        }
        let is_skipped = self.skips_mount(&mut place);
        let (stat, is_placeholder) = match self.stat(&directory, &mut place, is_skipped) {
            Ok(found) => found,
            Err(reason) => return Some(self.gap(reason)),
        };
        if place.is_root && self.rules.is_never(&self.path, stat.is_directory()) {
            self.add_gap(GapReason::NeverCoversSource);
            return None;
        }
        if !stat.is_directory() && place.leads_to_root {
            self.check_source(&directory, &place, &stat);
        }
        if stat.is_directory() && !is_placeholder {
            self.prepare(&mut place, stat);
        }
        let part = self.part_of(&place, stat.is_directory());
        if let Some(level) = &mut self.to_enter {
            level.part = part;
        }
        let completeness = place.flags;
        Some(Step::Entry(Box::new(Found { stat, directory, completeness, is_placeholder, part })))
    }

    /// What is known of the entry without touching it.
    fn place(&self) -> Place {
        let above = self.levels.last();
        let leads_to_root = above.is_none_or(|level| level.roots_below) && self.plan.leads_to_root(&self.path);
        let is_root = leads_to_root && self.plan.is_root(&self.path);
        let has_mounts = above.is_none_or(|level| level.mounts_below);
        let mount = if has_mounts { self.mounts.at(&self.path).cloned() } else { None };
        // An excluded directory that leads to a root is walked only on the way there.
        let is_excluded = || leads_to_root && self.rules.excludes(&self.path, true);
        let whole = is_root || above.is_some_and(|level| level.whole) && !is_excluded();
        Place { is_root, leads_to_root, mount, whole, flags: Completeness::COMPLETE }
    }

    /// Whether a source path, or all below a directory that leads to some, may not be read; they are gaps.
    fn refuses(&mut self, is_root: bool) -> bool {
        if is_root && self.rules.is_own_state(&self.path) {
            self.add_gap(GapReason::OwnState);
            return true;
        }
        let is_never = self.rules.is_never(&self.path, !is_root);
        if is_never {
            let gap = |root: &[u8]| Gap { path: root.to_vec(), reason: GapReason::NeverCoversSource };
            self.gaps.extend(self.plan.roots_within(&self.path).map(gap));
        }
        is_never
    }

    /// Whether the content of what is mounted here is left out.
    fn skips_mount(&mut self, place: &mut Place) -> bool {
        let Some(mount) = place.mount.as_ref().filter(|_| place.whole && !place.is_root) else { return false };
        let why = LeftOut::of_mount(&self.rules, mount);
        let is_skipped = why.is_some() || self.rules.skips_silently(mount.kind);
        if is_skipped {
            place.whole = false;
            place.flags |= Completeness::OTHER_FILE_SYSTEM;
        }
        self.leave_out(why);
        is_skipped
    }

    /// Looks at the entry. What is mounted and may hang is not touched if it is left out, and must answer first if not;
    /// then the entry of the mount point is made up. So it is where a mount point cannot be looked at.
    fn stat(
        &mut self,
        directory: &Arc<OwnedFd>,
        place: &mut Place,
        is_skipped: bool,
    ) -> Result<(Stat, bool), GapReason> {
        let failed = match place.mount.as_ref().filter(|mount| mount.may_hang()) {
            Some(_) if is_skipped && !place.leads_to_root => None,
            Some(mount) if !answers(directory, &self.name, ANSWER_TIMEOUT) => {
                Some(GapReason::Hangs { fs_type: mount.fs_type.clone(), seconds: ANSWER_TIMEOUT.as_secs() })
            }
            _ => match stat_at(directory, &self.name) {
                Ok(stat) => return Ok((stat, false)),
                Err(_) if is_skipped && !place.leads_to_root => None,
                Err(error) => Some(GapReason::of("look at it", error)),
            },
        };
        if place.mount.is_none()
            && let Some(reason) = failed
        {
            return Err(reason);
        }
        if let Some(reason) = failed {
            place.flags |= Completeness::UNREADABLE;
            self.add_gap(reason);
        }
        let above = self.levels.last().map(|level| level.stat);
        let above =
            above.map_or_else(|| stat_open(directory).map_err(|error| GapReason::of("look at it", error)), Ok)?;
        let made_up = Stat { mode: 0o755, uid: 0, gid: 0, bytes: 0, inode: 0, btime: None, nodump: false, ..above };
        Ok((made_up, true))
    }

    /// A source path must not lead through what is no directory, and must not be a link.
    fn check_source(&mut self, directory: &OwnedFd, place: &Place, stat: &Stat) {
        if stat.kind == FileType::Symlink {
            let target = readlinkat(directory, &*self.name, Vec::new()).map_or_else(|_| Vec::new(), |t| t.into_bytes());
            self.add_gap(GapReason::SourceIsLink { target });
        } else if !place.is_root {
            self.add_gap(GapReason::NotADirectory);
        }
    }

    /// The part of the source that the entry belongs to.
    fn part_of(&mut self, place: &Place, is_directory: bool) -> Option<usize> {
        if place.is_root {
            return self.part_at.get(&self.path).copied();
        }
        let above = self.levels.last()?.part;
        let is_known = || self.part_at.contains_key(&self.path);
        let is_part = place.whole && is_directory && (place.mount.as_ref().is_some_and(Mount::is_part) || is_known());
        match is_part {
            true => self.part_named(&self.path.clone()).or(above),
            false => above,
        }
    }

    /// Reads the names of the directory the walk is at, so that its entry can state whether all of its children follow.
    fn prepare(&mut self, place: &mut Place, stat: Stat) {
        if let Some(above) = self.levels.last_mut() {
            above.names.rest();
        }
        if place.whole && !place.is_root {
            self.check_crossing(place, &stat);
        }
        if place.whole && !place.is_root && self.rules.is_own_state(&self.path) {
            place.whole = false;
            place.flags |= Completeness::EXCLUDED;
            self.leave_out(Some(LeftOut::OwnState));
        }
        let is_ancestor = !place.whole && place.flags.is_complete();
        if let Err(reason) = self.read_names(place, stat) {
            place.flags |= Completeness::UNREADABLE;
            self.add_gap(reason);
        }
        if is_ancestor {
            place.flags |= Completeness::ANCESTOR;
        }
    }

    /// Finds the beginning of a file system that the mount table did not show: mounted since, or a subvolume.
    fn check_crossing(&mut self, place: &mut Place, stat: &Stat) {
        let Some(above) = self.levels.last().map(|level| level.stat) else { return };
        if place.mount.is_some() || (above.device, above.mount) == (stat.device, stat.mount) {
            return;
        }
        let is_subvolume = above.mount == stat.mount && stat.mount != 0;
        if !is_subvolume && let Ok(mounts) = Mounts::read() {
            self.mounts = mounts;
            place.mount = self.mounts.at(&self.path).cloned();
        }
        if place.mount.is_some() {
            self.skips_mount(place);
        } else if self.rules.one_file_system {
            place.whole = false;
            place.flags |= Completeness::OTHER_FILE_SYSTEM;
            self.leave_out(Some(LeftOut::Subvolume));
        }
    }

    /// Reads the names of the directory the walk is at, and makes the level to enter if there is something to walk over.
    fn read_names(&mut self, place: &mut Place, stat: Stat) -> Result<(), GapReason> {
        let unreadable = |error: Errno| GapReason::of("read the directory", error);
        let (mut opened, mut problem) = (None, None);
        if place.whole {
            match self.open(OFlags::RDONLY) {
                Ok(directory) => opened = Some(directory),
                Err(error) => {
                    place.whole = false;
                    problem = Some(unreadable(error));
                }
            }
        }
        if let Some(directory) = &opened
            && !place.is_root
            && self.rules.skips_as_cache(directory)
        {
            place.whole = false;
            place.flags |= Completeness::CACHE;
        }
        let mut level = None;
        if let (true, Some(directory)) = (place.whole, &opened) {
            level = self.read_whole(directory, place, &mut problem)?;
        }
        if level.is_none() {
            let towards = if place.leads_to_root { self.plan.names_towards_roots(&self.path) } else { Vec::new() };
            if !towards.is_empty() {
                let names = self.reader.take(&towards, &mut self.spool);
                level = Some(names.map_err(|error| GapReason::of("read the directory", error))?);
            }
        }
        if let Some(names) = level {
            let directory = match opened {
                Some(directory) => directory,
                None => self.open(OFlags::PATH).map_err(unreadable)?,
            };
            let (directory, path_bytes, whole) = (Some(Arc::new(directory)), self.path.len(), place.whole);
            let roots_below = place.leads_to_root && !self.plan.names_towards_roots(&self.path).is_empty();
            let mounts_below = self.levels.last().is_none_or(|level| level.mounts_below || place.mount.is_some())
                && self.mounts.any_below(&self.path);
            self.to_enter =
                Some(Level { directory, stat, path_bytes, names, whole, roots_below, mounts_below, part: None });
        }
        problem.map_or(Ok(()), Err)
    }

    /// Reads all names that the rules do not leave out. None if the directory is a repository, which is left out.
    fn read_whole(
        &mut self,
        directory: &OwnedFd,
        place: &mut Place,
        problem: &mut Option<GapReason>,
    ) -> Result<Option<Names>, GapReason> {
        let unreadable = |error| GapReason::of("read the directory", error);
        let Self { reader, spool, rules, plan, mounts, path, .. } = self;
        let towards = if place.leads_to_root { plan.names_towards_roots(path) } else { Vec::new() };
        let mut filter = NameFilter::new(rules, plan, mounts, directory, path, !towards.is_empty());
        let (names, failed) =
            reader.read_some(directory, &towards, |name, kind| filter.keeps(name, kind), spool).map_err(unreadable)?;
        *problem = failed.map(unreadable);
        let (is_excluded, may_be_repository) = (filter.is_excluded, filter.may_be_repository());
        let is_all_excluded = is_excluded && !filter.keeps_any;
        if may_be_repository && !place.is_root && is_repository(directory) {
            reader.leave(&names, spool);
            place.whole = false;
            place.flags |= Completeness::EXCLUDED;
            self.leave_out(Some(LeftOut::Repository));
            return Ok(None);
        }
        if is_excluded {
            place.flags |= Completeness::EXCLUDED;
        }
        if is_all_excluded && place.is_root {
            self.add_gap(GapReason::AllExcluded);
        }
        Ok(Some(names))
    }

    fn push(&mut self, level: Level) {
        self.levels.push(level);
        let depth = self.levels.len();
        if depth > OPEN_DIRECTORIES {
            self.levels[depth - OPEN_DIRECTORIES].directory = None;
        }
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

    fn gap(&self, reason: GapReason) -> Step {
        Step::Gap(Gap { path: self.path.clone(), reason })
    }

    /// A gap at the entry the walk is at, to be yielded after it.
    fn add_gap(&mut self, reason: GapReason) {
        self.gaps.push_back(Gap { path: self.path.clone(), reason });
    }

    fn leave_out(&mut self, why: Option<LeftOut>) {
        if let Some(why) = why
            && self.left_out.len() < LEFT_OUT_NAMED_MAX
        {
            self.left_out.push((self.path.clone(), why));
        }
    }
}

/// What the walk comes upon, before it is lent out.
enum Step {
    Entry(Box<Found>),
    Gap(Gap),
}

struct Found {
    stat: Stat,
    directory: Arc<OwnedFd>,
    completeness: Completeness,
    is_placeholder: bool,
    part: Option<usize>,
}

fn open_directory(directory: impl AsFd, name: &[u8], access: OFlags) -> rustix::io::Result<OwnedFd> {
    open_quietly(directory, name, access | OFlags::DIRECTORY)
}
