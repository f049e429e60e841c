//! `lifeboat serve`: the coordinator, until it is told to stop.

use super::{Done, Global};
use crate::schedule::Window;
use crate::serve::{self as coordinator, Stage};
use clap::Args;
use jiff::tz::TimeZone;
use lifeboat_proto::status::{ErrorClass, Failure};
use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Run the coordinator as a service
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// IP address and port for agents, instead of those in the settings
    #[arg(long, value_name = "IP:PORT", env = "LIFEBOAT_LISTEN")]
    listen: Option<SocketAddr>,
    /// Backup window, such as 01:00-05:00
    #[arg(long, value_name = "WINDOW", env = "LIFEBOAT_NIGHT")]
    night: Option<Window>,
    /// Time zone of the backup window, such as Europe/Berlin
    #[arg(long, value_name = "ZONE", env = "LIFEBOAT_TIME_ZONE", value_parser = zone)]
    time_zone: Option<TimeZone>,
}

fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("{name} is not a time zone of this system, such as Europe/Berlin"))
}

/// Runs the command.
pub async fn serve(args: ServeArgs, global: &Global) -> Result<Done, Failure> {
    lifeboat_agent::log::start("info");
    let mut config = global.config()?;
    config.listen = args.listen.unwrap_or(config.listen);
    config.night = args.night.unwrap_or(config.night);
    config.time_zone = args.time_zone.unwrap_or(config.time_zone);
    let handler = |kind| signal(kind).map_err(|error| Failure::of(ErrorClass::Internal, &error));
    let (mut terminate, mut interrupt) = (handler(SignalKind::terminate())?, handler(SignalKind::interrupt())?);
    tokio::spawn(outlive_terminal(handler(SignalKind::hangup())?));
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(&[NotifyState::Stopping]);
    };
    coordinator::serve(config, |stage| tell(&stage), stop).await?;
    Ok(Done::Whole)
}

/// A terminal that is closed must not end a service.
async fn outlive_terminal(mut hang_up: Signal) {
    while hang_up.recv().await.is_some() {
        tracing::info!("SIGHUP is ignored: settings are read at the start, so a restart applies changed ones");
    }
}

/// How long systemd waits for the next word while the repository is opened.
const PATIENCE: Duration = Duration::from_secs(120);

fn tell(stage: &Stage) {
    match stage {
        Stage::Opening { status } => notify(&[
            NotifyState::ExtendTimeoutUsec(u32::try_from(PATIENCE.as_micros()).unwrap_or(u32::MAX)),
            NotifyState::Status(status),
        ]),
        Stage::Ready(_) => notify(&[NotifyState::Ready, NotifyState::Status("serving")]),
    }
}

/// Tells systemd; without systemd nobody listens, and that is no failure.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(false, states);
}
