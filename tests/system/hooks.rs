//! Hooks around a backup, and commands whose output is backed up, whatever becomes of the backup.

use crate::world::{World, said, values};
use lifeboat_coordinator::cli::demo::lab::{Programs, Side};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A host whose set has a hook before and one after the backup, each of which writes a line, and a further entry.
struct Hooked {
    world: World,
    lines: PathBuf,
}

impl Hooked {
    /// `after` is a script for the hook after the backup; `more` is more of the set.
    fn new(after: &str, more: &str) -> Self {
        let world = World::new();
        world.write("file", b"content");
        let lines = world.path("lines");
        let source = world.source();
        world
            .lab
            .set_sources(&format!(
                "data = {{ paths = [{source:?}], hooks = {{ before = [\"before\"], after = [\"after\"] }}{more} }}"
            ))
            .unwrap();
        let policy = world.path("agent/policy.toml");
        let line = |word: &str, then: &str| {
            let script = format!("echo {word} >> {}; {then}", lines.display());
            format!("{word} = [\"/bin/sh\", \"-c\", {script:?}]\n")
        };
        let hooks = format!("[hooks]\n{}{}", line("before", ""), line("after", after));
        fs::write(&policy, fs::read_to_string(&policy).unwrap() + &hooks).unwrap();
        Self { world, lines }
    }

    fn lines(&self) -> String {
        fs::read_to_string(&self.lines).unwrap_or_default()
    }

    /// Waits until the hook before the backup has run.
    fn wait_for_begin(&self) {
        let started = Instant::now();
        while !self.lines().contains("before") {
            assert!(started.elapsed() < Duration::from_secs(60), "no backup began");
            sleep(Duration::from_millis(20));
        }
    }

    fn by_hand(&self) -> Child {
        let mut agent = Command::new(Programs::find().unwrap().agent);
        let state = self.world.path("agent");
        agent.env("LIFEBOAT_AGENT_STATE", &state).env("LIFEBOAT_AGENT_CONFIG", &state);
        agent.args(["backup", "data"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn end(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_hook_after_the_backup_that_fails_shows_everywhere() {
    let hooked = Hooked::new("echo the database is down >&2; exit 7", "");
    let output = hooked.world.backup();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    let ended = values(&output).pop().unwrap();
    assert_eq!(ended["outcome"], "complete with gaps");
    assert!(ended["snapshot"].is_string());
    for message in [&ended["message"], &hooked.world.json(&["host", "list"])[0]["last_message"]] {
        let message = message.as_str().unwrap();
        assert!(message.contains("hook after failed") && message.contains("the database is down"), "{message}");
    }
    assert_eq!(hooked.world.json(&["host", "list"])[0]["last_outcome"], "complete with gaps");
    let policy = hooked.world.path("agent/policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    fs::write(&policy, text.replace("exit 7", "exit 0")).unwrap();
    hooked.world.backed_up();
    let row = hooked.world.json(&["host", "list"]).remove(0);
    assert_eq!((row["last_outcome"].as_str(), row["last_message"].as_str()), (Some("complete"), None), "{row}");
}

#[test]
fn an_interrupted_backup_runs_the_hooks_after_it() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        let hooked = Hooked::new("", ", commands = { slow = [\"/bin/sleep\", \"600\"] }");
        hooked.world.lab.kill(Side::Agent);
        let agent = hooked.by_hand();
        hooked.wait_for_begin();
        end(agent.id(), signal);
        let output = agent.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{signal}: {}", said(&output));
        assert_eq!(hooked.lines(), "before\nafter\n", "{signal}");
        assert_eq!(fs::read_dir(hooked.world.path("agent/commands")).unwrap().count(), 0, "{signal}");
    }
}

#[test]
fn a_service_that_is_stopped_runs_the_hooks_after_its_backup() {
    let hooked = Hooked::new("", ", commands = { slow = [\"/bin/sleep\", \"600\"] }");
    hooked.world.lab.lifeboat(&["backup", "server:data"]).unwrap();
    hooked.wait_for_begin();
    assert!(hooked.world.lab.stop(Side::Agent).unwrap().unwrap().success());
    assert_eq!(hooked.lines(), "before\nafter\n");
}

#[test]
fn the_output_of_a_command_does_not_outlive_a_killed_agent_for_long() {
    let world = World::new();
    let sources = format!(
        "data = [{:?}]\ndb = {{ paths = [], commands = {{ dump = [\"/bin/echo\", \"secret\"], slow = [\"/bin/sleep\", \"600\"] }} }}",
        world.source()
    );
    world.lab.set_sources(&sources).unwrap();
    world.lab.kill(Side::Agent);
    world.lab.run_agent().unwrap();
    world.lab.lifeboat(&["backup", "server:db"]).unwrap();
    let dump = world.path("agent/commands/db/dump");
    let started = Instant::now();
    while !dump.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "no dump");
        sleep(Duration::from_millis(20));
    }
    world.lab.kill(Side::Agent);
    assert_eq!(fs::read(&dump).unwrap(), b"secret\n");
    world.lab.set_sources(&format!("data = [{:?}]", world.source())).unwrap();
    world.lab.run_agent().unwrap();
    assert!(!dump.exists());
}
