//! The past, as the night asks for it: out of the catalog, and into the journal.

use super::Context;
use crate::dispatch::board::EndedJob;
use crate::dispatch::{Past, night};
use crate::schedule::{History, Turns};
use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::{HostState, JobOutcome};
use lifeboat_format::journal::{Event, Principal};
use lifeboat_format::layout::fit_text;
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

    /// A job that left a snapshot is in the journal already; of a failed one this is all that remains.
    fn record(&self, ended: &EndedJob) {
        let EndedJob { name, host, source_set, ending } = ended;
        let message = &ending.result.message;
        if ending.result.ended != Ended::Failed {
            tracing::info!(%host, %source_set, job = %name, "a backup ended");
            return;
        }
        tracing::warn!(%host, %source_set, job = %name, %message, "a backup failed");
        let event = Event::JobEnded {
            job: name.to_string(),
            host: *host,
            source_set: source_set.to_string(),
            outcome: JobOutcome::Failed,
            message: fit_text(message),
        };
        if let Err(error) = self.0.record(Principal::Host(*host), "backup", source_set.as_str(), event) {
            tracing::error!(%error, "a failed backup could not be recorded");
        }
    }
}
