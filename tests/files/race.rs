//! Others who change the files under a walk or a restore while it runs.

use crate::hostile::{Place, directory, entry, file};
use lifeboat_agent::restore::{Expected, FileSlot, Mirror, Options, Selection, Step, Target, Writer};
use lifeboat_agent::walk::{Item, Rules, Scan, open_file};
use lifeboat_format::grant::Coverage;
use lifeboat_format::tree::EntryKind;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

/// Runs `work` while `trouble` is made again and again.
fn while_troubled<T>(mut trouble: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                trouble();
            }
        });
        // Also when the work panics: else the scope would wait for the trouble for ever, and no failure be seen.
        let _end = EndOnDrop(&is_over);
        work()
    })
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody with the same rights swaps a directory of the target for a link that leads out, all the time.
#[test]
fn inv_47_a_directory_that_is_swapped_for_a_link_leads_nowhere() {
    let place = Place::new();
    let mut writer = Writer::new(Target::open(&place.target()).unwrap(), Options::default()).unwrap();
    let (inside, bait) = (place.target().join("d"), place.target().join("x"));
    symlink(place.outside().parent().unwrap(), &bait).unwrap();
    let swaps = AtomicU32::new(0);
    let swap = || {
        swaps.fetch_add(1, Ordering::Relaxed);
        let _ = renameat_with(CWD, &inside, CWD, &bait, RenameFlags::EXCHANGE); // Until `d` is there.
    };
    while_troubled(swap, || {
        writer.add(directory("d"));
        for number in 0..500 {
            writer.add(directory(&format!("d/{number:04}")));
            if let Step::Content(slot) = writer.add(file(&format!("d/{number:04}/file"))) {
                slot.write_at(0, b"content").unwrap();
                slot.finish().unwrap();
            }
            let link = EntryKind::HardLink { to: format!("d/{number:04}/file").into() };
            writer.add(entry(&format!("d/{number:04}/link"), link));
        }
        let enough = swaps.load(Ordering::Relaxed) + 2000;
        for number in (0..).take_while(|_| swaps.load(Ordering::Relaxed) < enough) {
            writer.add(entry(&format!("e{number:09}"), EntryKind::HardLink { to: "d/outside/witness".into() }));
        }
    });
    writer.finish().unwrap();
    place.assert_untouched();
}

/// All that is known of everything in a directory: whoever touches any of it changes this.
fn fingerprint(top: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(top).sort_by_file_name().into_iter().map(Result::unwrap);
    let known = |entry: walkdir::DirEntry| {
        let stat = fs::symlink_metadata(entry.path()).unwrap();
        let content = if stat.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        let who = (stat.ino(), stat.mode(), stat.uid(), stat.gid(), stat.nlink());
        format!("{} {who:?} {times:?} {content:?}", entry.path().display())
    };
    entries.map(known).collect()
}

/// A mirror is restored again and again over a directory whose owner swaps it, and a file in it, for links to a tree
/// outside that has the same names. More swaps are made with the variable that CONTRIBUTING.md names.
#[test]
fn inv_47_swaps_while_a_restore_is_made_over_what_is_there_touch_nothing_outside() {
    let swaps_wanted = std::env::var("LIFEBOAT_SWAPS").map_or(1_000_000, |text| text.parse().unwrap());
    let place = tempfile::tempdir().unwrap();
    let (target, outside) = (place.path().join("target"), place.path().join("outside"));
    for top in [&target.join("d"), &outside] {
        fs::create_dir_all(top.join("a")).unwrap();
        for name in ["file", "hard", "stray", "a/file", "a/stray"] {
            fs::write(top.join(name), "as it was").unwrap();
        }
        symlink("nowhere", top.join("link")).unwrap();
    }
    symlink(&outside, target.join("x")).unwrap();
    symlink(outside.join("file"), target.join("y")).unwrap();
    let before = fingerprint(&outside);
    let swaps = AtomicU32::new(0);
    let paths = ["d", "x", "d/file", "y"].map(|name| target.join(name));
    let swap = || {
        // Twice each: then everything is where it was.
        for (one, other) in [(0, 1), (0, 1), (2, 3), (2, 3)] {
            let done = renameat_with(CWD, &paths[one], CWD, &paths[other], RenameFlags::EXCHANGE);
            swaps.fetch_add(u32::from(done.is_ok()), Ordering::Relaxed);
        }
    };
    let (mut rounds, mut hits) = (0_u64, 0);
    while_troubled(swap, || {
        while swaps.load(Ordering::Relaxed) < swaps_wanted {
            let report = restore_mirror(&target, rounds);
            // What was seen and then was something else, or led outside: a swap in between.
            hits += report.failed_entries;
            rounds += 1;
        }
    });
    assert_eq!(fingerprint(&outside), before);
    assert!(hits > rounds / 1000, "the swaps never met the restore: {hits} times in {rounds} restores");
    println!("{} swaps, {rounds} restores, {hits} entries met by a swap", swaps.load(Ordering::Relaxed));
}

/// One restore over what is there; every other time what is there keeps its content and gets other attributes.
fn restore_mirror(target: &Path, round: u64) -> lifeboat_agent::restore::Report {
    let all = Coverage::new(vec![Vec::new()], Vec::new(), true);
    let mirror = Some(Mirror::new(&Selection::one(Vec::new(), true), Arc::new(all)));
    let options = Options { mirror, ..Options::default() };
    let target = Target::open_as(target, Expected::Anything).unwrap();
    let mut writer = Writer::new(target, options).unwrap();
    let link = EntryKind::Symlink { target: b"nowhere".to_vec() };
    let hard = EntryKind::HardLink { to: b"d/file".to_vec() };
    let entries = [
        directory("d"),
        directory("d/a"),
        file("d/a/file"),
        file("d/file"),
        entry("d/hard", hard),
        entry("d/link", link),
    ];
    for mut entry in entries {
        if !matches!(entry.kind, EntryKind::HardLink { .. }) {
            entry.attributes.mtime.seconds += round as i64;
        }
        match writer.add(entry) {
            Step::Content(slot) => fill(slot),
            Step::Compare(existing) if round.is_multiple_of(2) => drop(existing.adopt()),
            Step::Compare(existing) => {
                let _in_the_report = existing.rewrite().map(|(slot, _)| fill(slot));
            }
            Step::Settled | Step::FirstIsAbsent => {}
        }
    }
    writer.finish().unwrap()
}

fn fill(slot: FileSlot) {
    slot.write_at(0, b"content").unwrap();
    let _in_the_report = slot.finish();
}

/// Files come and go and are replaced. Those that stay are all found, and none is read as another.
#[test]
fn inv_17_a_walk_finds_all_that_stays_whatever_comes_and_goes() {
    let place = tempfile::tempdir().unwrap();
    let top = place.path();
    for number in 0..500 {
        fs::write(top.join(format!("stays{number:03}")), format!("stays{number:03}")).unwrap();
    }
    let mut round = 0_u32;
    let trouble = || {
        round += 1;
        let name = top.join(format!("stays{:03}x", round % 500));
        fs::write(top.join("new"), vec![b'x'; (round % 100) as usize]).unwrap();
        fs::rename(top.join("new"), &name).unwrap();
        fs::remove_file(&name).unwrap();
        fs::create_dir(&name).unwrap();
        fs::remove_dir(&name).unwrap();
    };
    while_troubled(trouble, || {
        for _ in 0..30 {
            let rules = Rules::new(&[], &[]).unwrap();
            let mut scan = Scan::new(&[top.to_owned()], rules, &std::env::temp_dir()).unwrap();
            let mut found = BTreeSet::new();
            while let Some(item) = scan.next() {
                let Item::Entry(entry) = item else { continue };
                if !entry.name.starts_with(b"stays") || entry.name.len() != 8 {
                    continue;
                }
                let open = open_file(&entry.directory, entry.name, &entry.stat).unwrap();
                let mut content = vec![0; open.stat().bytes as usize];
                open.read_at(0, &mut content).unwrap();
                open.check_unchanged().unwrap();
                assert_eq!(content, entry.name);
                found.insert(content);
            }
            assert_eq!(found.len(), 500);
        }
    });
}

/// A file is written again and again, each time in one call. What passes as unchanged shows at most the call that was
/// under way, never two.
#[test]
fn inv_17_a_file_that_is_written_to_while_it_is_read_is_a_gap() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("file");
    let content = |round: u8| vec![round; 300_000];
    fs::write(&path, content(0)).unwrap();
    fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let rounds_made = AtomicU32::new(0);
    let trouble = || {
        use std::os::unix::fs::FileExt;
        let round = rounds_made.fetch_add(1, Ordering::Relaxed) as u8;
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&content(round), 0).unwrap();
        // As a copying program would; what nobody can set back is when it did so.
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        thread::sleep(std::time::Duration::from_micros(u64::from(round) * 20));
    };
    let mut gaps = 0;
    while_troubled(trouble, || {
        let directory = fs::File::open(place.path()).unwrap();
        for reads in 0..20_000 {
            // On a busy machine the writer may have to wait for longer than a thousand reads take.
            if reads >= 1000 && gaps > 0 {
                break;
            }
            let seen = lifeboat_agent::walk::stat_at(&directory, b"file").unwrap();
            let open = open_file(&directory, b"file", &seen).unwrap();
            let mut read = content(0);
            // Now and then so slow that the writer comes by twice between two thirds.
            let is_slow = reads % 50 == 0;
            let result = read.chunks_mut(1000).enumerate().try_for_each(|(at, part)| {
                if is_slow && at % 100 == 99 {
                    let before = rounds_made.load(Ordering::Relaxed);
                    while rounds_made.load(Ordering::Relaxed) < before + 2 {
                        thread::yield_now();
                    }
                }
                open.read_at(at as u64 * 1000, part)
            });
            match result.and_then(|()| open.check_unchanged()) {
                Ok(()) => {
                    let rounds: BTreeSet<u8> = read.iter().copied().collect();
                    assert!(rounds.len() <= 2, "of several calls: {rounds:?}");
                }
                Err(_) => gaps += 1,
            }
        }
    });
    assert!(gaps > 0, "the writer never met the reader");
}
