//! `lifeboat-agent policy`

use super::{Done, Output};
use crate::error::AgentError;
use crate::host::Places;
use crate::policy::{self, DEFAULT_POLICY, Found, Policy, PolicyError};
use lifeboat_proto::status::ErrorClass;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Check policy.toml, this server's own rules, or print the default
#[derive(clap::Subcommand)]
pub enum PolicyCommand {
    /// Check a policy without using it
    #[command(
        after_help = "Example: cp /etc/lifeboat/policy.toml new.toml; edit new.toml; lifeboat-agent policy check new.toml"
    )]
    Check {
        /// File to check [default: the policy in force]
        file: Option<PathBuf>,
    },
    /// Print the policy that enrolment starts with
    Default,
}

/// Checks or prints.
pub fn policy(command: PolicyCommand, places: &Places, out: &Output) -> Result<Done, AgentError> {
    match command {
        PolicyCommand::Check { file } => check(file, places, out)?,
        PolicyCommand::Default => out.print(&json!({ "policy": DEFAULT_POLICY }), DEFAULT_POLICY)?,
    }
    Ok(Done::Complete)
}

fn check(file: Option<PathBuf>, places: &Places, out: &Output) -> Result<(), AgentError> {
    let in_force = places.policy();
    let file = file.unwrap_or_else(|| in_force.clone());
    let read = if file == in_force { policy::load(&file) } else { policy::read(&file) };
    let policy = read.map_err(|error| match &error {
        // The line is named, and this is the command that the usual hint names.
        PolicyError::Text { .. } => AgentError { hint: String::new(), ..AgentError::from(error) },
        _ => error.into(),
    })?;
    for set in policy.sources.values() {
        policy::rules(&policy, set, &places.state.join("commands/set"), &places.state)
            .map_err(|error| AgentError::because(ErrorClass::Usage, "the policy has an invalid pattern", error))?;
    }
    let warnings = warnings(&policy, &file)?;
    let names: Vec<_> = policy.sources.keys().map(|name| name.as_str()).collect();
    let text = format!("{} is valid; source sets: {}", file.display(), names.join(", "));
    out.print(&json!({ "policy": file, "source_sets": names, "warnings": warnings }), text)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    Ok(())
}

fn warnings(policy: &Policy, file: &Path) -> Result<Vec<String>, AgentError> {
    let mut warnings = policy::warnings(policy, found);
    if let Some(exposed) = policy::exposure_of(file)? {
        warnings.push(format!("{exposed}; the agent will not obey it until only root can change it"));
    }
    Ok(warnings)
}

fn found(path: &Path) -> Found {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => Found::Program,
        Ok(_) => Found::Other,
        // Also where this user may not look: that it is not there is not known then.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Found::Nothing,
        Err(_) => Found::Other,
    }
}
