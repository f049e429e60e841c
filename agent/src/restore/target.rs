//! The directory that a restore writes into, and the only way to a place in it.

use crate::walk::{Stat, stat_open};
use lifeboat_proto::status::{ErrorClass, Failure};
use rustix::fs::{
    CWD, Mode, OFlags, RawDir, ResolveFlags, XattrFlags, fchmod, fchown, fgetxattr, fremovexattr, fsetxattr, openat,
    openat2,
};
use rustix::io::{self, Errno};
use rustix::process::geteuid;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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
    #[error("{path:?} is not empty: restore into a new or empty directory")]
    NotEmpty {
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
    Failure::new(class, format!("cannot write to the directory that is restored to: {error}"))
}

/// An empty directory that belongs to the restore alone while it runs.
#[derive(Debug)]
pub struct Target {
    root: OwnedFd,
    before: Stat,
    default_acl: Option<Vec<u8>>,
}

impl Target {
    /// Takes a directory, which is made if it is not there. Until the restore has ended, only this user can enter.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let failed = |action, source| TargetError::System { action, path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(|error| failed("make", error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, path, flags, Mode::empty()).map_err(|error| failed("open", error.into()))?;
        let before = stat_open(&root).map_err(|error| failed("look at", error.into()))?;
        let mut target = Self { root, before, default_acl: None };
        target.take().map_err(|error| failed("take for the restore", error.into()))?;
        match is_empty(&target.root) {
            Ok(true) => Ok(target),
            Ok(false) => {
                target.give_back();
                Err(TargetError::NotEmpty { path: path.to_owned() })
            }
            Err(error) => {
                target.give_back();
                Err(failed("read", error.into()))
            }
        }
    }

    /// Shuts everybody else out, before it is checked that nothing is there.
    fn take(&mut self) -> io::Result<()> {
        if geteuid().is_root() && self.before.uid != 0 {
            fchown(&self.root, Some(geteuid()), None)?;
        }
        match fchmod(&self.root, Mode::RWXU) {
            Err(Errno::PERM) => {} // Another's directory that this user may write: so may the others.
            result => result?,
        }
        let mut acl = vec![0; XATTR_BYTES_MAX];
        if let Ok(length) = fgetxattr(&self.root, DEFAULT_ACL, &mut acl) {
            acl.truncate(length);
            fremovexattr(&self.root, DEFAULT_ACL)?;
            self.default_acl = Some(acl);
        }
        Ok(())
    }

    /// Makes the directory accessible as it was before, where nothing was restored for it itself. What fails leaves
    /// it closed.
    pub(super) fn give_back(&self) {
        let owner = rustix::fs::Uid::from_raw(self.before.uid);
        if let Some(acl) = &self.default_acl {
            let _ = fsetxattr(&self.root, DEFAULT_ACL, acl, XattrFlags::empty());
        }
        let _ = fchown(&self.root, Some(owner), None);
        let _ = fchmod(&self.root, Mode::from_raw_mode(self.before.mode.into()));
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

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut names = RawDir::new(directory, &mut buffer);
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
