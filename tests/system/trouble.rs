//! Bad input and trouble: each gets one clear message that says what, which one and what to do next.

use crate::world::{World, refused, said};
use lifeboat_coordinator::cli::demo::lab::{Programs, Side};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

#[test]
fn what_is_not_there_is_named() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let call = |arguments: &[&str]| world.lab.try_lifeboat(arguments).unwrap();
    refused(&call(&["backup", "nobody", "--wait"]), &["nobody"]);
    refused(&call(&["backup", "server:nothing", "--wait"]), &["nothing"]);
    refused(&call(&["restore", "nobody:/etc", "--to", &world.lab.path("r1")]), &["nobody"]);
    refused(&call(&["restore", "server:/never/there", "--to", &world.lab.path("r2")]), &["/never/there"]);
    refused(&call(&["cat", "server:/x@deadbeefdeadbeef"]), &["deadbeefdeadbeef"]);
    refused(&call(&["restore", "server:/", "--to", &world.lab.path("source")]), &["empty"]);
    assert_eq!(call(&["restore", "server:/"]).status.code(), Some(2), "wrong usage");
}

#[test]
fn a_second_init_changes_nothing() {
    let world = World::new();
    let before = fs::read(world.lab.path("coordinator/lifeboat.toml")).unwrap();
    let again = world
        .lab
        .try_lifeboat(&["init", "--repository", &world.lab.path("repository"), "--kit", &world.lab.path("kit-2")])
        .unwrap();
    refused(&again, &["coordinator", "nothing was changed"]);
    assert_eq!(fs::read(world.lab.path("coordinator/lifeboat.toml")).unwrap(), before);
    assert!(!fs::exists(world.lab.path("kit-2")).unwrap(), "no kit of a repository that was not made");
    world.write("file", b"content");
    world.backed_up();
}

#[test]
fn inv_50_a_token_works_once() {
    let world = World::new();
    let other = [world.path("other-state"), world.path("other-config")];
    let enrol = |token: &str, name: &str| {
        let file = world.lab.path("token-used");
        fs::write(&file, token).unwrap();
        world
            .lab
            .try_agent(&[
                "--state",
                other[0].to_str().unwrap(),
                "--config",
                other[1].to_str().unwrap(),
                "enrol",
                "--token-file",
                &file,
                "--name",
                name,
            ])
            .unwrap()
    };
    let spent = fs::read_to_string(world.lab.path("token")).unwrap();
    refused(&enrol(&spent, "second"), &["token"]);
    let mut mistyped = spent.trim().to_owned();
    let last = if mistyped.pop() == Some('q') { 'p' } else { 'q' };
    mistyped.push(last);
    refused(&enrol(&mistyped, "second"), &["token"]);
    refused(&enrol("nonsense", "second"), &["token"]);
    let hosts = world.json(&["host", "list"]);
    assert_eq!(hosts.len(), 1, "{hosts:?}");
}

#[test]
fn a_coordinator_that_is_not_there_is_said_so() {
    let world = World::new();
    world.lab.kill(Side::Agent);
    world.lab.kill(Side::Coordinator);
    refused(&world.lab.try_lifeboat(&["host", "list"]).unwrap(), &["lifeboat serve"]);
    refused(&world.lab.try_agent(&["backup", "data"]).unwrap(), &["127.0.0.1"]);
    world.lab.serve().unwrap();
    world.write("file", b"content");
    let by_hand = world.lab.try_agent(&["backup", "data"]).unwrap();
    assert!(by_hand.status.success(), "{}", said(&by_hand));
}

#[test]
fn one_repository_has_one_coordinator_and_one_state_one_agent() {
    let world = World::new();
    refused(&world.lab.try_lifeboat(&["serve"]).unwrap(), &[]);
    refused(&world.lab.try_agent(&["run"]).unwrap(), &[]);
    world.write("file", b"content");
    world.backed_up();
}

#[test]
fn inv_17_a_source_that_is_suddenly_empty_is_kept_apart() {
    let world = World::new();
    for file in 0..300 {
        world.write(&format!("{file}"), b"content that matters");
    }
    let good = world.backed_up();
    fs::remove_dir_all(world.source()).unwrap();
    fs::create_dir(world.source()).unwrap();
    refused(&world.backup(), &["suspect", "shrank"]);
    let snapshots = world.json(&["snapshots", "server"]);
    let suspects = snapshots.iter().filter(|snapshot| snapshot["suspect"].is_string()).count();
    assert_eq!(suspects, 1, "{snapshots:?}");
    let address = format!("server:{}/7", world.source().display());
    let latest = world.lab.lifeboat(&["cat", &address]).unwrap();
    assert_eq!(latest.stdout, b"content that matters", "`latest` is still {good}");
}

/// The whole system under a limit of open files that nothing can raise.
#[test]
fn a_low_limit_of_open_files_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let Programs { lifeboat, agent } = Programs::find().unwrap();
    let limited = |program: PathBuf| {
        let wrapper = directory.path().join(format!("limited-{}", program.file_name().unwrap().display()));
        fs::write(&wrapper, format!("#!/bin/sh\nulimit -n 512\nexec {} \"$@\"\n", program.display())).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        wrapper
    };
    let programs = Programs { lifeboat: limited(lifeboat), agent: limited(agent) };
    let world = World::with(directory, programs);
    for at in 0..3000 {
        world.write(&format!("together/{at}"), format!("content {at}").as_bytes());
        world.write(&format!("apart/{at}/file"), format!("other content {at}").as_bytes());
    }
    let snapshot = world.backed_up();
    world.assert_restores(&snapshot, &world.source(), "restored");
}
