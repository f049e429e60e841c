//! The directory that a restore writes into, and the only way to a place in it.

use super::own::Own;
use crate::walk::{stat_at, stat_open};
use lifeboat_proto::status::{ErrorClass, Failure};
use rustix::fs::{
    CWD, FlockOperation, Mode, OFlags, RawDir, ResolveFlags, XattrFlags, fchmod, fchown, fgetxattr, flock,
    fremovexattr, fsetxattr, mkdirat, openat, openat2,
};
use rustix::io::{self, Errno};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Neither `..` nor a link of any kind leads anywhere.
pub(super) const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
/// Longer paths are opened in several steps; the kernel takes 4095 bytes at once.
const STEP_BYTES: usize = 4000;
/// What new files inherit from a directory with such an attribute is not theirs.
const DEFAULT_ACL: &str = "system.posix_acl_default";
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Why a directory cannot be restored into.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Something is in it.
    #[error("{path:?} is not empty")]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Something has the name that a file is to get in it.
    #[error("{path:?} already exists")]
    Taken {
        /// What has the name.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{path:?} is not a directory")]
    NoDirectory {
        /// What it is.
        path: PathBuf,
    },
    /// It belongs to Lifeboat itself.
    #[error("{path:?} lies where Lifeboat keeps its own")]
    Ours {
        /// The directory.
        path: PathBuf,
    },
    /// Another restore is at work.
    #[error("another restore is writing into {path:?}")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {action} {path:?}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A failure of the disk that is restored to.
pub fn of_disk(error: &std::io::Error) -> Failure {
    let class = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorClass::Full,
        _ => ErrorClass::Internal,
    };
    let failure = Failure::new(class, format!("cannot write to the directory that is restored to: {error}"));
    match class {
        ErrorClass::Full => {
            failure.hint("make room there (bytes, inodes, a quota); the same restore goes on where it was")
        }
        _ => failure,
    }
}

/// A directory that is restored into. If it was empty, it belongs to the restore alone while it runs.
#[derive(Debug)]
pub struct Target {
    root: OwnedFd,
    /// None if others can enter.
    before: Option<Before>,
    is_empty: bool,
}

/// How others found the directory before it was closed to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    mode: u16,
    uid: u32,
    default_acl: Option<Vec<u8>>,
    /// Whether the restore has made it, so that nobody's attributes are on it.
    #[serde(default)]
    is_made: bool,
}

impl Before {
    /// Whether the restore has made the directory.
    pub fn is_made(&self) -> bool {
        self.is_made
    }
}

/// In which state a target may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// New or empty.
    Empty,
    /// Anything but this name may be in it.
    Without(Vec<u8>),
    /// Anything may be in it.
    Anything,
    /// What an unfinished restore has left in it, which found it like this.
    Unfinished(Option<Before>),
}

impl Expected {
    /// Whether a directory is in that state.
    pub(super) fn check(&self, directory: &OwnedFd, is_empty: bool, path: &Path) -> Result<(), TargetError> {
        match self {
            _ if is_empty => Ok(()),
            Self::Empty => Err(TargetError::NotEmpty { path: path.to_owned() }),
            Self::Without(name) if stat_at(directory, name).err() != Some(Errno::NOENT) => {
                Err(TargetError::Taken { path: path.join(OsStr::from_bytes(name)) })
            }
            Self::Without(_) | Self::Anything | Self::Unfinished(_) => Ok(()),
        }
    }
}

impl Target {
    /// Takes a new or empty directory, which is made if it is not there. Until the restore has ended, only this user can
    /// enter.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let mut target = Self::open_as(path, Expected::Empty)?;
        target.shut(path, &Expected::Empty)?;
        Ok(target)
    }

    /// Takes a directory, which is made if it is not there. No second restore may run in it.
    pub fn open_as(path: &Path, expected: Expected) -> Result<Self, TargetError> {
        let failed = |action, source: std::io::Error| TargetError::System { action, path: path.to_owned(), source };
        if std::fs::metadata(path).is_ok_and(|there| !there.is_dir()) {
            return Err(TargetError::NoDirectory { path: path.to_owned() });
        }
        let is_made = !path.exists();
        std::fs::create_dir_all(path).map_err(|error| failed("make", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed("open", error.into()))?;
        Self::take(root, path, expected, is_made)
    }

    /// The same for a directory that somebody else names, below one that root has named: on the way below that no link is
    /// followed, and no directory of our own is entered or taken.
    pub fn open_below(base: &Path, below: &Path, own: &Own, expected: Expected) -> Result<Self, TargetError> {
        let path = base.join(below);
        let failed = |action, source: std::io::Error| TargetError::System { action, path: path.clone(), source };
        let make = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(base);
        make.map_err(|error| failed("make", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut root = openat(CWD, base, flags, Mode::empty()).map_err(|error| failed("open", error.into()))?;
        let mut is_made = false;
        for part in below.components() {
            if own.holds(&root) {
                return Err(TargetError::Ours { path });
            }
            let name = part.as_os_str().as_bytes();
            match mkdirat(&root, name, Mode::RWXU) {
                Ok(()) => is_made = true,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("make", error.into())),
            }
            let next = open_beneath(&root, name, OFlags::RDONLY | OFlags::DIRECTORY);
            root = next.map_err(|error| failed("open", error.into()))?;
        }
        if own.holds(&root) {
            return Err(TargetError::Ours { path });
        }
        Self::take(root, &path, expected, is_made)
    }

    /// A directory below one that root has named, if it is there: to look at it.
    pub fn look_below(base: &Path, below: &Path) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut root = openat(CWD, base, flags, Mode::empty()).ok()?;
        for part in below.components() {
            root = open_beneath(&root, part.as_os_str().as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        }
        Some(root)
    }

    fn take(root: OwnedFd, path: &Path, expected: Expected, is_made: bool) -> Result<Self, TargetError> {
        let failed = |action, source: std::io::Error| TargetError::System { action, path: path.to_owned(), source };
        // Some file systems have no locks; there nobody is kept out.
        if flock(&root, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(TargetError::InUse { path: path.to_owned() });
        }
        let mut target = Self { root, before: None, is_empty: false };
        if let Expected::Unfinished(before) = expected {
            target.before = before;
            return Ok(target);
        }
        target.look(is_made).map_err(|error| failed("look into", error.into()))?;
        expected.check(&target.root, target.is_empty, path)?;
        Ok(target)
    }

    fn look(&mut self, is_made: bool) -> io::Result<()> {
        self.is_empty = is_empty(&self.root)?;
        if self.is_empty {
            let stat = stat_open(&self.root)?;
            let mut acl = vec![0; XATTR_BYTES_MAX];
            let default_acl = fgetxattr(&self.root, DEFAULT_ACL, &mut acl).ok().map(|length| acl[..length].to_vec());
            self.before = Some(Before { mode: stat.mode, uid: stat.uid, default_acl, is_made });
        }
        Ok(())
    }

    /// Shuts everybody else out if nothing is in it, and looks again afterwards: it must be as `expected` still. How it was
    /// is to be remembered before, for whoever goes on.
    pub fn shut(&mut self, path: &Path, expected: &Expected) -> Result<(), TargetError> {
        let failed = |error: Errno| TargetError::System {
            action: "take for the restore",
            path: path.to_owned(),
            source: error.into(),
        };
        self.close_if_empty().map_err(failed)?;
        expected.check(&self.root, self.is_empty, path)
    }

    fn close_if_empty(&mut self) -> io::Result<()> {
        let Some(before) = self.before.as_ref().filter(|_| self.is_empty) else { return Ok(()) };
        if geteuid().is_root() && before.uid != 0 {
            fchown(&self.root, Some(geteuid()), None)?;
        }
        match fchmod(&self.root, Mode::RWXU) {
            Err(Errno::PERM) => {} // Another's directory that this user may write: so may the others.
            result => result?,
        }
        if before.default_acl.is_some() {
            fremovexattr(&self.root, DEFAULT_ACL)?;
        }
        self.is_empty = is_empty(&self.root)?;
        if !self.is_empty {
            self.give_back();
            self.before = None;
        }
        Ok(())
    }

    /// Its inode.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(stat_open(&self.root)?.inode)
    }

    /// Whether nothing was in it.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// How it was before others were shut out, if they were.
    pub fn before(&self) -> Option<&Before> {
        self.before.as_ref()
    }

    /// Makes the directory accessible as it was before, where nothing was restored for it itself. What fails leaves
    /// it closed.
    pub(super) fn give_back(&self) {
        let Some(before) = &self.before else { return };
        if let Some(acl) = &before.default_acl {
            let _ = fsetxattr(&self.root, DEFAULT_ACL, acl, XattrFlags::empty());
        }
        let _ = fchown(&self.root, Some(rustix::fs::Uid::from_raw(before.uid)), None);
        let _ = fchmod(&self.root, Mode::from_raw_mode(before.mode.into()));
    }

    /// Opens a directory in it by its path.
    pub(super) fn open_directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut place = self.root.try_clone().map_err(|_| Errno::MFILE)?;
        let mut rest = path;
        while !rest.is_empty() {
            let (step, after) = split_step(rest);
            place = open_beneath(&place, step, OFlags::PATH | OFlags::DIRECTORY)?;
            rest = after;
        }
        Ok(place)
    }
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// What is made in a directory is not to inherit what the directory has inherited itself.
pub(super) fn forget_default_acl(directory: &OwnedFd) {
    // Mostly there is none.
    let _ = fremovexattr(directory, DEFAULT_ACL);
}

/// Opens a name or a path in a directory. Neither `..`, nor a link of any kind, nor anything that somebody moves
/// meanwhile leads out of it.
pub(super) fn open_beneath(directory: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        match openat2(&directory, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::AGAIN | Errno::INTR) => {} // Something was renamed meanwhile; the kernel could not be sure.
            result => return result,
        }
    }
}

/// Cuts a path at a slash so that the first part is not too long.
fn split_step(path: &[u8]) -> (&[u8], &[u8]) {
    if path.len() <= STEP_BYTES {
        return (path, b"");
    }
    match path[..STEP_BYTES].iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, b""), // No name is that long: the kernel will say so.
    }
}

pub(super) fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    // Opened again: to read moves a place in the directory that all copies of a descriptor share.
    let directory = open_beneath(directory, b".", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut names = RawDir::new(&directory, &mut buffer);
    while let Some(name) = names.next() {
        if !matches!(name?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_target_is_closed_to_others_and_given_back() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/deep");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let target = Target::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        target.give_back();
        assert_eq!(mode(&path), 0o755);
    }

    #[test]
    fn a_directory_that_is_not_empty_is_refused_and_left_as_it_was() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(place.path().join("a"), "").unwrap();
        assert!(matches!(Target::open(place.path()), Err(TargetError::NotEmpty { .. })));
        assert_eq!(mode(place.path()), 0o751);
    }

    #[test]
    fn one_file_goes_beside_others_unless_its_name_is_taken_and_into_no_file() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o751)).unwrap();
        fs::write(place.path().join("a"), "").unwrap();
        symlink("nowhere", place.path().join("link")).unwrap();
        let open = |name: &[u8]| {
            let expected = Expected::Without(name.to_vec());
            let mut target = Target::open_as(place.path(), expected.clone())?;
            target.shut(place.path(), &expected)
        };
        open(b"b").unwrap();
        assert_eq!(mode(place.path()), 0o751, "it stays open to others");
        for taken in [&b"a"[..], b"link"] {
            assert!(matches!(open(taken), Err(TargetError::Taken { .. })), "{taken:?}");
        }
        let file = Target::open_as(&place.path().join("a"), Expected::Anything);
        assert!(matches!(file, Err(TargetError::NoDirectory { .. })));
    }

    #[test]
    fn inv_47_no_path_leads_out_of_the_target() {
        let place = tempfile::tempdir().unwrap();
        let target = Target::open(&place.path().join("target")).unwrap();
        fs::create_dir_all(place.path().join("target/a/b")).unwrap();
        symlink("..", place.path().join("target/a/up")).unwrap();
        symlink("/", place.path().join("target/a/top")).unwrap();
        assert!(target.open_directory(b"a/b").is_ok());
        for path in [&b".."[..], b"a/../..", b"a/up", b"a/up/target", b"a/top/etc", b"/etc"] {
            assert!(target.open_directory(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn inv_47_below_what_root_named_no_link_is_followed_and_nothing_of_our_own_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().join("base");
        fs::create_dir_all(base.join("own/deep")).unwrap();
        fs::create_dir(place.path().join("outside")).unwrap();
        symlink(place.path().join("outside"), base.join("link")).unwrap();
        symlink(&base, place.path().join("to base")).unwrap();
        let own = Own::of([base.join("own").as_path()]);
        let open = |base: &str, below: &str| {
            Target::open_below(&place.path().join(base), Path::new(below), &own, Expected::Anything)
        };
        drop(open("base", "new/deep").unwrap());
        assert!(base.join("new/deep").is_dir());
        assert!(open("to base", "new").is_ok(), "what root names may be a link");
        assert!(matches!(open("base", "link"), Err(TargetError::System { action: "open", .. })));
        assert!(open("base", "link/new").is_err());
        assert_eq!(fs::read_dir(place.path().join("outside")).unwrap().count(), 0);
        for below in ["own", "own/deep", "own/new"] {
            assert!(matches!(open("base", below), Err(TargetError::Ours { .. })), "{below}");
        }
        assert!(!base.join("own/new").exists());
    }

    #[test]
    fn a_long_path_is_cut_at_slashes() {
        let path = vec![&b"name"[..]; 3000].join(&b'/');
        let (mut rest, mut parts) = (&path[..], Vec::new());
        while !rest.is_empty() {
            let (step, after) = split_step(rest);
            assert!(step.len() <= STEP_BYTES);
            parts.push(step);
            rest = after;
        }
        assert_eq!(parts.join(&b'/'), path);
    }
}
