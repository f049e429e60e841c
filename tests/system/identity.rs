//! Who is who: agents and coordinators that are not the ones they were taken for.

use crate::world::{World, refused, said};
use lifeboat_coordinator::cli::demo::lab::{Lab, Programs, Side};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// Calls the agent with a state directory of its own.
fn agent_of(lab: &Lab, state: &str, arguments: &[&str]) -> Output {
    lab.try_agent(&[&["--state", state, "--config", state], arguments].concat()).unwrap()
}

#[test]
fn a_second_agent_with_the_same_identity_is_refused_while_the_first_goes_on() {
    let world = World::new();
    world.write("file", b"content");
    let first = world.backed_up();
    let (state, log) = (world.path("clone"), world.path("clone.log"));
    copy(&world.path("agent"), &state);
    let mut clone = Command::new(Programs::find().unwrap().agent)
        .arg("run")
        .env("LIFEBOAT_AGENT_STATE", &state)
        .env("LIFEBOAT_AGENT_CONFIG", &state)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    let mut text = String::new();
    while !text.contains("another agent is connected") && begun.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(50));
        text = fs::read_to_string(&log).unwrap();
    }
    clone.kill().unwrap();
    clone.wait().unwrap();
    world.write("file", b"changed");
    let by_hand = agent_of(&world.lab, state.to_str().unwrap(), &["backup", "data"]);
    println!("{}", said(&by_hand));
    refused(&by_hand, &["another agent is connected as host 1", "enrol it with a token of its own"]);
    let row = &world.json(&["host", "list"])[0];
    assert!(row["refused_agents"].as_u64().unwrap() > 0, "{row}");
    let shown = said(&world.lab.try_lifeboat(&["host", "show", "server"]).unwrap());
    assert!(shown.contains("another agent with its identity was refused"), "{shown}");
    world.lab.stop(Side::Coordinator).unwrap();
    world.lab.serve().unwrap();
    world.lab.wait_for_agent().unwrap();
    let again = said(&world.lab.try_lifeboat(&["host", "show", "server"]).unwrap());
    assert!(again.contains("another agent with its identity was refused"), "after a restart: {again}");
    let second = world.backup();
    println!("{text}");
    let words = ["another agent is connected as host 1: was this server cloned?", "enrol it with a token of its own"];
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
    assert!(second.status.success(), "{}", said(&second));
    assert_ne!(first, crate::world::snapshot_of(&second).unwrap());
}

#[test]
fn a_coordinator_of_another_repository_is_sent_nothing() {
    let (ours, other) = (World::new(), World::new());
    ours.write("file", b"content");
    ours.backed_up();
    let address = |world: &World| {
        let text = fs::read_to_string(world.path("agent/identity.json")).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["address"].as_str().unwrap().to_owned()
    };
    let (mine, theirs) = (address(&ours), address(&other));
    let state = ours.lab.path("moved");
    copy(&ours.path("agent"), Path::new(&state));
    let identity = fs::read_to_string(format!("{state}/identity.json")).unwrap().replace(&mine, &theirs);
    fs::write(format!("{state}/identity.json"), identity).unwrap();
    let output = agent_of(&ours.lab, &state, &["backup", "data"]);
    println!("{}", said(&output));
    refused(&output, &[&theirs, "is not one of this host's repository", "Nothing was sent", "enrol"]);
    ours.backed_up();
}

#[test]
fn a_host_that_the_repository_does_not_know_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    fs::create_dir(&source).unwrap();
    let lab = Lab::create(directory.path(), Programs::find().unwrap()).unwrap();
    let parts = ["repository", "coordinator"].map(|part| directory.path().join(part));
    parts.iter().for_each(|part| copy(part, &part.with_extension("early")));
    lab.serve().unwrap();
    lab.enrol("server", &[&source]).unwrap();
    lab.kill(Side::Coordinator);
    for part in parts {
        fs::remove_dir_all(&part).unwrap();
        fs::rename(part.with_extension("early"), part).unwrap();
    }
    lab.serve().unwrap();
    let output = lab.try_agent(&["backup", "data"]).unwrap();
    println!("{}", said(&output));
    refused(&output, &["does not know this host", "rolled back", "enrol the server anew"]);
}
