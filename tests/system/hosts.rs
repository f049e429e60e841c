//! What operators see of hosts and jobs: only a backup is shown as one (INV-78), and what needs attention is shown.

use crate::world::{World, noise, refused, said, snapshot_of};
use lifeboat_coordinator::cli::demo::lab::Side;
use lifeboat_tests::second_reader;
use serde_json::Value;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// The row of a source set in `host list --json`; null if it is not listed.
fn listed(world: &World, set: &str) -> Value {
    world.json(&["host", "list"]).into_iter().find(|row| row["source_set"] == set).unwrap_or_default()
}

fn wait_until(what: &str, limit: Duration, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn policy(world: &World) -> String {
    fs::read_to_string(world.path("agent/policy.toml")).unwrap()
}

fn set_policy(world: &World, text: &str) {
    let path = world.path("agent/policy.toml");
    fs::write(path.with_extension("new"), text).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

/// A policy whose hook at this point of a backup fails.
fn with_failing_hook(world: &World, point: &str) -> String {
    let source = world.source();
    format!(
        "[sources.data]\npaths = [{source:?}]\nhooks = {{ {point} = [\"no\"] }}\n\n[hooks]\nno = [\"/bin/false\"]\n"
    )
}

fn run(world: &World, arguments: &[&str]) -> Output {
    world.lab.try_lifeboat(arguments).unwrap()
}

/// As many files as it takes to be missed.
fn fill(world: &World) {
    (0..100).for_each(|file| world.write(&format!("{file}"), b"content that matters"));
}

#[test]
fn inv_78_a_suspect_snapshot_is_never_shown_as_complete_or_as_the_last_backup() {
    let world = World::new();
    fill(&world);
    world.backed_up();
    let good = listed(&world, "data");
    assert_eq!((good["state"].as_str(), good["last_outcome"].as_str()), (Some("complete"), Some("complete")));
    (0..100).for_each(|file| fs::remove_file(world.source().join(file.to_string())).unwrap());
    refused(&world.backup(), &["kept as suspect"]);
    let suspect = listed(&world, "data");
    assert_eq!((suspect["state"].as_str(), suspect["last_outcome"].as_str()), (Some("suspect"), Some("suspect")));
    assert!(suspect["last_message"].as_str().unwrap().contains("shrank"), "{suspect}");
    assert_eq!(suspect["last"], good["last"], "the last backup is the one before");
    for command in [&["host", "list"][..], &["host", "show", "server"], &["job", "list"]] {
        assert!(said(&run(&world, command)).contains("suspect"), "{command:?}");
    }
    assert_eq!(world.json(&["snapshots", "server"])[0]["outcome"], "suspect");
    world.lab.stop(Side::Agent).unwrap();
    let by_hand = world.lab.try_agent(&["backup", "data"]).unwrap();
    refused(&by_hand, &["data: suspect, snapshot", "kept as suspect", "shrank"]);
    assert_eq!(by_hand.status.code(), Some(1));
    let status = said(&world.lab.try_agent(&["status"]).unwrap());
    assert!(status.contains("data: suspect at") && status.contains("last backup at"), "{status}");
}

/// One of two source paths is emptied, as by a disk that is not mounted: which one, the host knows, and all are told.
#[test]
fn inv_17_the_path_that_shrank_is_named() {
    let world = World::new();
    for name in ["mail", "a web"] {
        (0..30).for_each(|file| world.write(&format!("{name}/{file}"), b"content that matters"));
    }
    let [mail, web] = ["mail", "a web"].map(|name| world.source().join(name));
    world.lab.set_sources(&format!("data = [{mail:?}, {web:?}]")).unwrap();
    world.backed_up();
    // Few enough, so that the source set as a whole has not lost half.
    (0..25).for_each(|file| fs::remove_file(web.join(file.to_string())).unwrap());
    let named = format!("Look at {}", web.display());
    refused(&world.backup(), &["kept as suspect", &named]);
    let is_listed = || listed(&world, "data")["last_message"].as_str().unwrap().contains(&named);
    wait_until("`host list` names the path", Duration::from_secs(20), is_listed);
    world.lab.stop(Side::Agent).unwrap();
    let by_hand = world.lab.try_agent(&["backup", "data"]).unwrap();
    refused(&by_hand, &["kept as suspect", &named]);
    let status = said(&world.lab.try_agent(&["status"]).unwrap());
    assert!(status.contains(&named) && !status.contains(&format!("Look at {}", mail.display())), "{status}");
}

#[test]
fn inv_78_an_enrolment_is_no_backup_and_a_failure_on_the_host_is_known() {
    let world = World::new();
    let (token, state) = (world.lab.path("token-2"), world.lab.path("second"));
    fs::write(&token, world.lab.lifeboat(&["token", "create"]).unwrap().stdout).unwrap();
    let agent = |arguments: &[&str]| {
        let places = ["--state", &state, "--config", &state];
        world.lab.try_agent(&[&places, arguments].concat()).unwrap()
    };
    assert!(agent(&["enrol", "--name", "second", "--token-file", &token]).status.success());
    let row = || world.json(&["host", "list"]).into_iter().find(|row| row["host"] == "second").unwrap();
    let enrolled = row();
    assert_eq!(enrolled["state"], "never backed up", "{enrolled}");
    assert!(enrolled["last"].is_null() && enrolled["last_outcome"].is_null(), "{enrolled}");
    assert_eq!(enrolled["connected"], false);
    let list = said(&run(&world, &["host", "list"]));
    assert!(list.contains("never backed up") && list.contains("away "), "{list}");
    let broken = "[sources.data]\npaths = [\"/etc/hostname\"]\nhooks = { before = [\"no\"] }\n\n[hooks]\nno = [\"/bin/false\"]\n";
    fs::write(world.path("second/policy.toml"), broken).unwrap();
    assert_eq!(agent(&["backup"]).status.code(), Some(1));
    let failed = row();
    assert_eq!((failed["state"].as_str(), failed["last_outcome"].as_str()), (Some("failed"), Some("failed")));
    assert!(failed["last_message"].as_str().unwrap().contains("/bin/false"), "{failed}");
}

#[test]
fn inv_78_a_hook_that_fails_after_the_backup_is_shown() {
    let world = World::new();
    set_policy(&world, &with_failing_hook(&world, "after"));
    world.write("file", b"content");
    let output = world.backup();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("complete with gaps") && said(&output).contains("/bin/false"), "{}", said(&output));
    // The end of a job is recorded after it was reported.
    wait_until("it is recorded", Duration::from_secs(20), || listed(&world, "data")["state"] == "complete with gaps");
    let row = listed(&world, "data");
    assert!(row["last_message"].as_str().unwrap().contains("/bin/false") && row["last"].is_string(), "{row}");
}

#[test]
fn a_changed_policy_is_known_within_seconds_and_a_broken_one_is_shown() {
    let world = World::new();
    fs::create_dir(world.path("mail")).unwrap();
    let (before, mail) = (policy(&world), format!("\n[sources.mail]\npaths = [{:?}]\n", world.path("mail")));
    set_policy(&world, &(before.clone() + &mail));
    let ordered = run(&world, &["backup", "server:mail", "--wait"]);
    assert!(ordered.status.success(), "a set that was just added: {}", said(&ordered));
    wait_until("it is listed", Duration::from_secs(20), || listed(&world, "mail")["state"] == "complete");
    set_policy(&world, "[sources.data]\npaths = [\"/srv\"]\nexlude = []\n");
    wait_until("it is shown as broken", Duration::from_secs(20), || {
        listed(&world, "data")["state"] == "policy invalid"
    });
    assert!(listed(&world, "mail")["policy_problem"].as_str().unwrap().contains("exlude"));
    refused(&run(&world, &["backup", "server"]), &["policy is invalid", "exlude"]);
    world.lab.stop(Side::Agent).unwrap();
    world.lab.run_agent().unwrap();
    wait_until("also after a start", Duration::from_secs(20), || {
        let row = listed(&world, "data");
        row["state"] == "policy invalid" && row["connected"] == true
    });
    set_policy(&world, &before);
    let pid = world.lab.pid(Side::Agent).unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    wait_until("mended", Duration::from_secs(20), || listed(&world, "data")["state"] == "complete");
    assert_eq!(listed(&world, "mail")["state"], "not in policy", "it has snapshots");
    assert_eq!(world.lab.pid(Side::Agent).unwrap().to_string(), pid);
    world.write("file", b"content");
    world.backed_up();
}

#[test]
fn a_waiting_order_does_not_make_a_dead_host_running_and_a_typo_leaves_nothing() {
    let world = World::new();
    refused(&run(&world, &["backup", "server:dtaa"]), &["server has no source set dtaa", "data"]);
    world.lab.stop(Side::Agent).unwrap();
    refused(&run(&world, &["backup", "server:dtaa"]), &["not connected", "data"]);
    let begun = Instant::now();
    let waited = run(&world, &["backup", "server:data", "--wait", "--timeout", "1s"]);
    refused(&waited, &["server is not connected", "backup of server:data continues as job", "lifeboat job cancel"]);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let row = listed(&world, "data");
    assert_eq!((row["queued"].as_bool(), row["running"].as_bool()), (Some(true), Some(false)), "{row}");
    assert!(row["last_seen"].is_string());
    let jobs = world.json(&["job", "list"]);
    let job = jobs.iter().find(|job| job["state"] == "queued").unwrap();
    assert!(job["ordered"].is_string() && job["began"].is_null(), "{job}");
    let name = job["job"].as_str().unwrap();
    assert!(run(&world, &["job", "cancel", name]).status.success());
    wait_until("it is recorded", Duration::from_secs(20), || listed(&world, "data")["last_outcome"] == "cancelled");
    let cancelled = listed(&world, "data");
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    assert!(cancelled["next"].as_str() > cancelled["last_attempt"].as_str(), "{cancelled}");
    assert_eq!(world.json(&["host", "list"]).len(), 1, "no set of a typo");
}

/// Ctrl-C ends the waiting; the backup is queued behind a host that is away, so that it cannot end meanwhile.
#[test]
fn ctrl_c_says_that_the_backup_continues() {
    let world = World::new();
    world.lab.stop(Side::Agent).unwrap();
    let log = world.path("waiting.log");
    let mut command = world.lab.lifeboat_command();
    let mut waits =
        command.args(["backup", "server:data", "--wait"]).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let text = || fs::read_to_string(&log).unwrap();
    wait_until("it waits", Duration::from_secs(20), || text().contains("is not connected"));
    assert!(Command::new("kill").args(["-INT", &waits.id().to_string()]).status().unwrap().success());
    assert_eq!(waits.wait().unwrap().code(), Some(1));
    assert!(text().contains("backup of server:data continues as job"), "{}", text());
}

#[test]
fn failed_jobs_and_refused_enrolments_are_told_to_the_operator() {
    let world = World::new();
    set_policy(&world, &with_failing_hook(&world, "before"));
    refused(&world.backup(), &["/bin/false"]);
    let spent = world.lab.path("token");
    let other = world.lab.path("other");
    let enrol = ["--state", &other, "--config", &other, "enrol", "--name", "web9", "--token-file", &spent];
    refused(&world.lab.try_agent(&enrol).unwrap(), &["token"]);
    let list = said(&run(&world, &["host", "list"]));
    assert!(list.contains("enrolment of web9 refused 1 time"), "{list}");
    let before = world.lab.log(Side::Coordinator);
    world.lab.stop(Side::Coordinator).unwrap();
    world.lab.serve().unwrap();
    let again = said(&run(&world, &["host", "list"]));
    assert!(again.contains("enrolment of web9 refused 1 time"), "after a restart: {again}");
    refused(&world.lab.try_agent(&enrol).unwrap(), &["token"]);
    let twice = said(&run(&world, &["host", "list"]));
    assert!(twice.contains("enrolment of web9 refused 2 times"), "what is recorded and what is not yet: {twice}");
    let log = before + &world.lab.log(Side::Coordinator);
    let line =
        |word: &str| log.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("{word}: {log}")).to_owned();
    let failed = line("job failed");
    assert!(failed.contains("ERROR") && failed.contains("server") && failed.contains("data"), "{failed}");
    assert!(line("enrolment refused").contains("WARN"));
    assert!(!log.contains('\u{1b}'), "no colours in a file");
}

/// Creates a token, and enrols with it a server whose state is in this directory.
fn enrol(world: &World, state: &str, name: &str, token_arguments: &[&str]) -> Output {
    let (token, state) = (world.lab.path("token-again"), world.lab.path(state));
    let created = world.lab.lifeboat(&[&["token", "create"], token_arguments].concat()).unwrap();
    fs::write(&token, created.stdout).unwrap();
    let arguments = ["--state", &state, "--config", &state, "enrol", "--name", name, "--token-file", &token];
    world.lab.try_agent(&arguments).unwrap()
}

fn back_up_from(world: &World, state: &str) -> Output {
    let state = world.lab.path(state);
    world.lab.try_agent(&["--state", &state, "--config", &state, "backup", "data", "--json"]).unwrap()
}

#[test]
fn inv_50_a_server_that_enrols_again_with_its_keys_stays_the_same_host() {
    let world = World::new();
    world.write("file", b"content");
    let first = world.backed_up();
    world.lab.stop(Side::Agent).unwrap();
    refused(&enrol(&world, "agent", "other", &[]), &["enrolled already, as host 1 (server)"]);
    let again = enrol(&world, "agent", "server", &[]);
    assert!(again.status.success() && said(&again).contains("this server is host 1 (server)"), "{}", said(&again));
    world.lab.run_agent().unwrap();
    world.assert_restores(&first, &world.source(), "first");
    world.write("file", b"more content");
    let second = world.backed_up();
    assert_eq!(world.json(&["host", "list"]).len(), 1);
    world.assert_restores(&second, &world.source(), "second");
}

#[test]
fn inv_51_a_replacement_keeps_number_and_snapshots_and_the_old_machine_is_refused() {
    let world = World::new();
    world.write("file", &noise(7, 2_000_000));
    let before = world.backed_up();
    refused(&enrol(&world, "new", "server", &[]), &["already exists", "lifeboat token create --replace server"]);
    refused(&run(&world, &["token", "create", "--replace", "nobody"]), &["nobody"]);
    let replaced = enrol(&world, "new", "server", &["--replace", "server"]);
    assert!(
        replaced.status.success() && said(&replaced).contains("this server is host 1 (server)"),
        "{}",
        said(&replaced)
    );
    let refusal = "another server was enrolled in the place of this host";
    wait_until("the old machine is cut off", Duration::from_secs(20), || world.lab.log(Side::Agent).contains(refusal));
    assert_eq!(listed(&world, "data")["connected"], false);
    world.lab.stop(Side::Agent).unwrap();
    refused(&back_up_from(&world, "agent"), &[refusal]);
    fs::copy(world.path("agent/policy.toml"), world.path("new/policy.toml")).unwrap();
    let output = back_up_from(&world, "new");
    assert!(output.status.success(), "{}", said(&output));
    let sent = crate::world::summary_of(&output)["sent_bytes"].as_u64().unwrap();
    assert!(sent < 1_000_000, "what the host had sent before is not sent again: {sent}");
    let hosts = world.json(&["host", "list"]);
    assert!(hosts.iter().all(|row| row["number"] == 1 && row["host"] == "server"), "{hosts:?}");
    for snapshot in [before, snapshot_of(&output).unwrap()] {
        world.assert_restores(&snapshot, &world.source(), "restored");
    }
    let verified = run(&world, &["repository", "verify"]);
    assert!(verified.status.success(), "each manifest under the key of its time: {}", said(&verified));
    let read = second_reader::run(&world.lab.repository(), &world.path("recovery-kit"), &[]);
    assert!(read.status.success(), "the second reader finds the same: {}", said(&read));
    world.lab.stop(Side::Coordinator).unwrap();
    world.lab.serve().unwrap();
    refused(&back_up_from(&world, "agent"), &[refusal]);
    assert!(back_up_from(&world, "new").status.success(), "also after a restart");
}
