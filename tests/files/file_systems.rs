//! The same on the file systems that servers use, each in an image of its own.

use crate::round_trip::{is_root, torture};
use lifeboat_tests::torture::Size;
use std::path::Path;
use std::process::Command;

/// An image that is mounted until it is dropped.
struct Mounted {
    place: tempfile::TempDir,
}

impl Mounted {
    /// None where this machine cannot: no root, no tool, no loop device.
    fn new(kind: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let place = tempfile::tempdir().ok()?;
        let (image, top) = (place.path().join("image"), place.path().join("top"));
        std::fs::File::create(&image).ok()?.set_len(1 << 30).ok()?;
        std::fs::create_dir(&top).ok()?;
        run(&format!("mkfs.{kind}"), &["-q".as_ref(), image.as_ref()])?;
        run("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), top.as_ref()])?;
        Some(Self { place })
    }

    fn top(&self) -> std::path::PathBuf {
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

fn nothing_is_lost_on(kind: &str) {
    let Some(mounted) = Mounted::new(kind) else {
        println!("left out: the torture tree on {kind}, which needs root, mkfs.{kind} and a loop device");
        return;
    };
    let place = mounted.top().join("place");
    std::fs::create_dir(&place).unwrap();
    let (differences, report) = torture(&place, Size { levels: 1100, files: 500 });
    assert!(differences.is_empty(), "{} differences, first {}", differences.len(), differences[0]);
    assert!(report.is_complete(), "{:?} {:?}", report.losses.first(), report.failures.first());
}

#[test]
fn nothing_is_lost_on_ext4() {
    nothing_is_lost_on("ext4");
}

#[test]
fn nothing_is_lost_on_xfs() {
    nothing_is_lost_on("xfs");
}

#[test]
fn nothing_is_lost_on_btrfs() {
    nothing_is_lost_on("btrfs");
}
