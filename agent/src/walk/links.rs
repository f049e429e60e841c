//! Names of one file: the first in walk order is the file, the later ones are hard links to it.

use super::spool::Spool;
use super::stat::Stat;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::path::Path;

/// The groups of hard links that a walk has begun and not yet completed.
///
/// A group costs about 40 bytes of memory, its path lies on disk; it is dropped when all its names were seen.
#[derive(Debug)]
pub struct HardLinks {
    groups: HashMap<(u64, u64), Group>,
    paths: Spool,
}

#[derive(Debug)]
struct Group {
    path_at: u64,
    path_bytes: u32,
    names_to_come: u32,
}

impl HardLinks {
    /// No group yet. `scratch` is a directory on disk for paths.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self { groups: HashMap::new(), paths: Spool::new(scratch)? })
    }

    /// The path of the first name of this file, if `path` is a later one; None if `path` is the first or the only
    /// one. To be asked once for each entry, in walk order.
    pub fn first_path(&mut self, stat: &Stat, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if stat.links < 2 || stat.is_directory() {
            return Ok(None);
        }
        match self.groups.entry((stat.device, stat.inode)) {
            Entry::Vacant(place) => {
                let path_at = self.paths.append(path)?.start;
                place.insert(Group { path_at, path_bytes: path.len() as u32, names_to_come: stat.links - 1 });
                Ok(None)
            }
            Entry::Occupied(mut place) => {
                let group = place.get_mut();
                let mut first = vec![0; group.path_bytes as usize];
                self.paths.read(group.path_at, &mut first)?;
                group.names_to_come -= 1;
                if group.names_to_come == 0 {
                    place.remove();
                }
                Ok(Some(first))
            }
        }
    }

    /// The first name could not be backed up: the next one is the first.
    pub fn forget(&mut self, stat: &Stat) {
        self.groups.remove(&(stat.device, stat.inode));
    }
}

#[cfg(test)]
mod tests {
    use super::super::stat::stat_open;
    use super::*;

    #[test]
    fn later_names_lead_to_the_first_and_a_complete_group_is_dropped() {
        let scratch = tempfile::tempdir().unwrap();
        let mut links = HardLinks::new(scratch.path()).unwrap();
        let stat = Stat { links: 3, ..stat_open(tempfile::tempfile().unwrap()).unwrap() };
        let other = Stat { inode: stat.inode + 1, ..stat };
        assert_eq!(links.first_path(&stat, b"a").unwrap(), None);
        assert_eq!(links.first_path(&other, b"b/\xff").unwrap(), None);
        assert_eq!(links.first_path(&stat, b"c").unwrap().unwrap(), b"a");
        assert_eq!(links.first_path(&other, b"d").unwrap().unwrap(), b"b/\xff");
        assert_eq!(links.first_path(&stat, b"e").unwrap().unwrap(), b"a");
        assert_eq!(links.groups.len(), 1);
        assert_eq!(links.first_path(&stat, b"f").unwrap(), None, "a name made meanwhile begins a group of its own");
        links.forget(&other);
        assert_eq!(links.first_path(&other, b"g").unwrap(), None);
        assert_eq!(links.first_path(&Stat { links: 1, ..other }, b"h").unwrap(), None);
    }
}
