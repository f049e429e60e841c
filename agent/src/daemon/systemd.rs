//! What systemd is told. Without systemd all of this does nothing.

use sd_notify::NotifyState;
use std::time::Duration;

/// The service is up. From now on it says that it lives as often as it is asked to.
pub fn ready() {
    notify(NotifyState::Ready);
    if let Some(limit) = watchdog_limit() {
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(limit / 3);
            loop {
                tick.tick().await;
                notify(NotifyState::Watchdog);
            }
        });
    }
}

/// The service is on its way down.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    notify(NotifyState::Status(text));
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(false, &[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

fn watchdog_limit() -> Option<Duration> {
    let mut microseconds = 0;
    sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds))
}
