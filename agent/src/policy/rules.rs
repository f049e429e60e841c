//! What the walk leaves out under a policy.

use super::{Policy, SourceSet};
use crate::walk::{Rules, RulesError};
use std::path::{Path, PathBuf};

/// What is left out below the source paths: what the set excludes, the agent's own state but for the output of this
/// set's commands, and, over everything, what the policy never gives.
pub fn rules(policy: &Policy, set: &SourceSet, commands: &Path, state: &Path) -> Result<Rules, RulesError> {
    let mut rules = never_and(policy, &set.exclude)?.without_own(state, commands)?;
    rules.one_file_system = set.one_file_system;
    rules.skip_foreign = set.skip_network;
    rules.skip_temporary = set.skip_temporary;
    rules.skip_caches = set.skip_cache_dirs;
    rules.skip_nodump = set.skip_nodump;
    Ok(rules)
}

/// What the policy never gives, and nothing else.
pub fn never(policy: &Policy) -> Result<Rules, RulesError> {
    never_and(policy, &[])
}

fn never_and(policy: &Policy, patterns: &[String]) -> Result<Rules, RulesError> {
    let (paths, globs): (Vec<_>, Vec<_>) = policy.never.iter().cloned().partition(|never| is_plain_path(never));
    let paths: Vec<_> = paths.into_iter().map(PathBuf::from).collect();
    Rules::new(patterns, &paths)?.with_never_patterns(&globs)
}

fn is_plain_path(never: &str) -> bool {
    never.starts_with('/') && never.len() > 1 && !never.contains(['*', '?', '[', '\\'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::{Item, Scan};
    use std::fs;

    /// What a walk over everything finds below a state directory.
    fn walk(state: &Path) -> Vec<Vec<u8>> {
        let policy: Policy = format!("[sources.db]\npaths = [{state:?}]\n").parse().unwrap();
        let set = &policy.sources[&"db".parse().unwrap()];
        let commands = state.join("commands/db");
        let roots = [state.parent().unwrap().to_owned(), commands.clone()];
        let mut scan = Scan::new(&roots, rules(&policy, set, &commands, state).unwrap(), Path::new("/tmp")).unwrap();
        let mut entries = Vec::new();
        while let Some(item) = scan.next() {
            match item {
                Item::Entry(entry) => entries.push(entry.path.to_vec()),
                Item::Gap(gap) => panic!("{gap}"),
            }
        }
        entries
    }

    #[test]
    fn the_output_of_commands_is_found_in_a_state_directory_that_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("my state");
        fs::create_dir_all(state.join("commands/db")).unwrap();
        fs::create_dir_all(state.join("commands/other")).unwrap();
        fs::write(state.join("commands/db/good"), "whole").unwrap();
        fs::write(state.join("identity.json"), "secret").unwrap();
        let entries = walk(&state);
        let has = |end: &str| entries.iter().any(|path| path.ends_with(end.as_bytes()));
        assert!(has("commands/db/good"));
        assert!(!has("identity.json") && !has("other"));
    }

    #[test]
    fn a_never_with_a_wild_card_is_a_pattern_and_a_plain_one_a_path() {
        assert!(is_plain_path("/etc/shadow-vault"));
        assert!(!is_plain_path("*.key") && !is_plain_path("/home/*/.ssh") && !is_plain_path("/"));
    }
}
