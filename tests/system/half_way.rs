//! A backup that is cut off half-way is not begun anew: what has arrived in full packs is not sent again.
//!
//! What a coordinator that is killed loses are the packs that are not full and those being put: about 128 MiB at most,
//! however much the backup is. A killed agent loses nothing of what has arrived.

use crate::world::{World, noise, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

const FILES: u64 = 280;
const FILE_BYTES: usize = 750_000;
const LARGE_BYTES: usize = 210_000_000;
const WHOLE: u64 = FILES * FILE_BYTES as u64 + LARGE_BYTES as u64;

/// Kills one side when about half has arrived. Then all that is sent until everything is backed up is at most 60 % of
/// the whole; and a good part of it, or it was killed too late for this to show anything.
fn the_next_run_sends_what_is_missing_after(killed: Side) {
    let world = World::new();
    for file in 0..FILES {
        world.write(&format!("many/{}/{file}", file % 7), &noise(file, FILE_BYTES));
    }
    world.write("large", &noise(FILES, LARGE_BYTES));
    let lab = &world.lab;
    thread::scope(|scope| {
        let backup = scope.spawn(|| world.backup());
        // Only whole packs count, and there are few of them, so this is half, a little early.
        while bytes_in(&lab.repository().join("packs")) < WHOLE * 9 / 20 {
            assert!(!backup.is_finished(), "it ended first: {}", said(&backup.join().unwrap()));
            thread::sleep(Duration::from_millis(2));
        }
        lab.kill(killed);
        match killed {
            Side::Agent => lab.run_agent().unwrap(),
            Side::Coordinator => {
                lab.serve().unwrap();
                lab.wait_for_agent().unwrap();
            }
        }
    });
    let snapshot = world.backed_up();
    // The order that was cut off may have been taken up again, so all that there is counts.
    let sent: u64 = world.json(&["snapshots", "server"]).iter().map(|one| one["sent_bytes"].as_u64().unwrap()).sum();
    println!("{killed:?} killed half-way: {} % of {WHOLE} bytes were sent afterwards", sent * 100 / WHOLE);
    assert!((WHOLE / 5..=WHOLE * 3 / 5).contains(&sent), "{sent} of {WHOLE} bytes were sent");
    let twice = bytes_in(&lab.repository()).saturating_sub(WHOLE);
    assert!(twice <= WHOLE / 10, "the repository holds {twice} bytes more than there are");
    world.assert_restores(&snapshot, &world.source(), "restored");
}

#[test]
fn after_a_killed_agent_the_next_run_sends_at_most_60_percent() {
    the_next_run_sends_what_is_missing_after(Side::Agent);
}

#[test]
fn after_a_killed_coordinator_the_next_run_sends_at_most_60_percent() {
    the_next_run_sends_what_is_missing_after(Side::Coordinator);
}

/// How long the files below are together. One that vanishes meanwhile has none.
fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(status) if status.is_dir() => bytes_in(&entry.path()),
        Ok(status) => status.len(),
        Err(_) => 0,
    });
    bytes.sum()
}
