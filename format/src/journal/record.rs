//! One record of the journal: who did what to what, whether it was allowed, and what that changed.
//!
//! Verb and object are for people and for the audit; the event is what a replay applies.

use super::event::Event;
use crate::id::{Digest, HostId};

layout! {
    /// An act, at its place in the journal.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Record {
        /// Counted through all batches, from 1, without a gap.
        pub sequence: u64,
        /// What was done there.
        pub act: Act,
    }
}

layout! {
    /// Something that somebody did, or was refused.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Act {
        /// When, by the coordinator's clock: nanoseconds since 1970, UTC.
        pub time_ns: i64,
        /// Who.
        pub principal: Principal,
        /// What was asked, such as `restore` or `token create`.
        pub verb: String,
        /// Of what, such as `web-1:system@4711`.
        pub object: String,
        /// Whether it was done.
        pub decision: Decision,
        /// What changed by it.
        pub event: Event,
    }
}

tagged! {
    /// Who did something.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Principal {
        /// Root on the coordinator, at the local socket.
        1 => LocalRoot,
        /// A person: the fingerprint of the operator key.
        2 => Operator(Digest),
        /// An enrolled host.
        3 => Host(HostId),
        /// The coordinator by itself: schedule, retention, clean-up.
        4 => Coordinator,
        /// Whoever holds the token of this number.
        5 => Token(u64),
    }
}

tagged! {
    /// Whether something was done.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub enum Decision {
        /// It was.
        1 => Done,
        /// It was not.
        2 => Refused {
            /// What forbade it.
            reason: String,
        },
    }
}
