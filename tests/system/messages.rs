//! What the programs answer to an operator who made a mistake, or has a bad day: the next step, and never a wrong one.

use crate::world::{World, refused, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Output};

fn run(world: &World, arguments: &[&str]) -> Output {
    world.lab.try_lifeboat(arguments).unwrap()
}

#[test]
fn a_wrong_target_of_a_restore_is_named_with_what_to_do() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let address = world.address();
    let file = world.source().join("file");
    refused(
        &run(&world, &["restore", &address, "--to", file.to_str().unwrap()]),
        &["is a file; --to takes a directory"],
    );
    let into = run(&world, &["restore", &address, "--into", "/x"]);
    refused(&into, &["--into names a directory on a server", "hint: add --on HOST, or use --to DIR"]);
    assert_eq!(into.status.code(), Some(2));
    let usage = run(&world, &["restore"]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(!said(&usage).contains("--state"), "it is set by the environment: {}", said(&usage));
    assert_eq!(fs::read(file).unwrap(), b"content");
}

#[test]
fn commands_of_other_programs_lead_to_ours() {
    let world = World::new();
    for (name, hint) in
        [("verify", "`lifeboat repository verify`"), ("prune", "nothing is deleted yet"), ("key", "recovery kit")]
    {
        let output = run(&world, &[name]);
        refused(&output, &["hint: ", hint]);
        assert_eq!(output.status.code(), Some(2));
        assert!(!said(&output).contains("similar subcommand"), "{}", said(&output));
    }
    refused(&run(&world, &["snapshot"]), &["similar subcommand", "snapshots"]);
}

#[test]
fn a_point_in_time_before_all_snapshots_names_the_oldest() {
    let world = World::new();
    world.backed_up();
    refused(
        &run(&world, &["ls", "server:/@2001-01-01"]),
        &["server has no snapshot at 2001-01-01; the oldest is from 2"],
    );
    refused(&run(&world, &["ls", "server:/@abcdef012345"]), &["server has no snapshot whose ID begins with"]);
}

#[test]
fn a_token_lives_as_long_as_was_typed_up_to_a_week() {
    let world = World::new();
    for duration in ["2days", "7d", "1week", "1h30m", "168h", "1 h"] {
        let output = run(&world, &["token", "create", "--expires", duration]);
        assert!(output.status.success(), "{duration}: {}", said(&output));
    }
    for duration in ["8d", "169h", "0s", "2weeks"] {
        let words = ["at most a week", "hint: give --expires 1week or less"];
        refused(&run(&world, &["token", "create", "--expires", duration]), &words);
    }
    refused(
        &run(&world, &["token", "create", "--expires", "soon"]),
        &["\"soon\" is not a valid duration, such as 30min"],
    );
}

#[test]
fn on_the_worst_day_nothing_leads_away_from_the_repository() {
    let world = World::new();
    world.lab.kill(Side::Coordinator);
    let lost = ["When the coordinator is lost", "do not make a new one"];
    let (new, repository) = (world.path("new"), world.lab.path("repository"));
    let state = new.to_str().unwrap();
    refused(
        &run(&world, &["--state", state, "init", "--repository", &repository]),
        &["holds a Lifeboat repository", lost[0], lost[1]],
    );
    refused(&run(&world, &["--state", state, "serve"]), &["there is no coordinator in", lost[0], lost[1]]);
    assert!(!new.exists());
}

#[test]
fn a_listening_address_that_is_not_here_is_told_from_one_that_is_taken() {
    let world = World::new();
    world.lab.kill(Side::Coordinator);
    refused(
        &run(&world, &["serve", "--listen", "192.0.2.1:7420"]),
        &["no network interface of this machine has this address"],
    );
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(&world, &["serve", "--listen", &address]), &["is another program using this port?"]);
}

#[test]
fn a_draft_of_a_policy_is_checked_by_its_bare_name_and_stays() {
    let world = World::new();
    let check = |name: &str| {
        let agent = lifeboat_coordinator::cli::demo::lab::Programs::find().unwrap().agent;
        let mut command = Command::new(agent);
        command.args(["policy", "check", name]).current_dir(world.directory.path()).envs(world.settings());
        command.output().unwrap()
    };
    let draft = "never = [\"/srv/secret\"]\n[sources.data]\npaths = [\"/no/such\", \"/srv/*\"]\n[hooks]\nstop = [\"/no/program\"]\n";
    fs::write(world.path("p.toml"), draft).unwrap();
    let output = check("p.toml");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for words in
        ["p.toml is valid; source sets: data", "/no/such does not exist", "takes no patterns", "/no/program does not"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    fs::write(world.path("p.toml"), "[sources.data]\npaths = \"/\nx").unwrap();
    for output in [check("p.toml"), check("absent.toml")] {
        refused(&output, &[]);
        assert!(!said(&output).contains('>'), "a hint must not write over a draft: {}", said(&output));
    }
    fs::copy(world.path("agent/policy.toml"), world.path("own.toml")).unwrap();
    let path = world.path("agent/policy.toml");
    let law = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("never = [\"/srv/secret\"]\n{law}")).unwrap();
    let sources = world.lab.agent(&["sources"]).unwrap();
    assert!(String::from_utf8(sources.stdout).unwrap().contains("never: /srv/secret"));
}

mod as_root {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_ordinary_user_is_told_to_be_root_and_nothing_else() {
        let world = World::new();
        fs::set_permissions(world.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let as_nobody = |program: &std::path::Path, arguments: &[&str]| {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).args(arguments);
            command.envs(world.settings()).output().unwrap()
        };
        let programs = lifeboat_coordinator::cli::demo::lab::Programs::find().unwrap();
        let copies = [(&programs.lifeboat, "lifeboat"), (&programs.agent, "lifeboat-agent")];
        for (program, name) in copies {
            // The build's own directory may be closed to others.
            fs::copy(program, world.path(name)).unwrap();
            fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (name, arguments) in
            [("lifeboat", &["host", "list"][..]), ("lifeboat-agent", &["status"]), ("lifeboat-agent", &["backup"])]
        {
            let output = as_nobody(&world.path(name), arguments);
            refused(&output, &["hint: run it as root: sudo lifeboat"]);
            for wrong in ["enrol", "move the directory", "chmod"] {
                assert!(!said(&output).contains(wrong), "{}", said(&output));
            }
        }
    }
}
