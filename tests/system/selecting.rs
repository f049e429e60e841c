//! Restores of a part: several paths, patterns, and how much of the paths stays.

use crate::world::{World, refused, said};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// All that is below a directory, by path; directories end with a slash.
fn names(top: &Path) -> BTreeSet<String> {
    let entries = walkdir::WalkDir::new(top).min_depth(1).into_iter().map(Result::unwrap);
    let name = |entry: walkdir::DirEntry| {
        let path = entry.path().strip_prefix(top).unwrap().display().to_string();
        if entry.file_type().is_dir() { path + "/" } else { path }
    };
    entries.map(name).collect()
}

fn world() -> World {
    let world = World::new();
    for path in
        ["etc/a.conf", "etc/b.txt", "etc/deep/c.conf", "etc/empty/x.txt", "srv/www/index", "srv/log/1", "top.conf"]
    {
        world.write(path, path.as_bytes());
    }
    fs::hard_link(world.source().join("etc/a.conf"), world.source().join("srv/www/link")).unwrap();
    world.backed_up();
    world
}

/// Restores with these arguments, where `@` stands for the source.
fn restored(world: &World, name: &str, arguments: &[&str]) -> BTreeSet<String> {
    let source = world.source().display().to_string();
    let filled: Vec<String> = arguments.iter().map(|argument| argument.replace('@', &source)).collect();
    let target = world.path(name);
    let to = target.display().to_string();
    let all: Vec<&str> =
        ["restore"].into_iter().chain(filled.iter().map(String::as_str)).chain(["--to", &to]).collect();
    let output = world.lab.try_lifeboat(&all).unwrap();
    assert!(output.status.success(), "{all:?}: {}", said(&output));
    names(&target)
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn several_paths_come_with_their_directories_or_without() {
    let world = world();
    let strip = world.source().components().count() - 1;
    let strip = strip.to_string();
    let both =
        restored(&world, "both", &["server:@/etc/deep", "@/srv/www/link", "@/etc/deep/c.conf", "--strip", &strip]);
    assert_eq!(both, set(&["etc/", "etc/deep/", "etc/deep/c.conf", "srv/", "srv/www/", "srv/www/link"]));
    let original = fs::metadata(world.source().join("srv/www")).unwrap();
    let way = fs::metadata(world.path("both/srv/www")).unwrap();
    assert_eq!((way.mtime_nsec(), way.mode()), (original.mtime_nsec(), original.mode()), "a directory on the way");
    let whole = restored(&world, "whole", &["server:@/etc/deep", "@/srv/log"]);
    let prefix = world.source().display().to_string()[1..].to_owned();
    for name in ["etc/deep/c.conf", "srv/log/1"] {
        assert!(whole.contains(&format!("{prefix}/{name}")), "{whole:?}");
    }
    let flat = restored(&world, "flat", &["server:@/etc/a.conf"]);
    assert_eq!(flat, set(&["a.conf"]));
}

#[test]
fn patterns_choose_what_comes_and_directories_come_only_with_something_in_them() {
    let world = world();
    let chosen = restored(&world, "chosen", &["server:@", "--include", "*.conf", "--exclude", "deep/"]);
    assert_eq!(chosen, set(&["etc/", "etc/a.conf", "top.conf"]));
    let without = restored(&world, "without", &["server:@", "--exclude", "etc/", "--exclude", "/**/log/"]);
    assert_eq!(without, set(&["srv/", "srv/www/", "srv/www/index", "srv/www/link", "top.conf"]));
    let content = fs::read(world.path("without/srv/www/link")).unwrap();
    assert_eq!(content, b"etc/a.conf", "a further name of a file that was left out is the file");
}

#[test]
fn only_what_is_restored_is_mirrored() {
    let world = world();
    let target = world.path("mirror");
    for path in ["mine", "etc/mine", "etc/deep/mine"] {
        fs::create_dir_all(target.join(path).parent().unwrap()).unwrap();
        fs::write(target.join(path), path).unwrap();
    }
    let strip = (world.source().components().count() - 1).to_string();
    let arguments = ["server:@/etc/deep", "@/srv/log", "--strip", &strip, "--overwrite", "always", "--delete", "--yes"];
    let names = restored(&world, "mirror", &arguments);
    let expected = ["etc/", "etc/deep/", "etc/deep/c.conf", "etc/mine", "mine", "srv/", "srv/log/", "srv/log/1"];
    assert_eq!(names, set(&expected));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let world = world();
    let source = world.source().display().to_string();
    let call = |arguments: &[&str]| {
        let to = world.lab.path("refused");
        let output = world.lab.try_lifeboat(&[&["restore"], arguments, &["--to", &to]].concat()).unwrap();
        assert!(!Path::new(&to).exists(), "nothing is made: {arguments:?}");
        output
    };
    let address = format!("server:{source}/etc");
    refused(&call(&[&address, &format!("{source}/never")]), &["never"]);
    refused(&call(&[&address, "--strip", "40"]), &["--strip 40"]);
    refused(&call(&[&address, "--include", "[z-a]"]), &["[z-a]"]);
    assert_eq!(call(&[&address, "--delete"]).status.code(), Some(2));
    assert_eq!(call(&[&address, "--overwrite", "always", "--delete", "--include", "x"]).status.code(), Some(2));
}

#[test]
fn a_pattern_that_matches_nothing_is_refused_and_named() {
    let world = World::new();
    for name in ["[abc].txt", "other.conf", "deep/file"] {
        world.write(name, name.as_bytes());
    }
    world.backed_up();
    let address = world.address();
    let to = world.lab.path("target");
    let call = |more: &[&str]| {
        let to: &[&str] = if more.contains(&"--on") { &[] } else { &["--to", &to] };
        world.lab.try_lifeboat(&[&["restore", &address], to, more].concat()).unwrap()
    };
    let cases: [&[&str]; 6] = [
        &["--include", "[abc].txt"],
        &["--include", "other.conf", "--include", "[abc].txt"],
        &["--include", "[abc].txt", "--dry-run"],
        &["--include", "[abc].txt", "--on", "server", "--wait"],
        &["--include", "[abc].txt", "--on", "server"],
        &["--include", "deep/", "--exclude", "deep/"],
    ];
    for case in cases {
        let named = if case.contains(&"--exclude") { "deep/" } else { "[abc].txt" };
        refused(&call(case), &[&format!("nothing in the snapshot matches --include \"{named}\""), "hint: "]);
    }
    assert!(!Path::new(&to).exists(), "nothing is made");
    assert_eq!(restored(&world, "escaped", &["server:@", "--include", "\\[abc].txt"]), set(&["[abc].txt"]));
}

#[test]
fn one_file_goes_into_a_directory_beside_what_is_there_and_over_nothing() {
    let world = World::new();
    world.write("etc/hostname", b"server");
    fs::hard_link(world.source().join("etc/hostname"), world.source().join("etc/link")).unwrap();
    std::os::unix::fs::symlink("hostname", world.source().join("etc/symlink")).unwrap();
    world.backed_up();
    let here = world.path("here");
    fs::create_dir(&here).unwrap();
    fs::write(here.join("other"), "other").unwrap();
    let source = world.source().display().to_string();
    let restore = |name: &str, more: &[&str]| {
        let address = format!("server:{source}/etc/{name}");
        let mut command = world.lab.lifeboat_command();
        command.args(["restore", &address, "--to", "."]).args(more).current_dir(&here);
        command.output().unwrap()
    };
    for name in ["hostname", "link", "symlink"] {
        let planned = restore(name, &["--dry-run"]);
        assert!(planned.status.success() && !here.join(name).exists(), "{}", said(&planned));
        let output = restore(name, &[]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(fs::read(here.join(name)).unwrap(), b"server", "{name}");
        let again = restore(name, &[]);
        assert!(again.status.success(), "{}", said(&again));
        fs::remove_file(here.join(name)).unwrap();
        assert!(restore(name, &[]).status.success(), "what was removed comes back");
        if name == "symlink" {
            continue;
        }
        fs::write(here.join(name), "mine").unwrap();
        refused(&restore(name, &[]), &["--overwrite"]);
        assert_eq!(fs::read(here.join(name)).unwrap(), b"mine");
        assert!(restore(name, &["--overwrite", "always"]).status.success());
        assert_eq!(fs::read(here.join(name)).unwrap(), b"server");
    }
    fs::write(here.join("hostname"), "mine").unwrap();
    refused(&restore("hostname", &[]), &["hostname\" already exists", "--overwrite"]);
    assert_eq!(fs::read(here.join("hostname")).unwrap(), b"mine");
    assert_eq!(fs::read(here.join("other")).unwrap(), b"other");
    let whole = world.lab.try_lifeboat(&["restore", &format!("server:{source}/etc"), "--to", here.to_str().unwrap()]);
    refused(&whole.unwrap(), &["is not empty"]);
}

#[test]
fn what_a_backup_did_not_have_is_said_before_a_restore_and_at_its_end() {
    let world = World::new();
    world.write("file", b"content");
    let (policy, source) = (world.path("agent/policy.toml"), format!("{:?}", world.source()));
    let text = fs::read_to_string(&policy).unwrap();
    let missing: Vec<String> = (0..7).map(|at| format!(", {:?}", world.path(&format!("missing-{at}")))).collect();
    assert!(text.contains(&source), "{text}");
    fs::write(&policy, text.replace(&source, &format!("{source}{}", missing.concat()))).unwrap();
    assert_eq!(world.backup().status.code(), Some(3));
    let address = world.address();
    for more in [&["--to", &world.lab.path("here")][..], &["--on", "server", "--into", "there", "--wait"]] {
        let output = world.lab.try_lifeboat(&[&["restore", &address], more].concat()).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8_lossy(&output.stderr);
        let (first, last) = text.split_once("the backup itself had 7 gaps").unwrap();
        assert!(first.contains("with 7 gaps") && first.contains("and 2 gaps more"), "{text}");
        assert_eq!((first.matches("missing-").count(), last.matches("missing-").count()), (5, 7), "{text}");
    }
}
