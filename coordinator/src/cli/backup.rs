//! `lifeboat backup HOST[:SET]`: orders a backup, and follows it to its end if asked.

use super::duration::duration;
use super::output::{Output, hex, outcome_name, size};
use super::waiting::{Waiting, why_queued};
use super::{Done, Global, admin};
use clap::Args;
use indicatif::ProgressBar;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::job_event::Event;
use lifeboat_proto::v1::{self, JobState, Outcome};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;

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
    /// Wait no longer than this, such as 30min; the backup continues
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
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
    let mut follower = Follower { bar, done: Done::Whole, failed: None, sets: HashMap::new() };
    let mut waiting = Waiting::new(args.timeout);
    while let Some(event) = waiting.next(&mut events).await? {
        follower.event(event, args.wait, out)?;
    }
    follower.bar.finish_and_clear();
    follower.failed.map_or(Ok(follower.done), Err)
}

/// What was heard so far.
struct Follower {
    bar: ProgressBar,
    done: Done,
    failed: Option<Failure>,
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
        if !sent {
            self.bar.suspend(|| out.say(format_args!("{}: {}", accepted.source_set, why_queued(&accepted))));
        }
        let v1::Job { job, source_set, .. } = accepted;
        self.sets.insert(job.clone(), source_set.clone());
        if wait {
            return Ok(());
        }
        let accepted = Accepted { job, source_set, sent };
        out.outcome(&accepted, |accepted| format!("{}: ordered as job {}", accepted.source_set, accepted.job))
    }
}

/// A backup that brought nothing to restore from has failed; so has a suspect one until an operator accepts it (INV-17).
fn failure_of(outcome: Outcome, source_set: &str, message: &str) -> Option<Failure> {
    let failure = |class| Failure::new(class, format!("{source_set}: {message}"));
    match outcome {
        Outcome::Complete | Outcome::Gaps | Outcome::Checkpoint => None,
        Outcome::Suspect => {
            Some(failure(ErrorClass::Refused).hint("look at the server; `latest` is still the snapshot before"))
        }
        Outcome::Cancelled => Some(failure(ErrorClass::Refused).hint("the next backup starts at its usual time")),
        Outcome::Failed | Outcome::Unspecified => Some(
            failure(ErrorClass::Unreachable).hint("it is tried again automatically; `lifeboat host show` shows when"),
        ),
    }
}

fn ended_one(ended: v1::JobEnded, source_set: String, out: &mut Output) -> Result<(Done, Option<Failure>), Failure> {
    let outcome = ended.outcome();
    let failed = failure_of(outcome, &source_set, &ended.message);
    let done = match outcome {
        Outcome::Gaps => Done::WithLosses,
        _ => Done::Whole,
    };
    if failed.is_none() && !ended.message.is_empty() {
        out.say(format_args!("warning: {source_set}: {}", ended.message));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_78_only_what_can_be_restored_from_ends_well() {
        let is_failure = |outcome| failure_of(outcome, "data", "why").is_some();
        assert!(!is_failure(Outcome::Complete) && !is_failure(Outcome::Gaps));
        for outcome in [Outcome::Suspect, Outcome::Failed, Outcome::Cancelled, Outcome::Unspecified] {
            assert!(is_failure(outcome), "{outcome:?}");
        }
    }
}
