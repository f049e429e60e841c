//! Commands of a source set whose standard output becomes a file of the snapshot: a dump of a database, a package list.
//!
//! The output lies under `commands/SET/NAME` in the state directory while it is backed up. A command that fails leaves
//! no file there, but a gap: never a short file that looks whole.

use crate::policy::SourceSet;
use crate::program;
use crate::state::{StateDir, StateError};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The output of the commands of one source set; taken away again when dropped.
#[derive(Debug)]
pub struct CommandOutput {
    directory: Option<PathBuf>,
    gaps: Vec<CommandGap>,
}

/// A file that a command should have made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandGap {
    /// Where it would be in the tree: no leading slash.
    pub path: Vec<u8>,
    /// Why it is not there.
    pub reason: String,
}

impl CommandOutput {
    /// Runs all commands of a set, one after the other, each for at most `limit`.
    pub fn collect(state: &StateDir, name: &str, set: &SourceSet, limit: Duration) -> Result<Self, StateError> {
        let directory = state.commands().join(name);
        clear(&directory).map_err(StateError::at("clear", &directory))?;
        if set.commands.is_empty() {
            return Ok(Self { directory: None, gaps: Vec::new() });
        }
        DirBuilder::new().mode(0o700).create(&directory).map_err(StateError::at("make", &directory))?;
        let mut gaps = Vec::new();
        for (file, words) in &set.commands {
            let path = directory.join(file);
            if let Err(reason) = run_into(words, &path, limit, &state.scratch()) {
                tracing::warn!(command = file, reason, "a command of the policy failed");
                gaps.push(CommandGap { path: tree_path(&path), reason });
            }
        }
        Ok(Self { directory: Some(directory), gaps })
    }

    /// A further root of the backup; none if the set has no commands.
    pub fn root(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// The files that are not there.
    pub fn gaps(&self) -> &[CommandGap] {
        &self.gaps
    }
}

impl Drop for CommandOutput {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory
            && let Err(error) = clear(directory)
        {
            tracing::warn!(?directory, %error, "cannot take away the output of commands");
        }
    }
}

/// Runs one command into a temporary name, which becomes the file's name only when all went well.
fn run_into(words: &[String], path: &Path, limit: Duration, scratch: &Path) -> Result<(), String> {
    let unfinished = scratch.join(format!("command-{}", std::process::id()));
    let told = |error: &dyn std::error::Error| lifeboat_proto::status::with_causes(error);
    let output = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let ended = output
        .map_err(|error| told(&error))
        .and_then(|output| program::run(words, limit, output, scratch).map_err(|error| told(&error)))
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
        let output = CommandOutput::collect(&state, "db", set, Duration::from_secs(20)).unwrap();
        let root = output.root().unwrap().to_owned();
        assert_eq!(fs::read_to_string(root.join("good")).unwrap(), "whole\n");
        assert!(!root.join("bad").exists());
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
        assert_eq!(output.gaps().len(), 1);
        assert!(output.gaps()[0].path.ends_with(b"commands/db/bad"));
        drop(output);
        assert!(!root.exists());
    }
}
