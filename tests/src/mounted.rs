//! File systems that servers use, each in an image of its own.

use crate::torture::is_root;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An image that is mounted until it is dropped.
#[derive(Debug)]
pub struct Mounted {
    place: tempfile::TempDir,
}

impl Mounted {
    /// One GiB of `ext4`, `xfs`, `btrfs`, `exfat`; none where this machine cannot: no root, no tool, no loop device.
    pub fn new(kind: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let place = tempfile::tempdir().ok()?;
        let (image, top) = (place.path().join("image"), place.path().join("top"));
        std::fs::File::create(&image).ok()?.set_len(1 << 30).ok()?;
        std::fs::create_dir(&top).ok()?;
        run(&format!("mkfs.{kind}"), &[image.as_ref()])?;
        // Where the kernel has no exFAT of its own, there is one by FUSE.
        let kind = if kind == "exfat" { "exfat-fuse" } else { kind };
        run("mount", &["-o".as_ref(), "loop".as_ref(), "-t".as_ref(), kind.as_ref(), image.as_ref(), top.as_ref()])?;
        Some(Self { place })
    }

    /// A file system in memory that has no extended attributes; none where this machine cannot.
    pub fn without_xattrs() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let place = tempfile::tempdir().ok()?;
        let top = place.path().join("top");
        std::fs::create_dir(&top).ok()?;
        run("mount", &["-t".as_ref(), "ramfs".as_ref(), "none".as_ref(), top.as_ref()])?;
        Some(Self { place })
    }

    /// Where it is mounted.
    pub fn top(&self) -> PathBuf {
        self.place.path().join("top")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("umount", &[self.top().as_ref()]);
    }
}

fn run(program: &str, arguments: &[&Path]) -> Option<()> {
    Command::new(program).args(arguments).output().ok()?.status.success().then_some(())
}
