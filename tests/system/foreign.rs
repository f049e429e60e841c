//! Sources on file systems that do not behave like the usual disk: inode numbers that two files share, attributes without
//! measure.

use crate::world::{World, noise, said};
use lifeboat_tests::mounted::Mounted;
use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// A view of a directory by FUSE, until it is dropped; none where this machine has no `bindfs`.
struct View<'a>(&'a Path);

impl<'a> View<'a> {
    fn new(of: &Path, at: &'a Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        Command::new("bindfs").args([of, at]).status().ok()?.success().then_some(Self(at))
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn back_up(world: &World, paths: &[&Path]) -> Value {
    world.lab.set_sources(&format!("data = {paths:?}")).unwrap();
    let output = world.backup();
    let ended = String::from_utf8_lossy(&output.stdout).lines().last().unwrap().to_owned();
    serde_json::from_str(&ended).unwrap_or_else(|_| panic!("{}", said(&output)))
}

fn content(world: &World, path: &Path) -> Vec<u8> {
    world.lab.lifeboat(&["cat", &format!("server:{}", path.display())]).unwrap().stdout
}

/// Two disks, made alike, give their files the same numbers, and a view of both has one device.
#[test]
fn two_files_with_one_inode_number_are_both_backed_up() {
    let (Some(one), Some(two)) = (Mounted::new("ext4"), Mounted::new("ext4")) else {
        println!("left out: two disks, which need root and a loop device");
        return;
    };
    let world = World::new();
    let disks = world.path("disks");
    let mut mounts = Vec::new();
    for (name, disk) in [("1", &one), ("2", &two)] {
        let file = disk.top().join("file");
        fs::write(&file, format!("this is disk {name}")).unwrap();
        fs::hard_link(&file, disk.top().join("link")).unwrap();
        fs::File::open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::create_dir_all(disks.join(name)).unwrap();
        let at = disks.join(name);
        let bound = Command::new("mount").arg("--bind").args([&disk.top(), &at]).status().unwrap();
        assert!(bound.success());
        mounts.push(View(Box::leak(at.into_boxed_path())));
    }
    let at = world.path("view");
    let Some(view) = View::new(&disks, &at) else {
        println!("left out: a view by FUSE, which needs bindfs");
        return;
    };
    for round in 0..2 {
        let ended = back_up(&world, &[&at]);
        assert_eq!(ended["outcome"], "complete", "{round}: {ended}");
        for name in ["1", "2"] {
            for file in ["file", "link"] {
                let path = at.join(name).join(file);
                assert_eq!(content(&world, &path), fs::read(&path).unwrap(), "{round}: {path:?}");
            }
        }
        // Of the same length, at the same time: nothing but the content shows it.
        let file = fs::OpenOptions::new().write(true).open(at.join("2/file")).unwrap();
        std::io::Write::write_all(&mut &file, b"THIS IS DISK 2").unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    drop(view);
}

#[test]
fn a_user_cannot_stop_a_backup_by_extended_attributes() {
    let Some(disk) = Mounted::new("xfs") else {
        println!("left out: very large attributes, which need root, XFS and a loop device");
        return;
    };
    let world = World::new();
    let top = disk.top().join("source");
    fs::create_dir(&top).unwrap();
    for at in 0..6 {
        let file = top.join(format!("{at}"));
        fs::write(&file, noise(at, if at % 2 == 0 { 100 } else { 300_000 })).unwrap();
        for number in 0..30 {
            let name = format!("user.{number:02}");
            setxattr(&file, name, &noise(1000 + at * 100 + number, 64 << 10), XattrFlags::empty()).unwrap();
        }
    }
    fs::create_dir(top.join("directory")).unwrap();
    fs::write(top.join("directory/below"), "below").unwrap();
    for number in 0..30 {
        let name = format!("user.{number:02}");
        setxattr(top.join("directory"), name, &noise(number, 64 << 10), XattrFlags::empty()).unwrap();
    }
    let ended = back_up(&world, &[&top]);
    assert_eq!(
        (ended["outcome"].as_str(), ended["gap_count"].as_u64()),
        (Some("complete with gaps"), Some(7)),
        "{ended}"
    );
    for gap in ended["gaps"].as_array().unwrap() {
        assert!(gap.as_str().unwrap().contains(": kept: without its extended attribute user.15 and 14 more"), "{gap}");
    }
    for at in 0..6 {
        let path = top.join(format!("{at}"));
        assert_eq!(content(&world, &path), fs::read(&path).unwrap());
    }
    assert_eq!(content(&world, &top.join("directory/below")), b"below");
}
