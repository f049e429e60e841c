//! `lifeboat snapshots`: what there is to restore from.

use super::output::{Output, Row, counted, from_ns, hex, moment, outcome_name, short_size};
use super::{Done, Global, admin};
use clap::Args;
use jiff::Timestamp;
use lifeboat_proto::status::Failure;
use lifeboat_proto::v1;
use serde::Serialize;

/// List snapshots, newest first
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat snapshots web1")]
pub struct SnapshotsArgs {
    /// Only snapshots of this host, by name or number
    #[arg(default_value = "", hide_default_value = true)]
    host: String,
    /// Only snapshots of this source set
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    set: String,
}

#[derive(Serialize)]
struct SnapshotRow {
    snapshot: String,
    host: String,
    source_set: String,
    committed: Option<Timestamp>,
    outcome: Option<&'static str>,
    suspect: Option<String>,
    damage: Option<&'static str>,
    files: u64,
    content_bytes: u64,
    sent_bytes: u64,
    gaps: u64,
}

impl Row for SnapshotRow {
    const HEADERS: &'static [&'static str] = &["SNAPSHOT", "HOST", "SET", "TIME", "OUTCOME", "SIZE", "SENT"];

    fn cells(&self) -> Vec<String> {
        let outcome = if self.damage.is_some() { "damaged" } else { self.outcome.unwrap_or("–") };
        vec![
            self.snapshot.chars().take(12).collect(),
            self.host.clone(),
            self.source_set.clone(),
            moment(self.committed),
            outcome.to_owned(),
            short_size(self.content_bytes),
            short_size(self.sent_bytes),
        ]
    }
}

/// Runs the command.
pub async fn snapshots(args: SnapshotsArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let config = global.config()?;
    let mut admin = admin::connect(&config).await?;
    let list = admin::list_snapshots(&mut admin, &args.host, &args.set).await?;
    let row = |snapshot: v1::SnapshotInfo| SnapshotRow {
        damage: damage_name(snapshot.harm()),
        snapshot: hex(&snapshot.snapshot),
        outcome: outcome_name(snapshot.outcome()),
        host: snapshot.host_name,
        source_set: snapshot.source_set,
        committed: from_ns(snapshot.committed_ns),
        suspect: snapshot.suspect.then_some(snapshot.suspect_reason),
        files: snapshot.files,
        content_bytes: snapshot.content_bytes,
        sent_bytes: snapshot.sent_bytes,
        gaps: snapshot.gap_count,
    };
    let damaged = list.snapshots.iter().filter(|snapshot| snapshot.harm() != v1::Harm::Unspecified).count();
    out.table(&list.snapshots.into_iter().map(row).collect::<Vec<_>>())?;
    if damaged > 0 {
        let count = counted(damaged as u64, "snapshot is damaged", "snapshots are damaged");
        out.say(format_args!("{count}: `lifeboat repository verify` shows what is lost or cannot be read"));
    }
    Ok(Done::Whole)
}

fn damage_name(harm: v1::Harm) -> Option<&'static str> {
    match harm {
        v1::Harm::Unspecified => None,
        v1::Harm::Unreadable => Some("unreadable"),
        v1::Harm::Lost => Some("lost"),
    }
}
