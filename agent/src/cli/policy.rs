//! `lifeboat-agent policy`

use super::{Done, Output};
use crate::error::AgentError;
use crate::host::Places;
use crate::policy::{self, DEFAULT_POLICY};
use lifeboat_proto::status::ErrorClass;
use serde_json::json;
use std::path::PathBuf;

/// Look after policy.toml, this host's own law
#[derive(clap::Subcommand)]
pub enum PolicyCommand {
    /// Check a policy; the agent reads it anew for every backup
    Check {
        /// Another file than the policy in force
        file: Option<PathBuf>,
    },
    /// Print the policy that enrolment starts with
    Default,
}

/// Checks or prints.
pub fn policy(command: PolicyCommand, places: &Places, out: &Output) -> Result<Done, AgentError> {
    match command {
        PolicyCommand::Check { file } => {
            let file = file.unwrap_or_else(|| places.policy());
            let policy = policy::load(&file)?;
            for set in policy.sources.values() {
                policy::rules(&policy, set, &places.state.join("commands/set"), &places.state).map_err(|error| {
                    AgentError::because(ErrorClass::Usage, "the policy has a pattern that cannot be obeyed", error)
                })?;
            }
            let names: Vec<_> = policy.sources.keys().map(|name| name.as_str()).collect();
            let text = format!("{} is a good policy; it offers {}", file.display(), names.join(", "));
            out.print(&json!({ "policy": file, "source_sets": names }), text)?;
        }
        PolicyCommand::Default => out.print(&json!({ "policy": DEFAULT_POLICY }), DEFAULT_POLICY)?,
    }
    Ok(Done::Complete)
}
