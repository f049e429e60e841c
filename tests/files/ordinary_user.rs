//! A restore by a user who may not do everything: what is lost is named, nothing else is.
//!
//! Root runs these tests as another user, in a process of their own.

use crate::hostile::{Place, directory, entry, file, mine};
use crate::round_trip::is_root;
use lifeboat_format::tree::{Attributes, Device, Entry, EntryKind, Xattr};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

const NOBODY: u32 = 65534;

/// As root, runs the test of this name as nobody and returns false: it is done.
fn is_to_be_run_here(test: &str) -> bool {
    if !is_root() {
        return true;
    }
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o700)).unwrap();
    chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut run = Command::new("/proc/self/exe");
    run.args(["--exact", &format!("ordinary_user::{test}"), "--nocapture"]).env("TMPDIR", place.path());
    let output = run.current_dir("/").uid(NOBODY).gid(NOBODY).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    false
}

#[test]
fn inv_16_an_ordinary_user_is_told_every_loss() {
    if !is_to_be_run_here("inv_16_an_ordinary_user_is_told_every_loss") {
        return;
    }
    let xattr = |name: &str, value: &[u8]| Xattr { name: name.into(), value: value.to_vec() };
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = vec![xattr("security.capability", &capability), xattr("trusted.a", b"b"), xattr("user.c", b"d")];
    let of_root = Attributes { uid: 0, gid: 0, ..mine() };
    let program = Attributes { mode: 0o6755, xattrs, flags: 0x50, ..of_root.clone() };
    let place = Place::new();
    let report = place.restore(vec![
        directory(""),
        Entry { attributes: of_root.clone(), ..directory("directory") },
        entry("disk", EntryKind::BlockDevice(Device { major: 7, minor: 250 })),
        Entry { attributes: program, ..file("program") },
        Entry { attributes: Attributes { mode: 0o4755, ..mine() }, ..file("setuid of mine") },
    ]);
    let mut lost: Vec<String> = report.losses.iter().map(ToString::to_string).collect();
    lost.sort();
    let refused = "Operation not permitted (os error 1)";
    assert_eq!(
        lost,
        [
            format!("/directory: group not restored: {refused}"),
            format!("/directory: owner not restored: {refused}"),
            format!("/program: extended attribute security.capability not restored: {refused}"),
            format!("/program: extended attribute trusted.a not restored: {refused}"),
            format!("/program: group not restored: {refused}"),
            format!("/program: inode flags 0x10 not restored: {refused}"),
            "/program: mode not restored: setuid and setgid need the right owner".to_string(),
            format!("/program: owner not restored: {refused}"),
        ]
    );
    let failed: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(failed, [format!("/disk: not restored: cannot make it: {refused}")]);
    let mode = |name: &str| fs::metadata(place.target().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("program"), mode("setuid of mine")), (0o755, 0o4755));
}

/// Whoever may not search a directory any more cannot make a second name of what is in it.
#[test]
fn inv_16_a_hard_link_that_cannot_be_made_is_a_named_loss() {
    use lifeboat_agent::restore::{Options, Step, Target, Writer};
    if !is_to_be_run_here("inv_16_a_hard_link_that_cannot_be_made_is_a_named_loss") {
        return;
    }
    let place = Place::new();
    let mut writer = Writer::new(Target::open(&place.target()).unwrap(), Options::default()).unwrap();
    let closed = Attributes { mode: 0, ..mine() };
    writer.add(Entry { attributes: closed, ..directory("a") });
    let Step::Content(slot) = writer.add(file("a/first")) else { panic!() };
    slot.write_at(0, b"content").unwrap();
    slot.finish().unwrap();
    writer.add(directory("b"));
    assert!(matches!(writer.add(entry("b/second", EntryKind::HardLink { to: "a/first".into() })), Step::FirstIsAbsent));
    let report = writer.finish().unwrap();
    let lost: Vec<String> = report.losses.iter().map(ToString::to_string).collect();
    assert_eq!(lost, ["/b/second: hard link not restored: Permission denied (os error 13)"]);
    fs::set_permissions(place.target().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
}
