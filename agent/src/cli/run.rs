//! `lifeboat-agent run`

use super::{Done, block_on, signals};
use crate::capabilities;
use crate::daemon;
use crate::error::AgentError;
use crate::host::{Host, Places};
use crate::job::Pipeline;
use lifeboat_proto::status::ErrorClass;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Run as a service: connect to the coordinator and run the backups that it starts
#[derive(clap::Args)]
pub struct RunArgs {}

/// Runs until SIGTERM or SIGINT.
pub fn run(_args: RunArgs, places: &Places) -> Result<Done, AgentError> {
    // Before any thread is started: each inherits what this one has.
    capabilities::lay_down();
    let host = Host::open(places)?;
    let lock = host.state.lock()?;
    host.state.remove_leftovers(&lock);
    host.policy()?;
    block_on(async {
        let stop = signals::stop_service().map_err(|error| {
            AgentError::because(ErrorClass::Internal, "cannot listen for the signals that end a service", error)
        })?;
        daemon::run(host, Arc::new(Pipeline::new(Handle::current())), stop).await
    })?;
    Ok(Done::Complete)
}
