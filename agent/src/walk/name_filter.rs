//! Which names of a directory are walked, decided before anything behind them is touched.

use super::file_system::Mounts;
use super::plan::Plan;
use super::rules::Rules;
use super::stat::stat_at;
use rustix::fs::{FileType, Mode, OFlags, openat};
use std::os::fd::OwnedFd;

/// Directories that every repository has.
const REPOSITORY_DIRECTORIES: [&[u8]; 3] = [b"journal", b"keys", b"trust"];
/// The first trust file of a repository, and how it begins.
const TRUST_FILE: &[u8] = b"trust/00000000000000000001";
const TRUST_MAGIC: &[u8; 4] = b"LBTF";

/// Matches the names of one directory while it is read.
pub struct NameFilter<'a> {
    rules: &'a Rules,
    plan: &'a Plan,
    /// None if nothing is mounted below.
    mounts: Option<&'a Mounts>,
    directory: &'a OwnedFd,
    /// The path of the name that was matched last.
    child: Vec<u8>,
    base: usize,
    roots_below: bool,
    repository_directories: usize,
    /// Whether a rule left out a name.
    pub is_excluded: bool,
    /// Whether any name is walked.
    pub keeps_any: bool,
}

impl<'a> NameFilter<'a> {
    /// For an open directory at `path` of the tree.
    pub fn new(
        rules: &'a Rules,
        plan: &'a Plan,
        mounts: &'a Mounts,
        directory: &'a OwnedFd,
        path: &[u8],
        roots_below: bool,
    ) -> Self {
        let mut child = path.to_vec();
        if !child.is_empty() {
            child.push(b'/');
        }
        let base = child.len();
        let mounts = Some(mounts).filter(|mounts| mounts.any_below(path));
        Self {
            rules,
            plan,
            mounts,
            directory,
            child,
            base,
            roots_below,
            repository_directories: 0,
            is_excluded: false,
            keeps_any: false,
        }
    }

    /// Whether a name is walked. A name that leads to a source path always is: whether it may be, the walk decides there.
    pub fn keeps(&mut self, name: &[u8], kind: FileType) -> bool {
        self.child.truncate(self.base);
        self.child.extend_from_slice(name);
        let is_mount = self.mounts.is_some_and(|mounts| mounts.at(&self.child).is_some());
        let is_directory = match kind {
            FileType::Unknown if is_mount => true,
            FileType::Unknown => stat_at(self.directory, name).is_ok_and(|stat| stat.is_directory()),
            kind => kind == FileType::Directory,
        };
        if self.roots_below && self.plan.leads_to_root(&self.child) {
            self.is_excluded |= self.rules.is_never(&self.child, is_directory);
            self.keeps_any = true;
            return true;
        }
        let has_nodump = || !is_mount && stat_at(self.directory, name).is_ok_and(|stat| stat.nodump);
        if self.rules.excludes(&self.child, is_directory) || self.rules.skip_nodump && has_nodump() {
            self.is_excluded = true;
            return false;
        }
        self.keeps_any = true;
        self.repository_directories += usize::from(is_directory && REPOSITORY_DIRECTORIES.contains(&name));
        true
    }

    /// Whether the names are those of a Lifeboat repository.
    pub fn may_be_repository(&self) -> bool {
        self.repository_directories == REPOSITORY_DIRECTORIES.len()
    }
}

/// Whether an open directory holds a Lifeboat repository: by the content of its first trust file.
pub fn is_repository(directory: &OwnedFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = openat(directory, TRUST_FILE, flags, Mode::empty()) else { return false };
    let mut start = [0; TRUST_MAGIC.len()];
    rustix::io::pread(&file, &mut start, 0).is_ok_and(|read| read == start.len() && start == *TRUST_MAGIC)
}
