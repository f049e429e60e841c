//! The past, as the night asks for it: out of the catalog, and into the journal.

use super::Context;
use crate::dispatch::board::{EndedJob, Work};
use crate::dispatch::{Past, night};
use crate::job::JobResult;
use crate::schedule::{History, Turns};
use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::{HostState, JobOutcome};
use lifeboat_format::journal::{Event, Principal};
use lifeboat_format::layout::fit_text;
use lifeboat_format::manifest::Outcome;
use lifeboat_proto::convert::control::BackupFailure;
use lifeboat_proto::convert::{Ended, JobName, SourceSetName};
use lifeboat_proto::status::Failure;
use std::sync::Arc;

/// The past of this repository.
#[derive(Debug)]
pub struct Catalogued(pub Arc<Context>);

impl Past for Catalogued {
    fn takes_part(&self, host: HostId) -> bool {
        self.0.catalog(|catalog| catalog.host(host).is_some_and(|row| row.state == HostState::Active))
    }

    fn history(&self, host: HostId, source_set: &SourceSetName, failures: u32) -> Option<History> {
        self.0.catalog(|catalog| night::history(catalog, host, source_set.as_str(), failures))
    }

    fn turns(&self, host: HostId) -> Turns {
        let config = &self.0.config;
        Turns::new(&self.0.vault.repository, host, config.night, config.time_zone.clone())
    }

    /// A backup that left a snapshot is in the journal already, unless something went wrong after it; of another one this
    /// is all that remains. Of a restore the journal says how it ended.
    fn record(&self, ended: &EndedJob) {
        let EndedJob { name, host, work, ending } = ended;
        let JobResult { ended: how, message, .. } = &ending.result;
        let shown = self.0.host_name(*host);
        let (verb, object, event) = match work {
            Work::Restore { directory, .. } => {
                log_end(*how, "restore", &shown, directory, name, message);
                ("restore", format!("{directory}: {} {message}", how.name()).trim_end().to_owned(), Event::Nothing)
            }
            Work::Backup(source_set) => {
                log_end(*how, "backup", &shown, source_set.as_str(), name, message);
                let Some(outcome) = recorded_outcome(*how, message) else { return };
                let event = Event::JobEnded {
                    job: name.to_string(),
                    host: *host,
                    source_set: source_set.to_string(),
                    outcome,
                    message: fit_text(message),
                };
                ("backup", source_set.to_string(), event)
            }
        };
        if let Err(error) = self.0.record(Principal::Host(*host), verb, &object, event) {
            tracing::error!(host = shown, %error, "the end of a job could not be recorded");
        }
    }
}

/// What the journal must say of a backup beside its snapshot; none if the snapshot says all of it.
fn recorded_outcome(how: Ended, message: &str) -> Option<JobOutcome> {
    match how {
        Ended::Failed => Some(JobOutcome::Failed),
        Ended::Cancelled => Some(JobOutcome::Cancelled),
        // Of a suspect one the host knows more than the coordinator: which path shrank.
        Ended::Gaps | Ended::Suspect if !message.is_empty() => Some(JobOutcome::Committed(Outcome::Gaps)),
        Ended::Complete | Ended::Gaps | Ended::Checkpoint | Ended::Suspect => None,
    }
}

/// Logs the end of a job with the priority that it has for an operator.
fn log_end(how: Ended, kind: &str, host: &str, what: &str, job: &JobName, message: &str) {
    let outcome = how.name();
    match how {
        Ended::Failed => tracing::error!(kind, host, what, outcome, %job, message, "job failed"),
        Ended::Complete | Ended::Checkpoint => tracing::info!(kind, host, what, outcome, %job, "job ended"),
        Ended::Gaps | Ended::Suspect | Ended::Cancelled => {
            tracing::warn!(kind, host, what, outcome, %job, message, "job ended");
        }
    }
}

impl Context {
    /// Records that a backup failed which no order had asked for.
    pub(super) fn record_failure(&self, host: HostId, failure: &BackupFailure) -> Result<(), Failure> {
        let BackupFailure { source_set, message } = failure;
        let shown = self.host_name(host);
        tracing::error!(host = shown, what = %source_set, outcome = "failed", message, "a backup started on the host failed");
        let (source_set, message) = (source_set.to_string(), fit_text(message));
        let (job, outcome, object) = (String::new(), JobOutcome::Failed, source_set.clone());
        let event = Event::JobEnded { job, host, source_set, outcome, message };
        self.record(Principal::Host(host), "backup", &object, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_78_a_hook_that_failed_after_a_complete_backup_is_recorded() {
        let committed = |outcome| Some(JobOutcome::Committed(outcome));
        assert_eq!(recorded_outcome(Ended::Complete, ""), None);
        assert_eq!(recorded_outcome(Ended::Gaps, ""), None);
        assert_eq!(recorded_outcome(Ended::Gaps, "start-db failed"), committed(Outcome::Gaps));
        assert_eq!(
            recorded_outcome(Ended::Suspect, "/srv shrank"),
            committed(Outcome::Gaps),
            "the host knows which path"
        );
        assert_eq!(recorded_outcome(Ended::Suspect, ""), None, "the snapshot says it");
        assert_eq!(recorded_outcome(Ended::Cancelled, ""), Some(JobOutcome::Cancelled));
    }
}
