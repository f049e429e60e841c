//! `lifeboat-agent status`

use super::{Done, Output};
use crate::error::AgentError;
use crate::host::{Host, Places};
use crate::state::{SetOutcome, StateError};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use std::fmt::Write;
use std::time::SystemTime;

/// Show who this host is and how its last backups ended
#[derive(clap::Args)]
pub struct StatusArgs {}

/// Reads what the agent remembers; asks nobody.
pub fn status(_args: StatusArgs, places: &Places, out: &Output) -> Result<Done, AgentError> {
    let host = Host::open(places)?;
    let policy = host.policy()?;
    let outcomes = host.state.outcomes()?;
    let runs = matches!(host.state.lock(), Err(StateError::InUse { .. }));
    let ends = host.tls.validity().and_then(|(_, until)| Timestamp::try_from(until).ok());
    let expired = host.tls.validity().is_some_and(|(_, until)| until < SystemTime::now());
    let identity = &host.identity;
    let mut text = format!(
        "host {} ({}) of the coordinator at {}\nservice: {}\ncertificate: {} {}\n",
        identity.host,
        identity.name,
        identity.address,
        if runs { "running" } else { "not running" },
        if expired { "EXPIRED" } else { "until" },
        ends.map_or_else(|| "unreadable".to_owned(), shown),
    );
    for name in policy.sources.keys() {
        let outcome = outcomes.get(name.as_str()).map_or_else(|| "never backed up".to_owned(), describe);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}: {outcome}");
    }
    let value = json!({
        "host": identity.host.get(),
        "name": identity.name,
        "repository": identity.repository.to_string(),
        "coordinator": identity.address,
        "service_runs": runs,
        "certificate_ends": ends.map(|ends| ends.to_string()),
        "fingerprint": identity.keys.signing.verifying_key().fingerprint().to_string(),
        "source_sets": policy.sources.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        "last": outcomes,
    });
    out.print(&value, text)?;
    Ok(Done::Complete)
}

fn describe(outcome: &SetOutcome) -> String {
    let mut text = format!("{} at {}", outcome.outcome, moment(outcome.ended_ns));
    if outcome.gap_count > 0 {
        text += &format!(", {} gaps", outcome.gap_count);
    }
    if !outcome.snapshot.is_empty() {
        text += &format!(", snapshot {}", outcome.snapshot.get(..12).unwrap_or(&outcome.snapshot));
    }
    if !outcome.message.is_empty() {
        text += &format!(": {}", outcome.message);
    }
    match outcome.last_good_ns {
        Some(good) if good == outcome.ended_ns => text,
        Some(good) => text + &format!(" (last backup at {})", moment(good)),
        None => text + " (no backup yet)",
    }
}

fn moment(ns: i64) -> String {
    Timestamp::from_second(ns.div_euclid(1_000_000_000)).map_or_else(|_| "an unknown time".to_owned(), shown)
}

/// To the minute, in the reader's time zone, as `lifeboat` shows times.
fn shown(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}
