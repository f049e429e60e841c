//! Hooks before and after a backup: freeze a database, take a file-system snapshot, thaw.
//!
//! Orders and source sets only name them; what they run stands in the local policy (INV-46). If one before the backup
//! fails, there is no backup: what it would have frozen is not. Those after it run whatever happened.

use crate::policy::Policy;
use crate::program::{self, ProgramError};
use std::fs::OpenOptions;
use std::path::Path;

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

/// Runs these hooks in order, until one fails.
pub fn run_before(names: &[String], policy: &Policy, scratch: &Path) -> Result<(), HookError> {
    names.iter().try_for_each(|name| run(name, policy, scratch))
}

/// Runs all these hooks in order. What failed is told, and stops none.
pub fn run_after(names: &[String], policy: &Policy, scratch: &Path) -> Vec<HookError> {
    names.iter().filter_map(|name| run(name, policy, scratch).err()).collect()
}

fn run(name: &str, policy: &Policy, scratch: &Path) -> Result<(), HookError> {
    let Some(words) = policy.hooks.get(name) else {
        return Err(HookError::Unknown { name: name.to_owned() });
    };
    let failed = |source| HookError::Failed { name: name.to_owned(), source };
    let nowhere = OpenOptions::new().write(true).open("/dev/null");
    let nowhere = nowhere.map_err(|source| failed(ProgramError::Output { program: name.to_owned(), source }))?;
    program::run(words, policy.limits.command_time, nowhere, scratch).map_err(failed)
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
        assert!(
            matches!(run_before(&names, &policy, scratch.path()), Err(HookError::Failed { name, .. }) if name == "fail")
        );
        assert!(!mark.exists());
        assert_eq!(run_after(&names, &policy, scratch.path()).len(), 2);
        assert!(mark.exists());
    }
}
