//! Builds a tree of everything that Linux can keep of a file, to see whether it comes back.
//!
//! What the user or the file system cannot do is left out, and said: each part of [`Torture::left_out`] is a line for
//! the end of a test run. Take the tree away with [`remove`]; immutable files stop others.

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, IFlags, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, linkat,
    lsetxattr, makedev, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::fs::{ioctl_getflags, ioctl_setflags};
use rustix::io::{self, Errno};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How large the tree is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How deep the deepest directory lies.
    pub levels: usize,
    /// How many files the largest directory holds.
    pub files: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { levels: 10_000, files: 3000 }
    }
}

/// A tree that was built.
#[derive(Debug)]
pub struct Torture {
    top: PathBuf,
    /// What this user or this file system cannot do, each once.
    pub left_out: Vec<&'static str>,
}

/// Builds the tree in `top`, an empty directory.
pub fn build(top: &Path, size: Size) -> Torture {
    let mut tree = Torture { top: top.to_owned(), left_out: Vec::new() };
    tree.plain();
    tree.odd_names();
    tree.content_with_holes();
    tree.links();
    tree.special();
    tree.many(size.files);
    tree.deep(size.levels);
    tree.owners_and_modes();
    tree.xattrs();
    tree.times();
    tree.flags();
    tree
}

/// Takes a tree away, whatever protects it.
pub fn remove(top: &Path) {
    for (program, options) in [("chattr", &["-R", "-f", "-i", "-a"][..]), ("chmod", &["-R", "u+rwx"]), ("rm", &["-rf"])]
    {
        let _ = Command::new(program).args(options).arg(top).output();
    }
}

/// Whether the process may do what only root may.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

impl Torture {
    fn path(&self, name: &str) -> PathBuf {
        self.top.join(name)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Something that not everybody may do, and not every file system knows.
    fn attempt(&mut self, what: &'static str, result: io::Result<()>) {
        match result {
            Ok(()) => {}
            Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSPC) => {
                if !self.left_out.contains(&what) {
                    self.left_out.push(what);
                }
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }

    fn plain(&mut self) {
        self.file("plain/empty", b"");
        self.file("plain/one byte", b"x");
        for bytes in [4095, 4096, 4097, 100_000, 3_000_001] {
            self.file(&format!("plain/{bytes}"), &noise(bytes));
        }
        self.directory("plain/empty directory");
        self.file("order/a/inside", b"1");
        self.file("order/a-b", b"2");
        self.file("order/a.b/inside", b"3");
    }

    fn odd_names(&mut self) {
        let directory = File::open(self.directory("names")).unwrap();
        let create = |name: &[u8]| {
            openat(&directory, name, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, Mode::from_raw_mode(0o640))
        };
        for byte in (1..=255_u8).filter(|byte| !b"/.".contains(byte)) {
            create(&[byte]).unwrap();
        }
        let long: Vec<u8> = (0..255_u8).map(|at| if matches!(at, 0 | b'/') { b'_' } else { at }).collect();
        let names = [&long[..], b"...", b"..x", b"-rf", b"new\nline", b"\x1b]0;title\x07", b"%s%n", b"<script>", b" "];
        for name in names.into_iter().filter(|name| name.len() > 1) {
            create(name).unwrap();
        }
        create("Gru\u{308}n".as_bytes()).unwrap();
        create("Gr\u{fc}n".as_bytes()).unwrap();
        create("a\u{202e}b".as_bytes()).unwrap();
    }

    fn content_with_holes(&mut self) {
        /// A name, the length of the file, and where in it how many bytes of data lie.
        type Sparse = (&'static str, u64, &'static [(u64, usize)]);
        const MEBIBYTE: u64 = 1 << 20;
        let parts: [Sparse; 7] = [
            ("holes/all", 5 * MEBIBYTE, &[]),
            ("holes/small", 100, &[]),
            ("holes/start", 2 * MEBIBYTE, &[(MEBIBYTE, 1 << 20)]),
            ("holes/middle", 3 * MEBIBYTE, &[(0, 65536), (2 * MEBIBYTE, 65536)]),
            ("holes/end", 2 * MEBIBYTE + 17, &[(0, 65536)]),
            ("holes/many", 4 * MEBIBYTE, &[(65536, 4096), (262_144, 4096), (MEBIBYTE, 8192), (3 * MEBIBYTE, 4096)]),
            ("holes/far", 1 << 40, &[(1 << 39, 65536)]),
        ];
        for (name, bytes, data) in parts {
            let file = File::create(self.file(name, b"")).unwrap();
            file.set_len(bytes).unwrap();
            data.iter().for_each(|(offset, bytes)| file.write_all_at(&noise(*bytes), *offset).unwrap());
            file.sync_all().unwrap();
        }
        self.file("holes/written zeros", &vec![0; 1 << 20]);
    }

    fn links(&mut self) {
        let first = self.file("links/a/first", b"one file, four names");
        self.directory("links/b");
        for name in ["links/a/second", "links/b/third", "links/z"] {
            fs::hard_link(&first, self.path(name)).unwrap();
        }
        for (target, name) in [
            (&b"nowhere"[..], "dangling"),
            (b"/etc/passwd", "absolute"),
            (b"loop", "loop"),
            (b"../a/first", "relative"),
            (b"\xff\n\x1b[31m", "odd"),
            (&[b'x'; 1000], "long"),
        ] {
            symlinkat(target, CWD, self.path("links/b").join(name)).unwrap();
        }
        let (from, to) = (self.path("links/b/dangling"), self.path("links/b/dangling too"));
        linkat(CWD, from, CWD, to, AtFlags::empty()).unwrap();
    }

    fn special(&mut self) {
        let directory = self.directory("special");
        let node = |name: &str, kind, major, minor| {
            let mode = Mode::from_raw_mode(0o640);
            mknodat(CWD, directory.join(name), kind, mode, makedev(major, minor))
        };
        let devices = [
            ("devices", node("null", FileType::CharacterDevice, 1, 3)),
            ("devices", node("disk", FileType::BlockDevice, 7, 250)),
            ("a whiteout", node("whiteout", FileType::CharacterDevice, 0, 0)),
            ("a device of large numbers", node("large", FileType::CharacterDevice, 4095, 1_048_575)),
        ];
        devices.into_iter().for_each(|(what, made)| self.attempt(what, made));
        node("fifo", FileType::Fifo, 0, 0).unwrap();
        node("socket", FileType::Socket, 0, 0).unwrap();
        for name in ["null", "fifo", "socket"] {
            let (from, to) = (directory.join(name), directory.join(format!("{name} too")));
            if from.exists() {
                linkat(CWD, from, CWD, to, AtFlags::empty()).unwrap();
            }
        }
    }

    fn many(&mut self, files: usize) {
        for number in 0..files {
            self.file(&format!("many/{}", number * 7919 % files), number.to_string().as_bytes());
        }
    }

    /// Directories with names of all lengths, one in the other, with a file in each hundredth.
    fn deep(&mut self, levels: usize) {
        let mut directory: OwnedFd = File::open(self.directory("deep")).unwrap().into();
        for level in 0..levels {
            let name = vec![b'd'; if level % 500 == 499 { 255 } else { 1 + level % 3 }];
            mkdirat(&directory, &*name, Mode::from_raw_mode(0o755)).unwrap();
            if level % 100 == 99 {
                let flags = OFlags::CREATE | OFlags::WRONLY;
                let file: File = openat(&directory, "zz", flags, Mode::from_raw_mode(0o600)).unwrap().into();
                file.write_all_at(level.to_string().as_bytes(), 0).unwrap();
            }
            directory = openat(&directory, &*name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
    }

    fn owners_and_modes(&mut self) {
        for (uid, gid) in [(1, 0), (0, 1), (65534, 65534), (12_345, 54_321), (4_000_000_000, 4_000_000_001)] {
            let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            let file = self.file(&format!("owners/{uid}-{gid}"), b"");
            let link = self.path(&format!("owners/link {uid}-{gid}"));
            symlinkat("x", CWD, &link).unwrap();
            for path in [file, link] {
                self.attempt("other owners", chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW));
            }
        }
        for mode in [0o000, 0o400, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777] {
            let file = self.file(&format!("modes/{mode:o}"), b"content");
            self.attempt("modes", chmodat(CWD, file, Mode::from_raw_mode(mode), AtFlags::empty()));
        }
        for mode in [0o1777, 0o2775, 0o3770, 0o555] {
            self.file(&format!("modes/d{mode:o}/inside"), b"content");
            let directory = self.path(&format!("modes/d{mode:o}"));
            self.attempt("modes", chmodat(CWD, directory, Mode::from_raw_mode(mode), AtFlags::empty()));
        }
        if is_root() {
            // A walk by an ordinary user finds a gap here, which is another test's affair.
            self.file("modes/closed/inside", b"content");
            chmodat(CWD, self.path("modes/closed"), Mode::empty(), AtFlags::empty()).unwrap();
            let owner = (Some(Uid::from_raw(1000)), Some(Gid::from_raw(1000)));
            let setuid = self.file("modes/setuid of another", b"#!/bin/sh");
            chownat(CWD, &setuid, owner.0, owner.1, AtFlags::empty()).unwrap();
            chmodat(CWD, setuid, Mode::from_raw_mode(0o6755), AtFlags::empty()).unwrap();
        } else {
            chmodat(CWD, self.path("modes/0"), Mode::from_raw_mode(0o200 | 0o400), AtFlags::empty()).unwrap();
        }
    }

    fn xattrs(&mut self) {
        let file = self.file("xattrs/file", b"content");
        let directory = self.directory("xattrs/directory");
        let link = self.path("xattrs/link");
        symlinkat("file", CWD, &link).unwrap();
        let mut set = |what, path: &Path, name: &str, value: &[u8]| {
            self.attempt(what, lsetxattr(path, name, value, XattrFlags::empty()));
        };
        for path in [&file, &directory] {
            set("user xattrs", path, "user.empty", b"");
            set("user xattrs", path, "user.bytes", b"\0\xff\n");
            set("user xattrs", path, "user.\u{fc}", b"name beyond ASCII");
            set("ACLs", path, "system.posix_acl_access", &acl(&[(1, 7), (2, 5), (4, 4), (16, 5), (32, 0)]));
            set("trusted xattrs", path, "trusted.lifeboat", b"for root only");
            set("other security xattrs", path, "security.lifeboat", b"anything");
        }
        set("large xattrs", &file, "user.large", &noise(3000));
        set("ACLs", &directory, "system.posix_acl_default", &acl(&[(1, 7), (2, 7), (4, 5), (16, 7), (32, 5)]));
        set("trusted xattrs", &link, "trusted.of-the-link", b"and not of the file");
        let program = self.file("xattrs/capable", b"#!/bin/sh");
        self.attempt("modes", chmodat(CWD, &program, Mode::from_raw_mode(0o755), AtFlags::empty()));
        self.attempt("capabilities", lsetxattr(&program, "security.capability", &CAP_NET_RAW, XattrFlags::empty()));
        let special = self.path("special/fifo");
        self.attempt("trusted xattrs", lsetxattr(&special, "trusted.fifo", b"1", XattrFlags::empty()));
    }

    fn times(&mut self) {
        self.directory("times/directory");
        symlinkat("x", CWD, self.path("times/link")).unwrap();
        for (name, seconds, nanos) in [
            ("1960", -315_000_000, 123_456_789),
            ("just before 1970", -1, 999_999_999),
            ("1970", 0, 0),
            ("2038", 1 << 31, 1),
            ("2150", 5_680_281_600, 987_654_321),
            ("directory", -86_400, 1),
            ("link", 4_102_444_800, 7),
        ] {
            let path = self.path("times").join(name);
            if !matches!(name, "directory" | "link") {
                fs::write(&path, name).unwrap();
            }
            let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }

    fn flags(&mut self) {
        let linked = self.file("flags/immutable and linked", b"content");
        fs::hard_link(linked, self.path("flags/other name")).unwrap();
        for (name, flags) in [
            ("nodump", IFlags::NODUMP),
            ("noatime", IFlags::NOATIME),
            ("synchronous", IFlags::SYNC),
            ("append", IFlags::APPEND),
            ("immutable", IFlags::IMMUTABLE),
            ("both", IFlags::IMMUTABLE | IFlags::NODUMP | IFlags::APPEND),
            ("immutable and linked", IFlags::IMMUTABLE),
            ("nocow", IFlags::NOCOW),
        ] {
            let file = self.path("flags").join(name);
            if !file.exists() {
                fs::write(&file, if name == "nocow" { b"".as_slice() } else { b"content" }).unwrap();
            }
            let what = if name == "nocow" { "the nocow flag" } else { "inode flags" };
            self.attempt(what, set_flags(&file, flags));
        }
        for (name, flags) in
            [("d-nodump", IFlags::NODUMP), ("d-immutable", IFlags::IMMUTABLE), ("d-append", IFlags::APPEND)]
        {
            self.file(&format!("flags/{name}/inside"), b"content");
            self.attempt("inode flags", set_flags(&self.path("flags").join(name), flags));
        }
    }
}

/// `cap_net_raw` permitted and effective, as the kernel keeps it.
const CAP_NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// An ACL as the kernel keeps it, of tags and permissions. Named users and groups are number 1.
fn acl(entries: &[(u16, u16)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions) in entries {
        let id: u32 = if matches!(tag, 2 | 8) { 1 } else { u32::MAX };
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn set_flags(path: &Path, flags: IFlags) -> io::Result<()> {
    let file = openat(CWD, path, OFlags::RDONLY, Mode::empty())?;
    ioctl_setflags(&file, ioctl_getflags(&file)? | flags)
}

/// Bytes without a pattern, the same each time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = bytes as u64 | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(|_| next()).collect()
}
