//! Commands of a source set whose standard output becomes a file of the snapshot: a dump of a database, a package list.
//!
//! The output lies under `commands/SET/NAME` in the state directory while it is backed up, and is removed when the job
//! ends; what a killed agent left is removed by the next one before it does anything else. A command that fails leaves no
//! file there, but a gap: never a short file that looks whole.

use crate::policy::SourceSet;
use crate::program::{self, Bounds, Output};
use crate::state::{StateDir, StateError};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The output of the commands of one source set; taken away again when dropped.
#[derive(Debug)]
pub struct CommandOutput {
    directory: PathBuf,
    any: bool,
    gaps: Vec<(Vec<u8>, String)>,
}

impl CommandOutput {
    /// Runs all commands of a set, one after the other, each for at most `limit`, until `stop` is set.
    pub fn collect(
        state: &StateDir,
        name: &str,
        set: &SourceSet,
        limit: Duration,
        stop: &AtomicBool,
    ) -> Result<Self, StateError> {
        let directory = state.commands().join(name);
        clear(&directory).map_err(StateError::at("clear", &directory))?;
        if !set.commands.is_empty() {
            DirBuilder::new().mode(0o700).create(&directory).map_err(StateError::at("make", &directory))?;
        }
        let mut output = Self { directory, any: !set.commands.is_empty(), gaps: Vec::new() };
        let scratch = state.scratch();
        let bounds = Bounds { time: limit, stop, scratch: &scratch };
        for (name, words) in &set.commands {
            let path = output.directory.join(name);
            if let Err(reason) = run_into(words, &path, &bounds) {
                tracing::warn!(command = name, reason, "a command of the policy failed");
                output.gaps.push((tree_path(&path), format!("its command failed: {reason}")));
            }
        }
        Ok(output)
    }

    /// Where the output lies.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A further root of the backup; none if the set has no commands.
    pub fn root(&self) -> Option<PathBuf> {
        self.any.then(|| self.directory.clone())
    }

    /// The files that commands should have made and did not, by their path in the tree, and why.
    pub fn gaps(&self) -> &[(Vec<u8>, String)] {
        &self.gaps
    }
}

impl Drop for CommandOutput {
    fn drop(&mut self) {
        if let Err(error) = clear(&self.directory) {
            tracing::warn!(directory = ?self.directory, %error, "cannot take away the output of commands");
        }
    }
}

/// Runs one command into a temporary name, which becomes the file's name only when all went well.
fn run_into(words: &[String], path: &Path, bounds: &Bounds<'_>) -> Result<(), String> {
    let unfinished = bounds.scratch.join(format!("command-{}", std::process::id()));
    let told = |error: &dyn std::error::Error| lifeboat_proto::status::with_causes(error);
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let ended = output
        .map_err(|error| told(&error))
        .and_then(|output| program::run(words, Output::Kept(output), bounds).map_err(|error| told(&error)))
        .and_then(|()| fs::rename(&unfinished, path).map_err(|error| told(&error)));
    if ended.is_err() {
        // What cannot be removed now is overwritten by the next command.
        let _ = fs::remove_file(&unfinished);
    }
    ended
}

fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn tree_path(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    #[test]
    fn a_command_that_fails_is_a_gap_and_never_a_short_file() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let policy: Policy = r#"
            [sources.db]
            paths = []
            commands = { good = ["/bin/echo", "whole"], bad = ["/bin/sh", "-c", "echo half; exit 1"] }
        "#
        .parse()
        .unwrap();
        let set = &policy.sources[&"db".parse().unwrap()];
        let never = AtomicBool::new(false);
        let output = CommandOutput::collect(&state, "db", set, Duration::from_secs(20), &never).unwrap();
        let root = output.root().unwrap();
        assert_eq!(fs::read_to_string(root.join("good")).unwrap(), "whole\n");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        let [(path, reason)] = output.gaps() else { panic!("{:?}", output.gaps()) };
        assert!(path.ends_with(b"commands/db/bad") && !path.starts_with(b"/"));
        assert!(reason.starts_with("its command failed: /bin/sh ended with exit status: 1"), "{reason}");
        drop(output);
        assert!(!root.exists());
    }
}
