//! Hooks before and after a backup: freeze a database, take a file-system snapshot, thaw.
//!
//! Orders and source sets only name them; what they run stands in the local policy (INV-46). If one before the backup
//! fails, there is no backup: what it would have frozen is not. Those after it run whatever happened, also when the
//! backup is interrupted or does not end: they undo what those before it did.

use crate::policy::Policy;
use crate::program::{self, Bounds, Output, ProgramError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// A hook that failed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// The policy names no such hook.
    #[error("there is no hook {name} in this host's policy")]
    Unknown {
        /// What was named.
        name: String,
    },
    /// It ran and failed.
    #[error("hook {name} failed")]
    Failed {
        /// Which.
        name: String,
        /// How.
        source: ProgramError,
    },
}

/// Runs these hooks in order, until one fails or `stop` is set.
pub fn run_before(names: &[String], policy: &Policy, scratch: &Path, stop: &AtomicBool) -> Result<(), HookError> {
    names.iter().try_for_each(|name| run(name, policy, scratch, stop))
}

/// The hooks that are still to run after a backup.
#[derive(Debug)]
pub struct AfterHooks {
    names: Vec<String>,
    policy: Policy,
    scratch: PathBuf,
}

impl AfterHooks {
    /// These hooks, as the policy defines them now.
    pub fn new(names: &[String], policy: &Policy, scratch: PathBuf) -> Self {
        Self { names: names.to_vec(), policy: policy.clone(), scratch }
    }

    /// Runs all of them in order. One that fails stops none; nothing but their time limit does.
    pub fn run(self) -> Vec<HookError> {
        let stop = AtomicBool::new(false);
        self.names.iter().filter_map(|name| run(name, &self.policy, &self.scratch, &stop).err()).collect()
    }
}

fn run(name: &str, policy: &Policy, scratch: &Path, stop: &AtomicBool) -> Result<(), HookError> {
    let Some(words) = policy.hooks.get(name) else {
        return Err(HookError::Unknown { name: name.to_owned() });
    };
    let bounds = Bounds { time: policy.limits.command_time, stop, scratch };
    program::run(words, Output::Discarded, &bounds)
        .map_err(|source| HookError::Failed { name: name.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_hook_stops_those_before_a_backup_and_none_of_those_after() {
        let scratch = tempfile::tempdir().unwrap();
        let mark = scratch.path().join("mark");
        let policy: Policy = format!(
            "sources = {{}}\n[hooks]\nfail = [\"/bin/false\"]\nmark = [\"/bin/sh\", \"-c\", \"echo x >> {}\"]",
            mark.display()
        )
        .parse()
        .unwrap();
        let names = ["fail", "mark", "gone"].map(str::to_owned);
        let before = run_before(&names, &policy, scratch.path(), &AtomicBool::new(false));
        assert!(matches!(before, Err(HookError::Failed { name, .. }) if name == "fail"));
        assert!(!mark.exists());
        assert_eq!(AfterHooks::new(&names, &policy, scratch.path().to_owned()).run().len(), 2);
        assert!(mark.exists());
    }
}
