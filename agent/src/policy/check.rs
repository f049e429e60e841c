//! What looks like a mistake in a policy that can be obeyed. Pure: what lies on this host's disk is asked through a function.

use super::{Policy, SourceSet, never};
use crate::walk::{Rules, tree_path};
use lifeboat_proto::convert::SourceSetName;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A regular file that can be executed.
    Program,
    /// Anything else.
    Other,
}

/// One line for each thing that will not work as it is written.
pub fn warnings(policy: &Policy, found: impl Fn(&Path) -> Found) -> Vec<String> {
    let program = |what: String, words: &[String]| {
        let program = words.first().map_or("", String::as_str);
        (found(Path::new(program)) != Found::Program)
            .then(|| format!("{what}: the program {program} does not exist or cannot be executed"))
    };
    // An invalid pattern is an error of its own.
    let never = never(policy).ok();
    let hooks = policy.hooks.iter().filter_map(|(name, words)| program(format!("hook {name}"), words));
    let sets = policy.sources.iter().flat_map(|(name, set)| {
        let commands = set.commands.iter();
        let commands =
            commands.filter_map(move |(file, words)| program(format!("source set {name}, command {file:?}"), words));
        of_paths(name, set, &found).into_iter().chain(covered(name, set, never.as_ref())).chain(commands)
    });
    hooks.chain(sets).collect()
}

fn of_paths(name: &SourceSetName, set: &SourceSet, found: impl Fn(&Path) -> Found) -> Vec<String> {
    let missing = set.paths.iter().filter(|path| found(path) == Found::Nothing);
    missing
        .map(|path| {
            let shown = path.display();
            match path.to_string_lossy().contains(['*', '?', '[', '{']) {
                true => format!(
                    "source set {name}: {shown} does not exist; `paths` takes no patterns: name a directory, and leave \
                     out parts of it with `exclude`"
                ),
                false => format!("source set {name}: {shown} does not exist; each backup will report it as a gap"),
            }
        })
        .collect()
}

/// Source paths that `never` leaves out.
fn covered(name: &SourceSetName, set: &SourceSet, never: Option<&Rules>) -> Vec<String> {
    let is_covered =
        |path: &&PathBuf| never.zip(tree_path(path)).is_some_and(|(never, path)| never.leaves_out_within(&path));
    let line = |path: &PathBuf| {
        let shown = path.display();
        format!(
            "source set {name}: `never` leaves out {shown}, which is in `paths`; each backup will report it as a gap"
        )
    };
    set.paths.iter().filter(is_covered).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_76_a_source_path_that_never_covers_is_named() {
        let text = r#"
            never = ["/vault", "*.key"]
            [sources.data]
            paths = ["/vault/in", "/etc/a.key", "/srv"]
            exclude = ["/srv", "*"]
        "#;
        let warnings = warnings(&text.parse().unwrap(), |_| Found::Other);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("`never` leaves out /vault/in") && warnings[1].contains("/etc/a.key"));
    }

    #[test]
    fn what_does_not_exist_is_named_and_what_does_is_not() {
        let text = r#"
            [hooks]
            stop = ["/bin/stop", "now"]
            start = ["/bin/absent"]
            plain = ["/etc/hosts"]
            [sources.data]
            paths = ["/etc/hosts", "/srv/none", "/srv/*"]
            commands = { "all.sql" = ["/bin/dump"] }
        "#;
        let found = |path: &Path| match path.to_str().unwrap() {
            "/bin/stop" => Found::Program,
            "/etc/hosts" => Found::Other,
            _ => Found::Nothing,
        };
        let warnings = warnings(&text.parse().unwrap(), found);
        let begins: Vec<_> = warnings.iter().map(|warning| warning.split(" does not exist").next().unwrap()).collect();
        assert_eq!(
            begins,
            [
                "hook plain: the program /etc/hosts",
                "hook start: the program /bin/absent",
                "source set data: /srv/none",
                "source set data: /srv/*",
                "source set data, command \"all.sql\": the program /bin/dump",
            ]
        );
        assert!(warnings[3].contains("takes no patterns") && !warnings[2].contains("patterns"), "{warnings:?}");
    }
}
