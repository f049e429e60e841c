//! The walk, seen from outside: what it yields of trees that are made for it.

use super::names::Budget;
use super::*;
use lifeboat_format::tree::{Completeness, compare_paths};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A tree to walk over, and what the walk yielded of it, as paths relative to its top.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(files: &[&str]) -> Self {
        let place = Self::new();
        for file in files {
            let path = place.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn scan(&self, roots: &[&str], rules: Rules) -> Scan {
        let roots: Vec<PathBuf> = roots.iter().map(|root| self.path(root)).collect();
        Scan::new(&roots, rules, self.0.path().parent().unwrap()).unwrap()
    }

    fn relative(&self, path: &[u8]) -> Option<Vec<u8>> {
        let top = self.0.path().as_os_str().as_bytes();
        path.strip_prefix(&top[1..])?.strip_prefix(b"/").map(<[u8]>::to_vec)
    }

    /// Entries and gaps below the top.
    fn walk(&self, roots: &[&str], rules: Rules) -> (Vec<String>, Vec<String>) {
        let (mut entries, mut gaps) = (Vec::new(), Vec::new());
        let mut scan = self.scan(roots, rules);
        let text = |path: &[u8]| self.relative(path).map(|path| Shown(&path).to_string());
        while let Some(item) = scan.next() {
            match item {
                Item::Entry(entry) => entries.extend(text(entry.path)),
                Item::Gap(gap) => gaps.push(format!("{}: {}", text(&gap.path).unwrap_or_default(), gap.reason)),
            }
        }
        (entries, gaps)
    }
}

fn rules(patterns: &[&str]) -> Rules {
    Rules::new(&patterns.iter().map(ToString::to_string).collect::<Vec<_>>(), &[]).unwrap()
}

#[test]
fn entries_come_in_the_order_of_the_tree() {
    let place = Place::with(&["a/x", "a-b", "a.c/y", "b"]);
    let (entries, gaps) = place.walk(&[""], rules(&[]));
    assert_eq!(entries, ["a", "a/x", "a-b", "a.c", "a.c/y", "b"]);
    assert!(gaps.is_empty());
}

#[test]
fn every_parent_was_an_entry_before_and_order_is_strict() {
    let place = Place::with(&["u/v/w", "u/v/x/y", "u/v-", "z/1", "z/2"]);
    let mut scan = place.scan(&["z", "u/v", "u/v/x"], rules(&[]));
    let mut seen: Vec<Vec<u8>> = Vec::new();
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { panic!("{item:?}") };
        if let Some(last) = seen.last() {
            assert!(compare_paths(last, entry.path).is_lt());
            let parent = entry.path.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or(b"");
            assert!(seen.iter().any(|path| path == parent), "{}", Shown(entry.path));
        }
        seen.push(entry.path.to_vec());
    }
    assert_eq!(seen[0], b"", "the root directory is an entry of every snapshot");
    let found = seen.iter().filter_map(|path| place.relative(path)).map(|path| String::from_utf8(path).unwrap());
    assert_eq!(found.collect::<Vec<_>>(), ["u", "u/v", "u/v/w", "u/v/x", "u/v/x/y", "z", "z/1", "z/2"]);
}

#[test]
fn names_are_bytes() {
    let place = Place::new();
    for name in [&b"\xff\xfe"[..], b"new\nline", b"\x1b[31m", &[b'n'; 255]] {
        fs::write(place.0.path().join(std::ffi::OsString::from_vec(name.to_vec())), b"").unwrap();
    }
    let mut scan = place.scan(&[""], rules(&[]));
    let mut found = Vec::new();
    while let Some(Item::Entry(entry)) = scan.next() {
        found.extend(place.relative(entry.path));
    }
    assert_eq!(found, [&b"\x1b[31m"[..], b"new\nline", &[b'n'; 255], b"\xff\xfe"]);
}

#[test]
fn what_rules_leave_out_is_no_gap() {
    let place = Place::with(&["keep/a", "skip/a", "keep/b.o", "cache/data", "cache/CACHEDIR.TAG", "fake/CACHEDIR.TAG"]);
    fs::write(place.path("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55\n# a cache").unwrap();
    let mut rules = rules(&["skip/", "*.o"]);
    rules.skip_caches = true;
    let (entries, gaps) = place.walk(&[""], rules);
    assert_eq!(entries, ["cache", "fake", "fake/CACHEDIR.TAG", "keep", "keep/a"]);
    assert!(gaps.is_empty());
}

#[test]
fn a_root_within_a_cache_is_backed_up() {
    let place = Place::with(&["cache/data", "cache/deep/wanted", "cache/CACHEDIR.TAG"]);
    fs::write(place.path("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    let mut rules = rules(&[]);
    rules.skip_caches = true;
    assert_eq!(place.walk(&["", "cache/deep"], rules).0, ["cache", "cache/deep", "cache/deep/wanted"]);
}

#[test]
fn the_kernels_views_are_left_empty() {
    let mut scan = Scan::new(&["/".into()], rules(&["/*", "!/proc"]), &std::env::temp_dir()).unwrap();
    let mut found = Vec::new();
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { panic!("{item:?}") };
        found.push(Shown(entry.path).to_string());
    }
    assert_eq!(found, ["", "proc"]);
}

#[test]
fn inv_17_a_root_that_is_not_there_is_a_gap() {
    let place = Place::with(&["real/file"]);
    symlink("real", place.path("link")).unwrap();
    let (entries, gaps) = place.walk(&["gone/deep", "link/file", "real"], rules(&[]));
    assert_eq!(entries, ["link", "real", "real/file"]);
    assert_eq!(gaps.len(), 2);
    assert!(gaps[0].starts_with("gone: is not there"), "{gaps:?}");
    assert!(gaps[1].starts_with("link: is a symbolic link to real, "), "{gaps:?}");
    assert!(Scan::new(&["relative".into()], rules(&[]), Path::new("/tmp")).is_err());
}

#[test]
fn inv_76_a_source_path_that_is_a_link_or_leads_through_one_is_a_gap() {
    let place = Place::with(&["disk/data/f", "whole/x", "file"]);
    symlink(place.path("disk/data"), place.path("link")).unwrap();
    symlink("/nowhere", place.path("dangling")).unwrap();
    symlink("../disk", place.path("whole/inner")).unwrap();
    let target = place.path("disk/data").display().to_string();
    for (root, at, target) in [
        ("link", "link", &*target),
        ("link/", "link", &target),
        ("dangling", "dangling", "/nowhere"),
        ("whole/inner/data", "whole/inner", "../disk"),
    ] {
        let (_, gaps) = place.walk(&["whole", root], rules(&[]));
        assert_eq!(gaps.len(), 1, "{root}: {gaps:?}");
        let begin = format!("{at}: is a symbolic link to {target}, ");
        assert!(gaps[0].starts_with(&begin) && gaps[0].contains("name the real path"), "{root}: {gaps:?}");
    }
    let (_, gaps) = place.walk(&["file/x"], rules(&[]));
    assert!(gaps[0].starts_with("file: is not a directory"), "{gaps:?}");
}

#[test]
fn inv_76_no_pattern_leaves_a_source_path_out_and_exclude_applies_below_it() {
    let place = Place::with(&["home/docs/f", "home/docs/f.bak", "home/other", ".config/app/f", "tmp/keep/f"]);
    for (root, patterns, expected) in [
        ("home/docs", &["home/", "*.bak"][..], &["home", "home/docs", "home/docs/f"][..]),
        ("home/docs", &["docs"], &["home", "home/docs", "home/docs/f", "home/docs/f.bak"]),
        (".config/app", &[".*"], &[".config", ".config/app", ".config/app/f"]),
        ("tmp/keep", &["tmp/"], &["tmp", "tmp/keep", "tmp/keep/f"]),
    ] {
        let (entries, gaps) = place.walk(&[root], rules(patterns));
        assert_eq!((entries, gaps), (expected.iter().map(ToString::to_string).collect(), Vec::new()), "{patterns:?}");
    }
    let (entries, gaps) = place.walk(&["home"], rules(&["*"]));
    assert_eq!(entries, ["home"]);
    assert_eq!(gaps, ["home: is a source path, but `exclude` of the policy leaves out everything in it"]);
    let (entries, _) = place.walk(&["", "home/docs"], rules(&["home", "tmp", ".*"]));
    assert_eq!(
        entries,
        ["home", "home/docs", "home/docs/f", "home/docs/f.bak"],
        "a source path in an excluded directory"
    );
    fs::create_dir(place.path("empty")).unwrap();
    assert!(place.walk(&["empty"], rules(&["*"])).1.is_empty(), "an empty directory is complete");
}

#[test]
fn inv_76_a_source_path_that_never_covers_or_that_is_missing_is_a_gap() {
    let place = Place::with(&["vault/in/f", "srv/f"]);
    let never = Rules::new(&[], &[place.path("vault")]).unwrap();
    let (entries, gaps) = place.walk(&["vault/in", "srv"], never.clone());
    assert_eq!(entries, ["srv", "srv/f"]);
    assert_eq!(gaps, ["vault/in: is a source path, but `never` of the policy leaves it out"]);
    let (entries, gaps) = place.walk(&["", "vault/in"], never);
    assert_eq!((entries.len(), gaps.len()), (2, 1), "{entries:?} {gaps:?}");
    let pattern = rules(&["!srv"]).with_never_patterns(&["srv/".into()]).unwrap();
    assert_eq!(place.walk(&["srv"], pattern).1.len(), 1);
    let (_, gaps) = place.walk(&["", "srv/gone/deep"], rules(&[]));
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].starts_with("srv/gone: is not there"), "{gaps:?}");
}

#[test]
fn inv_76_a_repository_and_the_own_state_are_left_out_and_named() {
    let place = Place::with(&["r/journal/x", "r/keys/x", "r/packs/x", "r/trust/00000000000000000001", "not/trust/x"]);
    fs::write(place.path("r/trust/00000000000000000001"), "LBTF and more").unwrap();
    for directory in ["not/journal", "not/keys", "state/commands/db", "state/keys"] {
        fs::create_dir_all(place.path(directory)).unwrap();
    }
    let rules = rules(&[]).without_own(&place.path("state"), &place.path("state/commands/db")).unwrap();
    let mut scan = place.scan(&["", "state/commands/db"], rules.clone());
    let mut entries = Vec::new();
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { panic!("{item:?}") };
        entries.extend(place.relative(entry.path).map(|path| String::from_utf8(path).unwrap()));
    }
    let expected = ["not", "not/journal", "not/keys", "not/trust", "not/trust/x", "r", "state", "state/commands"];
    assert_eq!(entries, [&expected[..], &["state/commands/db"]].concat());
    let left_out: Vec<_> =
        scan.left_out().iter().map(|(path, why)| (place.relative(path).unwrap(), why.clone())).collect();
    assert_eq!(left_out, [(b"r".to_vec(), LeftOut::Repository), (b"state".to_vec(), LeftOut::OwnState)]);
    let (entries, gaps) = place.walk(&["r"], rules.clone());
    assert!(entries.contains(&"r/packs/x".to_owned()) && gaps.is_empty(), "what `paths` names is walked");
    assert_eq!(place.walk(&["state/keys"], rules).1.len(), 1);
}

/// The completeness of each directory below the top.
fn completeness(place: &Place, roots: &[&str], rules: Rules) -> Vec<(String, Completeness)> {
    let (mut scan, mut found) = (place.scan(roots, rules), Vec::new());
    while let Some(item) = scan.next() {
        if let Item::Entry(entry) = item
            && let Some(path) = place.relative(entry.path)
            && entry.stat.is_directory()
        {
            found.push((Shown(&path).to_string(), entry.completeness));
        }
    }
    found
}

#[test]
fn inv_71_a_directory_states_whether_all_of_its_children_follow() {
    let place = Place::with(&[
        "a/x",
        "b/x.o",
        "b/y",
        "c/CACHEDIR.TAG",
        "c/d",
        "e/sub/f",
        "g/out/f",
        "g/in",
        "h/deep/src/f",
        "h/z",
    ]);
    fs::write(place.path("c/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    let mut rules = rules(&["*.o", "out/", "deep"]);
    rules.skip_caches = true;
    let (complete, excluded, ancestor) = (Completeness::COMPLETE, Completeness::EXCLUDED, Completeness::ANCESTOR);
    let expected = [
        ("a", complete),
        ("b", excluded),
        ("c", Completeness::CACHE),
        ("e", complete),
        ("e/sub", complete),
        ("g", excluded),
        ("h", complete),
        ("h/deep", ancestor),
        ("h/deep/src", complete),
    ];
    let expected: Vec<_> = expected.map(|(path, flags)| (path.to_owned(), flags)).into();
    assert_eq!(completeness(&place, &["", "h/deep/src"], rules.clone()), expected);
    let ancestors = [("h", ancestor), ("h/deep", ancestor), ("h/deep/src", complete)];
    let ancestors: Vec<_> = ancestors.map(|(path, flags)| (path.to_owned(), flags)).into();
    assert_eq!(completeness(&place, &["h/deep/src"], rules), ancestors);
    let never = Rules::new(&[], &[place.path("a/x")]).unwrap();
    assert_eq!(completeness(&place, &["a"], never), [("a".to_owned(), excluded)]);
    let mut scan = Scan::new(&["/".into()], self::rules(&["/*", "!/proc"]), &std::env::temp_dir()).unwrap();
    while let Some(Item::Entry(entry)) = scan.next() {
        let expected = if entry.path.is_empty() { excluded } else { Completeness::OTHER_FILE_SYSTEM };
        assert_eq!(entry.completeness, expected, "{}", Shown(entry.path));
    }
}

#[test]
fn inv_17_what_vanishes_during_the_walk_is_a_gap() {
    let place = Place::with(&["a", "b", "c/d", "e"]);
    let mut scan = place.scan(&[""], rules(&[]));
    let mut gaps = Vec::new();
    while let Some(item) = scan.next() {
        match item {
            Item::Entry(entry) if entry.name == b"a" => fs::remove_file(place.path("b")).unwrap(),
            Item::Entry(entry) if entry.name == b"c" => fs::remove_dir_all(place.path("c")).unwrap(),
            Item::Entry(_) => {}
            Item::Gap(gap) => gaps.push((place.relative(&gap.path).unwrap(), gap.reason)),
        }
    }
    // The names in c were known before its entry.
    assert!(matches!(&gaps[..], [(b, GapReason::Vanished), (d, GapReason::Vanished)] if b == b"b" && d == b"c/d"));
}

/// Makes `a/a/a/…`, `levels` deep, with a file `z` in each; longer than any path the kernel takes.
fn make_deep(place: &Place, levels: usize) {
    let mut directory: OwnedFd = fs::File::open(place.0.path()).unwrap().into();
    for _ in 0..levels {
        mkdirat(&directory, "a", Mode::from_raw_mode(0o755)).unwrap();
        openat(&directory, "z", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
        directory = openat(&directory, "a", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
}

/// Takes a deep tree away; `remove_dir_all` would open a descriptor for each level.
fn remove_deep(place: Place) {
    let top = place.0.keep();
    assert!(std::process::Command::new("rm").arg("-rf").arg(&top).status().unwrap().success());
}

#[test]
fn a_tree_of_ten_thousand_levels_is_walked_with_few_descriptors() {
    let place = Place::new();
    make_deep(&place, 10_000);
    let mut scan = place.scan(&[""], rules(&[]));
    let (mut entries, mut most) = (0, 0);
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { panic!("{item:?}") };
        entries += usize::from(place.relative(entry.path).is_some());
        most = most.max(scan.open_directories());
    }
    assert_eq!(entries, 20_000);
    assert!(most <= 130, "{most}");
    drop(scan);
    remove_deep(place);
}

/// Moves directories of a tree of 300 levels while the walk is at its bottom. Returns the files found and the gaps.
fn walk_while_moving(depths: &[usize]) -> (usize, Vec<Vec<u8>>) {
    let place = Place::with(&["later"]);
    make_deep(&place, 300);
    let mut scan = place.scan(&[""], rules(&[]));
    let (mut files, mut gaps, mut later) = (0, Vec::new(), false);
    let elsewhere = Place::new();
    while let Some(item) = scan.next() {
        match item {
            Item::Entry(entry) => {
                let is_bottom = place.relative(entry.path).is_some_and(|path| path.len() == 2 * 300 - 1);
                files += usize::from(entry.name == b"z");
                later |= entry.name == b"later";
                for depth in depths.iter().filter(|_| is_bottom && entry.name == b"a") {
                    fs::rename(place.path(&"a/".repeat(*depth)), elsewhere.path(&depth.to_string())).unwrap();
                }
            }
            Item::Gap(Gap { path, reason: GapReason::Moved }) => gaps.push(place.relative(&path).unwrap()),
            Item::Gap(gap) => panic!("{gap}"),
        }
    }
    assert!(later, "what lies beside the moved directories is walked");
    (files, gaps)
}

#[test]
fn a_directory_that_is_moved_is_left_by_the_way_it_was_entered() {
    assert_eq!(walk_while_moving(&[100]), (300, Vec::new()));
}

#[test]
fn inv_17_directories_that_cannot_be_found_again_are_gaps() {
    let (files, gaps) = walk_while_moving(&[150, 50]);
    assert_eq!(files, 200);
    let expected: Vec<Vec<u8>> = (50..150).rev().map(|depth| vec![&b"a"[..]; depth].join(&b'/')).collect();
    assert_eq!(gaps, expected);
}

#[test]
fn a_large_directory_within_a_large_directory_is_walked_in_order() {
    let files: Vec<String> = (0..500).flat_map(|n| [format!("{n:03}"), format!("250d/{n:03}")]).collect();
    let place = Place::with(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let budget = Budget { reading_bytes: 300, held_bytes: 200 };
    let scratch = tempfile::tempdir().unwrap();
    let mut scan = Scan::with_budget(&[place.path("")], rules(&[]), scratch.path(), budget).unwrap();
    let mut found = Vec::new();
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { panic!("{item:?}") };
        found.extend(place.relative(entry.path));
    }
    assert_eq!(found.len(), 1001);
    assert!(found.is_sorted_by(|a, b| compare_paths(a, b).is_lt()));
}

#[test]
fn inv_17_a_file_that_changes_or_is_replaced_is_never_taken_as_whole() {
    let place = Place::with(&["file"]);
    let directory: OwnedFd = fs::File::open(place.0.path()).unwrap().into();
    let seen = stat_at(&directory, b"file").unwrap();
    let open = open_file(&directory, b"file", &seen).unwrap();
    open.check_unchanged().unwrap();
    fs::write(place.path("file"), "else").unwrap();
    assert!(matches!(open.check_unchanged(), Err(GapReason::Changed)));
    let open = open_file(&directory, b"file", &seen).unwrap();
    fs::write(place.path("file"), "").unwrap();
    assert!(matches!(open.read_at(0, &mut [0; 4]), Err(GapReason::Changed)));
    assert!(matches!(open.piece_at(0), Err(GapReason::Changed)));
    fs::write(place.path("new"), "file").unwrap();
    fs::rename(place.path("new"), place.path("file")).unwrap();
    assert!(matches!(open_file(&directory, b"file", &seen), Err(GapReason::Replaced)));
    fs::remove_file(place.path("file")).unwrap();
    symlink("/etc/passwd", place.path("file")).unwrap();
    assert!(matches!(open_file(&directory, b"file", &seen), Err(GapReason::Replaced)));
    fs::remove_file(place.path("file")).unwrap();
    rustix::fs::mkfifoat(&directory, "file", Mode::from_raw_mode(0o600)).unwrap();
    assert!(matches!(open_file(&directory, b"file", &seen), Err(GapReason::Replaced)));
    fs::remove_file(place.path("file")).unwrap();
    assert!(matches!(open_file(CWD, b"file-that-is-not", &seen), Err(GapReason::Vanished)));
}

#[test]
fn holes_are_found_wherever_they_are() {
    use std::os::unix::fs::FileExt;
    let place = Place::with(&["file"]);
    let file = fs::File::create(place.path("file")).unwrap();
    file.set_len(3 << 20).unwrap();
    file.write_all_at(&[1; 4096], 1 << 20).unwrap();
    let directory: OwnedFd = fs::File::open(place.0.path()).unwrap().into();
    let open = open_file(&directory, b"file", &stat_at(&directory, b"file").unwrap()).unwrap();
    let (mut at, mut pieces) = (0, Vec::new());
    while let Some(piece) = open.piece_at(at).unwrap() {
        let (Piece::Data { bytes, .. } | Piece::Hole { bytes, .. }) = piece;
        at += bytes;
        pieces.push(piece);
    }
    let middle = 1 << 20;
    assert_eq!(pieces[0], Piece::Hole { offset: 0, bytes: middle });
    assert_eq!(pieces[1], Piece::Data { offset: middle, bytes: 4096 });
    assert_eq!(pieces[2], Piece::Hole { offset: middle + 4096, bytes: (2 << 20) - 4096 });
    assert_eq!((pieces.len(), at), (3, 3 << 20));
}

/// By path, what each directory says about its children; complete ones are left out.
fn incomplete(place: &Place, roots: &[&str], rules: Rules) -> Vec<(String, Completeness)> {
    let mut scan = place.scan(roots, rules);
    let mut found = Vec::new();
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { continue };
        if let Some(path) = place.relative(entry.path)
            && !entry.completeness.is_complete()
        {
            found.push((Shown(&path).to_string(), entry.completeness));
        }
    }
    found
}

#[test]
fn inv_71_a_directory_says_whether_all_its_children_follow_and_if_not_why() {
    let place = Place::with(&["way/root/file", "way/beside/file", "kept/a", "kept/below/x.tmp", "kept/dirs/build/x"]);
    fs::create_dir_all(place.path("kept/cache")).unwrap();
    fs::write(place.path("kept/cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    fs::write(place.path("kept/build"), "a file, which build/ does not leave out").unwrap();
    let mut without_caches = rules(&["*.tmp", "build/"]);
    without_caches.skip_caches = true;
    let named = |path: &str, completeness| (path.to_owned(), completeness);
    assert_eq!(
        incomplete(&place, &["way/root", "kept"], without_caches),
        [
            named("kept/below", Completeness::EXCLUDED),
            named("kept/cache", Completeness::CACHE),
            named("kept/dirs", Completeness::EXCLUDED),
            named("way", Completeness::ANCESTOR),
        ]
    );
    assert_eq!(incomplete(&place, &["kept"], rules(&[])), []);
    let never = Rules::new(&[], &[place.path("kept/a")]).unwrap();
    assert_eq!(incomplete(&place, &["kept"], never), [named("kept", Completeness::EXCLUDED)]);
    let taken_back = rules(&["*.tmp", "!x.tmp"]);
    assert_eq!(incomplete(&place, &["kept"], taken_back), []);
}

#[test]
fn inv_71_names_that_lie_on_disk_are_looked_through_too() {
    let place = Place::new();
    for number in 0..500 {
        fs::write(place.path(&format!("file-{number}")), "").unwrap();
    }
    let budget = Budget { reading_bytes: 500, held_bytes: 100 };
    let top = place.0.path().to_owned();
    for (pattern, expected) in [("file-499", Completeness::EXCLUDED), ("file-500", Completeness::COMPLETE)] {
        let scratch = place.0.path().parent().unwrap();
        let mut scan = Scan::with_budget(std::slice::from_ref(&top), rules(&[pattern]), scratch, budget).unwrap();
        let mut entries = 0;
        while let Some(item) = scan.next() {
            let Item::Entry(entry) = item else { panic!("{item:?}") };
            match place.relative(entry.path) {
                Some(_) => entries += 1,
                None if entry.path == &top.as_os_str().as_bytes()[1..] => assert_eq!(entry.completeness, expected),
                None => {}
            }
        }
        assert_eq!(entries, if expected.is_complete() { 500 } else { 499 });
    }
}

#[test]
fn each_source_path_is_a_part_and_so_is_what_was_one_before() {
    let place = Place::with(&["a/1", "a/2", "a/disk/1", "b/inner/1", "b/2"]);
    fs::create_dir(place.path("empty")).unwrap();
    let mut scan = place.scan(&["a", "b", "b/inner", "empty"], rules(&[]));
    let disk = tree_path(&place.path("a/disk")).unwrap();
    scan.count_apart([disk.clone(), b"never/met".to_vec()]);
    let mut counts = std::collections::BTreeMap::new();
    while let Some(item) = scan.next() {
        let Item::Entry(entry) = item else { panic!("{item:?}") };
        *counts.entry(entry.part).or_insert(0) += 1;
    }
    // A directory counts in its own part: a with 1 and 2, b with 2, b/inner with 1, empty, a/disk with 1.
    let of = |name: &str| {
        let path = tree_path(&place.path(name)).unwrap();
        counts[&scan.parts().iter().position(|part| *part == path)]
    };
    assert_eq!([of("a"), of("b"), of("b/inner"), of("empty"), of("a/disk")], [3, 2, 2, 1, 2]);
    assert!(counts[&None] >= 2, "the way to the source paths");
}
