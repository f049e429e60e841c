//! What was refused, counted until it is written into the journal: equal refusals become one record, so that somebody
//! who knocks a million times cannot fill it.

use super::{Context, failure};
use crate::authorize::{Principal, Reason, Verb};
use crate::dispatch::board::Twin;
use lifeboat_format::id::HostId;
use lifeboat_format::journal::{self, Act, Decision, Event};
use lifeboat_proto::status::Failure;
use lifeboat_proto::v1;
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

/// Refused enrolments since the coordinator was started, merged where host name, token and reason are equal.
#[derive(Debug, Default)]
pub struct RefusedEnrolments(Mutex<Vec<v1::RefusedEnrolment>>);

/// Kinds of refused enrolments that are kept; the oldest makes way.
const ENROLMENTS_MAX: usize = 16;

impl RefusedEnrolments {
    /// Counts one; whether it is the first of its kind.
    fn note(&self, host_name: &str, token_number: u64, reason: &str, now_ns: i64) -> bool {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_like = |other: &v1::RefusedEnrolment| {
            other.host_name == host_name && other.token_number == token_number && other.reason == reason
        };
        let before = list.iter().position(is_like).map(|at| list.remove(at));
        if list.len() == ENROLMENTS_MAX {
            list.remove(0);
        }
        let (count, is_first) = (before.as_ref().map_or(0, |before| before.count) + 1, before.is_none());
        let (host_name, reason) = (host_name.to_owned(), reason.to_owned());
        list.push(v1::RefusedEnrolment { host_name, token_number, reason, last_ns: now_ns, count });
        is_first
    }

    /// All of them, the latest last.
    pub fn list(&self) -> Vec<v1::RefusedEnrolment> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Context {
    /// Logs and keeps that an enrolment was refused. Only the first of its kind is logged: strangers may call this.
    pub(super) fn refuse_enrolment(&self, host_name: &str, token: u64, failure: &Failure) {
        let reason = failure.message.as_str();
        if self.refused_enrolments.note(host_name, token, reason, self.clock.now_ns()) {
            tracing::warn!(host = host_name, token, reason, "enrolment refused");
        }
    }

    /// The answer to an agent whose host is connected already, from elsewhere; it is logged.
    pub(super) fn refuse_twin(&self, host: HostId, twin: &Twin) -> Failure {
        let name = self.host_name(host);
        tracing::warn!(host = name, number = %host, "agent refused: another agent is connected as this host; was it cloned?");
        failure::of_twin(twin)
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
        self.refusals.take().into_iter().map(act).collect()
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

    #[test]
    fn equal_refused_enrolments_are_counted_and_strangers_cannot_make_the_list_long() {
        let refused = RefusedEnrolments::default();
        assert!(refused.note("web1", 3, "spent", 5));
        assert!(!refused.note("web1", 3, "spent", 9), "logged once");
        let v1::RefusedEnrolment { count, last_ns, .. } = refused.list().pop().unwrap();
        assert_eq!((count, last_ns), (2, 9));
        for number in 0..1000 {
            refused.note(&format!("host-{number}"), 1, "wrong", number);
        }
        assert_eq!(refused.list().len(), ENROLMENTS_MAX);
        assert_eq!(refused.list().last().unwrap().host_name, "host-999");
    }
}
