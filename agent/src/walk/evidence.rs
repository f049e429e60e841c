//! What the metadata of a file proves, which depends on the file system that keeps it.
//!
//! Linux itself keeps the inodes of an ordinary disk file system: it alone sets `ctime`, no two files have one number, and
//! the size is that of the content. A file system that passes on what a server or a program answers vouches for none of
//! this, nor does one that keeps no `ctime`, nor an image whose times were made up when it was built. What metadata does
//! not prove is read: content there, and with the content whether two names are one file.

use super::file_system::is_pseudo_magic;
use super::stat::Stat;
use rustix::fs::{Mode, OFlags, fstatfs, openat};
use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

/// Magic numbers (`linux/magic.h` and the file systems' own) of file systems whose metadata is kept by this kernel alone.
const ORDINARY: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // btrfs
    0xf2f5_2010, // F2FS
    0x2fc1_2fc1, // ZFS
    0xca45_1a4e, // bcachefs
    0x3153_464a, // JFS
    0x5265_4973, // ReiserFS
    0x0000_3434, // NILFS2
    0x2405_1905, // UBIFS
    0x0000_72b6, // JFFS2
    0x7366_746e, // NTFS by the kernel's own driver
];
/// An overlay shows times and sizes of the disk below it; what inode number a file shows depends on how it is mounted.
const OVERLAY: u32 = 0x794c_7630;
/// Coarser than the times of any ordinary file system, and than the steps in which the kernel's clock stamps files.
const TICK: Duration = Duration::from_secs(3);
/// How long the kernel keeps a changed page at most, where that cannot be read: its defaults, 30 and 5 seconds.
const WRITE_BACK: Duration = Duration::from_secs(35);
/// Where the kernel writes nothing back by itself.
const NO_WRITE_BACK: Duration = Duration::from_secs(24 * 3600);

/// What can be concluded from the metadata of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// Equal times, size and inode prove equal content.
    pub times: bool,
    /// Two names with one inode number and equal metadata are one file.
    pub inodes: bool,
    /// The size is that of the content.
    pub sizes: bool,
    /// The size means nothing at all, as in the kernel's own views.
    pub has_no_sizes: bool,
    /// How long a file must not have changed before a later change is sure to leave another time. A process that has
    /// mapped a file changes it without a trace until the kernel has written the page back.
    pub settled_after: Duration,
}

impl Evidence {
    /// On an ordinary disk, with the kernel's default settings.
    pub const ORDINARY: Self =
        Self { times: true, inodes: true, sizes: true, has_no_sizes: false, settled_after: settled_after(WRITE_BACK) };

    fn of_magic(magic: u32, settled_after: Duration) -> Self {
        let ordinary = Self { settled_after, ..Self::ORDINARY };
        match magic {
            _ if ORDINARY.contains(&magic) => ordinary,
            OVERLAY => Self { inodes: false, ..ordinary },
            _ => {
                let has_no_sizes = is_pseudo_magic(magic);
                Self { times: false, inodes: false, sizes: false, has_no_sizes, settled_after }
            }
        }
    }
}

/// Twice the time in which a page should be written back, for a disk may be busy.
const fn settled_after(write_back: Duration) -> Duration {
    TICK.saturating_add(write_back.saturating_mul(2))
}

/// The evidence of each file system that a walk has met. Each is asked once.
#[derive(Debug)]
pub struct FileSystems {
    settled_after: Duration,
    last: Option<(Key, Evidence)>,
    known: HashMap<Key, Evidence>,
}

/// Device and mount.
type Key = (u64, u64);
/// How many are remembered; then all are forgotten, so that memory has a bound.
const KNOWN_MAX: usize = 4096;

impl FileSystems {
    /// Of this machine, by its settings for writing back; none met yet.
    pub fn of_this_machine() -> Self {
        let setting = |name: &str| fs::read_to_string(format!("/proc/sys/vm/{name}")).ok()?.trim().parse().ok();
        let centiseconds = (setting("dirty_expire_centisecs"), setting("dirty_writeback_centisecs"));
        Self { settled_after: settled_after(write_back(centiseconds)), last: None, known: HashMap::new() }
    }

    /// The evidence for the entry `name` in a directory. Opens nothing for real.
    pub fn evidence(&mut self, directory: impl AsFd, name: &[u8], stat: &Stat) -> Evidence {
        let key = (stat.device, stat.mount);
        if let Some((last, evidence)) = self.last
            && last == key
        {
            return evidence;
        }
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let settled_after = self.settled_after;
        let evidence = *self.known.entry(key).or_insert_with(|| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let magic =
                openat(directory, name, flags, Mode::empty()).and_then(fstatfs).map(|system| system.f_type as u32);
            // What cannot be asked vouches for nothing.
            Evidence::of_magic(magic.unwrap_or(0), settled_after)
        });
        self.last = Some((key, evidence));
        evidence
    }
}

/// How long the kernel keeps a changed page, by its settings in hundredths of a second.
fn write_back(settings: (Option<u64>, Option<u64>)) -> Duration {
    match settings {
        (_, Some(0)) => NO_WRITE_BACK,
        (Some(expire), Some(every)) => Duration::from_millis(10).saturating_mul((expire.saturating_add(every)) as u32),
        _ => WRITE_BACK,
    }
}

#[cfg(test)]
mod tests {
    use super::super::stat::{stat_at, stat_open};
    use super::*;
    use rustix::fs::CWD;

    #[test]
    fn inv_18_only_file_systems_of_this_kernel_vouch_for_unchanged_files() {
        let of = |magic| Evidence::of_magic(magic, Duration::ZERO);
        for (name, magic, times, inodes) in [
            ("ext4", 0xef53, true, true),
            ("XFS", 0x5846_5342, true, true),
            ("overlay", OVERLAY, true, false),
            ("FUSE", 0x6573_5546, false, false),
            ("NFS", 0x6969, false, false),
            ("CIFS", 0xff53_4d42, false, false),
            ("vfat", 0x4d44, false, false),
            ("exfat", 0x2011_bab0, false, false),
            ("tmpfs, where writes to mapped pages leave no time", 0x0102_1994, false, false),
            ("squashfs", 0x7371_7368, false, false),
            ("proc", 0x9fa0, false, false),
            ("one that nobody knows", 0x1234_5678, false, false),
        ] {
            assert_eq!((of(magic).times, of(magic).inodes, of(magic).sizes), (times, inodes, times), "{name}");
        }
    }

    #[test]
    fn each_file_system_is_known_by_any_of_its_files() {
        let mut systems = FileSystems::of_this_machine();
        let mut of = |path: &[u8]| systems.evidence(CWD, path, &stat_at(CWD, path).unwrap());
        assert!(!of(b"/proc/version").sizes && !of(b"/sys").times && !of(b"/proc").times);
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (stat, path) = (stat_open(&file).unwrap(), file.path().as_os_str().as_encoded_bytes());
        assert_eq!(systems.evidence(CWD, path, &stat), systems.evidence(CWD, path, &stat));
    }

    #[test]
    fn inv_18_a_mapped_page_is_waited_for_as_long_as_the_kernel_may_keep_it() {
        assert_eq!(write_back((Some(3000), Some(500))), WRITE_BACK);
        assert_eq!(write_back((Some(60_000), Some(500))), Duration::from_secs(605));
        assert_eq!(write_back((None, None)), WRITE_BACK);
        assert_eq!(write_back((Some(3000), Some(0))), NO_WRITE_BACK, "written back by nobody");
        assert_eq!(Evidence::ORDINARY.settled_after, Duration::from_secs(73));
    }
}
