//! Directories of Lifeboat itself, which no restore may touch: by inode, whatever names lead to them.

use super::target::open_beneath;
use crate::walk::{Stat, stat_open};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Why what belongs to Lifeboat stays.
pub const OURS: &str = "it belongs to Lifeboat on this machine, and stays as it is";

/// Which directories they are.
#[derive(Debug, Clone, Default)]
pub struct Own(Vec<Stat>);

impl Own {
    /// Those that are there.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let open = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let stats = paths.into_iter().filter_map(|path| stat_open(&open(path).ok()?).ok());
        Self(stats.collect())
    }

    /// Whether it is one of them.
    pub fn has(&self, stat: &Stat) -> bool {
        self.0.iter().any(|own| own.is_same_file(stat))
    }

    /// Whether a directory is one of them or lies within one.
    pub(super) fn holds(&self, directory: &OwnedFd) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(mut place) = open_beneath(directory, b".", OFlags::PATH | OFlags::DIRECTORY) else { return true };
        let Ok(mut stat) = stat_open(&place) else { return true };
        loop {
            if self.has(&stat) {
                return true;
            }
            let above = openat(&place, "..", flags, Mode::empty()).and_then(|above| Ok((stat_open(&above)?, above)));
            match above {
                Ok((above_stat, _)) if above_stat.is_same_file(&stat) => return false,
                Ok((above_stat, above)) => (stat, place) = (above_stat, above),
                Err(_) => return true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_directory_of_our_own_is_known_by_any_name_and_so_is_what_lies_within() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("own/deep/er")).unwrap();
        fs::create_dir(place.path().join("other")).unwrap();
        std::os::unix::fs::symlink("own", place.path().join("link")).unwrap();
        let own = Own::of([place.path().join("link").as_path(), Path::new("/no/such/place")]);
        let holds = |name: &str| own.holds(&OwnedFd::from(fs::File::open(place.path().join(name)).unwrap()));
        assert!(holds("own") && holds("own/deep/er") && holds("link/deep"));
        assert!(!holds("other") && !holds(""));
    }
}
