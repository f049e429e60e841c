//! `lifeboat backup HOST[:SET]`: orders a backup, and follows it to its end if asked.

use super::output::{Output, hex, outcome_name, size};
use super::{Done, Global, admin};
use clap::Args;
use indicatif::ProgressBar;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::job_event::Event;
use lifeboat_proto::v1::{self, JobState, Outcome};
use serde::Serialize;
use std::collections::HashMap;

/// Back up a server now
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat backup web1:system --wait")]
pub struct BackupArgs {
    /// Name or number of the server; with :SET only this source set
    #[arg(value_name = "HOST[:SET]")]
    host: String,
    /// Wait for the backup to finish, showing progress
    #[arg(long)]
    wait: bool,
}

#[derive(Serialize)]
struct Accepted {
    job: String,
    source_set: String,
    sent: bool,
}

#[derive(Serialize)]
struct Ended {
    job: String,
    source_set: String,
    outcome: Option<&'static str>,
    snapshot: Option<String>,
    message: String,
    gap_count: u64,
    gaps: Vec<String>,
}

/// Runs the command.
pub async fn backup(args: BackupArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let config = global.config()?;
    let (host, source_set) = args.host.split_once(':').unwrap_or((&args.host, ""));
    let command = v1::BackupCommand { host: host.to_owned(), source_set: source_set.to_owned(), wait: args.wait };
    let mut admin = admin::connect(&config).await?;
    let mut events = admin.backup(command).await?.into_inner();
    let bar = out.progress(host, None);
    let (snapshots, sets) = Default::default();
    let mut follower = Follower { bar, done: Done::Whole, failed: None, snapshots, sets };
    while let Some(event) = events.message().await? {
        follower.event(event, args.wait, out)?;
    }
    follower.bar.finish_and_clear();
    let Follower { done, failed, snapshots, .. } = follower;
    if let Some(failure) = failed {
        return Err(failure);
    }
    match snapshots.is_empty() {
        true => Ok(done),
        false => not_suspect(host, source_set, &snapshots, &mut admin).await.map(|()| done),
    }
}

/// A suspect snapshot counts as failed until a person accepts it (INV-17).
async fn not_suspect(
    host: &str,
    source_set: &str,
    snapshots: &[bytes::Bytes],
    admin: &mut admin::Admin,
) -> Result<(), Failure> {
    let request = v1::ListSnapshotsRequest { host: host.to_owned(), source_set: source_set.to_owned() };
    let listed = admin.list_snapshots(request).await?.into_inner().snapshots;
    let suspect = listed.into_iter().find(|listed| listed.suspect && snapshots.contains(&listed.snapshot));
    suspect.map_or(Ok(()), |suspect| {
        let v1::SnapshotInfo { source_set, suspect_reason, .. } = suspect;
        let failure = Failure::new(ErrorClass::Refused, format!("{source_set}: kept as suspect: {suspect_reason}"));
        Err(failure.hint("look at the server; `latest` is still the snapshot before"))
    })
}

/// What was heard so far.
struct Follower {
    bar: ProgressBar,
    done: Done,
    failed: Option<Failure>,
    snapshots: Vec<bytes::Bytes>,
    /// Which source set each job is for.
    sets: HashMap<String, String>,
}

impl Follower {
    fn event(&mut self, event: v1::JobEvent, wait: bool, out: &mut Output) -> Result<(), Failure> {
        match event.event {
            Some(Event::Accepted(accepted)) => self.accepted(accepted, wait, out),
            Some(Event::Progress(progress)) => {
                self.bar.set_position(progress.read_bytes);
                self.bar.set_message(format!("{} entries, {} sent", progress.entries, size(progress.sent_bytes)));
                Ok(())
            }
            Some(Event::Ended(ended)) => {
                self.snapshots.extend((!ended.snapshot.is_empty()).then(|| ended.snapshot.clone()));
                let set = self.sets.get(&ended.job).cloned().unwrap_or_default();
                let (done, failed) = self.bar.suspend(|| ended_one(ended, set, out))?;
                self.failed = self.failed.take().or(failed);
                self.done = if done == Done::WithLosses { done } else { self.done };
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn accepted(&mut self, accepted: v1::Job, wait: bool, out: &mut Output) -> Result<(), Failure> {
        let sent = accepted.state() != JobState::Queued;
        let v1::Job { job, source_set, .. } = accepted;
        self.sets.insert(job.clone(), source_set.clone());
        if !sent {
            out.say(format_args!("{source_set}: the server is not connected or busy; it will be told when it is free"));
        }
        if wait {
            return Ok(());
        }
        let accepted = Accepted { job, source_set, sent };
        out.outcome(&accepted, |accepted| format!("{}: ordered as job {}", accepted.source_set, accepted.job))
    }
}

fn ended_one(ended: v1::JobEnded, source_set: String, out: &mut Output) -> Result<(Done, Option<Failure>), Failure> {
    let outcome = ended.outcome();
    let failed = (outcome == Outcome::Failed).then(|| {
        let failure = Failure::new(ErrorClass::Unreachable, format!("{source_set}: {}", ended.message));
        failure.hint("it is repeated by itself; `lifeboat host show` tells when")
    });
    let done = if outcome == Outcome::Gaps { Done::WithLosses } else { Done::Whole };
    let row = Ended {
        outcome: outcome_name(outcome),
        job: ended.job,
        source_set,
        snapshot: (!ended.snapshot.is_empty()).then(|| hex(&ended.snapshot)),
        message: ended.message,
        gap_count: ended.gap_count,
        gaps: ended.gaps,
    };
    out.outcome(&row, |row| {
        let snapshot = row.snapshot.as_deref().and_then(|id| id.get(..12)).unwrap_or("no snapshot");
        format!("{}: {}, {snapshot}", row.source_set, row.outcome.unwrap_or("ended"))
    })?;
    if !row.message.is_empty() && failed.is_none() {
        out.say(format_args!("  warning: {}", row.message));
    }
    row.gaps.iter().for_each(|gap| out.say(format_args!("  gap: {gap}")));
    let unnamed = row.gap_count.saturating_sub(row.gaps.len() as u64);
    if unnamed > 0 {
        out.say(format_args!("  and {unnamed} more gaps"));
    }
    Ok((done, failed))
}
