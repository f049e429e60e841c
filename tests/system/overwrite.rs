//! Restores into what is there, here and on a server by order: every kind of entry over every state of its place, with
//! every mode, against a plain model. Archives and mounts, which go into nothing that is there, against the same one.

use crate::world::{World, said, summary_of};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, mknodat, utimensat};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Output;

/// When everything of the snapshot was modified.
const TIME: i64 = 1_600_000_000;
/// Larger than what is written in one piece, and kept as a part meanwhile.
const LARGE: usize = 9 << 20;

const KINDS: [&str; 5] = ["file", "large", "link", "dir", "fifo"];
const STATES: [&str; 9] = ["absent", "equal", "older", "newer", "file", "link", "empty", "full", "fifo"];
const MODES: [&str; 4] = ["always", "if-changed", "if-newer", "never"];

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File { content: Vec<u8>, mode: u32, time: i64 },
    Link { target: OsString, time: i64 },
    Fifo { mode: u32, time: i64 },
    Dir { mode: u32, time: i64, within: Nodes },
}

type Nodes = BTreeMap<OsString, Node>;

fn read(path: &Path) -> Node {
    let metadata = fs::symlink_metadata(path).unwrap();
    let (mode, time) = (metadata.mode() & 0o7777, metadata.mtime());
    match metadata.file_type() {
        kind if kind.is_symlink() => Node::Link { target: fs::read_link(path).unwrap().into(), time },
        kind if kind.is_fifo() => Node::Fifo { mode, time },
        kind if kind.is_dir() => {
            let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
            let within = names.map(|entry| (entry.file_name(), read(&entry.path()))).collect();
            Node::Dir { mode, time, within }
        }
        _ => Node::File { content: fs::read(path).unwrap(), mode, time },
    }
}

fn set_time(path: &Path, time: i64) {
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes an entry; `other` makes it differ in content and mode.
fn make(path: &Path, kind: &str, time: i64, other: bool) {
    let mode = if other { 0o600 } else { 0o644 };
    match kind {
        "file" => fs::write(path, if other { "other content" } else { "content" }).unwrap(),
        "large" => {
            let mut content = crate::world::noise(1, LARGE);
            if other {
                content[LARGE / 2..LARGE / 2 + 1000].fill(0);
            }
            fs::write(path, content).unwrap();
        }
        "link" => symlink(if other { "elsewhere" } else { "somewhere" }, path).unwrap(),
        "fifo" => mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap(),
        "empty" => fs::create_dir(path).unwrap(),
        "full" => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("inside"), "inside").unwrap();
        }
        "dir" => {
            fs::create_dir(path).unwrap();
            make(&path.join("child"), "file", time, other);
            make(&path.join(if other { "only-here" } else { "only-there" }), "file", time, other);
        }
        other => panic!("{other}"),
    }
    if kind != "link" {
        fs::set_permissions(path, fs::Permissions::from_mode(mode | if path.is_dir() { 0o100 } else { 0 })).unwrap();
    }
    set_time(path, time);
}

fn make_source(source: &Path) {
    for kind in KINDS {
        STATES.iter().for_each(|state| make(&source.join(format!("{kind}-{state}")), kind, TIME, false));
    }
    make(&source.join("sticky"), "empty", TIME, false);
    let links = source.join("links");
    fs::create_dir(&links).unwrap();
    make(&links.join("a"), "file", TIME, false);
    fs::hard_link(links.join("a"), links.join("b")).unwrap();
    fs::hard_link(links.join("a"), links.join("c")).unwrap();
    set_time(&links, TIME);
    let apart = source.join("apart");
    fs::create_dir(&apart).unwrap();
    make(&apart.join("a"), "file", TIME, false);
    fs::hard_link(apart.join("a"), apart.join("b")).unwrap();
    set_time(&apart, TIME);
    set_time(source, TIME);
}

fn make_target(target: &Path) {
    fs::create_dir(target).unwrap();
    for kind in KINDS {
        for state in STATES {
            let path = target.join(format!("{kind}-{state}"));
            match state {
                "absent" => {}
                "equal" => make(&path, kind, TIME, false),
                "older" => make(&path, kind, TIME - 1000, true),
                "newer" => make(&path, kind, TIME + 1000, true),
                _ => make(&path, state, TIME - 1000, true),
            }
        }
    }
    // With the mode that a restore gives to what it has not completed.
    for name in ["sticky", "extra-sticky"] {
        make(&target.join(name), "empty", TIME - 1000, false);
        fs::set_permissions(target.join(name), fs::Permissions::from_mode(0o1700)).unwrap();
    }
    make(&target.join("extra"), "file", TIME, true);
    make(&target.join("extra-full"), "full", TIME, true);
    let links = target.join("links");
    fs::create_dir(&links).unwrap();
    make(&links.join("b"), "file", TIME - 1000, true);
    fs::hard_link(links.join("b"), links.join("d")).unwrap();
    // A first name that is newer than in the snapshot, and a further one that is older.
    let apart = target.join("apart");
    fs::create_dir(&apart).unwrap();
    make(&apart.join("a"), "file", TIME + 1000, true);
    make(&apart.join("b"), "file", TIME - 1000, true);
}

/// What must stand at a place: `tree` is that of the snapshot, `there` what was there. None: nothing.
fn expected(tree: Option<&Node>, there: Option<&Node>, mode: &str, delete: bool) -> Option<Node> {
    let (tree, there) = match (tree, there) {
        (None, None) => return None,
        (None, Some(there)) => return (!delete).then(|| there.clone()),
        (Some(tree), None) => return Some(tree.clone()),
        (Some(tree), Some(there)) => (tree, there),
    };
    let takes_over = match mode {
        "never" => false,
        "if-newer" => time(tree) > time(there),
        _ => true,
    };
    match (tree, there) {
        (Node::Dir { within: tree_nodes, .. }, Node::Dir { within: nodes, .. }) => {
            let names = tree_nodes.keys().chain(nodes.keys());
            let merged = names.filter_map(|name| {
                let node = expected(tree_nodes.get(name), nodes.get(name), mode, delete)?;
                Some((name.clone(), node))
            });
            let within = merged.collect();
            Some(match if takes_over { tree } else { there } {
                // One that stays keeps its time, whatever is made in it.
                Node::Dir { mode, time, .. } => Node::Dir { mode: *mode, time: *time, within },
                _ => unreachable!(),
            })
        }
        _ if !takes_over => Some(there.clone()),
        (_, Node::Dir { within, .. }) if !within.is_empty() && !delete => Some(there.clone()),
        _ => Some(tree.clone()),
    }
}

fn time(node: &Node) -> i64 {
    match node {
        Node::File { time, .. } | Node::Link { time, .. } | Node::Fifo { time, .. } | Node::Dir { time, .. } => *time,
    }
}

fn differences(found: &Node, model: &Node, path: &str, list: &mut Vec<String>) {
    match (found, model) {
        (Node::Dir { mode, time, within }, Node::Dir { mode: wanted_mode, time: wanted_time, within: wanted }) => {
            if (mode, time) != (wanted_mode, wanted_time) {
                list.push(format!("{path}: {mode:o} {time:?} instead of {wanted_mode:o} {wanted_time:?}"));
            }
            for name in within.keys().chain(wanted.keys()).collect::<std::collections::BTreeSet<_>>() {
                let path = format!("{path}/{}", name.display());
                match (within.get(name), wanted.get(name)) {
                    (Some(found), Some(model)) => differences(found, model, &path, list),
                    (found, _) => {
                        list.push(format!("{path}: {}", if found.is_some() { "is there" } else { "is not there" }))
                    }
                }
            }
        }
        _ if found == model => {}
        _ => list.push(format!("{path}: {} instead of {}", shown(found), shown(model))),
    }
}

fn shown(node: &Node) -> String {
    match node {
        Node::File { content, mode, time } => format!("file of {} bytes {mode:o} {time}", content.len()),
        other => format!("{other:?}").chars().take(100).collect(),
    }
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Command,
    Agent,
}

fn restore(world: &World, by: By, target: &Path, mode: &str, delete: bool, more: &[&str]) -> Output {
    let address = world.address();
    let target = target.to_str().unwrap();
    let mut arguments = vec!["restore", &address, "--overwrite", mode, "--json"];
    match by {
        By::Command => arguments.extend(["--to", target]),
        By::Agent => arguments.extend(["--on", "server", "--into", target, "--wait"]),
    }
    arguments.extend(more);
    if delete {
        arguments.extend(["--delete", "--yes"]);
    }
    world.lab.try_lifeboat(&arguments).unwrap()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap()
}

#[test]
fn every_kind_over_every_state_with_every_mode_is_as_the_model_says() {
    let world = World::new();
    world.set_law(&format!("restore = [{:?}]", world.directory.path()));
    make_source(&world.source());
    let tree = read(&world.source());
    world.backed_up();
    for (by, delete) in [(By::Command, false), (By::Command, true), (By::Agent, false), (By::Agent, true)] {
        for mode in MODES {
            let target = world.path(&format!("target-{mode}-{delete}-{by:?}"));
            make_target(&target);
            let model = expected(Some(&tree), Some(&read(&target)), mode, delete).unwrap();
            let before = read(&target);
            let told = restore(&world, by, &target, mode, delete, &["--dry-run"]);
            assert!(read(&target) == before, "a dry run changes nothing");
            let output = restore(&world, by, &target, mode, delete, &[]);
            let (told, done) = (&summary_of(&told), &summary_of(&output));
            for count in ["deleted", "kept"] {
                assert_eq!(number(told, count), number(done, count), "{by:?}, {mode}, delete {delete}: {told} {done}");
            }
            // A bundle of which two batches have files is fetched twice.
            let fetched = number(told, "fetch_bytes")..=number(told, "fetch_bytes") + 10_000;
            assert!(fetched.contains(&number(done, "fetched_bytes")), "{by:?}, {mode}, delete {delete}: {told} {done}");
            let mut list = Vec::new();
            differences(&read(&target), &model, "", &mut list);
            assert_eq!(list, Vec::<String>::new(), "{by:?}, {mode}, delete {delete}: {}", said(&output));
            // A directory with something in it is in the way of five kinds, but for itself.
            let in_the_way = !delete && matches!(mode, "always" | "if-changed" | "if-newer");
            assert_eq!(
                output.status.code(),
                Some(if in_the_way { 3 } else { 0 }),
                "{by:?}, {mode}, delete {delete}: {}",
                said(&output)
            );
            let inodes = ["a", "b", "c"].map(|name| fs::metadata(target.join("links").join(name)).unwrap().ino());
            let are_linked = |one: usize, other: usize| inodes[one] == inodes[other];
            assert!(are_linked(0, 2) && are_linked(0, 1) == (mode != "never"), "{mode}: {inodes:?}");
            again(&world, by, &target, mode, delete, &model);
        }
    }
}

/// Once more: nothing is to be done.
fn again(world: &World, by: By, target: &Path, mode: &str, delete: bool, model: &Node) {
    let output = restore(world, by, target, mode, delete, &[]);
    let summary = &summary_of(&output);
    assert_eq!(number(summary, "fetched_bytes"), 0, "{by:?}, {mode}, delete {delete}: {}", said(&output));
    assert_eq!(number(summary, "deleted"), 0, "{by:?}, {mode}, delete {delete}: {}", said(&output));
    let mut list = Vec::new();
    differences(&read(target), model, "", &mut list);
    assert_eq!(list, Vec::<String>::new(), "again {mode}, delete {delete}: {}", said(&output));
}

#[test]
fn an_empty_target_that_exists_stays_as_it_is_where_nothing_is_to_be_changed() {
    let world = World::new();
    world.set_law(&format!("restore = [{:?}]", world.directory.path()));
    fs::set_permissions(world.source(), fs::Permissions::from_mode(0o755)).unwrap();
    make(&world.source().join("file"), "file", TIME, false);
    set_time(&world.source(), TIME);
    world.backed_up();
    for by in [By::Command, By::Agent] {
        for (mode, taken) in [("always", true), ("if-changed", true), ("if-newer", false), ("never", false)] {
            let [there, made] = ["there", "made"].map(|name| world.path(&format!("{by:?}-{mode}-{name}")));
            fs::create_dir(&there).unwrap();
            fs::set_permissions(&there, fs::Permissions::from_mode(0o711)).unwrap();
            set_time(&there, TIME + 1000);
            for target in [&there, &made] {
                let output = restore(&world, by, target, mode, false, &[]);
                assert!(output.status.success(), "{by:?}, {mode}: {}", said(&output));
            }
            let of = |path: &Path| {
                let metadata = fs::metadata(path).unwrap();
                (metadata.mode() & 0o7777, metadata.mtime())
            };
            assert_eq!(of(&made), (0o755, TIME), "{by:?}, {mode}");
            assert_eq!(of(&there), if taken { (0o755, TIME) } else { (0o711, TIME + 1000) }, "{by:?}, {mode}");
            assert_eq!(fs::read(there.join("file")).unwrap(), b"content");
        }
    }
}

/// Names of a file that is not restored itself: the first of them is the file, and the others are links to it.
#[test]
fn names_of_a_file_outside_the_restore_are_there_when_they_are_restored_again() {
    let world = World::new();
    world.set_law(&format!("restore = [{:?}]", world.directory.path()));
    for name in ["a", "b"] {
        fs::create_dir_all(world.source().join(name)).unwrap();
    }
    make(&world.source().join("a/file"), "file", TIME, false);
    for name in ["b/name", "b/other"] {
        fs::hard_link(world.source().join("a/file"), world.source().join(name)).unwrap();
    }
    world.backed_up();
    let address = format!("{}/b", world.address());
    for by in [By::Command, By::Agent] {
        for mode in [None].into_iter().chain(MODES.map(Some)) {
            let target = world.path(&format!("{by:?}-{mode:?}"));
            let to = target.to_str().unwrap();
            let restore = |more: &[&str]| {
                let mut arguments = vec!["restore", &address, "--json"];
                match by {
                    By::Command => arguments.extend(["--to", to]),
                    By::Agent => arguments.extend(["--on", "server", "--into", to, "--wait"]),
                }
                arguments.extend(mode.iter().flat_map(|mode| ["--overwrite", mode]));
                arguments.extend(more);
                let output = world.lab.try_lifeboat(&arguments).unwrap();
                assert!(output.status.success(), "{by:?}, {mode:?}: {}", said(&output));
                summary_of(&output)
            };
            for round in 0..3 {
                let done = restore(&[]);
                // When a complete restore is only checked, the target itself is no entry.
                let there = number(&done, "entries") + number(&done, "kept");
                assert!((2..=3).contains(&there), "{by:?}, {mode:?}, {round}: {done}");
                assert_eq!(number(&done, "fetched_bytes") > 0, round == 0, "{by:?}, {mode:?}, {round}: {done}");
                let metadata = fs::metadata(target.join("name")).unwrap();
                assert_eq!(metadata.ino(), fs::metadata(target.join("other")).unwrap().ino());
                assert_eq!((metadata.nlink(), metadata.mtime()), (2, TIME));
            }
            if mode.is_some() {
                let plan = restore(&["--dry-run"]);
                let counts = ["made", "changed", "fetch_bytes"].map(|name| number(&plan, name));
                assert_eq!(counts, [0; 3], "{by:?}, {mode:?}: {plan}");
            }
        }
    }
}

/// Of a large file in which little has changed, little is fetched.
#[test]
fn of_a_large_file_only_what_changed_is_fetched() {
    let world = World::new();
    let content = crate::world::noise(3, 64 << 20);
    world.write("database", &content);
    let snapshot = world.backed_up();
    let target = world.path("target");
    fs::create_dir(&target).unwrap();
    let mut changed = content.clone();
    for page in (0..64).step_by(16) {
        changed[page << 20..(page << 20) + 4096].fill(page as u8);
    }
    fs::write(target.join("database"), &changed).unwrap();
    let output = restore(&world, By::Command, &target, "always", false, &[]);
    assert!(output.status.success(), "{}", said(&output));
    let summary = &summary_of(&output);
    let (fetched, reused) = (number(summary, "fetched_bytes"), number(summary, "reused_bytes"));
    assert!(fetched <= 4 << 20, "{summary}");
    assert_eq!(fetched + reused, content.len() as u64, "{summary}");
    assert_eq!(fs::read(target.join("database")).unwrap(), content);
    world.assert_restores(&snapshot, &world.source(), "whole");
}

#[test]
fn nothing_is_deleted_without_being_asked_for() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let target = world.path("target");
    make_target(&target);
    let address = world.address();
    let arguments = ["restore", &address, "--to", target.to_str().unwrap(), "--overwrite", "always", "--delete"];
    let before = read(&target);
    crate::world::refused(&world.lab.try_lifeboat(&arguments).unwrap(), &["would be deleted", "--yes"]);
    assert!(read(&target) == before);
}

/// As root, because only root makes a small file system.
mod as_root {
    use super::*;
    use crate::dump::{dump, untar, unzip};
    use crate::mount::Mounted;

    /// What a zip carries of it: no pipe; and nobody sets the time of a link that comes from one.
    fn in_a_zip(node: Node) -> Option<Node> {
        match node {
            Node::Fifo { .. } => None,
            Node::Link { target, .. } => Some(Node::Link { target, time: 0 }),
            Node::Dir { mode, time, within } => {
                let kept = within.into_iter().filter_map(|(name, node)| Some((name, in_a_zip(node)?)));
                Some(Node::Dir { mode, time, within: kept.collect() })
            }
            file => Some(file),
        }
    }

    #[test]
    fn every_kind_in_a_tar_a_zip_and_a_mount_is_as_the_model_says() {
        let world = World::new();
        make_source(&world.source());
        let tree = expected(Some(&read(&world.source())), None, "never", false).unwrap();
        world.backed_up();
        let address = world.address();
        let (tar, output) = dump(&world, "a.tar", &[&address, "--format", "tar"]);
        assert!(output.status.success(), "{}", said(&output));
        untar(&tar, &world.path("untarred"));
        let (zip, output) = dump(&world, "a.zip", &[&address, "--format", "zip"]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        for state in STATES {
            assert!(said(&output).contains(&format!("/fifo-{state}: ")), "{}", said(&output));
        }
        unzip(&zip, &world.path("unzipped"));
        set_time(&world.path("unzipped"), TIME); // A zip says nothing of the directory that it is unpacked to.
        let mount = Mounted::at(&world, "mounted", "server");
        let zipped = in_a_zip(tree.clone()).unwrap();
        for (what, found, model) in [
            ("tar", read(&world.path("untarred")), &tree),
            ("zip", in_a_zip(read(&world.path("unzipped"))).unwrap(), &zipped),
            ("mount", read(&mount.source(&world, "latest")), &tree),
        ] {
            let mut list = Vec::new();
            differences(&found, model, "", &mut list);
            assert_eq!(list, Vec::<String>::new(), "{what}");
        }
    }

    #[test]
    fn a_restore_for_which_there_is_no_room_does_not_begin() {
        let world = World::new();
        world.write("large", &crate::world::noise(1, 40 << 20));
        world.backed_up();
        let small = world.path("small");
        fs::create_dir(&small).unwrap();
        let _disk = crate::disks::as_root::Disk::at(&small, 24);
        let address = world.address();
        let target = small.join("target");
        let arguments = ["restore", &address, "--to", target.to_str().unwrap()];
        crate::world::refused(&world.lab.try_lifeboat(&arguments).unwrap(), &["there is no room in", "40.00 MiB"]);
        assert!(!target.exists());
    }
}
