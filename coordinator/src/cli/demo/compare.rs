//! Compares two trees in everything that Linux keeps of a file. Shares no code with the agent that wrote one of them.
//!
//! It goes down by name and up by `..`, so it needs few descriptors and no path that the kernel would refuse.

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags, getxattr, ioctl_getflags, listxattr, openat,
    readlinkat, seek, statx,
};
use rustix::io::{Errno, pread};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString};
use std::fmt::{self, Debug};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// Inode flags that tell how a file system stores a file, and not how somebody wants it treated: hash index,
/// encrypted, huge, extents, verity, attribute in an inode, blocks beyond the end, inline.
const STORAGE_FLAGS: u32 = 0x1000 | 0x800 | 0x4_0000 | 0x8_0000 | 0x10_0000 | 0x20_0000 | 0x40_0000 | 0x1000_0000;
const PIECE_BYTES: usize = 1 << 20;

/// Something in which two trees differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, below the top.
    pub path: Vec<u8>,
    /// In what: `kind`, `owner`, `group`, `mode`, `time`, `size`, `content`, `holes`, `flags`, `target`, `device`,
    /// `links`, `names`, `xattr …`.
    pub what: String,
    /// What stands in either.
    pub values: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {:.200}", self.path.escape_ascii(), self.what, self.values)
    }
}

/// Compares two directories, they themselves included.
///
/// # Errors
/// Something could be read in neither; then nothing is said about equality.
pub fn compare(a: &Path, b: &Path) -> io::Result<Comparison> {
    compare_trees(Comparison::default(), a, b)
}

/// The same, by an ordinary user: without what only root can set, which is owners, setuid and setgid, and extended
/// attributes but those of users and ACLs. What of `a` this user may not read is counted, and no difference.
pub fn compare_as_ordinary_user(a: &Path, b: &Path) -> io::Result<Comparison> {
    compare_trees(Comparison { is_ordinary: true, ..Comparison::default() }, a, b)
}

fn compare_trees(mut comparison: Comparison, a: &Path, b: &Path) -> io::Result<Comparison> {
    let open = |path: &Path| File::open(path).map(OwnedFd::from);
    comparison.entry(&open(a)?, &open(b)?, c".")?;
    comparison.walk(open(a)?, open(b)?)?;
    Ok(comparison)
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Comparison {
    /// In what the trees differ.
    pub differences: Vec<Difference>,
    /// How many entries were compared.
    pub entries: u64,
    /// How many bytes the files of the first have, added up; each hard link anew.
    pub content_bytes: u64,
    /// Entries of the first that an ordinary user may not read.
    pub unreadable: u64,
    is_ordinary: bool,
    path: Vec<u8>,
    /// Files with several names: which one of `b` stands for which one of `a`.
    groups: HashMap<(u32, u32, u64), (u32, u32, u64)>,
    taken: BTreeSet<(u32, u32, u64)>,
}

impl Comparison {
    fn walk(&mut self, mut a: OwnedFd, mut b: OwnedFd) -> io::Result<()> {
        let mut to_visit = vec![self.directory(&a, &b)?];
        let mut ends = Vec::new();
        while let Some(names) = to_visit.last_mut() {
            let (name, end) = match names.pop() {
                Some(name) => {
                    ends.push(self.path.len());
                    self.enter(&name);
                    (name, None)
                }
                None => {
                    to_visit.pop();
                    (c"..".to_owned(), ends.pop())
                }
            };
            if name.as_c_str() == c".." && end.is_none() {
                break;
            }
            a = open_directory(&a, &name)?;
            b = open_directory(&b, &name)?;
            match end {
                Some(end) => self.path.truncate(end),
                None => to_visit.push(self.directory(&a, &b)?),
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &CString) {
        self.path.push(b'/');
        self.path.extend_from_slice(name.as_bytes());
    }

    /// Compares what two directories hold. Returns the directories that are in both.
    fn directory(&mut self, a: &OwnedFd, b: &OwnedFd) -> io::Result<Vec<CString>> {
        let (mut in_a, in_b) = (names(a)?, names(b)?);
        if self.is_ordinary {
            let before = in_a.len();
            in_a.retain(|name| in_b.contains(name) || may_read(a, name));
            self.unreadable += (before - in_a.len()) as u64;
        }
        self.check("names", in_a.difference(&in_b).collect::<Vec<_>>(), in_b.difference(&in_a).collect());
        let mut directories = Vec::new();
        for name in in_a.intersection(&in_b) {
            let end = self.path.len();
            self.enter(name);
            if self.entry(a, b, name)? && !self.is_closed(a, name) {
                directories.push(name.clone());
            }
            self.path.truncate(end);
        }
        Ok(directories)
    }

    /// Whether this is a directory that an ordinary user may not read.
    fn is_closed(&mut self, a: &OwnedFd, name: &CStr) -> bool {
        let is_closed = self.is_ordinary && !may_read(a, name);
        self.unreadable += u64::from(is_closed);
        is_closed
    }

    /// Compares one entry. Returns whether it is a directory in both.
    fn entry(&mut self, a: &OwnedFd, b: &OwnedFd, name: &CStr) -> io::Result<bool> {
        let (stat_a, stat_b) = (look(a, name)?, look(b, name)?);
        self.entries += 1;
        let kinds = [&stat_a, &stat_b].map(|stat| FileType::from_raw_mode(stat.stx_mode.into()));
        self.check("kind", kinds[0], kinds[1]);
        if kinds[0] != kinds[1] {
            return Ok(false);
        }
        let mode = if self.is_ordinary { 0o1777 } else { 0o7777 };
        self.check("mode", stat_a.stx_mode & mode, stat_b.stx_mode & mode);
        if !self.is_ordinary {
            self.check("owner", stat_a.stx_uid, stat_b.stx_uid);
            self.check("group", stat_a.stx_gid, stat_b.stx_gid);
        }
        let time = |stat: &Statx| (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        self.check("time", time(&stat_a), time(&stat_b));
        let device = |stat: &Statx| (stat.stx_rdev_major, stat.stx_rdev_minor);
        self.check("device", device(&stat_a), device(&stat_b));
        self.xattrs(a, b, name)?;
        match kinds[0] {
            FileType::Symlink => self.check("target", link_target(a, name)?, link_target(b, name)?),
            FileType::RegularFile => {
                self.content_bytes += stat_a.stx_size;
                self.check("size", stat_a.stx_size, stat_b.stx_size);
                self.file(a, b, name)?;
            }
            FileType::Directory if self.is_ordinary && !may_read(a, name) => {}
            FileType::Directory => self.check("flags", flags(a, name), flags(b, name)),
            _ => {}
        }
        if kinds[0] != FileType::Directory {
            self.group(&stat_a, &stat_b);
        }
        Ok(kinds[0] == FileType::Directory)
    }

    /// Names outside the trees do not count: only whether the same names stand for the same file in both.
    fn group(&mut self, a: &Statx, b: &Statx) {
        let identity = |stat: &Statx| (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
        let (a, b) = (identity(a), identity(b));
        match self.groups.get(&a) {
            Some(known) => self.check("links", *known, b),
            None => {
                let is_new = self.taken.insert(b);
                self.check("links", true, is_new);
                self.groups.insert(a, b);
            }
        }
    }

    fn xattrs(&mut self, a: &OwnedFd, b: &OwnedFd, name: &CStr) -> io::Result<()> {
        let (a, b) = (read_xattrs(a, name)?, read_xattrs(b, name)?);
        let names: BTreeSet<_> = a.keys().chain(b.keys()).cloned().collect();
        let anybody_sets = |name: &Vec<u8>| name.starts_with(b"user.") || name.starts_with(b"system.");
        let all = !self.is_ordinary;
        for name in names.iter().filter(|name| all || anybody_sets(name)) {
            self.check(&format!("xattr {}", name.escape_ascii()), a.get(name), b.get(name));
        }
        Ok(())
    }

    fn file(&mut self, a: &OwnedFd, b: &OwnedFd, name: &CStr) -> io::Result<()> {
        let flags_of = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let open = |directory: &OwnedFd| openat(directory, name, flags_of, Mode::empty());
        let (Ok(a), Ok(b)) = (open(a), open(b)) else {
            self.check("content", "readable", "unreadable");
            return Ok(());
        };
        self.check("flags", flags_of_open(&a), flags_of_open(&b));
        let (map_a, map_b) = (extents(&a)?, extents(&b)?);
        self.check("holes", &map_a, &map_b);
        let (mut left, mut right) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
        for (start, end) in map_a {
            let mut at = start;
            while at < end {
                let bytes = ((end - at) as usize).min(PIECE_BYTES);
                let read = (fill(&a, &mut left[..bytes], at)?, fill(&b, &mut right[..bytes], at)?);
                if read.0 != read.1 || left[..read.0] != right[..read.1] {
                    self.check("content", format!("from {at} on"), String::new());
                    return Ok(());
                }
                at += bytes as u64;
            }
        }
        Ok(())
    }

    fn check<T: PartialEq + Debug>(&mut self, what: &str, a: T, b: T) {
        if a != b {
            let values = format!("{a:?} / {b:?}");
            self.differences.push(Difference { path: self.path.clone(), what: what.to_string(), values });
        }
    }
}

fn may_read(directory: &OwnedFd, name: &CStr) -> bool {
    let open = openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty());
    !matches!(open, Err(Errno::ACCESS))
}

fn names(directory: &OwnedFd) -> io::Result<BTreeSet<CString>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        names.insert(entry?.file_name().to_owned());
    }
    names.retain(|name| !matches!(name.as_bytes(), b"." | b".."));
    Ok(names)
}

fn open_directory(directory: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(directory, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?)
}

fn look(directory: &OwnedFd, name: &CStr) -> io::Result<Statx> {
    Ok(statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?)
}

fn link_target(directory: &OwnedFd, name: &CStr) -> io::Result<CString> {
    Ok(readlinkat(directory, name, Vec::new())?)
}

fn flags(directory: &OwnedFd, name: &CStr) -> Option<u32> {
    flags_of_open(&openat(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).ok()?)
}

fn flags_of_open(file: &OwnedFd) -> Option<u32> {
    Some(ioctl_getflags(file).ok()?.bits() & !STORAGE_FLAGS)
}

fn read_xattrs(directory: &OwnedFd, name: &CStr) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let place = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mut room = vec![0; 1 << 16];
    let length = listxattr(&path, &mut room).unwrap_or(0);
    let names: Vec<Vec<u8>> = room[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut xattrs = BTreeMap::new();
    for name in names.into_iter().filter(|name| !name.is_empty()) {
        if let Ok(length) = getxattr(&path, &*name, &mut room) {
            xattrs.insert(name, room[..length].to_vec());
        }
    }
    Ok(xattrs)
}

/// Where a file has data, and as the last its end.
fn extents(file: &OwnedFd) -> io::Result<Vec<(u64, u64)>> {
    let end = seek(file, SeekFrom::End(0))?;
    let (mut extents, mut at) = (Vec::new(), 0);
    loop {
        match seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                at = seek(file, SeekFrom::Hole(start))?;
                extents.push((start, at));
            }
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        }
    }
    extents.push((end, end));
    Ok(extents)
}

fn fill(file: &OwnedFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match pread(file, &mut buffer[filled..], offset + filled as u64)? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    Ok(filled)
}
