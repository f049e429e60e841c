//! Lists of more rows than fit in one message, and what opening many snapshots leaves in the journal.

use crate::world::{World, said, values};
use lifeboat_coordinator::cli::demo::lab::Side;
use lifeboat_proto::limits::MESSAGE_BYTES_MAX;
use lifeboat_tests::many;
use std::fs;
use std::path::Path;

/// With these reasons, the snapshots do not fit in one message.
const SNAPSHOTS: usize = 4000;
const REASON_BYTES: usize = 4000;

#[test]
fn more_snapshots_than_fit_in_a_message_are_listed_and_no_list_needs_their_manifests_again() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let before = world.json(&["snapshots"]);
    let total = || world.json(&["repository", "stats"])[0]["content_bytes"].as_u64().unwrap();
    let total_before = total();
    for side in [Side::Agent, Side::Coordinator] {
        world.lab.stop(side).unwrap();
    }
    many::add_snapshots(Path::new(&world.lab.path("coordinator")), SNAPSHOTS, Some(&"x".repeat(REASON_BYTES)));
    const { assert!(SNAPSHOTS * REASON_BYTES > MESSAGE_BYTES_MAX) };
    world.lab.serve().unwrap();
    let listed = world.json(&["snapshots"]);
    assert_eq!(listed[SNAPSHOTS..], before, "each once, newest first");
    let is_counted = |row: &serde_json::Value| row["files"] == 1 && row["content_bytes"] == 7;
    assert!(listed[..SNAPSHOTS].iter().all(is_counted));
    assert_eq!(total(), total_before + 7 * SNAPSHOTS as u64);

    // What lists show of a manifest was read once: from now on it is not needed, also not after a restart.
    for shelf in fs::read_dir(world.lab.repository().join("manifests")).unwrap() {
        fs::remove_dir_all(shelf.unwrap().path()).unwrap();
    }
    world.lab.stop(Side::Coordinator).unwrap();
    world.lab.serve().unwrap();
    let again = world.json(&["snapshots", "server", "--set", "data"]);
    assert!(again.len() >= SNAPSHOTS && again[..SNAPSHOTS].iter().all(is_counted));
    assert_eq!(world.json(&["host", "list"])[0]["state"], "suspect");
    let shown = world.lab.try_lifeboat(&["host", "show", "server"]).unwrap();
    assert!(said(&shown).contains("1 files, 7 B"), "the last backup is the one that is not suspect: {}", said(&shown));
}

fn batches(world: &World) -> usize {
    let journal = walkdir::WalkDir::new(world.lab.repository().join("journal"));
    journal.into_iter().filter(|entry| entry.as_ref().unwrap().file_type().is_file()).count()
}

#[test]
fn a_command_that_opens_many_snapshots_adds_one_batch_to_the_journal() {
    let world = World::new();
    let nights = 8;
    for night in 0..nights {
        world.write("file.conf", format!("{night}").as_bytes());
        world.backed_up();
    }
    let path = format!("{}/file.conf", world.address());
    for (arguments, rows) in [(["find", "*.conf", "--all"].as_slice(), nights), (&["versions", &path], nights)] {
        let before = batches(&world);
        let output = world.lab.try_lifeboat(&[arguments, &["--json"]].concat()).unwrap();
        assert_eq!(values(&output).len(), rows, "{}", said(&output));
        let added = batches(&world) - before;
        // One for the grants; what was read is recorded with the next batch, or within a minute in one of its own.
        assert!((1..=2).contains(&added), "{arguments:?} added {added} batches");
    }
    let before = batches(&world);
    world.lab.stop(Side::Coordinator).unwrap();
    assert!(batches(&world) <= before + 1, "what was read is recorded at the end at last");
}

/// Everything that the repository has of a name is gone, or all packs that came with a backup.
#[test]
fn a_snapshot_that_cannot_be_read_is_named_and_the_search_goes_on() {
    for lost in ["manifest", "packs"] {
        let world = World::new();
        let packs = || -> Vec<_> {
            let files = walkdir::WalkDir::new(world.lab.repository().join("packs")).into_iter().map(Result::unwrap);
            files.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
        };
        world.write("etc/first.conf", b"one");
        world.backed_up();
        fs::remove_file(world.source().join("etc/first.conf")).unwrap();
        world.write("etc/second.conf", b"two");
        let before = packs();
        let second = world.backed_up();
        let of_second: Vec<_> = packs().into_iter().filter(|pack| !before.contains(pack)).collect();
        fs::remove_file(world.source().join("etc/second.conf")).unwrap();
        world.write("etc/third.conf", b"three");
        world.backed_up();
        match lost {
            "manifest" => {
                let all = walkdir::WalkDir::new(world.lab.repository()).into_iter().map(Result::unwrap);
                let named = |entry: &walkdir::DirEntry| entry.file_name().to_string_lossy().starts_with(&second);
                all.filter(named).for_each(|entry| fs::remove_file(entry.path()).unwrap());
            }
            _ => of_second.iter().for_each(|pack| fs::remove_file(pack).unwrap()),
        }
        let output = world.lab.try_lifeboat(&["find", "*.conf", "server", "--all", "--json"]).unwrap();
        let found: Vec<String> = values(&output)
            .iter()
            .map(|row| row["path"].as_str().unwrap().rsplit('/').next().unwrap().into())
            .collect();
        for name in ["third.conf", "first.conf"] {
            assert!(found.iter().any(|found| found == name), "{lost}: {found:?}, {}", said(&output));
        }
        assert_eq!(output.status.code(), Some(3), "{lost}: {}", said(&output));
        assert!(said(&output).contains(&second[..12]), "{lost}: {}", said(&output));
        let versions = ["versions", &format!("{}/etc/first.conf", world.address()), "--json"];
        let output = world.lab.try_lifeboat(&versions).unwrap();
        assert_eq!(output.status.code(), Some(3), "{lost}: {}", said(&output));
        assert!(said(&output).contains(&second[..12]), "{lost}: {}", said(&output));
        assert!(values(&output).iter().any(|row| row["bytes"] == 3), "{lost}: {}", said(&output));
    }
}
