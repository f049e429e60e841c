//! `lifeboat-agent sources`

use super::{Done, Output};
use crate::error::AgentError;
use crate::host::Places;
use crate::policy::{self, SourceSet};
use serde_json::{Value, json};

/// Show what each source set of the policy backs up and leaves out
#[derive(clap::Args)]
pub struct SourcesArgs {}

/// Prints the source sets of the policy.
pub fn sources(_args: SourcesArgs, places: &Places, out: &Output) -> Result<Done, AgentError> {
    let policy = policy::load(&places.policy())?;
    let sets = || policy.sources.iter();
    let text: String = sets().map(|(name, set)| format!("{name}\n{}", describe(set, &policy.never))).collect();
    let value: serde_json::Map<_, _> =
        sets().map(|(name, set)| (name.to_string(), to_json(set, &policy.never))).collect();
    out.print(&Value::Object(value), text)?;
    Ok(Done::Complete)
}

fn describe(set: &SourceSet, never: &[String]) -> String {
    let list = |title: &str, items: Vec<String>| match items.is_empty() {
        true => String::new(),
        false => format!("  {title}: {}\n", items.join(", ")),
    };
    let skipped: Vec<_> = options(set).into_iter().filter(|(_, on)| *on).map(|(name, _)| name.to_owned()).collect();
    [
        list("paths", set.paths.iter().map(|path| path.display().to_string()).collect()),
        list("exclude", set.exclude.clone()),
        list("never", never.to_vec()),
        list("options", skipped),
        list("before", set.before.clone()),
        list("after", set.after.clone()),
        list("commands", set.commands.keys().cloned().collect()),
    ]
    .concat()
}

fn options(set: &SourceSet) -> [(&'static str, bool); 5] {
    [
        ("one-file-system", set.one_file_system),
        ("skip-network", set.skip_network),
        ("skip-temporary", set.skip_temporary),
        ("skip-cache-dirs", set.skip_cache_dirs),
        ("skip-nodump", set.skip_nodump),
    ]
}

fn to_json(set: &SourceSet, never: &[String]) -> Value {
    let options: serde_json::Map<_, _> =
        options(set).into_iter().map(|(name, on)| (name.to_owned(), Value::Bool(on))).collect();
    json!({
        "paths": set.paths,
        "exclude": set.exclude,
        "never": never,
        "options": options,
        "before": set.before,
        "after": set.after,
        "commands": set.commands.keys().collect::<Vec<_>>(),
    })
}
