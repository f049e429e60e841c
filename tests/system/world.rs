//! A lab in a temporary directory, with a source that tests write to.

use lifeboat_coordinator::cli::demo::compare::compare;
use lifeboat_coordinator::cli::demo::lab::{Lab, Programs};
use serde_json::Value;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A lab with one host, `server`, whose set `data` is the directory [`World::source`].
pub struct World {
    pub directory: tempfile::TempDir,
    pub lab: Lab,
}

impl World {
    /// Everything runs, the host is enrolled, its first backup is done: of nothing.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// The same in a directory of its own below `place`.
    pub fn below(place: &Path) -> Self {
        Self::prepared(place, |_| ())
    }

    /// The same, where something was made in that directory before.
    pub fn prepared(place: &Path, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir_in(place).unwrap();
        prepare(directory.path());
        Self::with(directory, Programs::find().unwrap())
    }

    /// The same, in this directory, with these programs.
    pub fn with(directory: tempfile::TempDir, programs: Programs) -> Self {
        fs::create_dir(directory.path().join("source")).unwrap();
        let lab = Lab::create(directory.path(), programs).unwrap();
        lab.serve().unwrap();
        lab.enrol("server", &[&directory.path().join("source")]).unwrap();
        lab.run_agent().unwrap();
        let world = Self { directory, lab };
        // A new host is due at once: what a test then does is not to meet that first backup.
        world.backed_up();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// The source in the newest snapshot, as commands name it.
    pub fn address(&self) -> String {
        format!("server:{}", self.source().display())
    }

    /// What `lifeboat` finds in its environment: for a program that runs it.
    pub fn settings(&self) -> Vec<(OsString, OsString)> {
        let command = self.lab.lifeboat_command();
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
    }

    /// Writes a file anew: an older hard link to it keeps the older content.
    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _absent = fs::remove_file(&path);
        fs::write(path, content).unwrap();
    }

    /// Orders a backup and waits for it.
    pub fn backup(&self) -> Output {
        self.lab.try_lifeboat(&["backup", "server:data", "--wait", "--json"]).unwrap()
    }

    /// A backup that must succeed; the id of its snapshot.
    pub fn backed_up(&self) -> String {
        let output = self.backup();
        assert!(output.status.success(), "{}", said(&output));
        snapshot_of(&output).unwrap()
    }

    /// Changes what the host's policy says of restores.
    pub fn set_law(&self, line: &str) {
        let path = self.path("agent/policy.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("\nrestore = "), "{text}");
        let lines = text.lines().map(|old| if old.starts_with("restore = ") { line } else { old });
        fs::write(path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    }

    /// Restores a snapshot to a new directory of this name and compares it with `original`.
    pub fn assert_restores(&self, snapshot: &str, original: &Path, name: &str) {
        let target = self.path(name);
        let address = format!("server:{}@{snapshot}", self.source().display());
        let output = self.lab.try_lifeboat(&["restore", &address, "--to", target.to_str().unwrap()]).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let differences = compare(original, &target).unwrap().differences;
        assert!(
            differences.is_empty(),
            "{}",
            differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
        fs::remove_dir_all(target).unwrap();
    }

    /// What a command printed with `--json`, a value a line.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.lab.lifeboat(&[arguments, &["--json"]].concat()).unwrap();
        values(&output)
    }
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// The snapshot that a `backup --wait --json` acknowledged.
pub fn snapshot_of(output: &Output) -> Option<String> {
    values(output).iter().find_map(|value| Some(value.get("snapshot")?.as_str()?.to_owned()))
}

/// The last value that a restore printed with `--json`; those before tell how far it was.
pub fn summary_of(output: &Output) -> Value {
    values(output).pop().unwrap()
}

pub fn values(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let values: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    values
        .into_iter()
        .flat_map(|value| match value {
            Value::Array(values) => values,
            value => vec![value],
        })
        .collect()
}

/// All that a command said.
pub fn said(output: &Output) -> String {
    format!("{}\n{}{}", output.status, String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A command must have failed, with these words in what it said.
pub fn refused(output: &Output, words: &[&str]) {
    let text = said(output);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("error:"), "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}
