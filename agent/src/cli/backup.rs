//! `lifeboat-agent backup`

use super::{Done, Output, Runtime, runtime, signals};
use crate::daemon::{Task, renewal};
use crate::error::AgentError;
use crate::host::{Host, Places};
use crate::job::{Made, Pipeline, back_up_by_hand, ended, gap_lines};
use crate::policy::ByteSize;
use lifeboat_proto::convert::{Ended, SourceSetName};
use lifeboat_proto::limits::GAPS_NAMED_MAX;
use lifeboat_proto::status::ErrorClass;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Back up now, from here
///
/// Not while the service runs: then order it on the coordinator with `lifeboat backup HOST`. Ctrl-C stops it: hooks after
/// the backup run, and the next backup sends only what is missing.
#[derive(clap::Args)]
pub struct BackupArgs {
    /// Source set of the policy [default: all of them]
    set: Option<String>,
}

/// Backs up one set after the other. One that fails does not stop the others.
pub fn backup(args: BackupArgs, places: &Places, out: &Output) -> Result<Done, AgentError> {
    let mut host = Host::open(places)?;
    let lock = host.state.lock()?;
    host.state.remove_leftovers(&lock);
    let policy = host.policy()?;
    let names = match args.set {
        Some(name) => {
            let name: SourceSetName =
                name.parse().map_err(|error| AgentError::because(ErrorClass::Usage, "no such source set", error))?;
            policy.source_set(&name)?;
            vec![name]
        }
        None => policy.sources.into_keys().collect(),
    };
    let runtime = runtime()?;
    // Where no service runs, nobody else does it.
    runtime.block_on(renewal::renew_if_due(&mut host));
    let pipeline = Pipeline::new(runtime.handle().clone());
    let (mut done, mut failed) = (Done::Complete, None);
    let stop = signals::stop_command(&runtime)?;
    for name in &names {
        if *stop.borrow() {
            let message = format!("stopped before the backup of {name}");
            failed = failed.or_else(|| Some(AgentError::new(ErrorClass::Busy, message)));
            break;
        }
        match back_up_by_hand(&pipeline, &host, name, &task_until(&runtime, stop.clone())) {
            Ok(made) => {
                if ended(&made) != Ended::Complete {
                    done = Done::Gaps;
                }
                out.print(&to_json(name, &made), describe(name, &made))?;
                tell_gaps(&made);
            }
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    eprintln!("{}", AgentError::report(&earlier));
                }
            }
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    match failed {
        None => Ok(done),
        Some(error) => Err(error),
    }
}

/// A task that is asked to stop when `stop` turns true.
fn task_until(runtime: &Runtime, mut stop: watch::Receiver<bool>) -> Arc<Task> {
    let task = Arc::<Task>::default();
    let stopped = task.clone();
    runtime.spawn(async move {
        // An error is the end of the program.
        if stop.wait_for(|stop| *stop).await.is_ok() {
            stopped.stop();
        }
    });
    task
}

fn describe(name: &SourceSetName, made: &Made) -> String {
    let (report, counts) = (&made.report, &made.report.counts);
    let gaps = match report.gaps.count() {
        0 if made.notes.is_empty() => "complete".to_owned(),
        0 => "complete, but something beside it failed".to_owned(),
        1 => "complete but for 1 gap".to_owned(),
        gaps => format!("complete but for {gaps} gaps"),
    };
    format!(
        "{name}: snapshot {}, {gaps}\n  {} entries, {} files with {}; {} read, {} sent",
        report.snapshot,
        counts.entries,
        counts.files,
        ByteSize(counts.content_bytes),
        ByteSize(counts.read_bytes),
        ByteSize(counts.sent_bytes),
    )
}

fn tell_gaps(made: &Made) {
    gap_lines(&made.report, GAPS_NAMED_MAX).iter().for_each(|gap| eprintln!("gap: {gap}"));
    made.notes.iter().for_each(|note| eprintln!("warning: {note}"));
    if let Some(why) = &made.report.suspect {
        eprintln!("warning: the coordinator keeps this snapshot as suspect, outside `latest`: {why}");
    }
}

fn to_json(name: &SourceSetName, made: &Made) -> Value {
    let (report, counts) = (&made.report, &made.report.counts);
    json!({
        "source_set": name.as_str(),
        "snapshot": report.snapshot.to_string(),
        "outcome": if ended(made) == Ended::Complete { "complete" } else { "gaps" },
        "suspect": report.suspect,
        "entries": counts.entries,
        "files": counts.files,
        "content_bytes": counts.content_bytes,
        "read_bytes": counts.read_bytes,
        "sent_bytes": counts.sent_bytes,
        "gap_count": report.gaps.count(),
        "gaps": gap_lines(report, GAPS_NAMED_MAX),
        "notes": made.notes,
    })
}
