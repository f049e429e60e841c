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
use lifeboat_proto::convert::{Ended, SourceSetName};
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

    /// A backup that left a snapshot is in the journal already, and is recorded only if something is to be said of it, such
    /// as a hook after it that failed. Of a failed one this is all that remains. Of a restore the journal says how it ended.
    fn record(&self, ended: &EndedJob) {
        let EndedJob { name, host, work, ending } = ended;
        let JobResult { ended: how, message, .. } = &ending.result;
        let (verb, object, event) = match work {
            Work::Restore { directory, .. } => {
                let object = format!("{directory}: {how:?} {message}");
                ("restore", object.trim_end().to_owned(), Event::Nothing)
            }
            Work::Backup(source_set) if *how != Ended::Failed && message.is_empty() => {
                tracing::info!(%host, %source_set, job = %name, "a backup ended");
                return;
            }
            Work::Backup(source_set) => {
                let outcome = match how {
                    Ended::Complete => JobOutcome::Committed(Outcome::Complete),
                    Ended::Gaps => JobOutcome::Committed(Outcome::Gaps),
                    Ended::Checkpoint => JobOutcome::Committed(Outcome::Checkpoint),
                    Ended::Failed => JobOutcome::Failed,
                };
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
        tracing::info!(%host, job = %name, verb, object, %message, "a job ended");
        if let Err(error) = self.0.record(Principal::Host(*host), verb, &object, event) {
            tracing::error!(%error, "the end of a job could not be recorded");
        }
    }
}
