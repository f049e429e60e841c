//! `lifeboat restore HOST:PATH[@WHEN] --to DIR`: gives files back, with everything that was kept of them.
//!
//! If PATH is a directory, DIR takes its place, its attributes included; a file goes into DIR under its name. What
//! could not be restored, or not wholly, is named at the end, and the exit code is 3 (INV-16).

use super::output::{Output, size};
use super::reading::{AddressArgs, Opened, RESTORE, blocking};
use super::{Done, Global};
use clap::Args;
use lifeboat_agent::restore::{self as agent, Options, Progress, Report, Target, TargetError, Writer, of_disk};
use lifeboat_proto::status::{ErrorClass, Failure};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// Give files back as they were
#[derive(Debug, Args)]
pub struct RestoreArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// Where to: a directory that is new or empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Give files to the numbers of their owners, not to the names
    #[arg(long)]
    numeric_ids: bool,
}

#[derive(Serialize)]
struct Restored {
    snapshot: String,
    entries: u64,
    bytes: u64,
    lost_attributes: u64,
    failed_entries: u64,
    gaps: u64,
    losses: Vec<String>,
}

/// Runs the command.
pub async fn restore(args: RestoreArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let opened = args.address.open("restore", RESTORE, global).await?;
    let whole = opened.address.path.is_empty();
    let bar = out.progress("restore", whole.then_some(opened.snapshot.content_bytes));
    let gaps = opened.snapshot.gap_count;
    let (snapshot, named_gaps) = (opened.short_id(), opened.gaps.clone());
    let progress = Arc::new(Progress::default());
    let told = progress.clone();
    let work = blocking(move || write(&opened, &args, &told).map_err(|failure| what_if_full(failure, &args.to)));
    let report = shown_while(work, || bar.set_position(progress.bytes())).await;
    bar.finish_and_clear();
    let report = report?;
    let restored = restored(snapshot, &report, gaps);
    say_losses(&restored, &report, &named_gaps, out);
    let complete = report.is_complete();
    out.value(&restored, |restored| {
        let Restored { snapshot, entries, bytes, .. } = restored;
        format!("restored {entries} entries, {} from snapshot {snapshot}", size(*bytes))
    })?;
    Ok(if complete { Done::Whole } else { Done::WithLosses })
}

/// Waits for `work`, and calls `show` now and then until it is done.
async fn shown_while<R>(work: impl Future<Output = R>, show: impl Fn()) -> R {
    let mut ticks = tokio::time::interval(SHOW_EVERY);
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = ticks.tick() => show(),
        }
    }
}

fn write(opened: &Opened, args: &RestoreArgs, progress: &Progress) -> Result<Report, Failure> {
    let entry = opened.entry()?;
    let target = Target::open(&args.to).map_err(|error| of_target(&error))?;
    let options = Options { numeric_ids: args.numeric_ids };
    let writer = Writer::new(target, options).map_err(|error| of_disk(&error))?;
    agent::restore(&opened.reader, entry, writer, progress)
}

fn of_target(error: &TargetError) -> Failure {
    let class = match error {
        TargetError::NotEmpty { .. } => ErrorClass::Usage,
        TargetError::System { .. } => ErrorClass::Internal,
    };
    Failure::of(class, error)
}

/// Only the disk that is restored to can be full here: nothing is written anywhere else.
fn what_if_full(failure: Failure, target: &Path) -> Failure {
    if failure.class != ErrorClass::Full {
        return failure;
    }
    failure.hint(format!(
        "make room on the disk of {} and empty that directory, or name one on another disk; then restore again",
        target.display()
    ))
}

fn restored(snapshot: String, report: &Report, gaps: u64) -> Restored {
    let failures = report.failures.iter().map(ToString::to_string);
    Restored {
        snapshot,
        entries: report.entries,
        bytes: report.bytes,
        lost_attributes: report.lost_attributes.values().sum(),
        failed_entries: report.failed_entries,
        gaps,
        losses: failures.chain(report.losses.iter().map(ToString::to_string)).collect(),
    }
}

fn say_losses(restored: &Restored, report: &Report, named_gaps: &[String], out: &Output) {
    if restored.gaps > 0 {
        out.say(format_args!("the backup itself had {} gaps; they are not in it:", restored.gaps));
        named_gaps.iter().for_each(|gap| out.say(format_args!("  {gap}")));
    }
    if report.is_complete() {
        return;
    }
    if report.failed_entries > 0 {
        out.say(format_args!("{} entries were not restored", report.failed_entries));
    }
    for (kind, count) in &report.lost_attributes {
        out.say(format_args!("{count} entries lost their {kind}"));
    }
    restored.losses.iter().for_each(|loss| out.say(format_args!("  {loss}")));
    let named = restored.losses.len() as u64;
    let unnamed = (restored.lost_attributes + restored.failed_entries).saturating_sub(named);
    if unnamed > 0 {
        out.say(format_args!("  and {unnamed} more"));
    }
    if rustix::process::geteuid().as_raw() != 0 {
        out.say("hint: owners, devices and some attributes can only be restored by root");
    }
}
