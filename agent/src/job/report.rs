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
            ended: made.ended(),
            snapshot: Some(made.report.snapshot),
            message,
            gaps: gap_lines(&made.report, GAPS_REPORTED),
            gap_count: made.report.gaps.count(),
            restored: None,
        },
        Err(_) => JobReport::failed(job, message),
    }
}

/// What rules left out as a whole, a line each.
pub fn left_out_lines(report: &Report) -> Vec<String> {
    report.left_out.iter().map(|(path, why)| format!("/{}: {why}", Shown(path))).collect()
}

/// Remembers it for `status`.
pub fn keep(host: &Host, name: &SourceSetName, made: &Result<Made, AgentError>) {
    let report = made.as_ref().ok().map(|made| &made.report);
    for line in report.map(left_out_lines).unwrap_or_default() {
        tracing::info!(source_set = name.as_str(), "skipped: {line}");
    }
    let outcome = made.as_ref().map_or(Ended::Failed, Made::ended).name();
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

impl Made {
    /// The outcome: a suspect snapshot is no good one, whatever was read (INV-78).
    pub fn ended(&self) -> Ended {
        match self.report.outcome {
            Outcome::Checkpoint => Ended::Checkpoint,
            _ if self.report.suspect.is_some() => Ended::Suspect,
            Outcome::Gaps => Ended::Gaps,
            // A hook after it failed: somebody has to look.
            Outcome::Complete if !self.notes.is_empty() => Ended::Gaps,
            Outcome::Complete => Ended::Complete,
        }
    }
}

/// What went wrong and what to do, on one line; empty if nothing.
fn message(made: &Result<Made, AgentError>) -> String {
    match made {
        Ok(made) => {
            let suspect = made.report.suspect.iter().map(|why| format!("kept as suspect: {why}"));
            made.notes.iter().cloned().chain(suspect).collect::<Vec<_>>().join("; ")
        }
        Err(error) if error.hint.is_empty() => with_causes(error),
        Err(error) => format!("{}; {}", with_causes(error), error.hint),
    }
}
