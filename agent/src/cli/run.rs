//! `lifeboat-agent run`

use super::{Done, block_on, signals};
use crate::capabilities;
use crate::daemon;
use crate::error::AgentError;
use crate::host::{Host, Places};
use crate::job::Pipeline;
use lifeboat_proto::status::ErrorClass;
use std::io;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// Run as a service: connect to the coordinator and run the backups that it starts
#[derive(clap::Args)]
pub struct RunArgs {}

/// Runs until SIGTERM or SIGINT. SIGHUP makes it read the policy again at once.
pub fn run(_args: RunArgs, places: &Places) -> Result<Done, AgentError> {
    // Before any thread is started: each inherits what this one has.
    capabilities::lay_down();
    let host = Host::open_for_service(places)?;
    let lock = host.state.lock()?;
    host.state.remove_leftovers(&lock);
    block_on(async {
        let stop = signals::stop_service().map_err(|error| {
            AgentError::because(ErrorClass::Internal, "cannot listen for the signals that end a service", error)
        })?;
        let reload = reload_at_signal().map_err(|error| {
            AgentError::because(ErrorClass::Internal, "cannot listen for the signal that reloads a service", error)
        })?;
        daemon::run(host, Arc::new(Pipeline::new(Handle::current())), reload, stop).await
    })?;
    Ok(Done::Complete)
}

/// Notified at each SIGHUP.
fn reload_at_signal() -> io::Result<Arc<Notify>> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let reload = Arc::new(Notify::new());
    let notified = reload.clone();
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            notified.notify_one();
        }
    });
    Ok(reload)
}
