//! A repository that was put back from an older copy, while an agent has seen its later journal.

use crate::world::{World, refused, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn restart(world: &World) {
    world.lab.stop(Side::Coordinator).unwrap();
    world.lab.serve().unwrap();
    world.lab.wait_for_agent().unwrap();
}

fn restore(world: &World, name: &str) -> Output {
    let target = world.path(name);
    world.lab.try_lifeboat(&["restore", &world.address(), "--to", target.to_str().unwrap()]).unwrap()
}

fn put_back(copy: &Path, repository: &Path) {
    fs::remove_dir_all(repository).unwrap();
    let copied = Command::new("cp").arg("-a").arg(copy).arg(repository).status().unwrap();
    assert!(copied.success());
}

#[test]
fn inv_77_root_here_restores_from_an_older_copy_and_orders_wait_until_it_is_accepted() {
    let world = World::new();
    world.write("file", b"day one");
    world.backed_up();
    world.lab.stop(Side::Coordinator).unwrap();
    let (repository, copy) = (world.lab.repository(), world.path("yesterday"));
    assert!(Command::new("cp").arg("-a").arg(&repository).arg(&copy).status().unwrap().success());
    world.lab.serve().unwrap();
    world.lab.wait_for_agent().unwrap();
    // More batches than a start and a few commands write, so that the agent stays ahead.
    for day in 0..20 {
        world.write("file", format!("day {day}").as_bytes());
        world.backed_up();
    }
    world.lab.stop(Side::Coordinator).unwrap();
    put_back(&copy, &repository);
    world.lab.serve().unwrap();
    world.lab.wait_for_agent().unwrap();

    let order = || {
        let arguments = ["restore", &world.address(), "--on", "server", "--into", "there", "--wait"];
        world.lab.try_lifeboat(&arguments).unwrap()
    };
    for name in ["before a restart", "after it"] {
        let restored = restore(&world, name);
        assert!(restored.status.success(), "{}", said(&restored));
        assert!(said(&restored).contains("restored from an older copy"), "{}", said(&restored));
        assert_eq!(fs::read(world.path(name).join("file")).unwrap(), b"day one");
        refused(&order(), &["not an ancestor", "lifeboat journal accept"]);
        let hosts = world.json(&["host", "list"]);
        assert!(hosts[0]["diverged_batch"].as_u64().is_some_and(|batch| batch > 20), "{hosts:?}");
        restart(&world);
    }
    let backup = world.backup();
    assert!(backup.status.success(), "backups continue: {}", said(&backup));

    refused(&world.lab.try_lifeboat(&["journal", "accept"]).unwrap(), &["needs confirmation", "--yes"]);
    let accepted = world.lab.try_lifeboat(&["journal", "accept", "--yes"]).unwrap();
    assert!(accepted.status.success() && said(&accepted).contains("server holds the head"), "{}", said(&accepted));
    restart(&world);
    assert!(world.json(&["host", "list"])[0]["diverged_batch"].is_null());
    let restored = restore(&world, "after it was accepted");
    assert!(restored.status.success() && !said(&restored).contains("older copy"), "{}", said(&restored));
    assert!(!said(&order()).contains("journal accept"));
    let nothing = world.lab.try_lifeboat(&["journal", "accept", "--yes"]).unwrap();
    assert!(said(&nothing).contains("nothing to accept"), "{}", said(&nothing));
}
