//! Refused enrolments and agents, as the journal has them: what an operator should still see after a restart.

use lifeboat_format::id::HostId;
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use std::collections::{BTreeMap, VecDeque};

/// The verb of a refused enrolment, whose object is [`enrolment_object`].
pub const ENROL: &str = "enrol";
/// The verb of a refused agent, whose principal is the host that it claims to be.
pub const FOLLOW: &str = "follow";
/// The object of a refused agent.
pub const TWIN: &str = "another agent with the identity of this host";
/// Kinds of refused enrolments that are kept; the oldest makes way.
pub const ENROLMENTS_MAX: usize = 16;

/// Enrolments that were refused, all for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEnrolment {
    /// As the caller named itself.
    pub host_name: String,
    /// The number of the token that it showed.
    pub token: u64,
    /// Why.
    pub reason: String,
    /// When the last one was: nanoseconds since 1970, UTC.
    pub last_ns: i64,
    /// How many.
    pub count: u64,
}

/// Agents that were refused because another one with the same identity was connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedTwins {
    /// How many attempts were refused.
    pub count: u64,
    /// When the last one was: nanoseconds since 1970, UTC.
    pub last_ns: i64,
}

/// What was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    pub(super) enrolments: VecDeque<RefusedEnrolment>,
    pub(super) twins: BTreeMap<HostId, RefusedTwins>,
}

/// The object of the record of a refused enrolment.
pub fn enrolment_object(host_name: &str, token: u64) -> String {
    format!("{host_name} with token {token}")
}

impl Refused {
    /// Takes in a record of something that was refused.
    pub fn apply(&mut self, act: &Act) {
        let (Decision::Refused { reason }, Event::Refused { count }) = (&act.decision, &act.event) else { return };
        match (act.verb.as_str(), act.principal) {
            (FOLLOW, Principal::Host(host)) if act.object == TWIN => self.add_twins(host, *count, act.time_ns),
            (ENROL, _) => {
                let Some((host_name, token)) = act.object.rsplit_once(" with token ") else { return };
                let Ok(token) = token.parse() else { return };
                self.add_enrolments(host_name, token, reason, *count, act.time_ns);
            }
            _ => {}
        }
    }

    /// Counts refused agents of a host.
    pub fn add_twins(&mut self, host: HostId, count: u64, time_ns: i64) {
        let twins = self.twins.entry(host).or_default();
        *twins = RefusedTwins { count: twins.count.saturating_add(count), last_ns: time_ns };
    }

    /// Counts refused enrolments, merged where host name, token and reason are equal; returns whether they are the first
    /// of their kind.
    pub fn add_enrolments(&mut self, host_name: &str, token: u64, reason: &str, count: u64, time_ns: i64) -> bool {
        let before = self.position(host_name, token, reason).and_then(|at| self.enrolments.remove(at));
        if self.enrolments.len() == ENROLMENTS_MAX {
            self.enrolments.pop_front();
        }
        let count = before.as_ref().map_or(0, |before| before.count).saturating_add(count);
        let (host_name, reason) = (host_name.to_owned(), reason.to_owned());
        self.enrolments.push_back(RefusedEnrolment { host_name, token, reason, last_ns: time_ns, count });
        before.is_none()
    }

    fn position(&self, host_name: &str, token: u64, reason: &str) -> Option<usize> {
        let is_like =
            |other: &RefusedEnrolment| other.host_name == host_name && other.token == token && other.reason == reason;
        self.enrolments.iter().position(is_like)
    }

    /// Whether an enrolment of this kind is kept.
    pub fn has_enrolment(&self, host_name: &str, token: u64, reason: &str) -> bool {
        self.position(host_name, token, reason).is_some()
    }

    /// Refused enrolments, the latest last.
    pub fn enrolments(&self) -> impl Iterator<Item = &RefusedEnrolment> {
        self.enrolments.iter()
    }

    /// Refused agents of a host.
    pub fn twins(&self, host: HostId) -> Option<RefusedTwins> {
        self.twins.get(&host).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(principal: Principal, verb: &str, object: String, count: u64, time_ns: i64) -> Act {
        let decision = Decision::Refused { reason: "spent".into() };
        Act { time_ns, principal, verb: verb.into(), object, decision, event: Event::Refused { count } }
    }

    #[test]
    fn what_was_refused_is_read_back_from_its_records() {
        let mut refused = Refused::default();
        let enrolment =
            |name: &str, count, time| act(Principal::Coordinator, ENROL, enrolment_object(name, 3), count, time);
        for record in [enrolment("web with token 9", 2, 5), enrolment("web", 1, 6), enrolment("web with token 9", 3, 7)]
        {
            refused.apply(&record);
        }
        let told: Vec<_> =
            refused.enrolments().map(|one| (one.host_name.as_str(), one.token, one.count, one.last_ns)).collect();
        assert_eq!(told, [("web", 3, 1, 6), ("web with token 9", 3, 5, 7)]);
        let host = HostId::new(4);
        refused.apply(&act(Principal::Host(host), FOLLOW, TWIN.into(), 2, 8));
        refused.apply(&act(Principal::Host(host), FOLLOW, TWIN.into(), 3, 9));
        refused.apply(&act(Principal::Host(host), FOLLOW, "repository".into(), 7, 10));
        assert_eq!(refused.twins(host), Some(RefusedTwins { count: 5, last_ns: 9 }));
        assert_eq!(refused.twins(HostId::new(5)), None);
    }

    #[test]
    fn equal_refused_enrolments_are_counted_and_strangers_cannot_make_the_list_long() {
        let mut refused = Refused::default();
        assert!(refused.add_enrolments("web1", 3, "spent", 1, 5));
        assert!(!refused.add_enrolments("web1", 3, "spent", 1, 9));
        let last = refused.enrolments().last().unwrap().clone();
        assert_eq!((last.count, last.last_ns), (2, 9));
        for number in 0..1000 {
            refused.add_enrolments(&format!("host-{number}"), 1, "wrong", 1, number);
        }
        assert_eq!(refused.enrolments().count(), ENROLMENTS_MAX);
        assert_eq!(refused.enrolments().last().unwrap().host_name, "host-999");
    }
}
