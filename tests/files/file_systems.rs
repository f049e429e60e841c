//! The same on the file systems that servers use, each in an image of its own.

use crate::round_trip::torture;
use lifeboat_tests::mounted::Mounted;
use lifeboat_tests::torture::Size;

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
