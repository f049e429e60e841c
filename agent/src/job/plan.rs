//! From the policy to the pipeline's plan. Pure, but for the number of processors.

use crate::backup::budget::MEMORY_DEFAULT;
use crate::backup::{Author, CheckpointRule, Plan};
use crate::commands::CommandOutput;
use crate::error::AgentError;
use crate::host::Host;
use crate::local_tree::LocalTreeFiles;
use crate::policy::{self, Policy, SourceSet};
use crate::walk::RulesError;
use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::status::ErrorClass;
use std::num::NonZeroUsize;

/// The plan for one backup of a set.
pub fn plan(
    host: &Host,
    policy: &Policy,
    name: &SourceSetName,
    set: &SourceSet,
    job: &str,
    output: &CommandOutput,
) -> Result<Plan, AgentError> {
    Ok(Plan {
        roots: set.paths.iter().cloned().chain(output.root()).collect(),
        known_gaps: output.gaps().to_vec(),
        rules: policy::rules(policy, set, output.directory(), host.state.path()).map_err(wrong_rules)?,
        job: job.to_owned(),
        ..of_nothing(host, policy, name)?
    })
}

/// The plan for the small backup with which an enrolment is proven: a part of the set, the policy and the trust file.
pub fn proof(host: &Host, policy: &Policy, name: &SourceSetName) -> Result<Plan, AgentError> {
    let roots = vec![host.places.policy(), host.places.trust(policy)];
    Ok(Plan { roots, is_part: true, ..of_nothing(host, policy, name)? })
}

fn of_nothing(host: &Host, policy: &Policy, name: &SourceSetName) -> Result<Plan, AgentError> {
    let Some((scope, keys)) = host.identity.newest_scope() else {
        return Err(AgentError::new(ErrorClass::Damaged, "this host has no group secret to seal with")
            .hint("enrol this host again with a new token"));
    };
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Ok(Plan {
        source_set: name.to_string(),
        roots: Vec::new(),
        known_gaps: Vec::new(),
        rules: policy::never(policy).map_err(wrong_rules)?,
        job: String::new(),
        processors: policy.limits.processors.unwrap_or_else(cores),
        memory: policy.limits.memory.map_or(MEMORY_DEFAULT, |memory| memory.0),
        is_part: false,
        checkpoint: CheckpointRule::default(),
        scratch: host.state.scratch(),
        local_tree: LocalTreeFiles::new(&host.state.trees(), name.as_str()),
        author: Author {
            repository: host.identity.repository,
            host: host.identity.host,
            signing_key: host.identity.keys.signing.clone(),
            keys,
            scope,
            recipients: host.trust.recipients(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        },
    })
}

fn wrong_rules(error: RulesError) -> AgentError {
    AgentError::because(ErrorClass::Usage, "the policy's excludes cannot be obeyed, so nothing was backed up", error)
        .hint("`lifeboat-agent policy check` tries a changed policy")
}
