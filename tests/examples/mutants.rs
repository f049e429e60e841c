//! Breaks the code on purpose, a way at a time, and sees the test fail that must: `make mutants [ARGS="NN…"]`.
//!
//! The ways stand in `tests/mutants/*.toml`, by invariant; numbers as arguments choose some. Each is tried in a copy of
//! this checkout in the cache folder, which stays there so that the next call compiles little. A mutant that no test
//! notices, or that does not compile, ends this with an error. That the list fits the code is for `tidy`.

#![allow(clippy::unwrap_used)] // A panic here is a list or a machine that does not fit.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// One way to break the code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    /// What is wrong then.
    what: String,
    /// The file, from the top of the checkout.
    file: String,
    /// Text that stands there once.
    find: String,
    /// What stands there instead.
    replace: String,
    /// The test that must fail, by its whole name.
    test: String,
}

/// How a trial ended.
enum Ended {
    Noticed,
    Survived,
    DoesNotCompile(String),
}

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copy = cache().join("mutants");
    let _lock = lock(&copy);
    mirror(top, &copy);
    let mut wrong = 0;
    for (invariant, mutants) in list(top) {
        if !wanted.is_empty() && !wanted.contains(&invariant.to_string()) {
            continue;
        }
        for mutant in mutants {
            let verdict = match try_out(&copy, &mutant) {
                Ended::Noticed => "noticed",
                Ended::Survived => "SURVIVED",
                Ended::DoesNotCompile(why) => {
                    eprintln!("{why}");
                    "DOES NOT COMPILE"
                }
            };
            wrong += u32::from(verdict != "noticed");
            println!("INV-{invariant}: {}: {verdict} by {}", mutant.what, mutant.test);
        }
    }
    println!("{wrong} not noticed");
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn list(top: &Path) -> BTreeMap<u32, Vec<Mutant>> {
    let mut all = BTreeMap::<u32, Vec<Mutant>>::new();
    for file in fs::read_dir(top.join("tests/mutants")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let parsed: BTreeMap<String, Vec<Mutant>> = toml::from_str(&text).unwrap();
        for (name, mutants) in parsed {
            let id = name.strip_prefix("INV-").and_then(|id| id.parse().ok());
            all.entry(id.expect("tables are called INV-NN")).or_default().extend(mutants);
        }
    }
    all
}

/// Changes the file, runs the test, and changes it back.
fn try_out(copy: &Path, mutant: &Mutant) -> Ended {
    let path = copy.join(&mutant.file);
    let whole = fs::read_to_string(&path).unwrap();
    assert_eq!(whole.matches(&mutant.find).count(), 1, "{}: {:?} must stand there once", mutant.file, mutant.find);
    fs::write(&path, whole.replacen(&mutant.find, &mutant.replace, 1)).unwrap();
    let ended = run(copy, &mutant.test);
    fs::write(&path, whole).unwrap();
    ended
}

fn run(copy: &Path, test: &str) -> Ended {
    let (package, target) = place_of(copy, test);
    let cargo = copy.join("packaging/build/cargo");
    let run = |command: &mut Command, last: &[&str]| {
        command.args(["test", "--release", "--locked", "--package", &package]).args(&target).args(last);
        // The copy has a target directory of its own: this checkout's must not take broken code for its own.
        command.current_dir(copy).env_remove("CARGO_TARGET_DIR").output().unwrap()
    };
    let compiled = run(&mut Command::new(&cargo), &["--no-run"]);
    if !compiled.status.success() {
        return Ended::DoesNotCompile(String::from_utf8_lossy(&compiled.stderr).into_owned());
    }
    // A test that hangs has noticed too.
    match run(Command::new("timeout").arg("400").arg(&cargo), &["--", test]).status.success() {
        true => Ended::Survived,
        false => Ended::Noticed,
    }
}

/// The package that has the test, and the target within it.
fn place_of(copy: &Path, test: &str) -> (String, Vec<String>) {
    let needle = format!("fn {test}(");
    let has_it = |path: &Path| fs::read_to_string(path).unwrap_or_default().contains(&needle);
    let files = walkdir::WalkDir::new(copy).sort_by_file_name().into_iter().map(|entry| entry.unwrap().into_path());
    let file = files.filter(|path| path.extension().is_some_and(|end| end == "rs")).find(|path| has_it(path));
    let file = file.unwrap_or_else(|| panic!("there is no test {test}"));
    let parts: Vec<_> = file.strip_prefix(copy).unwrap().iter().map(|part| part.to_string_lossy()).collect();
    let target = match &*parts[0] {
        "tests" => vec!["--test".to_owned(), parts[1].to_string()],
        _ => vec!["--lib".to_owned()],
    };
    (format!("lifeboat-{}", parts[0]), target)
}

/// Makes `copy` equal to the checkout; files that are equal keep their times, so little is compiled.
fn mirror(top: &Path, copy: &Path) {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(top).output().unwrap();
    let names: Vec<String> =
        String::from_utf8(listed.stdout).unwrap().split_terminator('\0').map(str::to_owned).collect();
    for entry in walkdir::WalkDir::new(copy).into_iter().map(Result::unwrap) {
        let name = entry.path().strip_prefix(copy).unwrap().to_string_lossy().into_owned();
        if entry.file_type().is_file() && name != LOCK && !names.contains(&name) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    for name in names {
        let (from, to) = (top.join(&name), copy.join(&name));
        let bytes = fs::read(&from).unwrap();
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&from, &to).unwrap();
    }
}

const LOCK: &str = "lock";

/// Only one of these works on the copy.
fn lock(copy: &Path) -> fs::File {
    fs::create_dir_all(copy).unwrap();
    let lock = fs::File::create(copy.join(LOCK)).unwrap();
    lock.lock().unwrap();
    lock
}

fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    base.expect("HOME is set").join("lifeboat")
}
