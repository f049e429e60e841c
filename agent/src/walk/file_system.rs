//! Which file systems hold nothing that a backup should keep.

use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::io;
use std::os::fd::AsFd;

/// What a file system is to a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    /// Keeps files on this host: disks, and what lies over them (overlay, FUSE over a block device).
    Local,
    /// A view into the kernel, nothing that could be restored: proc, sysfs, devtmpfs, cgroup and their like.
    Pseudo,
    /// Gone after a restart: tmpfs, ramfs.
    Temporary,
    /// Kept by another host, or shown by a user's program: NFS, SMB, Ceph, FUSE.
    Foreign,
}

/// Magic numbers of pseudo file systems (`linux/magic.h`). devtmpfs is not among them: it shows as tmpfs, so where
/// temporary file systems are kept, `/dev` needs a rule of its own.
const PSEUDO: &[u32] = &[
    0x0000_9fa0, // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x0000_1cd1, // devpts
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x6165_676c, // pstore
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0x4249_4e4d, // binfmt_misc
    0x1980_0202, // mqueue
    0x9584_58f6, // hugetlbfs
    0x6e73_6673, // nsfs
    0x0000_0187, // autofs
    0xde5e_81e4, // efivarfs
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x6573_5543, // fusectl
    0x5a3c_69f0, // apparmorfs
    0x6c6f_6f70, // binderfs
    0xabba_1974, // xenfs
];
/// Magic numbers of file systems that are gone after a restart.
const TEMPORARY: &[u32] = &[
    0x0102_1994, // tmpfs, devtmpfs
    0x8584_58f6, // ramfs
];
/// Magic numbers of file systems that others keep.
const FOREIGN: &[u32] = &[
    0x0000_6969, // NFS
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB2
    0x0000_517b, // SMB
    0x6573_5546, // FUSE, whatever stands behind it
    0x00c3_6400, // Ceph
    0x0102_1997, // 9p
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x7375_7245, // Coda
    0x0bd0_0bd0, // Lustre
    0x0000_564c, // NCP
    0x4750_4653, // GPFS
    0x786f_4256, // VirtualBox shared folders
    0xbacb_acbc, // VMware shared folders
];

impl FileSystemKind {
    /// What stands at `name` in a directory. Opens nothing for real, so an automounter stays asleep.
    pub fn at(directory: impl AsFd, name: &[u8]) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = openat(directory, name, flags, Mode::empty())?;
        Ok(Self::of_magic(fstatfs(&place)?.f_type as u32))
    }

    /// What a magic number of `statfs` stands for; whatever is not known is taken as local, so it is kept.
    pub fn of_magic(magic: u32) -> Self {
        match magic {
            _ if PSEUDO.contains(&magic) => Self::Pseudo,
            _ if TEMPORARY.contains(&magic) => Self::Temporary,
            _ if FOREIGN.contains(&magic) => Self::Foreign,
            _ => Self::Local,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::CWD;

    #[test]
    fn the_kernels_views_are_known() {
        assert_eq!(FileSystemKind::at(CWD, b"/proc").unwrap(), FileSystemKind::Pseudo);
        assert_eq!(FileSystemKind::at(CWD, b"/sys").unwrap(), FileSystemKind::Pseudo);
        assert_eq!(FileSystemKind::at(CWD, b"/dev").unwrap(), FileSystemKind::Temporary);
    }

    #[test]
    fn an_overlay_and_an_unknown_one_are_kept() {
        assert_eq!(FileSystemKind::of_magic(0x794c_7630), FileSystemKind::Local);
        assert_eq!(FileSystemKind::of_magic(0x1234_5678), FileSystemKind::Local);
    }
}
