//! Names of one file: the first in walk order is the file, the later ones are hard links to it.
//!
//! Device and inode number alone do not make one file: a number is used again when its file is deleted, and some file
//! systems give one number to several files. So names belong together only if the file was made at the same time, or, where
//! that is not known, if all else of its metadata is equal.

use super::link_table::{Group, LinkTable};
use super::spool::Spool;
use super::stat::Stat;
use lifeboat_format::tree::Time;
use std::io;
use std::path::Path;

/// The groups of hard links that a walk has begun. All of it lies on disk, so any number of groups takes no memory; a
/// group is dropped when all its names were seen.
#[derive(Debug)]
pub struct HardLinks {
    groups: LinkTable,
    paths: Spool,
}

/// The name in which a file with several names was found first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstName {
    /// Its path in the tree.
    pub path: Vec<u8>,
    /// On which job the walk was then.
    pub job: u64,
}

impl HardLinks {
    /// No group yet. `scratch` is a directory on disk.
    pub fn new(scratch: &Path) -> io::Result<Self> {
        Ok(Self { groups: LinkTable::new(scratch)?, paths: Spool::new(scratch)? })
    }

    /// The first name of this file, if `path` is a later one; None if `path` is the first or the only one. To be asked
    /// once for each entry, in walk order; `job` is the one that the walk is on.
    pub fn first_name(&mut self, stat: &Stat, path: &[u8], job: u64) -> io::Result<Option<FirstName>> {
        if stat.links < 2 || stat.is_directory() {
            return Ok(None);
        }
        let file = (stat.device, stat.inode, fingerprint(stat));
        match self.groups.get(file)? {
            None => {
                let path_at = self.paths.append(path)?.start;
                let names_to_come = stat.links - 1;
                self.groups.set(file, Group { path_at, path_bytes: path.len() as u32, names_to_come, job })?;
                Ok(None)
            }
            Some(group) => {
                let mut first = vec![0; group.path_bytes as usize];
                self.paths.read(group.path_at, &mut first)?;
                self.groups.set(file, Group { names_to_come: group.names_to_come - 1, ..group })?;
                Ok(Some(FirstName { path: first, job: group.job }))
            }
        }
    }
}

/// What tells files with one number apart.
fn fingerprint(stat: &Stat) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&stat.mount.to_le_bytes()).update(&stat.kind.as_raw_mode().to_le_bytes());
    match stat.btime {
        Some(made) => update(&mut hasher, made),
        None => {
            update(&mut hasher, stat.mtime);
            update(&mut hasher, stat.ctime);
            hasher.update(
                &[stat.bytes, u64::from(stat.uid), u64::from(stat.gid), u64::from(stat.mode)]
                    .map(u64::to_le_bytes)
                    .concat(),
            );
        }
    }
    let mut fingerprint = [0; 8];
    hasher.finalize_xof().fill(&mut fingerprint);
    u64::from_le_bytes(fingerprint)
}

fn update(hasher: &mut blake3::Hasher, time: Time) {
    hasher.update(&time.seconds.to_le_bytes()).update(&time.nanos.to_le_bytes());
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
        let first = |path: &[u8], job| Some(FirstName { path: path.to_vec(), job });
        assert_eq!(links.first_name(&stat, b"a", 1).unwrap(), None);
        assert_eq!(links.first_name(&other, b"b/\xff", 2).unwrap(), None);
        assert_eq!(links.first_name(&stat, b"c", 3).unwrap(), first(b"a", 1));
        assert_eq!(links.first_name(&other, b"d", 4).unwrap(), first(b"b/\xff", 2));
        assert_eq!(links.first_name(&stat, b"e", 5).unwrap(), first(b"a", 1));
        assert_eq!(links.first_name(&stat, b"f", 6).unwrap(), None, "a name made meanwhile begins a group of its own");
        assert_eq!(links.first_name(&stat, b"g", 7).unwrap(), first(b"f", 6));
        assert_eq!(links.first_name(&Stat { links: 1, ..other }, b"h", 8).unwrap(), None);
    }

    #[test]
    fn files_that_share_a_number_are_no_links_of_each_other() {
        let scratch = tempfile::tempdir().unwrap();
        let mut links = HardLinks::new(scratch.path()).unwrap();
        let time = |seconds| Time { seconds, nanos: 7 };
        let stat = Stat { links: 2, btime: Some(time(5)), ..stat_open(tempfile::tempfile().unwrap()).unwrap() };
        let unknown = Stat { btime: None, ..stat };
        for (at, other) in [
            stat,
            Stat { btime: Some(time(6)), ..stat },
            Stat { mount: stat.mount + 1, ..stat },
            unknown,
            Stat { bytes: unknown.bytes + 1, ..unknown },
            Stat { mtime: time(8), ..unknown },
            Stat { ctime: time(8), ..unknown },
            Stat { uid: unknown.uid + 1, ..unknown },
        ]
        .iter()
        .enumerate()
        {
            let name = |which: &str| format!("{at:02}-{which}").into_bytes();
            assert_eq!(links.first_name(other, &name("a"), 0).unwrap(), None, "another file");
            assert_eq!(links.first_name(other, &name("b"), 0).unwrap().unwrap().path, name("a"));
        }
    }
}
