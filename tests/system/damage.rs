//! Restores from a damaged repository: what is lost is named, and all else comes.

use crate::world::{World, noise, refused, said, summary_of};
use lifeboat_coordinator::cli::demo::compare::compare;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

/// The packs of a repository.
fn packs(world: &World) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(world.path("repository/packs")).into_iter().map(Result::unwrap);
    entries.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
}

/// A byte is changed here and there, in chunks and in nodes of the tree.
#[test]
fn what_is_damaged_costs_itself_and_is_named_and_all_else_is_restored() {
    let world = World::new();
    for at in 0..600_u64 {
        world.write(&format!("{}/{at}", at % 20), &noise(at, 20 + (at as usize * 37) % 200));
    }
    world.write("large", &noise(9_999, 50_000));
    world.backed_up();
    let (mut in_tree, mut in_content) = (0, 0);
    for round in 0..30_u64 {
        let packs = packs(&world);
        let pack = &packs[round as usize % packs.len()];
        let whole = fs::read(pack).unwrap();
        let mut damaged = whole.clone();
        let chance = noise(round, 8);
        let place = u64::from_le_bytes(chance.try_into().unwrap()) as usize % damaged.len();
        damaged[place] ^= 1;
        fs::write(pack, damaged).unwrap();
        let target = world.path("target");
        let address = world.address();
        let to = target.to_str().unwrap();
        let output = world.lab.try_lifeboat(&["restore", &address, "--to", to, "--json"]).unwrap();
        fs::write(pack, whole).unwrap();
        if output.status.code() == Some(1) {
            // The nodes on the way to what is restored.
            assert!(said(&output).contains("is lost"), "round {round}: {}", said(&output));
            continue;
        }
        let summary = &summary_of(&output);
        let losses: Vec<String> = summary["losses"].as_array().unwrap().iter().map(ToString::to_string).collect();
        let is_part = |loss: &&String| loss.contains("this part of the tree cannot be read");
        let parts = losses.iter().filter(is_part).count();
        let found = compare(&world.source(), &target).unwrap().differences;
        assert_eq!(
            output.status.code(),
            Some(if losses.is_empty() { 0 } else { 3 }),
            "round {round}: {}",
            said(&output)
        );
        if losses.is_empty() {
            assert!(found.is_empty(), "round {round}: not named: {found:?}");
        }
        let missing = found.iter().filter(|difference| difference.what == "names");
        let counted: usize = missing.map(|difference| difference.values.matches('"').count() / 2).sum();
        match parts {
            0 => {
                in_content += usize::from(!losses.is_empty());
                assert_eq!(counted, losses.len(), "round {round}: {losses:?} {found:?}");
            }
            _ => {
                in_tree += 1;
                // A leaf of the tree has at most 256 entries.
                assert!(counted <= 256 * parts + losses.len(), "round {round}: {counted}");
            }
        }
        fs::remove_dir_all(&target).unwrap();
        let _unfinished = fs::remove_dir_all(world.path("coordinator/restores"));
    }
    assert!(in_tree > 0 && in_content > 0, "{in_tree} times the tree, {in_content} times content");
    println!("{in_tree} times the tree was damaged, {in_content} times content");
}

/// Three nights, each with another version of a file: its path, the snapshots, and the packs that the second brought.
fn three_versions(world: &World) -> (PathBuf, Vec<String>, Vec<PathBuf>) {
    let (mut ids, mut brought) = (Vec::new(), Vec::new());
    for night in 0..3 {
        let before: BTreeSet<PathBuf> = packs(world).into_iter().collect();
        world.write("dir/large", &noise(night, 3_000_000));
        world.write("same", b"in all of them");
        ids.push(world.backed_up());
        brought.push(packs(world).into_iter().filter(|pack| !before.contains(pack)).collect());
    }
    (world.source().join("dir/large"), ids, brought.swap_remove(1))
}

/// The content of one version is damaged; the versions before and after it are whole.
#[test]
fn a_damaged_file_names_the_snapshots_that_hold_another_version_of_it_whole() {
    let world = World::new();
    let (file, ids, brought) = three_versions(&world);
    let largest = brought.iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut content = fs::read(largest).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(largest, content).unwrap();
    let at = |path: &Path| format!("server:{}@{}", path.display(), ids[1]);
    let (all, one, here) = (at(&world.source()), at(&file), world.path("here"));
    for (arguments, code) in [
        (&["restore", &all, "--to", here.to_str().unwrap()][..], 3),
        (&["restore", &all, "--on", "server", "--into", "there", "--wait"], 3),
        (&["dump", &all, "--format", "tar"], 3),
        (&["dump", &all, "--format", "zip"], 3),
        (&["cat", &one], 1),
    ] {
        let output = world.lab.try_lifeboat(arguments).unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        for night in [0, 2] {
            let line = format!("another version of {} is whole in @{}", file.display(), &ids[night][..12]);
            assert!(text.contains(&line), "{arguments:?}: {line:?} is not in {text}");
        }
    }
    for target in [here, world.path("agent/restore/there")] {
        assert_eq!(fs::read(target.join("same")).unwrap(), b"in all of them");
        assert!(!target.join("dir/large").exists());
    }
}

#[test]
fn a_path_in_a_lost_part_of_the_tree_names_the_snapshots_that_have_it() {
    let world = World::new();
    let (file, ids, brought) = three_versions(&world);
    brought.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let one = format!("server:{}@{}", file.display(), ids[1]);
    let others = [0, 2].map(|night: usize| format!("@{}", &ids[night][..12]));
    refused(&world.lab.try_lifeboat(&["cat", &one]).unwrap(), &["is lost", "it is in", &others[0], &others[1]]);
}

/// A mirror deletes nothing where it cannot know what belongs there.
#[test]
fn a_mirror_of_a_damaged_tree_deletes_nothing_after_the_damage() {
    let world = World::new();
    for at in 0..1000_u64 {
        world.write(&format!("{at:04}"), &noise(at, 50));
    }
    world.backed_up();
    let target = world.path("target");
    let restore = || {
        let address = world.address();
        let to = target.to_str().unwrap().to_owned();
        let arguments = ["restore", &address, "--to", &to, "--overwrite", "always", "--delete", "--yes", "--json"];
        world.lab.try_lifeboat(&arguments).unwrap()
    };
    assert!(restore().status.success());
    let names = || fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect::<BTreeSet<_>>();
    let all = names();
    let mut met = 0;
    for round in 0..30_u64 {
        let packs = packs(&world);
        let pack = &packs[round as usize % packs.len()];
        let whole = fs::read(pack).unwrap();
        let mut damaged = whole.clone();
        let place = u64::from_le_bytes(noise(round, 8).try_into().unwrap()) as usize % damaged.len();
        damaged[place] ^= 1;
        fs::write(pack, damaged).unwrap();
        let output = restore();
        fs::write(pack, whole).unwrap();
        met += usize::from(said(&output).contains("this part of the tree cannot be read"));
        assert_eq!(names(), all, "round {round}: {}", said(&output));
    }
    assert!(met > 0, "no node was met");
}

#[test]
fn without_the_secret_of_a_group_its_data_is_not_restored_and_with_it_the_same_command_does() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let (keys, away) = (world.path("repository/keys"), world.path("keys"));
    let (copies, copies_away) = (world.path("repository/copies/keys"), world.path("copies"));
    let address = world.address();
    for (target, more) in [
        (world.path("here"), &["--to", &world.lab.path("here")][..]),
        (world.path("agent/restore/there"), &["--on", "server", "--into", "there", "--wait"]),
    ] {
        let restore = || world.lab.try_lifeboat(&[&["restore", &address], more].concat()).unwrap();
        fs::rename(&keys, &away).unwrap();
        fs::create_dir(&keys).unwrap();
        fs::rename(&copies, &copies_away).unwrap();
        refused(&restore(), &["the secret of scope 1 is not in the repository", "keys"]);
        assert!(!target.exists());
        fs::remove_dir(&keys).unwrap();
        fs::rename(&away, &keys).unwrap();
        fs::rename(&copies_away, &copies).unwrap();
        let output = restore();
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(fs::read(target.join("file")).unwrap(), b"content");
    }
}

/// `lifeboat restore … | true`.
#[test]
fn inv_16_a_loss_is_in_the_exit_code_though_nobody_reads_the_output() {
    let world = World::new();
    (0..5).for_each(|file| world.write(&format!("{file}"), &noise(file, 700_000)));
    world.backed_up();
    let address = world.address();
    let code = |arguments: &[&str], is_read: bool| {
        let mut command = world.lab.lifeboat_command();
        let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        if !is_read {
            drop(child.stdout.take());
        }
        child.wait_with_output().unwrap().status.code()
    };
    let (whole, wholly_read) = (world.lab.path("whole"), world.lab.path("read"));
    assert_eq!(code(&["restore", &address, "--to", &wholly_read], true), Some(0));
    assert_eq!(code(&["restore", &address, "--to", &whole], false), Some(0));
    let largest = packs(&world).into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    for (name, wanted, arguments) in [
        ("restore", 3, &["restore", &address, "--to", "@"][..]),
        ("restore on a server", 3, &["restore", &address, "--on", "server", "--into", "@", "--wait"]),
        ("verify", 1, &["repository", "verify"]),
    ] {
        for is_read in [true, false] {
            let place = format!("{}-{is_read}", name.replace(' ', "-"));
            let place = if name == "restore" { world.lab.path(&place) } else { place };
            let arguments: Vec<_> = arguments.iter().map(|word| if *word == "@" { &place[..] } else { word }).collect();
            assert_eq!(code(&arguments, is_read), Some(wanted), "{name}, read: {is_read}");
        }
    }
    // What was not printed of a list may have been a loss.
    assert_eq!(code(&["ls", "-R", &address], false), Some(141));
    assert_eq!(code(&["find", "*", &address], false), Some(141));
}

/// As when a snapshot is forgotten, and cleaned up, under a restore.
#[test]
fn what_goes_away_while_a_restore_runs_is_named_and_when_it_is_back_the_same_command_finishes() {
    let world = World::new();
    (0..60).for_each(|file| world.write(&format!("{file:02}"), &noise(file, 5 << 20)));
    world.backed_up();
    let (target, address) = (world.path("target"), world.address());
    let mut command = world.lab.lifeboat_command();
    command.args(["restore", &address, "--to", target.to_str().unwrap()]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while fs::read_dir(&target).map_or(0, Iterator::count) < 5 {
        thread::sleep(Duration::from_millis(1));
    }
    let (packs, away) = (world.path("repository/packs"), world.path("packs"));
    fs::rename(&packs, &away).unwrap();
    let output = running.wait_with_output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("not restored: ") && text.contains("entries were not restored"), "{text}");
    let whole = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().path());
    let whole: Vec<_> = whole.filter(|path| !path.display().to_string().contains(".lifeboat-part-")).collect();
    assert!((1..60).contains(&whole.len()), "{whole:?}");
    for path in whole {
        let file = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        assert!(fs::read(&path).unwrap() == noise(file, 5 << 20), "{path:?}");
    }
    fs::remove_dir_all(&packs).unwrap_or(());
    fs::rename(&away, &packs).unwrap();
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(compare(&world.source(), &target).unwrap().differences, []);
}
