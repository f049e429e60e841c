//! The last way in: the repository, the recovery kit on paper, and the reader that shares no code with the programs.

use crate::world::{World, said};
use lifeboat_tests::second_reader;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Good snapshots, and then one that is suspect: nearly everything is gone from it.
fn emptied() -> World {
    let world = World::new();
    (0..20).for_each(|file| world.write(&format!("etc/file-{file}"), b"content"));
    world.write("etc/hostname", b"web1\n");
    fs::hard_link(world.source().join("etc/hostname"), world.source().join("name")).unwrap();
    world.backed_up();
    fs::remove_dir_all(world.source().join("etc")).unwrap();
    let suspect = said(&world.backup());
    assert!(suspect.contains("suspect"), "{suspect}");
    world
}

/// What somebody types from paper: the words alone.
fn typed(world: &World) -> PathBuf {
    let kit = fs::read_to_string(world.path("recovery-kit")).unwrap();
    let words = kit.split("words:").nth(1).unwrap();
    let words: String = words.lines().take_while(|line| !line.contains(':')).map(|line| format!("{line}\n")).collect();
    assert!(!words.contains("AGE-SECRET"), "{words}");
    let file = world.path("typed-words");
    fs::write(&file, words).unwrap();
    file
}

fn read(world: &World, identity: &Path, arguments: &[&str]) -> Output {
    second_reader::run(&world.lab.repository(), identity, arguments)
}

#[test]
fn the_words_list_snapshots_with_dates_and_never_restore_a_suspect_one_unasked() {
    let world = emptied();
    let words = typed(&world);
    let listed = String::from_utf8(read(&world, &words, &[]).stdout).unwrap();
    let (suspect, good): (Vec<_>, Vec<_>) =
        listed.lines().partition(|line| line.contains("SUSPECT: the source shrank"));
    assert_eq!(suspect.len(), 1, "{listed}");
    let year = year_of(&listed);
    assert!(good.iter().chain(&suspect).all(|line| line.contains(&year) && line.contains(" server ")), "{listed}");

    let there = world.path("all");
    let path = world.source().strip_prefix("/").unwrap().display().to_string();
    let restored = read(
        &world,
        &words,
        &["--host", "server", "--set", "data", "--restore", there.to_str().unwrap(), "--path", &path],
    );
    assert!(restored.status.success(), "{}", said(&restored));
    assert_eq!(fs::read(there.join("etc/hostname")).unwrap(), b"web1\n");
    assert_eq!(fs::read_dir(there.join("etc")).unwrap().count(), 21);
}

/// The year of the first line, as the list has it.
fn year_of(listed: &str) -> String {
    let date = listed.split_whitespace().nth(1).unwrap();
    assert!(date.len() == 10 && date.starts_with("20") && date.matches('-').count() == 2, "{listed}");
    format!(" {}", &date[..5])
}

#[test]
fn a_single_file_is_restored_under_its_name_also_a_hard_link() {
    let world = emptied();
    let words = typed(&world);
    for (name, directory) in [("etc/hostname", "one"), ("name", "two")] {
        let path = world.source().join(name).strip_prefix("/").unwrap().display().to_string();
        let there = world.path(directory);
        let restored =
            read(&world, &words, &["--host", "server", "--restore", there.to_str().unwrap(), "--path", &path]);
        assert!(restored.status.success(), "{}", said(&restored));
        assert_eq!(fs::read(there.join(Path::new(name).file_name().unwrap())).unwrap(), b"web1\n");
        assert_eq!(fs::read_dir(there).unwrap().count(), 1);
    }
}

#[test]
fn mistakes_on_the_worst_day_are_named() {
    let world = emptied();
    let words = typed(&world);
    let refused = |output: Output, text: &str| {
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(text), "{text:?} is not in {}", said(&output));
    };
    refused(second_reader::run(&world.path("source"), &words, &[]), "is not a Lifeboat repository");
    refused(read(&world, &words, &["--host", "web7"]), "there is no host web7; there are: server");
    refused(read(&world, &words, &["--host", "server", "--path", "no/such"]), "there is no no/such in snapshot");
    let text = fs::read_to_string(&words).unwrap();
    let first = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).unwrap();
    let with = |from: &str, to: &str| {
        let file = world.path("mistyped");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        read(&world, &file, &[])
    };
    refused(with(first, "lifeboot"), "word 1, 'lifeboot', is not in the list");
    refused(with(first, ""), "23 words, and 24 are needed");
    refused(with(first, if first == "zoo" { "zone" } else { "zoo" }), "");
}

#[test]
fn without_its_packages_the_reader_names_them_and_explains_itself() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("reader/lifeboat_reader.py");
    // Without the directories in which packages are installed.
    let run = |arguments: &[&str]| {
        let mut python = Command::new("python3");
        python.args(["-I", "-S"]).arg(&script).args(arguments).output().unwrap()
    };
    assert!(run(&["--help"]).status.success());
    let bare = run(&["/", "--identity", "/dev/null"]);
    assert_eq!(bare.status.code(), Some(1));
    let text = said(&bare);
    assert!(text.contains("pip install blake3 cryptography zstandard") && !text.contains("Traceback"), "{text}");
}
