//! What was refused, counted until it is written into the journal: equal refusals become one record, so that somebody
//! who knocks a million times cannot fill it.

use super::Context;
use crate::authorize::{Principal, Reason, Verb};
use lifeboat_format::journal::{self, Act, Decision, Event};
use std::sync::{Mutex, PoisonError};

/// Kinds of refusals between two records; what is beyond is counted with the last.
const KINDS_MAX: usize = 256;

type Kind = (Principal, Verb, Reason);

/// Refusals since the last record.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Vec<(Kind, u64)>>);

impl Refusals {
    /// Counts one.
    pub fn note(&self, principal: Principal, verb: Verb, reason: Reason) {
        let kind = (principal, verb, reason);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = counts.len() >= KINDS_MAX;
        match counts.iter().position(|(noted, _)| *noted == kind) {
            Some(at) => counts[at].1 += 1,
            None if full => counts[KINDS_MAX - 1].1 += 1,
            None => counts.push((kind, 1)),
        }
    }

    fn take(&self) -> Vec<(Kind, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Context {
    /// Writes what was refused since the last time into the journal. Blocks.
    pub fn record_refusals(&self) {
        let time_ns = self.clock.now_ns();
        let act = |((principal, verb, reason), count): (Kind, u64)| Act {
            time_ns,
            principal: match principal {
                Principal::Host { host, .. } => journal::Principal::Host(host),
                Principal::LocalRoot => journal::Principal::LocalRoot,
                Principal::Stranger => journal::Principal::Coordinator,
            },
            verb: verb.name().to_owned(),
            object: if principal == Principal::Stranger { "a stranger" } else { "repository" }.to_owned(),
            decision: Decision::Refused { reason: reason.to_string() },
            event: Event::Refused { count },
        };
        let acts: Vec<_> = self.refusals.take().into_iter().map(act).collect();
        if acts.is_empty() {
            return;
        }
        if let Err(error) = self.coordinator.record(acts) {
            tracing::error!(%error, "refusals could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_refusals_are_counted_and_no_caller_can_make_the_list_long() {
        let refusals = Refusals::default();
        for number in 0..1000 {
            let host = lifeboat_format::id::HostId::new(number);
            let principal = Principal::Host { host, standing: crate::authorize::Standing::Revoked };
            refusals.note(principal, Verb::BackUp, Reason::Revoked);
            refusals.note(Principal::Stranger, Verb::Grant, Reason::LocalOnly);
        }
        let counts = refusals.take();
        assert_eq!(counts.len(), KINDS_MAX);
        assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 2000);
        assert!(refusals.take().is_empty());
    }
}
