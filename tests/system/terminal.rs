//! What a person sees on a terminal, and is asked there; and what a pipe is spared.

use crate::world::{World, noise, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs `lifeboat` on a terminal of 120 columns, where `answer` is typed.
fn on_a_terminal(world: &World, arguments: &[&str], answer: &str) -> Output {
    on_columns(world, 120, arguments, answer)
}

fn on_columns(world: &World, columns: usize, arguments: &[&str], answer: &str) -> Output {
    let lifeboat = world.lab.lifeboat_command();
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let words = [lifeboat.get_program().to_str().unwrap()].into_iter().chain(arguments.iter().copied());
    let line = format!("stty cols {columns}; exec {}", words.map(quoted).collect::<Vec<_>>().join(" "));
    let typed = world.path("typed");
    fs::write(&typed, answer).unwrap();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm");
    script.envs(world.settings());
    script.stdin(fs::File::open(typed).unwrap()).stderr(Stdio::inherit()).output().unwrap()
}

#[test]
fn a_restore_shows_how_far_it_is_and_when_it_will_be_done_also_of_a_part_of_a_snapshot() {
    let world = World::new();
    world.write("other", &noise(1, 1 << 20));
    (0..24).for_each(|file| world.write(&format!("part/{file}"), &noise(file, 16 << 20)));
    world.backed_up();
    let address = format!("server:{}/part", world.source().display());
    let there = world.path("there");
    let restore = ["restore", &address, "--to", there.to_str().unwrap()];
    let seen = said(&on_a_terminal(&world, &restore, ""));
    for word in [" of 384.00 MiB, ", "/s, ", " left; ", " files, ", " there already"] {
        assert!(seen.contains(word), "{word:?} is not in {seen}");
    }
    // An agent says it every other second; this one is done by then.
    let ordered = said(&on_a_terminal(&world, &["restore", &address, "--on", "server", "--wait"], ""));
    assert!(ordered.contains(" of 384.00 MiB, "), "{ordered}");
    fs::remove_dir_all(&there).unwrap();
    let piped = said(&world.lab.try_lifeboat(&restore).unwrap());
    assert!(!piped.contains("MiB, "), "{piped}");
}

/// How many columns the widest line takes, without what moves the cursor or colours.
fn width(text: &str) -> usize {
    let mut widest = 0;
    for line in text.split(['\r', '\n']) {
        let mut parts = line.split("\x1b[");
        let first = parts.next().unwrap_or_default().chars().count();
        let rest =
            parts.map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').chars().count() - 1);
        widest = widest.max(first + rest.sum::<usize>());
    }
    widest
}

#[test]
fn listings_and_progress_fit_into_80_columns() {
    let world = World::new();
    (0..24).for_each(|file| world.write(&format!("part/{file}"), &noise(file, 16 << 20)));
    world.backed_up();
    let (address, there) = (format!("server:{}/part", world.source().display()), world.path("there"));
    let restored = on_columns(&world, 80, &["restore", &address, "--to", there.to_str().unwrap()], "");
    let seen = String::from_utf8(restored.stdout).unwrap();
    let progress =
        seen.split(['\r', '\n']).filter(|line| line.contains(" of 384.00 MiB")).collect::<Vec<_>>().join("\n");
    assert!(!progress.is_empty() && width(&progress) <= 80, "{progress}");
    fs::remove_dir_all(&there).unwrap();
    for list in [&["snapshots"][..], &["versions", &format!("{address}/1")]] {
        let text = String::from_utf8(world.lab.lifeboat(list).unwrap().stdout).unwrap();
        assert!(text.lines().count() > 1 && width(&text) <= 80, "{text}");
    }
}

#[test]
fn a_mirror_says_how_much_it_would_delete_and_asks() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let address = world.address();
    for (target, more) in [
        (world.path("here"), &["--to", &world.lab.path("here")][..]),
        (world.path("agent/restore/there"), &["--on", "server", "--into", "there", "--wait"]),
    ] {
        let restore = [&["restore", &address][..], more].concat();
        assert!(world.lab.try_lifeboat(&restore).unwrap().status.success());
        fs::create_dir(target.join("extra")).unwrap();
        fs::write(target.join("extra/file"), "").unwrap();
        let mirror = [&restore[..], &["--overwrite", "always", "--delete"]].concat();
        for answer in ["n\n", "\n", "maybe\n"] {
            let refused = on_a_terminal(&world, &mirror, answer);
            let text = said(&refused);
            assert!(text.contains("2 entries in ") && text.contains("would be deleted"), "{text}");
            assert!(text.contains("Go on? [y/N]") && text.contains("nothing deleted"), "{text}");
            assert!(!refused.status.success() && target.join("extra/file").exists(), "{text}");
        }
        let output = on_a_terminal(&world, &mirror, "y\n");
        assert!(output.status.success() && !target.join("extra").exists(), "{}", said(&output));
    }
}

#[test]
fn a_coordinator_outlives_the_terminal_that_it_was_started_from() {
    let world = World::new();
    let coordinator = world.lab.pid(Side::Coordinator).unwrap();
    assert!(Command::new("kill").args(["-HUP", &coordinator.to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !world.lab.log(Side::Coordinator).contains("SIGHUP is ignored") {
        assert!(Instant::now() < deadline, "{}", world.lab.log(Side::Coordinator));
        std::thread::sleep(Duration::from_millis(20));
    }
    world.write("file", b"content");
    world.backed_up();
    assert_eq!(world.lab.pid(Side::Coordinator), Some(coordinator));
}
