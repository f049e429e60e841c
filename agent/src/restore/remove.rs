//! Removes what the snapshot does not have: by descriptor, through no link, and never into another file system.
//!
//! There is no recursion: of the directories on the way down the deepest stay open, the others are found again by `..`,
//! and must be the same.

use super::listing::{Listing, Listings};
use super::own::Own;
use super::target::open_beneath;
use crate::walk::{Stat, stat_at, stat_open};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::{self, Errno};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How many directories are held open.
const OPEN_DIRECTORIES: usize = 64;

/// Why a mount point stays.
const MOUNTED: &str = "a file system is mounted there";

/// What was removed, and what was not.
#[derive(Debug, Default)]
pub struct Removed {
    /// How many entries are gone.
    pub entries: u64,
    /// Paths below the directory that belong to Lifeboat.
    pub protected: Vec<Vec<u8>>,
    /// Paths below the directory, and why they are still there.
    pub refused: Vec<(Vec<u8>, String)>,
}

struct Level {
    descriptor: Option<Arc<OwnedFd>>,
    stat: Stat,
    listing: Listing,
    path_bytes: usize,
    /// Whether something in it stays, and so it does.
    stays: bool,
}

/// Removes what is under a name in a directory, with all below it.
pub fn remove(listings: &mut Listings, directory: &Arc<OwnedFd>, name: &[u8], own: &Own) -> io::Result<Removed> {
    walk(listings, directory, name, own, false)
}

/// What [`remove`] would remove.
pub fn count(listings: &mut Listings, directory: &Arc<OwnedFd>, name: &[u8], own: &Own) -> Removed {
    // What cannot be looked at now is refused when it is removed.
    walk(listings, directory, name, own, true).unwrap_or_default()
}

fn walk(
    listings: &mut Listings,
    directory: &Arc<OwnedFd>,
    name: &[u8],
    own: &Own,
    only_count: bool,
) -> io::Result<Removed> {
    let (removed, levels, path) = (Removed::default(), Vec::new(), name.to_vec());
    let mut removal = Removal { listings, own, only_count, removed, levels, path };
    if removal.is_gone(directory, name)? {
        return Ok(removal.removed);
    }
    let top = stat_open(&**directory)?;
    removal.enter(directory, name, &top);
    while let Some(level) = removal.levels.last_mut() {
        let next = match &level.descriptor {
            Some(descriptor) => removal
                .listings
                .next_stray(&mut level.listing)
                .map_err(|_| Errno::IO)?
                .map(|name| (descriptor.clone(), name)),
            None => None,
        };
        match next {
            Some((descriptor, name)) => {
                removal.path.truncate(level.path_bytes);
                removal.path.push(b'/');
                removal.path.extend_from_slice(&name);
                if !removal.is_gone(&descriptor, &name)? {
                    removal.enter(&descriptor, &name, &top);
                }
            }
            None => removal.leave(directory, name),
        }
    }
    Ok(removal.removed)
}

struct Removal<'a> {
    listings: &'a mut Listings,
    own: &'a Own,
    /// Whether nothing is removed, and only counted what would be.
    only_count: bool,
    removed: Removed,
    levels: Vec<Level>,
    path: Vec<u8>,
}

impl Removal<'_> {
    /// Removes anything but a directory that holds something; says whether it is settled.
    fn is_gone(&mut self, directory: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        let stat = match stat_at(directory, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(true),
            Err(error) => return Err(error),
        };
        if self.own.has(&stat) {
            self.removed.protected.push(self.path.clone());
            self.mark_above();
            return Ok(true);
        }
        if self.only_count {
            self.removed.entries += u64::from(!stat.is_directory());
            return Ok(!stat.is_directory());
        }
        let flags = if stat.is_directory() { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(directory, name, flags) {
            Ok(()) => self.removed.entries += 1,
            Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if stat.is_directory() => return Ok(false),
            Err(Errno::BUSY) if stat.is_directory() => self.refuse(MOUNTED.to_owned()),
            Err(error) => self.refuse(error.to_string()),
        }
        Ok(true)
    }

    fn enter(&mut self, directory: &OwnedFd, name: &[u8], top: &Stat) {
        match self.try_enter(directory, name, top) {
            Ok(Some(level)) => {
                self.levels.push(level);
                let depth = self.levels.len();
                if depth > OPEN_DIRECTORIES {
                    self.levels[depth - OPEN_DIRECTORIES].descriptor = None;
                }
            }
            Ok(None) => self.refuse(MOUNTED.to_owned()),
            Err(error) => self.refuse(error.to_string()),
        }
    }

    /// None where another file system begins.
    fn try_enter(&mut self, directory: &OwnedFd, name: &[u8], top: &Stat) -> std::io::Result<Option<Level>> {
        let open = open_beneath(directory, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let stat = stat_open(&open)?;
        if !is_same_file_system(&stat, top) {
            return Ok(None);
        }
        let listing = self.listings.read(&open)?;
        Ok(Some(Level { descriptor: Some(Arc::new(open)), stat, listing, path_bytes: self.path.len(), stays: false }))
    }

    /// Leaves the deepest directory, and removes it.
    fn leave(&mut self, top: &Arc<OwnedFd>, top_name: &[u8]) {
        let Some(left) = self.levels.pop() else { return };
        self.listings.leave(&left.listing);
        self.path.truncate(left.path_bytes);
        let above = match self.levels.last_mut() {
            None => Some((top.clone(), top_name.to_vec())),
            Some(above) => {
                if above.descriptor.is_none() {
                    above.descriptor = left.descriptor.as_ref().and_then(|below| find_above(below, &above.stat));
                }
                let name = left_name(&self.path, above.path_bytes);
                above.descriptor.clone().map(|descriptor| (descriptor, name))
            }
        };
        match above {
            _ if left.stays => self.mark_above(),
            _ if self.only_count => self.removed.entries += 1,
            Some((above, name)) => match unlinkat(&above, &*name, AtFlags::REMOVEDIR) {
                Ok(()) => self.removed.entries += 1,
                Err(error) => self.refuse(error.to_string()),
            },
            None => self.refuse("the directory was moved away while it was removed".to_owned()),
        }
    }

    fn refuse(&mut self, reason: String) {
        self.removed.refused.push((self.path.clone(), reason));
        self.mark_above();
    }

    fn mark_above(&mut self) {
        if let Some(above) = self.levels.last_mut() {
            above.stays = true;
        }
    }
}

/// Whether two directories are on one mounted file system. What is mounted is not ours to empty, nor are subvolumes.
pub fn is_same_file_system(one: &Stat, other: &Stat) -> bool {
    (one.mount, one.device) == (other.mount, other.device)
}

fn left_name(path: &[u8], above_bytes: usize) -> Vec<u8> {
    path.get(above_bytes + 1..).unwrap_or_default().to_vec()
}

fn find_above(below: &OwnedFd, stat: &Stat) -> Option<Arc<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let above = openat(below, "..", flags, Mode::empty()).ok()?;
    stat_open(&above).is_ok_and(|found| found.is_same_file(stat)).then(|| Arc::new(above))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn removed(place: &Path, name: &[u8]) -> Removed {
        let directory = Arc::new(OwnedFd::from(fs::File::open(place).unwrap()));
        remove(&mut Listings::new().unwrap(), &directory, name, &Own::default()).unwrap()
    }

    #[test]
    fn inv_47_a_tree_is_removed_and_what_its_links_lead_to_stays() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::create_dir_all(place.path().join("top/a/b")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "").unwrap();
        fs::write(place.path().join("top/a/file"), "").unwrap();
        symlink(&outside, place.path().join("top/a/b/link")).unwrap();
        let directory = Arc::new(OwnedFd::from(fs::File::open(place.path()).unwrap()));
        let own = Own::of([place.path().join("top/a/b").as_path()]);
        let counted = |own: &Own| count(&mut Listings::new().unwrap(), &directory, b"top", own);
        assert_eq!(counted(&Own::default()).entries, 5);
        let partly = counted(&own);
        assert_eq!((partly.entries, partly.protected), (1, vec![b"top/a/b".to_vec()]), "the file alone");
        let done = removed(place.path(), b"top");
        assert_eq!((done.entries, done.refused), (5, Vec::new()));
        assert!(!place.path().join("top").exists() && outside.join("file").exists());
        assert_eq!(removed(place.path(), b"top").entries, 0, "what is gone is no error");
    }

    #[test]
    fn any_depth_and_breadth_goes() {
        let place = tempfile::tempdir().unwrap();
        let mut path = place.path().join("top");
        for _ in 0..200 {
            path.push("d");
        }
        fs::create_dir_all(&path).unwrap();
        (0..3000).for_each(|at| fs::write(place.path().join("top").join(at.to_string()), "").unwrap());
        assert_eq!(removed(place.path(), b"top").entries, 201 + 3000);
    }
}
