//! `lifeboat-agent sources`

use super::{Done, Output};
use crate::error::AgentError;
use crate::host::Places;
use crate::policy::{self, Policy, SourceSet};
use crate::walk::{Mounts, Shown, mounts_within};
use lifeboat_proto::status::ErrorClass;
use serde_json::{Value, json};

/// Show what each source set of the policy backs up and leaves out
#[derive(clap::Args)]
pub struct SourcesArgs {}

/// Prints the source sets of the policy.
pub fn sources(_args: SourcesArgs, places: &Places, out: &Output) -> Result<Done, AgentError> {
    let policy = policy::load(&places.policy())?;
    let mounts = Mounts::read().map_err(|error| {
        AgentError::because(ErrorClass::Internal, "cannot read the mount table /proc/self/mountinfo", error)
    })?;
    let (mut text, mut value) = (String::new(), serde_json::Map::new());
    for (name, set) in &policy.sources {
        let left_out = left_out(&policy, set, places, &mounts)?;
        text += &format!("{name}\n{}", describe(set, &policy.never, left_out.clone()));
        value.insert(name.to_string(), to_json(set, &policy.never, left_out));
    }
    out.print(&Value::Object(value), text)?;
    Ok(Done::Complete)
}

/// What is mounted below the paths of a set now, and is left out as a whole.
fn left_out(policy: &Policy, set: &SourceSet, places: &Places, mounts: &Mounts) -> Result<Vec<String>, AgentError> {
    let rules = policy::rules(policy, set, &places.state.join("commands/set"), &places.state)
        .map_err(|error| AgentError::because(ErrorClass::Usage, "the policy has an invalid pattern", error))?;
    let found = mounts_within(mounts, &set.paths, &rules);
    Ok(found.iter().map(|(path, why)| format!("/{}: {why}", Shown(path))).collect())
}

fn describe(set: &SourceSet, never: &[String], left_out: Vec<String>) -> String {
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
        left_out.iter().map(|line| format!("  left out: {line}\n")).collect(),
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

fn to_json(set: &SourceSet, never: &[String], left_out: Vec<String>) -> Value {
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
        "left_out": left_out,
    })
}
