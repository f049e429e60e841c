//! What is said of a backup: to the coordinator, to `status`, to a person.

use super::Made;
use crate::backup::Report;
use crate::clock::{Clock, SystemClock};
use crate::error::AgentError;
use crate::host::Host;
use crate::state::SetOutcome;
use crate::walk::Shown;
use lifeboat_format::manifest::Outcome;
use lifeboat_proto::convert::control::JobReport;
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use lifeboat_proto::status::with_causes;

/// Gaps that a report names; the manifest names more.
const GAPS_REPORTED: usize = 100;

/// The report on an order.
pub fn for_coordinator(job: &JobName, made: &Result<Made, AgentError>) -> JobReport {
    let (job, message) = (job.clone(), message(made));
    match made {
        Ok(made) => JobReport {
            job,
            ended: ended(made),
            snapshot: Some(made.report.snapshot),
            message,
            gaps: gap_lines(&made.report, GAPS_REPORTED),
            gap_count: made.report.gaps.count(),
            restored: None,
        },
        Err(_) => JobReport::failed(job, message),
    }
}

/// Remembers it for `status`.
pub fn keep(host: &Host, name: &SourceSetName, made: &Result<Made, AgentError>) {
    let report = made.as_ref().ok().map(|made| &made.report);
    let outcome = match made.as_ref().ok().map(ended) {
        Some(Ended::Complete) => "complete",
        Some(_) => "gaps",
        None => "failed",
    };
    let outcome = SetOutcome {
        ended_ns: SystemClock::new().now_ns(),
        outcome: outcome.to_owned(),
        snapshot: report.map(|report| report.snapshot.to_string()).unwrap_or_default(),
        message: message(made),
        gap_count: report.map_or(0, |report| report.gaps.count()),
        entries: report.map_or(0, |report| report.counts.entries),
        sent_bytes: report.map_or(0, |report| report.counts.sent_bytes),
        last_good_ns: None,
    };
    if let Err(error) = host.state.keep_outcome(name.as_str(), outcome) {
        tracing::warn!(%error, "`status` will not know of this backup");
    }
}

/// The first gaps, a line each.
pub fn gap_lines(report: &Report, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    report.gaps.name_all(|path, reason| {
        lines.push(format!("/{}: {reason}", Shown(path)));
        lines.len() < most
    });
    lines.truncate(most);
    lines
}

/// A backup beside which something failed, such as a hook after it, does not count as complete: somebody has to look.
pub fn ended(made: &Made) -> Ended {
    match made.report.outcome {
        Outcome::Complete if made.notes.is_empty() => Ended::Complete,
        Outcome::Complete => Ended::Gaps,
        Outcome::Gaps => Ended::Gaps,
        Outcome::Checkpoint => Ended::Checkpoint,
    }
}

/// What went wrong and what to do, on one line; empty if nothing.
fn message(made: &Result<Made, AgentError>) -> String {
    match made {
        Ok(made) => {
            let suspect = made.report.suspect.iter().map(|why| format!("the coordinator keeps it as suspect: {why}"));
            made.notes.iter().cloned().chain(suspect).collect::<Vec<_>>().join("; ")
        }
        Err(error) if error.hint.is_empty() => with_causes(error),
        Err(error) => format!("{}; {}", with_causes(error), error.hint),
    }
}
