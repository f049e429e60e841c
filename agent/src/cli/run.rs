//! `lifeboat-agent run`

use super::{Done, block_on};
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
use tokio::sync::watch;

/// Run as a service: connect to the coordinator and run the backups that it starts
#[derive(clap::Args)]
pub struct RunArgs {}

/// Runs until SIGTERM or SIGINT.
pub fn run(_args: RunArgs, places: &Places) -> Result<Done, AgentError> {
    // Before any thread is started: each inherits what this one has.
    capabilities::lay_down();
    let host = Host::open(places)?;
    let _lock = host.state.lock()?;
    host.policy()?;
    block_on(async {
        let stop = stop_at_signal().map_err(|error| {
            AgentError::because(ErrorClass::Internal, "cannot listen for the signals that end a service", error)
        })?;
        daemon::run(host, Arc::new(Pipeline::new(Handle::current())), stop).await
    })?;
    Ok(Done::Complete)
}

/// Turns true at the first SIGTERM or SIGINT.
fn stop_at_signal() -> io::Result<watch::Receiver<bool>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
        tracing::info!("asked to stop");
        stop.send_replace(true);
        stop.closed().await;
    });
    Ok(stopped)
}
