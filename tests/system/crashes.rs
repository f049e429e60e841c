//! Kill -9 of either side, at any moment. What was acknowledged is written down outside, and all of it must restore.

use crate::world::{World, noise, snapshot_of};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// How often somebody is killed. INVARIANTS asks for a hundred in a CI run; both tests together make them.
const KILLS: u64 = 50;

/// An operator orders backups while processes die. Each acknowledged snapshot must restore to what the source was.
#[test]
fn inv_01_what_was_acknowledged_restores_after_50_kills() {
    let world = World::new();
    for file in 0..60 {
        world.write(&format!("kept/{file}"), &noise(file, 40_000));
    }
    let mut acknowledged: Vec<(String, PathBuf)> = Vec::new();
    for kill in 0..KILLS {
        for file in 0..8 {
            world.write(&format!("changing/{}", (kill * 5 + file) % 40), &noise(1000 + kill * 10 + file, 500_000));
        }
        let original = world.path(&format!("original-{kill}"));
        let copied = Command::new("cp").arg("-al").arg(world.source()).arg(&original).status().unwrap();
        assert!(copied.success());
        let answer = thread::scope(|scope| {
            // A moment that no two runs share: seeded by the kill, spread over what a backup takes.
            let moment = Duration::from_micros(u64::from(noise(kill, 1)[0]) * 3_000);
            let lab = &world.lab;
            let backup = scope.spawn(|| lab.try_lifeboat(&["backup", "server:data", "--wait", "--json"]).unwrap());
            thread::sleep(moment);
            match kill % 2 {
                0 => {
                    lab.kill(Side::Agent);
                    lab.run_agent().unwrap();
                }
                _ => {
                    lab.kill(Side::Coordinator);
                    lab.serve().unwrap();
                    lab.wait_for_agent().unwrap();
                }
            }
            backup.join().unwrap()
        });
        match snapshot_of(&answer) {
            Some(snapshot) => acknowledged.push((snapshot, original)),
            None => fs::remove_dir_all(original).unwrap(),
        }
    }
    let last = world.backed_up();
    acknowledged.push((last, world.source()));
    let listed = world.json(&["snapshots", "server"]);
    for snapshot in &listed {
        let outcome = snapshot["outcome"].as_str().unwrap();
        assert!(["complete", "checkpoint"].contains(&outcome), "no partial snapshot is visible: {snapshot}");
    }
    for (at, (snapshot, original)) in acknowledged.iter().enumerate() {
        world.assert_restores(snapshot, original, &format!("restored-{at}"));
    }
    println!("{} of {KILLS} backups were acknowledged, {} snapshots listed", acknowledged.len(), listed.len());
}
