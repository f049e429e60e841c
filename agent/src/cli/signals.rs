//! Signals that ask a command to end.

use super::Runtime;
use crate::error::AgentError;
use lifeboat_proto::status::ErrorClass;
use std::io::{self, Write};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// The exit code of a command that the second signal ended: 128, and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// Turns true at the first SIGTERM or SIGINT. For a service, which systemd ends for good when that takes too long.
pub fn stop_service() -> io::Result<watch::Receiver<bool>> {
    let mut signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        any(&mut signals).await;
        tracing::info!("asked to stop");
        stop.send_replace(true);
        stop.closed().await;
    });
    Ok(stopped)
}

/// Turns true at the first SIGTERM, SIGINT or SIGHUP; the second one ends the program at once. For a command that a person
/// watches.
pub fn stop_command(runtime: &Runtime) -> Result<watch::Receiver<bool>, AgentError> {
    let cannot_listen = |error: io::Error| {
        AgentError::because(ErrorClass::Internal, "cannot listen for the signals that end a command", error)
    };
    let _within = runtime.enter();
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let signals = || Ok([signal(kinds[0])?, signal(kinds[1])?, signal(kinds[2])?]);
    let mut signals = signals().map_err(cannot_listen)?;
    let (stop, stopped) = watch::channel(false);
    runtime.spawn(async move {
        any(&mut signals).await;
        stop.send_replace(true);
        // The terminal may be gone.
        let _ = writeln!(io::stderr(), "stopping; hooks after the backup still run (interrupt again to end at once)");
        any(&mut signals).await;
        std::process::exit(INTERRUPTED);
    });
    Ok(stopped)
}

/// Waits for the first of these signals.
async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let mut polls = signals.iter_mut().map(|signal| signal.poll_recv(context));
        match polls.any(|poll| poll.is_ready()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}
