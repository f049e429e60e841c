//! The same on the file systems that servers use, each in an image of its own, and on one that cannot keep everything.

use crate::round_trip::{torture, torture_to};
use lifeboat_agent::restore::{Attribute, Loss};
use lifeboat_coordinator::cli::demo::compare::Difference;
use lifeboat_tests::mounted::Mounted;
use lifeboat_tests::torture::Size;
use std::collections::BTreeSet;

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

/// What a report says was lost, as a comparison says it.
fn lost(Loss { path, attribute, .. }: &Loss) -> (Vec<u8>, String) {
    let what = match attribute {
        Attribute::Owner => "owner".to_owned(),
        Attribute::Group => "group".to_owned(),
        Attribute::Mode => "mode".to_owned(),
        Attribute::ModificationTime => "time".to_owned(),
        Attribute::Xattr(name) => format!("xattr {}", name.escape_ascii()),
        Attribute::Flags(_) => "flags".to_owned(),
        Attribute::HardLink => "links".to_owned(),
    };
    (path.clone(), what)
}

/// The same of a difference; none if nothing was lost by it.
fn differs(Difference { path, what, values }: &Difference) -> Option<(Vec<u8>, String)> {
    // That no flag is set, and where the holes are, is something that such a file system does not tell.
    let is_untold = what == "holes" || what == "flags" && values == "Some(0) / None";
    // Of a file with two names the report tells one.
    let is_second = [&b"special/fifo too"[..], b"flags/other name"].iter().any(|name| path.ends_with(name));
    (!is_untold && !is_second).then(|| (path.strip_prefix(b"/").unwrap_or(path).to_vec(), what.clone()))
}

/// Of root too, where the file system has neither extended attributes nor ACLs nor flags: what differs is in the report, and
/// nothing else is.
#[test]
fn inv_16_every_loss_and_no_other_is_named_where_there_are_no_extended_attributes() {
    let Some(mounted) = Mounted::without_xattrs() else {
        println!("left out: a file system without extended attributes, which only root can mount");
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let (differences, report) = torture_to(&mounted.top().join("target"), place.path(), Size { levels: 20, files: 50 });
    let differ: BTreeSet<_> = differences.iter().filter_map(differs).collect();
    let lost: BTreeSet<_> = report.losses.iter().map(lost).collect();
    let odd = lost.symmetric_difference(&differ).map(|(path, what)| format!("{}: {what}", path.escape_ascii()));
    assert_eq!(odd.collect::<Vec<_>>(), [""; 0]);
    assert!(lost.len() > 10 && lost.iter().any(|(_, what)| what == "xattr system.posix_acl_default"), "{lost:?}");
    assert_eq!(report.failures, []);
    assert_eq!(report.losses.len() as u64, report.lost_attributes.values().sum::<u64>());
}
