//! What may be lost without losing a backup: the index, and everything but repository and kit.

use crate::world::{World, noise, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;

/// INV-3: the index is a cache. Its directory goes, the coordinator starts, and everything restores.
#[test]
fn inv_03_a_deleted_index_is_made_again_at_start_up() {
    let world = World::new();
    for file in 0..200 {
        world.write(&format!("{file}"), &noise(file, 30_000));
    }
    let snapshot = world.backed_up();
    world.lab.stop(Side::Coordinator).unwrap();
    fs::remove_dir_all(world.lab.path("coordinator/index")).unwrap();
    world.lab.serve().unwrap();
    world.lab.wait_for_agent().unwrap();
    world.assert_restores(&snapshot, &world.source(), "restored");
    world.write("1", b"changed");
    let after = world.backed_up();
    world.assert_restores(&after, &world.source(), "restored-after");
    let verified = world.lab.try_lifeboat(&["repository", "verify"]).unwrap();
    assert!(verified.status.success(), "{}", said(&verified));
}

/// Orderly ends: both sides stop on SIGTERM, and go on where they were.
#[test]
fn both_sides_end_in_good_order_and_come_back() {
    let world = World::new();
    world.write("file", b"content");
    let first = world.backed_up();
    for side in [Side::Agent, Side::Coordinator] {
        let ended = world.lab.stop(side).unwrap().unwrap();
        assert!(ended.success(), "{side:?}: {ended}");
    }
    world.lab.serve().unwrap();
    world.lab.run_agent().unwrap();
    world.assert_restores(&first, &world.source(), "restored");
    world.backed_up();
}
