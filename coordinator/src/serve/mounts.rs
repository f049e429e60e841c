//! Why a path is read-only: its disk, or only this process's view of it.

use std::path::{Path, PathBuf};

/// Whether the file system that holds a path is read-only for every process; also true where that is not known.
pub fn is_read_only_everywhere(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    options_of_disk(&table, &path).is_none_or(|options| options.split(',').any(|option| option == "ro"))
}

/// The options of the file system that is mounted nearest to a path: those of the disk, not of this mount of it.
fn options_of_disk<'a>(table: &'a str, path: &Path) -> Option<&'a str> {
    let mounts = table.lines().filter_map(|line| {
        let (mount, disk) = line.split_once(" - ")?;
        let point = unescaped(mount.split(' ').nth(4)?);
        path.starts_with(&point).then_some((point.components().count(), disk.split(' ').nth(2)?))
    });
    // Of two mounts at one place the later one hides the earlier one.
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, options)| options)
}

/// A mount point as the kernel writes it: blanks and backslashes as three octal digits.
fn unescaped(point: &str) -> PathBuf {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(point.to_owned(), |point, (escape, character)| point.replace(escape, character))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_is_told_from_the_sandbox() {
        let table = "\
            21 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
            22 21 8:2 / /mnt/back\\040up rw - ext4 /dev/sdb1 rw\n\
            23 21 8:2 / /mnt/back\\040up ro,nosuid master:3 - xfs /dev/sdb1 ro,attr2\n";
        let options = |path: &str| options_of_disk(table, Path::new(path));
        assert_eq!(options("/srv/lifeboat"), Some("rw,errors=remount-ro"));
        assert_eq!(options("/mnt/back up/repository"), Some("ro,attr2"));
        assert_eq!(options_of_disk("", Path::new("/")), None);
    }
}
