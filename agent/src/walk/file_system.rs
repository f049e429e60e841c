//! What is mounted where, and what kind of file system it is.
//!
//! The mount table is read once for each walk, so that a mount point is judged by its name and its type before any call
//! touches it: a call into a file system whose server does not answer may never return.

use std::collections::BTreeMap;
use std::fs;
use std::io;

/// The kind of a file system, from the view of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystemKind {
    /// Keeps files on this host: disks, and file systems over them (overlay, mergerfs, ntfs-3g). Also each unknown type.
    Local,
    /// A view into the kernel that cannot be restored: proc, sysfs, cgroup and the like.
    Pseudo,
    /// An automount point without its file system.
    Automount,
    /// Gone after a restart: tmpfs, ramfs.
    Temporary,
    /// Kept by another machine: NFS, SMB, sshfs and the like.
    Network,
    /// A snapshot that `lifeboat mount` shows.
    Lifeboat,
}

/// Types of pseudo file systems.
const PSEUDO: &[&str] = &[
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devpts",
    "debugfs",
    "tracefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "pstore",
    "bpf",
    "configfs",
    "binfmt_misc",
    "mqueue",
    "hugetlbfs",
    "nsfs",
    "efivarfs",
    "rpc_pipefs",
    "nfsd",
    "fusectl",
    "apparmorfs",
    "binder",
    "xenfs",
    "resctrl",
    "fuse.lxcfs",
    "fuse.portal",
];
/// Magic numbers of pseudo file systems (`linux/magic.h`), where only a descriptor is at hand.
const PSEUDO_MAGIC: &[u32] = &[
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
/// Types of file systems that are gone after a restart.
const TEMPORARY: &[&str] = &["tmpfs", "devtmpfs", "ramfs"];
/// Types of file systems that another machine keeps.
const NETWORK: &[&str] = &[
    "nfs",
    "nfs4",
    "cifs",
    "smb2",
    "smb3",
    "smbfs",
    "ceph",
    "9p",
    "afs",
    "coda",
    "lustre",
    "ncpfs",
    "ncp",
    "gpfs",
    "beegfs",
    "glusterfs",
    "pvfs2",
    "vboxsf",
    "vmhgfs",
    "prl_fs",
    "ocfs2_dlmfs",
];
/// Subtypes of FUSE whose files another machine keeps.
const NETWORK_FUSE: &[&str] = &[
    "sshfs",
    "s3fs",
    "rclone",
    "glusterfs",
    "ceph",
    "ceph-fuse",
    "davfs",
    "davfs2",
    "curlftpfs",
    "gcsfuse",
    "goofys",
    "geesefs",
    "juicefs",
    "smbnetfs",
    "afpfs",
    "hdfs",
    "fuse_dfs",
    "mfs",
    "mfsmount",
    "moosefs",
    "lizardfs",
    "seaweedfs",
    "blobfuse",
    "blobfuse2",
    "gvfsd-fuse",
    "kio-fuse",
    "vmhgfs-fuse",
    "onedriver",
    "google-drive-ocamlfuse",
    "s3ql",
    "mount-s3",
    "mountpoint-s3",
    "nfs",
    "cvmfs",
    "cvmfs2",
    "beegfs",
    "dislocker-network",
    "acd_cli",
    "gdfs",
    "ipfs",
];
/// Subtypes of FUSE over disks or directories of this machine, whatever the source of the mount looks like.
const LOCAL_FUSE: &[&str] =
    &["mergerfs", "mhddfs", "unionfs", "unionfs-fuse", "bindfs", "fuse-overlayfs", "encfs", "gocryptfs"];

impl FileSystemKind {
    /// The kind of a file system of this type, mounted from `source`. An unknown type is local, so it is backed up.
    pub fn of(fs_type: &str, source: &str) -> Self {
        let subtype = fs_type.strip_prefix("fuse.");
        match fs_type {
            "fuse.lifeboat" => Self::Lifeboat,
            // Mounted without a helper program, the subtype is not in the table.
            "fuse" if source.starts_with("lifeboat:") => Self::Lifeboat,
            "autofs" => Self::Automount,
            _ if PSEUDO.contains(&fs_type) => Self::Pseudo,
            _ if TEMPORARY.contains(&fs_type) => Self::Temporary,
            _ if NETWORK.contains(&fs_type) => Self::Network,
            _ if subtype.is_some_and(|subtype| LOCAL_FUSE.contains(&subtype)) => Self::Local,
            _ if subtype.is_some_and(|subtype| NETWORK_FUSE.contains(&subtype)) => Self::Network,
            _ if is_fuse(fs_type) && names_a_server(source) => Self::Network,
            _ => Self::Local,
        }
    }
}

/// Whether a magic number of `statfs` is that of a view into the kernel.
pub fn is_pseudo_magic(magic: u32) -> bool {
    PSEUDO_MAGIC.contains(&magic)
}

/// FUSE but over a block device (`fuseblk`), and over anything else.
fn is_fuse(fs_type: &str) -> bool {
    fs_type == "fuse" || fs_type.starts_with("fuse.") || fs_type == "virtiofs"
}

/// Whether the source of a mount has the form `scheme://…`, `//server/share` or `server:/path`.
fn names_a_server(source: &str) -> bool {
    let host = source.split_once(":/").map(|(host, _)| host);
    source.contains("://")
        || source.starts_with("//")
        || host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

/// A mount, from the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    id: u64,
    parent: u64,
    /// Its type, such as `ext4` or `fuse.sshfs`.
    pub fs_type: String,
    /// The kind of its file system.
    pub kind: FileSystemKind,
}

impl Mount {
    /// Whether a call into it may wait for a server or a program that does not answer.
    pub fn may_hang(&self) -> bool {
        self.kind == FileSystemKind::Network
            || self.kind == FileSystemKind::Automount
            || is_fuse(&self.fs_type)
            || self.fs_type == "fuseblk"
    }

    /// Whether it counts as a part of the source of its own: all but images of packages, of which each version has its
    /// own mount point.
    pub fn is_part(&self) -> bool {
        !matches!(self.fs_type.as_str(), "squashfs" | "fuse.squashfuse" | "fuse.snapfuse" | "erofs")
    }
}

/// What is mounted, by the path of the tree.
#[derive(Debug, Clone, Default)]
pub struct Mounts(BTreeMap<Vec<u8>, Mount>);

impl Mounts {
    /// The mounts that this process sees.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/self/mountinfo")?))
    }

    /// Reads the text of `/proc/PID/mountinfo`. Of several mounts at one path the last one is visible; a mount below a
    /// path over which something was mounted later is not.
    fn parse(table: &[u8]) -> Self {
        let mut at: BTreeMap<Vec<u8>, Vec<Mount>> = BTreeMap::new();
        for (path, mount) in table.split(|byte| *byte == b'\n').filter_map(parse_line) {
            at.entry(path).or_default().push(mount);
        }
        let mut visible = Self::default();
        // In this order a directory comes before all that is below it.
        for (path, mounts) in at {
            let mut base = mounts.len() - 1;
            while let Some(below) =
                mounts.iter().position(|mount| mount.id == mounts[base].parent && mount.id != mounts[base].id)
            {
                base = below;
            }
            let above = visible.above(&path).map(|above| above.id);
            if above.is_none_or(|above| above == mounts[base].parent)
                && let Some(top) = mounts.into_iter().next_back()
            {
                visible.0.insert(path, top);
            }
        }
        visible
    }

    /// The mount at this very path.
    pub fn at(&self, path: &[u8]) -> Option<&Mount> {
        self.0.get(path)
    }

    /// All mounts, by path: a directory before what is below it.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Mount)> {
        self.0.iter().map(|(path, mount)| (path.as_slice(), mount))
    }

    /// Whether anything is mounted below a directory.
    pub fn any_below(&self, path: &[u8]) -> bool {
        let start = if path.is_empty() { vec![0] } else { [path, b"/"].concat() };
        self.0.range(start.clone()..).next().is_some_and(|(mount, _)| path.is_empty() || mount.starts_with(&start))
    }

    fn above(&self, path: &[u8]) -> Option<&Mount> {
        let mut path = path;
        while !path.is_empty() {
            path = path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash]);
            if let Some(mount) = self.0.get(path) {
                return Some(mount);
            }
        }
        None
    }
}

/// `id parent major:minor root mount-point options [optional…] - type source super-options`
fn parse_line(line: &[u8]) -> Option<(Vec<u8>, Mount)> {
    let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let text = |at: usize| fields.get(at).map(|field| String::from_utf8_lossy(&unescaped(field)).into_owned());
    let number = |at: usize| text(at)?.parse().ok();
    let path = unescaped(fields.get(4)?);
    let (fs_type, source) = (text(dash + 1)?, text(dash + 2).unwrap_or_default());
    let kind = FileSystemKind::of(&fs_type, &source);
    Some((path.strip_prefix(b"/")?.to_vec(), Mount { id: number(0)?, parent: number(1)?, fs_type, kind }))
}

/// A field without its escapes: `\040` stands for a space.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_76_a_disk_of_this_machine_is_local_also_through_fuse() {
        let local = [
            ("ext4", "/dev/sda1"),
            ("overlay", "overlay"),
            ("fuseblk", "/dev/loop0"),
            ("fuse.mergerfs", "d1:/d2"),
            ("fuse.bindfs", "/srv/real"),
            ("fuse", "/dev/sdb1"),
            ("fuse.exfat", "/dev/sdc1"),
            ("fuse.new", "new"),
            ("newfs", "/dev/sda9"),
        ];
        for (fs_type, source) in local {
            assert_eq!(FileSystemKind::of(fs_type, source), FileSystemKind::Local, "{fs_type} of {source}");
        }
        let network = [
            ("nfs4", "server:/export"),
            ("cifs", "//server/share"),
            ("fuse.sshfs", "user@server:"),
            ("fuse.rclone", "remote:bucket"),
            ("fuse", "https://dav.example.com/"),
            ("fuse.unknown", "server:/volume"),
        ];
        for (fs_type, source) in network {
            assert_eq!(FileSystemKind::of(fs_type, source), FileSystemKind::Network, "{fs_type} of {source}");
        }
        assert_eq!(FileSystemKind::of("fuse.lifeboat", "web1:/srv"), FileSystemKind::Lifeboat);
        assert_eq!(FileSystemKind::of("fuse", "lifeboat:web1"), FileSystemKind::Lifeboat);
        assert_eq!(FileSystemKind::of("proc", "proc"), FileSystemKind::Pseudo);
        assert_eq!(FileSystemKind::of("devtmpfs", "udev"), FileSystemKind::Temporary);
    }

    #[test]
    fn a_mount_table_names_what_is_visible() {
        let table = b"20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            21 20 0:5 / /proc rw shared:1 - proc proc rw\n\
            30 20 0:9 / /mnt/with\\040space rw - nfs server:/x rw\n\
            31 20 0:10 / /home rw - autofs systemd-1 rw\n\
            32 31 8:2 / /home rw - ext4 /dev/sda2 rw\n\
            40 20 8:3 / /srv/a rw - ext4 /dev/sda3 rw\n\
            41 20 8:4 / /srv rw - ext4 /dev/sda4 rw\n";
        let mounts = Mounts::parse(table);
        assert_eq!(mounts.at(b"mnt/with space").unwrap().kind, FileSystemKind::Network);
        assert_eq!(mounts.at(b"home").unwrap().fs_type, "ext4", "the later mount is the visible one");
        assert!(mounts.at(b"srv/a").is_none(), "it lies below a later mount");
        assert!(mounts.any_below(b"") && mounts.any_below(b"mnt"));
        assert!(!mounts.any_below(b"srv") && !mounts.any_below(b"mn"));
    }

    #[test]
    fn the_kernels_views_are_in_the_table_of_this_host() {
        assert_eq!(Mounts::read().unwrap().at(b"proc").unwrap().kind, FileSystemKind::Pseudo);
    }
}
