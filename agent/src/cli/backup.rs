//! `lifeboat-agent backup`

use super::{Done, Output, Runtime, runtime, signals};
use crate::connection::{ANSWER_TIME, control_client, explain, explain_transport};
use crate::daemon::{Task, renewal};
use crate::error::AgentError;
use crate::host::{Host, Places};
use crate::job::{Made, Pipeline, back_up_by_hand, gap_lines, left_out_lines};
use crate::policy::ByteSize;
use lifeboat_proto::convert::{Ended, SourceSetName};
use lifeboat_proto::limits::GAPS_NAMED_MAX;
use lifeboat_proto::status::{ErrorClass, Failure, with_causes};
use lifeboat_proto::v1;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tonic::Request;

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
    let (mut done, mut errors) = (Done::Complete, Vec::new());
    let stop = signals::stop_command(&runtime)?;
    for name in &names {
        if *stop.borrow() {
            let message = format!("stopped before the backup of {name}");
            errors.push(AgentError::new(ErrorClass::Busy, message));
            break;
        }
        match back_up_by_hand(&pipeline, &host, name, &task_until(&runtime, stop.clone())) {
            Ok(made) => {
                out.print(&to_json(name, &made), describe(name, &made))?;
                tell_gaps(&made);
                match made.ended() {
                    Ended::Complete => {}
                    Ended::Suspect => errors.push(suspect(name, &made)),
                    _ => done = Done::Gaps,
                }
            }
            Err(error) => {
                if let Err(failure) = runtime.block_on(report_failure(&host, name, &error)) {
                    eprintln!("warning: the coordinator does not show that {name} failed: {failure}");
                }
                errors.push(error);
            }
        }
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    let last = errors.pop();
    errors.iter().for_each(|error| eprintln!("{}", error.report()));
    last.map_or(Ok(done), Err)
}

/// A suspect snapshot counts as failed until an operator accepts it (INV-17, INV-78).
fn suspect(name: &SourceSetName, made: &Made) -> AgentError {
    let why = made.report.suspect.as_deref().unwrap_or_default();
    AgentError::new(ErrorClass::Refused, format!("{name}: kept as suspect: {why}"))
        .hint("look at the files of this source set; `latest` is still the snapshot before")
}

/// Tells the coordinator, which ordered nothing and so knows nothing of this backup.
async fn report_failure(host: &Host, name: &SourceSetName, error: &AgentError) -> Result<(), Failure> {
    let dialer = host.dialer().map_err(|error| error.explain())?;
    let channel = dialer.connect().await.map_err(|error| explain_transport(&error))?;
    let message = with_causes(error);
    let mut request = Request::new(v1::ReportFailureRequest { source_set: name.to_string(), message });
    request.set_timeout(ANSWER_TIME);
    control_client(channel).report_failure(request).await.map_err(explain)?;
    Ok(())
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
        0 => String::new(),
        1 => ", 1 gap".to_owned(),
        gaps => format!(", {gaps} gaps"),
    };
    let gaps = match report.gaps.left_out() {
        0 => gaps,
        left_out => format!("{gaps}, of which {left_out} left out"),
    };
    let outcome = made.ended().name();
    format!(
        "{name}: {outcome}, snapshot {}{gaps}\n  {} entries, {} files with {}; {} read, {} sent",
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
    left_out_lines(&made.report).iter().for_each(|line| eprintln!("skipped: {line}"));
    made.notes.iter().for_each(|note| eprintln!("warning: {note}"));
}

fn to_json(name: &SourceSetName, made: &Made) -> Value {
    let (report, counts) = (&made.report, &made.report.counts);
    json!({
        "source_set": name.as_str(),
        "snapshot": report.snapshot.to_string(),
        "outcome": made.ended().name(),
        "suspect": report.suspect,
        "entries": counts.entries,
        "files": counts.files,
        "content_bytes": counts.content_bytes,
        "read_bytes": counts.read_bytes,
        "sent_bytes": counts.sent_bytes,
        "gap_count": report.gaps.count(),
        "left_out_count": report.gaps.left_out(),
        "gaps": gap_lines(report, GAPS_NAMED_MAX),
        "left_out": left_out_lines(report),
        "notes": made.notes,
    })
}
