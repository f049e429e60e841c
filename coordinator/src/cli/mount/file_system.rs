//! What the kernel asks, and what it is told.
//!
//! Nothing is remembered between two questions but caches: an inode number says where its entry stands (`number`), and a
//! place in a directory is the number of the entry there. What cannot be read is an IO error, and said to whoever runs
//! the mount.

use super::number::Inode;
use super::snapshot::Snapshot;
use super::top::Top;
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr, Request, SessionACL,
};
use lifeboat_agent::restore::Owners;
use lifeboat_agent::restore::fetch::FetchError;
use lifeboat_agent::walk::Shown;
use lifeboat_format::tree::{Body, Entry, EntryKind, Extent, FileContent, Time, name};
use rustix::fs::makedev;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Snapshots do not change, so the kernel may keep what it was told of them.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);
/// The list of snapshots does.
const FOR_NOW: Duration = Duration::from_secs(5);
/// Entries of a directory that are read at once.
const CHILDREN_AT_ONCE: usize = 256;
/// Questions that are answered at the same time.
const THREADS: usize = 4;
/// So many troubles are said; the log of a terminal is no place for all of a damaged disk.
const SAID_MAX: u32 = 1_000;
/// In a directory, places from here on come after a part that could not be read.
const AFTER_DAMAGE: u64 = 1 << 62;
/// Places of `.` and `..`.
const DOTS: u64 = 2;
/// Blocks, as `stat` counts them.
const BLOCK: u64 = 512;

/// A mount.
pub struct Mount {
    top: Top,
    owners: Owners,
    said: AtomicU32,
}

/// How it is mounted.
pub fn config(source: &str, allow_other: bool) -> Config {
    let mut config = Config::default();
    let (name, kind) = (MountOption::FSName(source.to_owned()), MountOption::Subtype("lifeboat".to_owned()));
    let safe = [MountOption::RO, MountOption::NoSuid, MountOption::NoDev, MountOption::NoAtime];
    config.mount_options = [name, kind, MountOption::DefaultPermissions].into_iter().chain(safe).collect();
    config.acl = if allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    config
}

/// An entry that was asked for.
struct Found {
    inode: Inode,
    snapshot: Arc<Snapshot>,
    entry: Entry,
}

impl Mount {
    /// Of the snapshots of `top`.
    pub fn new(top: Top) -> Self {
        Self { top, owners: Owners::new(false, Vec::new(), Vec::new()), said: AtomicU32::new(0) }
    }

    fn trouble(&self, snapshot: &Snapshot, what: &dyn std::fmt::Display, error: &FetchError) -> Errno {
        if self.said.fetch_add(1, Ordering::Relaxed) < SAID_MAX {
            eprintln!("snapshot {}: {what}: {error}", crate::cli::reading::short_id(&snapshot.info));
        }
        Errno::EIO
    }

    /// What stands at an inode; none for the directory of all snapshots and what is in it.
    fn find(&self, ino: INodeNo) -> Result<Result<Found, Inode>, Errno> {
        let inode = self.top.inode(ino.0).ok_or(Errno::ENOENT)?;
        let (number, entry) = match inode {
            Inode::Top | Inode::Latest => return Ok(Err(inode)),
            Inode::Root(number) => (number, None),
            Inode::Entry(number, entry) => (number, Some(entry)),
        };
        let snapshot = self.top.snapshot(number).ok_or(Errno::ENOENT)?;
        let trouble = |error| self.trouble(&snapshot, &"an entry", &error);
        let entry = match entry {
            None => snapshot.root().map_err(trouble)?,
            Some(before) => Entry::clone(&*snapshot.entry(before).map_err(trouble)?.ok_or(Errno::ENOENT)?),
        };
        Ok(Ok(Found { inode, snapshot, entry }))
    }

    /// The entry that a name in a snapshot stands for: of a further name of a file that file.
    fn resolved(&self, snapshot: &Arc<Snapshot>, which: u32, number: u64, entry: Entry) -> Result<Found, Errno> {
        let (number, entry) = match &entry.kind {
            EntryKind::HardLink { to } => {
                let first = snapshot.lookup(to).map_err(|error| self.trouble(snapshot, &Shown(to), &error))?;
                first.ok_or(Errno::EIO)?
            }
            _ => (number, entry),
        };
        Ok(Found { inode: Inode::Entry(which, number), snapshot: snapshot.clone(), entry })
    }

    fn attributes(&self, found: &Found) -> Result<FileAttr, Errno> {
        let Found { inode, snapshot, entry } = found;
        let attributes = &entry.attributes;
        let (kind, size, rdev) = match &entry.kind {
            EntryKind::Directory(_) => (FileType::Directory, 0, 0),
            EntryKind::File(file) => (FileType::RegularFile, file.bytes, 0),
            EntryKind::Symlink { target } => (FileType::Symlink, target.len() as u64, 0),
            EntryKind::Fifo => (FileType::NamedPipe, 0, 0),
            EntryKind::Socket => (FileType::Socket, 0, 0),
            EntryKind::CharDevice(device) => (FileType::CharDevice, 0, makedev(device.major, device.minor)),
            EntryKind::BlockDevice(device) => (FileType::BlockDevice, 0, makedev(device.major, device.minor)),
            EntryKind::HardLink { .. } => return Err(Errno::EIO),
        };
        let is_root = matches!(inode, Inode::Root(_));
        let mtime = match is_root && attributes.mtime == Time::default() {
            true => snapshot_time(snapshot),
            false => system_time(attributes.mtime),
        };
        let (uid, gid) = self.owners.of(attributes).ids;
        // How many names a file has is not known before the whole snapshot was read. With two of them, `cp -a`, tar and
        // rsync look whether they have seen its inode already.
        let nlink = if kind == FileType::Directory { 1 } else { 2 };
        Ok(FileAttr {
            ino: INodeNo(self.top.number(*inode).ok_or(Errno::EOVERFLOW)?),
            size,
            blocks: blocks(&entry.kind),
            atime: mtime,
            mtime,
            ctime: mtime,
            crtime: attributes.btime.map_or(UNIX_EPOCH, system_time),
            kind,
            perm: attributes.mode,
            nlink,
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            rdev: u32::try_from(rdev).unwrap_or(0),
            blksize: 128 << 10,
            flags: 0,
        })
    }

    fn top_attributes(&self, inode: Inode) -> Result<FileAttr, Errno> {
        let is_link = inode == Inode::Latest;
        let time = self.top.newest().map_or(UNIX_EPOCH, |(_, snapshot)| snapshot_time(&snapshot));
        Ok(FileAttr {
            ino: INodeNo(self.top.number(inode).ok_or(Errno::EOVERFLOW)?),
            size: if is_link { self.top.newest().map_or(0, |(name, _)| name.len() as u64) } else { 0 },
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind: if is_link { FileType::Symlink } else { FileType::Directory },
            perm: if is_link { 0o777 } else { 0o755 },
            nlink: 1,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn look_up(&self, above: INodeNo, sought: &OsStr) -> Result<(FileAttr, Duration), Errno> {
        let directory = match self.find(above)? {
            Err(Inode::Top) if sought == "latest" => return Ok((self.top_attributes(Inode::Latest)?, FOR_NOW)),
            Err(Inode::Top) => {
                let which = self.top.called(sought).ok_or(Errno::ENOENT)?;
                let snapshot = self.top.snapshot(which).ok_or(Errno::ENOENT)?;
                let entry = snapshot.root().map_err(|error| self.trouble(&snapshot, &"/", &error))?;
                return Ok((self.attributes(&Found { inode: Inode::Root(which), snapshot, entry })?, FOR_EVER));
            }
            Err(_) => return Err(Errno::ENOTDIR),
            Ok(directory) => directory,
        };
        let Found { inode, snapshot, entry } = directory;
        let path = match entry.path.is_empty() {
            true => sought.as_bytes().to_vec(),
            false => [&entry.path[..], sought.as_bytes()].join(&b'/'),
        };
        let found = snapshot.lookup(&path).map_err(|error| self.trouble(&snapshot, &Shown(&path), &error))?;
        let (number, entry) = found.ok_or(Errno::ENOENT)?;
        let found = self.resolved(&snapshot, which(inode), number, entry)?;
        Ok((self.attributes(&found)?, FOR_EVER))
    }

    /// Calls `add` with what is in a directory after a place, until it says that there is no more room.
    fn list(
        &self,
        ino: INodeNo,
        after: u64,
        mut add: impl FnMut(FileAttr, u64, &OsStr, Duration) -> bool,
    ) -> Result<(), Errno> {
        let found = self.find(ino)?;
        let itself = match &found {
            Ok(found) => self.attributes(found)?,
            Err(inode) => self.top_attributes(*inode)?,
        };
        for (place, dots) in (1..=DOTS).zip([".", ".."]) {
            if after < place && add(itself, place, OsStr::new(dots), FOR_NOW) {
                return Ok(());
            }
        }
        match found {
            Err(_) => self.list_top(after, add),
            Ok(found) => self.list_directory(&found, after, add),
        }
    }

    fn list_top(&self, after: u64, mut add: impl FnMut(FileAttr, u64, &OsStr, Duration) -> bool) -> Result<(), Errno> {
        if after <= DOTS {
            self.top.refresh();
        }
        let latest = DOTS + 1;
        if after < latest
            && self.top.newest().is_some()
            && add(self.top_attributes(Inode::Latest)?, latest, OsStr::new("latest"), FOR_NOW)
        {
            return Ok(());
        }
        for (which, name) in self.top.names() {
            let place = latest + 1 + u64::from(which);
            if place <= after {
                continue;
            }
            // Not opened only for that.
            let snapshot = self.top.snapshot(which).ok_or(Errno::ENOENT)?;
            let time = snapshot_time(&snapshot);
            let ino = INodeNo(self.top.number(Inode::Root(which)).ok_or(Errno::EOVERFLOW)?);
            let itself = FileAttr { ino, mtime: time, ..self.top_attributes(Inode::Top)? };
            if add(itself, place, OsStr::new(&name), Duration::ZERO) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn list_directory(
        &self,
        directory: &Found,
        after: u64,
        mut add: impl FnMut(FileAttr, u64, &OsStr, Duration) -> bool,
    ) -> Result<(), Errno> {
        let Found { inode, snapshot, entry } = directory;
        let mut damaged = after & AFTER_DAMAGE;
        let mut last = (after & !AFTER_DAMAGE).checked_sub(DOTS + 1);
        let mut added = false;
        loop {
            let children = snapshot.children(&entry.path, last, CHILDREN_AT_ONCE);
            let children = children.map_err(|error| self.trouble(snapshot, &Shown(&entry.path), &error))?;
            for error in &children.damage {
                self.trouble(snapshot, &format_args!("entries of /{} are missing", Shown(&entry.path)), error);
                damaged = AFTER_DAMAGE;
            }
            let is_end = children.entries.len() < CHILDREN_AT_ONCE;
            for (number, child) in children.entries {
                last = Some(number);
                let place = (number + DOTS + 1) | damaged;
                let called = name(&child.path).to_vec();
                let child = self.resolved(snapshot, which(*inode), number, child)?;
                if add(self.attributes(&child)?, place, OsStr::from_bytes(&called), FOR_EVER) {
                    return Ok(());
                }
                added = true;
            }
            if is_end {
                // Nobody may take what was listed for all there is: the last answer is the error.
                return if damaged != 0 && !added { Err(Errno::EIO) } else { Ok(()) };
            }
        }
    }

    fn xattr(&self, ino: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let Ok(found) = self.find(ino)? else { return Err(Errno::ENODATA) };
        let xattrs = found.entry.attributes.xattrs;
        let xattr = xattrs.into_iter().find(|xattr| xattr.name == name.as_bytes());
        Ok(xattr.ok_or(Errno::ENODATA)?.value)
    }

    fn xattr_names(&self, ino: INodeNo) -> Result<Vec<u8>, Errno> {
        let Ok(found) = self.find(ino)? else { return Ok(Vec::new()) };
        let names = found.entry.attributes.xattrs.into_iter().map(|xattr| [&xattr.name[..], b"\0"].concat());
        Ok(names.collect::<Vec<_>>().concat())
    }

    fn target(&self, ino: INodeNo) -> Result<Vec<u8>, Errno> {
        match self.find(ino)? {
            Err(Inode::Latest) => Ok(self.top.newest().ok_or(Errno::ENOENT)?.0.into_bytes()),
            Err(_) => Err(Errno::EINVAL),
            Ok(Found { entry, .. }) => match entry.kind {
                EntryKind::Symlink { target } => Ok(target),
                _ => Err(Errno::EINVAL),
            },
        }
    }

    /// Which file it is, of which snapshot.
    fn file(&self, ino: INodeNo) -> Result<(Arc<Snapshot>, u64), Errno> {
        let Some(Inode::Entry(which, number)) = self.top.inode(ino.0) else { return Err(Errno::EISDIR) };
        Ok((self.top.snapshot(which).ok_or(Errno::ENOENT)?, number))
    }
}

fn which(inode: Inode) -> u32 {
    match inode {
        Inode::Root(which) | Inode::Entry(which, _) => which,
        Inode::Top | Inode::Latest => 0,
    }
}

fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = match time.seconds < 0 {
        true => UNIX_EPOCH.checked_sub(seconds),
        false => UNIX_EPOCH.checked_add(seconds),
    };
    whole.and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanos.into()))).unwrap_or(UNIX_EPOCH)
}

fn snapshot_time(snapshot: &Snapshot) -> SystemTime {
    let committed = Duration::from_nanos(u64::try_from(snapshot.info.committed_ns).unwrap_or(0));
    UNIX_EPOCH + committed
}

/// What a file takes on a disk. The holes of a long list of extents are only known when it is read: one block less than
/// it could be makes programs look for them.
fn blocks(kind: &EntryKind) -> u64 {
    let EntryKind::File(FileContent { bytes, body }) = kind else { return 0 };
    match body {
        Body::Empty => 0,
        Body::Bundled { .. } => bytes.div_ceil(BLOCK),
        Body::Extents(extents) => {
            let is_data = |extent: &&Extent| !matches!(extent, Extent::Hole { .. });
            extents.iter().filter(is_data).map(Extent::bytes).fold(0, u64::saturating_add).div_ceil(BLOCK)
        }
        Body::List(_) => (bytes / BLOCK).saturating_sub(1),
    }
}

/// Answers with the value, or its length if only that was asked for.
fn answer_xattr(value: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match value {
        Err(error) => reply.error(error),
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() <= size as usize => reply.data(&value),
        Ok(_) => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Mount {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Where the kernel knows them; ACLs are then enforced, and directories read with their attributes.
        let _unknown = config.add_capabilities(InitFlags::FUSE_POSIX_ACL);
        let _unknown = config.add_capabilities(InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO);
        let _less = config.set_max_readahead(1 << 20);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.look_up(parent, name) {
            Ok((attributes, ttl)) => reply.entry(&ttl, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let told = self.find(ino).and_then(|found| match found {
            Ok(found) => Ok((self.attributes(&found)?, FOR_EVER)),
            Err(inode) => Ok((self.top_attributes(inode)?, FOR_NOW)),
        });
        match told {
            Ok((attributes, ttl)) => reply.attr(&ttl, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.target(ino) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.file(ino).and_then(|(snapshot, number)| {
            let what = format_args!("a file, {size} bytes at {offset}");
            snapshot.read(number, offset, size.into()).map_err(|error| self.trouble(&snapshot, &what, &error))
        });
        match read {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn lseek(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: i64, whence: i32, reply: ReplyLseek) {
        const SEEK_DATA: i32 = 3;
        const SEEK_HOLE: i32 = 4;
        let (SEEK_DATA | SEEK_HOLE, Ok(offset)) = (whence, u64::try_from(offset)) else {
            return reply.error(Errno::EINVAL);
        };
        let sought = self.file(ino).and_then(|(snapshot, number)| {
            let sought = snapshot.seek(number, offset, whence == SEEK_HOLE);
            sought.map_err(|error| self.trouble(&snapshot, &"a file", &error))?.ok_or(Errno::ENXIO)
        });
        match sought {
            Ok(offset) => reply.offset(i64::try_from(offset).unwrap_or(i64::MAX)),
            Err(error) => reply.error(error),
        }
    }

    fn opendir(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let add =
            |attributes: FileAttr, place, name: &OsStr, _| reply.add(attributes.ino, place, attributes.kind, name);
        match self.list(ino, offset, add) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectoryPlus) {
        let add = |attributes: FileAttr, place, name: &OsStr, ttl: Duration| {
            reply.add(attributes.ino, place, name, &ttl, &attributes, Generation(0))
        };
        match self.list(ino, offset, add) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let bytes = self.top.newest().map_or(0, |(_, snapshot)| snapshot.info.content_bytes);
        let files = self.top.newest().map_or(0, |(_, snapshot)| snapshot.info.entries);
        reply.statfs(bytes.div_ceil(4096), 0, 0, files, 0, 4096, 255, 4096);
    }

    fn getxattr(&self, _: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer_xattr(self.xattr(ino, name), size, reply);
    }

    fn listxattr(&self, _: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer_xattr(self.xattr_names(ino), size, reply);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_before_1970_counts_its_nanoseconds_forth() {
        let before = system_time(Time { seconds: -1, nanos: 250_000_000 });
        assert_eq!(UNIX_EPOCH.duration_since(before).unwrap(), Duration::from_millis(750));
        assert_eq!(system_time(Time { seconds: 5, nanos: 7 }), UNIX_EPOCH + Duration::new(5, 7));
    }
}
