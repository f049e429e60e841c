//! Restores onto a server, by order: signed, held against that server's own law, followed, cancelled, gone on with.

use crate::world::{World, noise, refused, said};
use lifeboat_coordinator::cli::demo::compare::compare;
use lifeboat_coordinator::cli::demo::lab::Side;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

fn order(world: &World, arguments: &[&str]) -> Output {
    world.lab.try_lifeboat(&[&["restore"], arguments].concat()).unwrap()
}

/// The last value that was printed with `--json`.
fn last(output: &Output) -> Value {
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", said(output));
    crate::world::summary_of(output)
}

fn staging(world: &World, name: &str) -> PathBuf {
    world.path("agent/restore").join(name)
}

fn assert_equal(one: &Path, other: &Path) {
    let differences = compare(one, other).unwrap().differences;
    assert!(differences.is_empty(), "{differences:?}");
}

/// Bytes that the agent has read so far, from sockets above all.
fn read_bytes(world: &World) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", world.lab.pid(Side::Agent).unwrap())).unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

fn fill(world: &World) -> String {
    for file in 0..300 {
        world.write(&format!("{}/{file}", file % 7), &noise(file, (file * 97 % 9_000) as usize));
    }
    world.write("large", &noise(1_000, 12 << 20));
    world.backed_up()
}

#[test]
fn a_restore_by_order_goes_to_staging_and_equals_what_was_backed_up() {
    let world = World::new();
    let snapshot = fill(&world);
    let done = last(&order(&world, &[&world.address(), "--on", "server", "--wait", "--json"]));
    let directory = PathBuf::from(done["directory"].as_str().unwrap());
    let name = format!("server-{}-source", &snapshot[..12]);
    assert_eq!(directory, staging(&world, &name));
    assert_equal(&world.source(), &directory);
    assert_eq!(done["host"], "server");
    let other = [&world.address(), "--on", "server", "--into", &name, "--strip", "0", "--wait"];
    for other in [&other[..], &[&other[..], &["--dry-run"]].concat()] {
        refused(&order(&world, other), &["is not empty", "--overwrite"]);
    }
    let reused =
        last(&order(&world, &[&world.address(), "--on", "server", "--overwrite", "always", "--wait", "--json"]));
    assert_eq!(reused["fetched_bytes"], 0, "{reused}");
    let own =
        order(&world, &[&world.address(), "--on", "server", "--into", "mine/deep", "--include", "large", "--wait"]);
    assert!(own.status.success(), "{}", said(&own));
    assert_eq!(fs::read(staging(&world, "mine/deep/large")).unwrap(), noise(1_000, 12 << 20));
    let missing = format!("{}/lrge", world.address());
    refused(&order(&world, &[&missing, "--on", "server", "--wait"]), &["there is no", "the nearest is"]);
    refused(&order(&world, &[&world.address(), "--on", "nobody"]), &["there is no host \"nobody\""]);
    refused(&order(&world, &[&world.address()]), &["--to"]);
}

/// What is refused there is not fetched either.
#[test]
fn inv_46_a_place_that_the_host_does_not_allow_is_refused_with_the_line_that_would_and_nothing_is_sent() {
    let world = World::new();
    fill(&world);
    let there = world.path("in place");
    let into = there.to_str().unwrap();
    let arguments = [&world.address(), "--on", "server", "--into", into, "--wait"];
    let before = read_bytes(&world);
    let output = order(&world, &arguments);
    refused(&output, &["does not allow", &format!("restore = [\"staging\", {into:?}] above the first table")]);
    world.set_law("restore = \"off\"");
    let off = order(&world, &[&world.address(), "--on", "server", "--wait"]);
    refused(&off, &["allows no restores", "restore = \"staging\" above the first table"]);
    world.set_law("restore = [\"/no/such/place\"]");
    refused(&order(&world, &arguments), &["does not allow"]);
    let read = read_bytes(&world) - before;
    assert!(read < 1 << 20, "{read} bytes came to a host that restores nothing");
    assert!(!there.exists());
    world.set_law(&format!("restore = [{:?}]", world.directory.path()));
    let done = order(&world, &arguments);
    assert!(done.status.success(), "{}", said(&done));
    assert_equal(&world.source(), &there);
}

#[test]
fn inv_46_what_belongs_to_the_agent_is_not_restored_over_and_not_deleted() {
    let world = World::new();
    world.set_law(&format!("restore = [{:?}]", world.directory.path()));
    let law = fs::read(world.path("agent/policy.toml")).unwrap();
    world.write("agent/policy.toml", b"restore = [\"/\"]\nsources = {}\n");
    world.write("agent/identity.json", b"another");
    world.write("other/file", b"restored");
    world.backed_up();
    let into = world.directory.path().to_str().unwrap().to_owned();
    let arguments = [&world.address(), "--on", "server", "--into", &into, "--overwrite", "always", "--wait"];
    let output = order(&world, &arguments);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("/agent: it belongs to Lifeboat on this machine"), "{}", said(&output));
    assert_eq!(fs::read(world.path("agent/policy.toml")).unwrap(), law);
    assert_eq!(fs::read(world.path("other/file")).unwrap(), b"restored");
    let within = format!("{into}/agent/new");
    let output = order(&world, &[&world.address(), "--on", "server", "--into", &within, "--wait"]);
    refused(&output, &["where Lifeboat keeps its own"]);
    assert!(!world.path("agent/new").exists());
}

#[test]
fn a_mirror_says_first_how_much_it_would_delete() {
    let world = World::new();
    fill(&world);
    let base = [&world.address(), "--on", "server", "--into", "mirror", "--wait"];
    assert!(order(&world, &base).status.success());
    fs::write(staging(&world, "mirror/extra"), "").unwrap();
    fs::write(staging(&world, "mirror/3/extra"), "").unwrap();
    let mirror = [&base[..], &["--overwrite", "if-changed", "--delete"]].concat();
    let plan = last(&order(&world, &[&mirror[..], &["--dry-run", "--json"]].concat()));
    assert_eq!((&plan["deleted"], &plan["made"]), (&2.into(), &0.into()), "{plan}");
    assert!(plan["seconds"].as_f64().unwrap() < 10.0 && plan["sampled_entries"].as_u64().unwrap() > 100, "{plan}");
    let names = fs::read_dir(staging(&world, "")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.collect::<Vec<_>>(), ["mirror"], "nothing is left of the sample");
    refused(&order(&world, &mirror), &["2 entries in staging/mirror on server would be deleted"]);
    assert!(staging(&world, "mirror/extra").exists());
    let done = last(&order(&world, &[&mirror[..], &["--yes", "--json"]].concat()));
    assert_eq!(done["deleted"], 2, "{done}");
    assert_equal(&world.source(), &staging(&world, "mirror"));
}

#[test]
fn an_order_is_followed_listed_and_cancelled() {
    let world = World::new();
    fill(&world);
    let run = |arguments: &[&str]| world.lab.try_lifeboat(arguments).unwrap();
    let ordered = order(&world, &[&world.address(), "--on", "server", "--into", "one"]);
    let text = said(&ordered);
    let job = text.split("lifeboat job follow ").nth(1).expect(&text).split_whitespace().next().unwrap().to_owned();
    let followed = run(&["job", "follow", &job]);
    assert!(followed.status.success(), "{}", said(&followed));
    assert_equal(&world.source(), &staging(&world, "one"));
    let listed = said(&run(&["job", "list", "server"]));
    assert!(listed.contains(&job) && listed.contains("restore to") && listed.contains("backup of data"), "{listed}");
    world.lab.stop(Side::Agent).unwrap();
    let waits = order(&world, &[&world.address(), "--on", "server", "--into", "two", "--json"]);
    let waits = last(&waits);
    assert_eq!(waits["sent"], false);
    let job = waits["job"].as_str().unwrap();
    assert!(run(&["job", "cancel", job]).status.success());
    refused(&run(&["job", "follow", job]), &["cancelled before it began"]);
    refused(&run(&["job", "cancel", job]), &["is over"]);
    world.lab.run_agent().unwrap();
    assert!(!staging(&world, "two").exists());
}

/// The agent is killed at random moments; its job goes on when it is back. Then the coordinator is: the same command
/// goes on.
#[test]
fn inv_16_a_restore_by_order_that_is_interrupted_goes_on() {
    let world = World::new();
    for file in 0..3_000 {
        world.write(&format!("{}/{file}", file % 7), &noise(file, (file * 97 % 9_000) as usize));
    }
    for file in 0..3 {
        world.write(&format!("large-{file}"), &noise(10_000 + file, 60 << 20));
    }
    world.backed_up();
    let mut command = world.lab.lifeboat_command();
    let arguments = ["restore", &world.address(), "--on", "server", "--into", "one", "--wait", "--json"];
    let started = |command: &mut std::process::Command| {
        let pipe = std::process::Stdio::piped;
        command.args(arguments).stdout(pipe()).stderr(pipe()).spawn().unwrap()
    };
    let child = started(&mut command);
    for round in 0..3 {
        let begun = Instant::now();
        let mut seen = 0;
        // Something must be there each time, else nothing was interrupted.
        while seen <= round * 300 && begun.elapsed() < Duration::from_secs(30) {
            seen = walkdir::WalkDir::new(staging(&world, "one")).into_iter().count();
            std::thread::sleep(Duration::from_millis(5));
        }
        world.lab.kill(Side::Agent);
        world.lab.run_agent().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_equal(&world.source(), &staging(&world, "one"));
    fs::remove_dir_all(staging(&world, "one")).unwrap();

    let child = started(&mut world.lab.lifeboat_command());
    let begun = Instant::now();
    while !staging(&world, "one/3").exists() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(2));
    }
    world.lab.kill(Side::Coordinator);
    let output = child.wait_with_output().unwrap();
    let was_interrupted = !output.status.success();
    world.lab.serve().unwrap();
    world.lab.wait_for_agent().unwrap();
    if was_interrupted {
        let done = last(&order(&world, &arguments[1..]));
        assert!(done["unchanged"].as_u64().unwrap() > 0, "it went on: {done}");
    }
    assert!(was_interrupted, "it was done before it could be interrupted");
    assert_equal(&world.source(), &staging(&world, "one"));
}

#[test]
fn what_one_server_lost_is_restored_onto_another() {
    let world = World::new();
    fill(&world);
    let (programs, other) = (std::env::var("LIFEBOAT_PROGRAMS").unwrap(), world.path("other"));
    let agent = |arguments: &[&str]| {
        let mut command = std::process::Command::new(Path::new(&programs).join("lifeboat-agent"));
        command.args(arguments).env("LIFEBOAT_AGENT_STATE", &other).env("LIFEBOAT_AGENT_CONFIG", &other);
        command
    };
    let token = world.lab.lifeboat(&["token", "create"]).unwrap().stdout;
    fs::write(world.path("second token"), token).unwrap();
    let file = world.path("second token");
    let enrolled = agent(&["enrol", "--token-file", file.to_str().unwrap(), "--name", "spare"]).output().unwrap();
    assert!(enrolled.status.success(), "{}", said(&enrolled));
    let policy = "restore = \"staging\"\n[sources]\nsystem = [\"/no/such/place\"]\n";
    fs::write(other.join("policy.toml"), policy).unwrap();
    let log = fs::File::create(world.path("spare.log")).unwrap();
    let mut running = agent(&["run"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let output = order(&world, &[&world.address(), "--on", "spare", "--into", "new", "--wait"]);
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_equal(&world.source(), &other.join("restore/new"));
}
