//! What was refused, counted until it is written into the journal: equal refusals become one record, so that somebody
//! who knocks a million times cannot fill it.

use super::{Context, failure};
use crate::authorize::{Principal, Reason, Verb};
use crate::catalog::refused::{ENROL, FOLLOW, Refused, RefusedEnrolment, RefusedTwins, TWIN, enrolment_object};
use crate::dispatch::board::Twin;
use lifeboat_format::id::HostId;
use lifeboat_format::journal::{self, Act, Decision, Event};
use lifeboat_format::layout::fit_text;
use lifeboat_proto::status::Failure;
use lifeboat_proto::v1;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// Enrolments and agents that were refused and are not recorded yet. What is recorded is in the catalog.
#[derive(Debug, Default)]
pub struct RefusedHosts(Mutex<Unrecorded>);

#[derive(Debug, Default)]
struct Unrecorded {
    refused: Refused,
    twins: BTreeSet<HostId>,
}

impl RefusedHosts {
    fn lock(&self) -> MutexGuard<'_, Unrecorded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be recorded: each enrolment and agent with its count.
    fn take(&self) -> Vec<(journal::Principal, &'static str, String, String, u64)> {
        let Unrecorded { refused, twins } = std::mem::take(&mut *self.lock());
        let enrolment = |one: &RefusedEnrolment| {
            let object = enrolment_object(&one.host_name, one.token);
            (journal::Principal::Coordinator, ENROL, object, one.reason.clone(), one.count)
        };
        let twin = |host: HostId| {
            let count = refused.twins(host)?.count;
            let reason = "another agent with this identity is connected".to_owned();
            Some((journal::Principal::Host(host), FOLLOW, TWIN.to_owned(), reason, count))
        };
        refused.enrolments().map(enrolment).chain(twins.into_iter().filter_map(twin)).collect()
    }
}

/// How long a refused enrolment or agent is shown.
const SHOWN_NS: i64 = 7 * 24 * 3600 * 1_000_000_000;

impl Context {
    /// Logs and counts that an enrolment was refused. Only the first of its kind is logged: strangers may call this.
    pub(super) fn refuse_enrolment(&self, host_name: &str, token: u64, failure: &Failure) {
        let reason = failure.message.as_str();
        let is_first =
            self.refused_hosts.lock().refused.add_enrolments(host_name, token, reason, 1, self.clock.now_ns());
        if is_first && !self.catalog(|catalog| catalog.refused().has_enrolment(host_name, token, reason)) {
            tracing::warn!(host = host_name, token, reason, "enrolment refused");
        }
    }

    /// The answer to an agent whose host is connected already, from elsewhere; it is logged.
    pub(super) fn refuse_twin(&self, host: HostId, twin: &Twin) -> Failure {
        let name = self.host_name(host);
        tracing::warn!(host = name, number = %host, "agent refused: another agent is connected as this host; was it cloned?");
        let mut unrecorded = self.refused_hosts.lock();
        unrecorded.refused.add_twins(host, 1, self.clock.now_ns());
        unrecorded.twins.insert(host);
        failure::of_twin(twin)
    }

    /// Enrolments that were refused lately, the latest last.
    pub(super) fn refused_enrolments(&self) -> Vec<v1::RefusedEnrolment> {
        let mut all = self.catalog(|catalog| catalog.refused().clone());
        for one in self.refused_hosts.lock().refused.enrolments() {
            all.add_enrolments(&one.host_name, one.token, &one.reason, one.count, one.last_ns);
        }
        let since = self.clock.now_ns().saturating_sub(SHOWN_NS);
        let shown = all.enrolments().filter(|one| one.last_ns >= since);
        let message = |one: &RefusedEnrolment| v1::RefusedEnrolment {
            host_name: one.host_name.clone(),
            token_number: one.token,
            reason: one.reason.clone(),
            last_ns: one.last_ns,
            count: one.count,
        };
        shown.map(message).collect()
    }

    /// Agents that were refused lately as clones of this host.
    pub(super) fn refused_twins(&self, host: HostId) -> RefusedTwins {
        let recorded = self.catalog(|catalog| catalog.refused().twins(host)).unwrap_or_default();
        let unrecorded = self.refused_hosts.lock().refused.twins(host).unwrap_or_default();
        let all = RefusedTwins {
            count: recorded.count.saturating_add(unrecorded.count),
            last_ns: recorded.last_ns.max(unrecorded.last_ns),
        };
        let is_shown = all.last_ns >= self.clock.now_ns().saturating_sub(SHOWN_NS);
        if is_shown { all } else { RefusedTwins::default() }
    }

    /// The records of what was refused since the last time.
    pub(super) fn refused_acts(&self) -> Vec<Act> {
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
        let of_hosts = |(principal, verb, object, reason, count): (_, &str, String, String, u64)| Act {
            time_ns,
            principal,
            verb: verb.to_owned(),
            object: fit_text(&object),
            decision: Decision::Refused { reason: fit_text(&reason) },
            event: Event::Refused { count },
        };
        let hosts = self.refused_hosts.take().into_iter().map(of_hosts);
        self.refusals.take().into_iter().map(act).chain(hosts).collect()
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
