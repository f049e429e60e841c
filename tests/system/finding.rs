//! Finding a file again: by name, by moment, by version, and when it was typed wrong or was deleted.

use crate::world::{World, refused, said};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

/// Three nights: a file that changes twice, one that is deleted before the last, one that comes with it.
struct Nights {
    world: World,
    source: String,
    ids: [String; 3],
}

fn nights() -> Nights {
    let world = World::new();
    world.write("etc/nginx/nginx.conf", b"one");
    world.write("etc/deleted.conf", b"deleted");
    world.write("etc/large.bin", &[7; 100_000]);
    let first = world.backed_up();
    world.write("etc/nginx/nginx.conf", b"two, and longer");
    let second = world.backed_up();
    world.write("etc/nginx/nginx.conf", b"one");
    fs::remove_file(world.source().join("etc/deleted.conf")).unwrap();
    world.write("etc/new.conf", b"new");
    fs::hard_link(world.source().join("etc/large.bin"), world.source().join("etc/second.bin")).unwrap();
    let third = world.backed_up();
    let source = world.source().display().to_string();
    Nights { world, source, ids: [first, second, third] }
}

impl Nights {
    fn run(&self, arguments: &[&str]) -> Output {
        let filled: Vec<String> = arguments.iter().map(|argument| argument.replace('^', &self.source)).collect();
        self.world.lab.try_lifeboat(&filled.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    }

    fn lines(&self, arguments: &[&str]) -> Vec<String> {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let lines = self.lines(&[arguments, &["--json"]].concat());
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The first letters of the names of the nights that are meant.
    fn found(&self, arguments: &[&str]) -> Vec<(String, usize)> {
        let night = |id: &Value| 1 + self.ids.iter().position(|known| id == known).unwrap();
        let path = |row: &Value| row["path"].as_str().unwrap().strip_prefix(&self.source).unwrap().to_owned();
        self.json(arguments).iter().map(|row| (path(row), night(&row["snapshot"]))).collect()
    }
}

fn pairs(pairs: &[(&str, usize)]) -> Vec<(String, usize)> {
    pairs.iter().map(|(path, night)| ((*path).to_owned(), *night)).collect()
}

#[test]
fn a_directory_is_listed_short_long_and_with_all_below_it() {
    let nights = nights();
    assert_eq!(nights.lines(&["ls", "server:^/etc"]), ["large.bin", "new.conf", "nginx/", "second.bin"]);
    let long = nights.lines(&["ls", "-l", "server:^/etc/new.conf"]);
    assert!(long[0].starts_with("-rw-r--r-- ") && long[0].ends_with(" new.conf"), "{long:?}");
    let all = nights.lines(&["ls", "-R", "server:^/etc"]);
    let below = format!("{}/etc/nginx/nginx.conf", &nights.source[1..]);
    assert!(all.contains(&below) && all.len() == 6, "{all:?}");
    let which = said(&nights.run(&["ls", "server:^/etc@-0min"]));
    assert!(which.contains(&nights.ids[2][..12]) && which.contains("times are in"), "{which}");
}

#[test]
fn every_version_of_a_file_is_shown_also_that_it_was_deleted() {
    let nights = nights();
    let rows = nights.json(&["versions", "server:^/etc/nginx/nginx.conf"]);
    let told: Vec<_> = rows.iter().map(|row| (row["bytes"].as_u64(), row["snapshot"].as_str().unwrap())).collect();
    let [first, second, third] = nights.ids.each_ref().map(String::as_str);
    assert_eq!(told, [(Some(3), third), (Some(15), second), (Some(3), first)]);
    let rows = nights.json(&["versions", "server:^/etc/deleted.conf"]);
    let told: Vec<_> = rows.iter().map(|row| (row["deleted"].as_bool(), row["snapshot"].as_str().unwrap())).collect();
    assert_eq!(told, [(Some(true), third), (Some(false), second)], "two nights had it alike");
    assert_ne!(rows[1]["from"], rows[1]["until"]);
    let until = nights.json(&["versions", &format!("server:^/etc/deleted.conf@{first}")]);
    assert_eq!(until.len(), 1);
    refused(&nights.run(&["versions", "server:^/etc/never.conf"]), &["there is no", "never.conf"]);
}

#[test]
fn a_search_goes_over_one_many_and_all_snapshots_and_shows_each_version_once() {
    let nights = nights();
    let (nginx, deleted, new) = ("/etc/nginx/nginx.conf", "/etc/deleted.conf", "/etc/new.conf");
    assert_eq!(nights.found(&["find", "*.conf"]), pairs(&[(new, 3), (nginx, 3)]), "the newest of all servers");
    assert_eq!(
        nights.found(&["find", "*.conf", "server", "--all"]),
        pairs(&[(new, 3), (nginx, 3), (deleted, 2), (nginx, 2), (nginx, 1)])
    );
    assert_eq!(nights.found(&["find", "*.conf", "--since", "-1h"]).len(), 5);
    let first = format!("server:^/etc@{}", nights.ids[0]);
    assert_eq!(nights.found(&["find", "*.conf", &first]), pairs(&[(deleted, 1), (nginx, 1)]));
    assert_eq!(nights.found(&["find", "^/etc/*.conf"]), pairs(&[(new, 3)]), "a star ends at a slash");
    let large = [("/etc/large.bin", 3), ("/etc/second.bin", 3)];
    assert_eq!(nights.found(&["find", "*", "--larger", "50 kB"]), pairs(&large), "under all its names");
    assert_eq!(nights.found(&["find", "*", "server:^/etc/nginx", "--kind", "directory"]), pairs(&[("/etc/nginx", 3)]));
    assert_eq!(nights.found(&["find", "*.conf", "--modified-before", "-1d"]), []);
    let line = nights.lines(&["find", "NEW.conf", "-i"]).pop().unwrap();
    let address = line.split_whitespace().last().unwrap();
    assert_eq!(nights.lines(&["cat", address]), ["new"], "what is found can be given to another command");
    refused(&nights.run(&["find", "*", "nobody"]), &["there is no host"]);
    refused(&nights.run(&["find", "a[", "server"]), &["a["]);
}

#[test]
fn a_path_that_is_not_there_names_the_nearest_and_the_snapshots_that_had_it() {
    let nights = nights();
    let [first, second, third] = nights.ids.each_ref().map(|id| &id[..12]);
    for command in [&["cat"][..], &["ls"], &["restore", "--to", "/nowhere"]] {
        let typed = [command, &["server:^/etc/ngnix/nginx.cnf"]].concat();
        refused(&nights.run(&typed), &["the nearest is", "/etc/nginx/nginx.conf"]);
    }
    refused(&nights.run(&["cat", "server:^/etc/deleted.conf"]), &[third, &format!("it is in @{second}, from ")]);
    let too_early = format!("server:^/etc/new.conf@{first}");
    let to = nights.world.path("to").display().to_string();
    for place in [&["restore", "--to", &to][..], &["restore", "--on", "server"], &["dump", "--format", "zip"]] {
        let several = [place, &["server:^/etc/nginx", "^/etc/deleted.conf"]].concat();
        refused(&nights.run(&several), &[third, "/etc/deleted.conf", &format!("it is in @{second}, from ")]);
    }
    refused(&nights.run(&["ls", &too_early]), &[first, &format!("it is in @{third}, from ")]);
    refused(&nights.run(&["ls", "server:^/etc@yesterdy"]), &["\"yesterdy\" is not a moment", "-3d"]);
    refused(&nights.run(&["ls", "server:^/etc@-3d"]), &["server has no snapshot at -3d"]);
}

#[test]
fn two_moments_are_compared_and_two_servers() {
    let nights = nights();
    let [first, second, third] = nights.ids.each_ref().map(String::as_str);
    let changed = |arguments: &[&str]| {
        let rows = nights.json(&[&["diff"], arguments].concat());
        let row = |row: &Value| format!("{} {}", row["change"].as_str().unwrap(), row["path"].as_str().unwrap());
        rows.iter().map(|value| row(value).replace(&nights.source, "")).collect::<Vec<_>>()
    };
    let nginx = "changed /etc/nginx/nginx.conf";
    let conf = |arguments: &[&str]| {
        let mut changes = changed(arguments);
        changes.retain(|change| change.ends_with(".conf"));
        changes
    };
    assert_eq!(conf(&[&format!("server:^@{first}"), second]), [nginx]);
    assert_eq!(conf(&[&format!("server:^@{first}")]), ["removed /etc/deleted.conf", "added /etc/new.conf", nginx]);
    assert_eq!(conf(&[&format!("server:^/etc/nginx@{second}"), &format!("server:^/etc/nginx@{third}")]), [nginx]);
    assert_eq!(changed(&[&format!("server:^@{third}"), "latest"]), [""; 0]);
    refused(&nights.run(&["diff", "server:^/etc", "server:^/var"]), &["are two paths"]);
}

#[test]
fn inv_54_every_name_that_is_printed_leads_back_to_its_file() {
    let world = World::new();
    let names: [&[u8]; 9] = [
        b"dev-disk-by\\x2duuid.swap",
        b"C:\\new",
        b"C:\new",
        b"\xff\xfe",
        b"\\xc3\\xbc",
        b"copy@latest",
        b"copy\\@yesterday",
        "a\u{202e}b".as_bytes(),
        b"plain",
    ];
    fs::create_dir_all(world.source()).unwrap();
    for name in names {
        fs::write(world.source().join(OsStr::from_bytes(name)), name).unwrap();
    }
    world.backed_up();
    let source = world.source().display().to_string();
    let lines = |arguments: &[&str]| {
        let output = world.lab.lifeboat(arguments).unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = |mut found: Vec<Vec<u8>>| {
        found.sort();
        let mut wanted: Vec<Vec<u8>> = names.iter().map(|name| name.to_vec()).collect();
        wanted.sort();
        assert_eq!(found, wanted);
    };
    let cat = |address: &str| world.lab.lifeboat(&["cat", address]).unwrap().stdout;

    let found = lines(&["find", "*", &world.address(), "--kind", "file"]);
    all(found.iter().map(|line| cat(&line[line.find("  server:").unwrap() + 2..])).collect());
    let listed = lines(&["ls", &world.address()]);
    all(listed.iter().map(|name| cat(&format!("server:{source}/{name}"))).collect());
    let rows = world.json(&["ls", &world.address()]);
    all(rows.iter().map(|row| cat(&format!("server:{}", row["path"].as_str().unwrap()))).collect());
    for row in rows {
        let path = row["path"].as_str().unwrap();
        let bytes = match row["path_hex"].as_str() {
            Some(digits) => {
                (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16)).collect()
            }
            None => Ok(path.as_bytes().to_vec()),
        };
        assert_eq!(bytes.unwrap(), [source.as_bytes(), b"/", &cat(&format!("server:{path}"))].concat());
        assert_eq!(lines(&["versions", &format!("server:{path}")]).len(), 2, "{path}");
        let target = world.path("restored");
        let restored = ["restore", &format!("server:{path}"), "--to", target.to_str().unwrap()];
        world.lab.lifeboat(&restored).unwrap();
        fs::remove_dir_all(target).unwrap();
    }
    assert_eq!(cat(&format!(r"server:{source}/\xc3\xbc")), br"\xc3\xbc", "as it is on the server");
}

#[test]
fn a_hard_link_has_the_attributes_and_the_changes_of_its_file() {
    let world = World::new();
    world.write("a/file", b"one");
    fs::create_dir(world.source().join("b")).unwrap();
    fs::hard_link(world.source().join("a/file"), world.source().join("b/link.txt")).unwrap();
    let first = world.backed_up();
    // In place: both names are still one file.
    fs::write(world.source().join("a/file"), "two, and longer").unwrap();
    world.write("a/new", b"new");
    fs::hard_link(world.source().join("a/file"), world.source().join("b/third")).unwrap();
    let second = world.backed_up();
    let source = world.source().display().to_string();
    let lines = |arguments: &[&str]| {
        let filled: Vec<String> = arguments.iter().map(|argument| argument.replace('^', &source)).collect();
        let output = world.lab.lifeboat(&filled.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let row: Value = serde_json::from_str(&lines(&["ls", "server:^/b/link.txt", "--json"])[0]).unwrap();
    let told = ["kind", "bytes", "mode"].map(|name| row[name].clone());
    assert_eq!(told, ["hard link".into(), Value::from(15), "hrw-r--r--".into()], "{row}");
    let long = lines(&["ls", "-l", "server:^/b"]);
    assert!(long[0].starts_with("hrw-r--r-- root ") && long[0].contains(" 15 "), "{long:?}");
    let versions = lines(&["versions", "server:^/b/link.txt", "--json"]);
    assert_eq!(versions.len(), 2, "{versions:?}");
    let changes = |path: &str| -> BTreeSet<String> {
        let rows = lines(&["diff", &format!("server:^{path}@{first}"), "latest"]);
        rows.iter().map(|row| row.replace(&source, "").split("  (").next().unwrap().to_owned()).collect()
    };
    let set = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(changes("/b"), set(&["M /b", "M /b/link.txt", "+ /b/third"]));
    assert_eq!(changes(""), set(&["M /a", "M /a/file", "+ /a/new", "M /b", "M /b/link.txt", "+ /b/third"]));
    let found = lines(&["find", "link.txt", "server", "--all", "--json"]);
    let found: Vec<_> = found.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()).collect();
    let found: Vec<_> = found.iter().map(|row| (row["snapshot"].as_str(), row["bytes"].as_u64())).collect();
    assert_eq!(found, [(Some(&*second), Some(15)), (Some(&*first), Some(3))]);
}

/// The set lost one of its paths: what was below that is not known to be gone.
#[test]
fn a_path_is_absent_only_where_the_snapshot_would_hold_it() {
    let world = World::new();
    for name in ["kept/file", "kept/deleted", "left/file"] {
        world.write(name, name.as_bytes());
    }
    // So large that the source does not look halved without the rest.
    world.write("kept/large", &[7; 10_000]);
    let first = world.backed_up();
    fs::remove_file(world.source().join("kept/deleted")).unwrap();
    world.lab.set_sources(&format!("data = [{:?}]", world.source().join("kept"))).unwrap();
    world.backed_up();
    let source = world.source().display().to_string();
    let run = |arguments: &[&str]| {
        let filled: Vec<String> = arguments.iter().map(|argument| argument.replace('^', &source)).collect();
        world.lab.try_lifeboat(&filled.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    };
    let diff = run(&["diff", &format!("server:^@{first}"), "latest"]);
    let text = String::from_utf8(diff.stdout).unwrap();
    assert!(text.contains(&format!("- {source}/kept/deleted")), "{text}");
    for name in ["left", "left/file"] {
        assert!(text.contains(&format!("? {source}/{name}  (the later snapshot does not tell: ")), "{name}: {text}");
    }
    let states = |path: &str| -> Vec<[Option<bool>; 2]> {
        let output = run(&["versions", &format!("server:^/{path}"), "--json"]);
        let rows = String::from_utf8(output.stdout).unwrap();
        let rows = rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap());
        rows.map(|row| ["deleted", "unknown"].map(|name| row[name].as_bool())).collect()
    };
    let there = [Some(false), Some(false)];
    assert_eq!(states("kept/deleted"), [[Some(true), Some(false)], there]);
    assert_eq!(states("left/file"), [[Some(false), Some(true)], there]);
    refused(&run(&["cat", "server:^/left/file"]), &["there is no", "it may have been on the server all the same"]);
    let gone = run(&["cat", "server:^/kept/deleted"]);
    refused(&gone, &["there is no"]);
    assert!(!said(&gone).contains("may have been"), "{}", said(&gone));
    let listed = run(&["ls", "server:^"]);
    assert!(said(&listed).contains("the snapshot does not hold all of"), "{}", said(&listed));
    let listed = run(&["ls", "server:^/kept"]);
    assert!(!said(&listed).contains("does not hold all of"), "{}", said(&listed));
}

#[test]
fn a_path_through_a_symbolic_link_is_explained() {
    let world = World::new();
    world.write("usr/bin/ls", b"program");
    for (target, link) in [("usr/bin", "bin"), ("usr/bin/ls", "l"), ("/nowhere", "away")] {
        std::os::unix::fs::symlink(target, world.source().join(link)).unwrap();
    }
    world.backed_up();
    let source = world.source().display().to_string();
    let run = |arguments: &[&str]| {
        let filled: Vec<String> = arguments.iter().map(|argument| argument.replace('^', &source)).collect();
        world.lab.try_lifeboat(&filled.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
    };
    let link = format!("{source}/bin is a symbolic link to usr/bin");
    let real = format!("hint: use server:{source}/usr/bin/ls");
    let to = world.lab.path("restored");
    for command in [
        &["restore", "server:^/bin/ls", "--to", &to][..],
        &["restore", "server:^/usr", "^/bin/ls", "--to", &to],
        &["restore", "server:^/bin/ls", "--on", "server"],
        &["ls", "server:^/bin/ls"],
        &["cat", "server:^/bin/ls"],
        &["versions", "server:^/bin/ls"],
        &["diff", "server:^/bin/ls", "latest"],
    ] {
        refused(&run(command), &[&link, &real]);
    }
    refused(&run(&["cat", "server:^/l"]), &[&format!("{source}/l is a symbolic link to usr/bin/ls"), &real]);
    refused(&run(&["ls", "server:^/away/x"]), &["away is a symbolic link to /nowhere", "not in this snapshot"]);
    let listed = run(&["ls", "server:^/bin"]);
    assert!(listed.status.success() && said(&listed).contains(&link), "{}", said(&listed));
    assert!(said(&listed).contains(&format!("use server:{source}/usr/bin")), "{}", said(&listed));
    refused(&run(&["diff", "server:^/nothing", "latest"]), &["there is no"]);
}

#[test]
fn a_path_that_one_source_set_alone_holds_needs_no_set() {
    let world = World::new();
    world.write("etc/both", b"data");
    world.write("etc/data/file", b"data");
    let other = world.path("other");
    fs::create_dir_all(other.join("deep")).unwrap();
    fs::write(other.join("deep/file"), "other").unwrap();
    let [etc, other] = [world.source().join("etc"), other];
    let sets = format!("data = [{:?}]\nmore = [{other:?}, {:?}]", world.source(), etc.join("both"));
    world.lab.set_sources(&sets).unwrap();
    world.lab.stop(lifeboat_coordinator::cli::demo::lab::Side::Agent).unwrap();
    world.lab.run_agent().unwrap();
    world.backed_up();
    let output = world.lab.try_lifeboat(&["backup", "server:more", "--wait"]).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let cat = |path: &std::path::Path| world.lab.try_lifeboat(&["cat", &format!("server:{}", path.display())]).unwrap();
    assert_eq!(cat(&etc.join("data/file")).stdout, b"data");
    assert_eq!(cat(&other.join("deep/file")).stdout, b"other");
    refused(&cat(&etc.join("both")), &["source sets data, more; choose one with --set"]);
    refused(&cat(&etc.join("neither")), &["no source set of server holds", "data, more", "--set NAME"]);
    let to = world.lab.path("restored");
    let address = format!("server:{}", other.display());
    let arguments = ["restore", &address, &format!("{}/deep", other.display()), "--to", &to];
    let restored = world.lab.try_lifeboat(&arguments).unwrap();
    assert!(restored.status.success() && said(&restored).contains("set more"), "{}", said(&restored));
    let diff = world.lab.try_lifeboat(&["diff", &address, "latest"]).unwrap();
    assert!(diff.status.success(), "{}", said(&diff));
}
