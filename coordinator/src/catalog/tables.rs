//! The rows of the catalog's tables.

use lifeboat_format::id::{Digest, HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::{GrantTarget, HostEnrolled, HostState, JobOutcome, SnapshotState};
use lifeboat_format::manifest::{Outcome, RootRef};
use lifeboat_format::sign::VerifyingKey;
use lifeboat_format::token::TokenRecord;
use std::collections::VecDeque;

/// An enrolled host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// As it was enrolled.
    pub enrolled: HostEnrolled,
    /// When: nanoseconds since 1970, UTC, by the coordinator's clock.
    pub enrolled_ns: i64,
    /// What it may do now.
    pub state: HostState,
    /// When its newest certificate ends; none before the first.
    pub certificate_ends_ns: Option<i64>,
    /// The newest certificates since it was last enrolled, by their fingerprints: only these are valid.
    pub certificates: VecDeque<Digest>,
    /// The signing keys that it had before it was enrolled again, oldest first.
    pub former_keys: Vec<FormerKey>,
}

/// A signing key that a host no longer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormerKey {
    /// The key.
    pub key: VerifyingKey,
    /// The record of the enrolment that ended it: snapshots with smaller numbers are signed with it.
    pub until: u64,
}

/// Certificates of one host that are kept. A host has a few at a time; the oldest makes way.
const CERTIFICATES_MAX: usize = 64;

impl Host {
    /// A host that was just enrolled.
    pub fn new(enrolled: HostEnrolled, enrolled_ns: i64) -> Self {
        let (state, certificates) = (HostState::Active, VecDeque::new());
        Self { enrolled, enrolled_ns, state, certificate_ends_ns: None, certificates, former_keys: Vec::new() }
    }

    /// The same host, enrolled again with this record.
    pub fn enrolled_again(&self, enrolled: HostEnrolled, enrolled_ns: i64, record: u64) -> Self {
        let mut former_keys = self.former_keys.clone();
        if enrolled.signing_key != self.enrolled.signing_key {
            former_keys.push(FormerKey { key: self.enrolled.signing_key, until: record });
        }
        Self { former_keys, ..Self::new(enrolled, enrolled_ns) }
    }

    /// A certificate was issued to it.
    pub fn add_certificate(&mut self, fingerprint: Digest, ends_ns: i64) {
        if self.certificates.len() == CERTIFICATES_MAX {
            self.certificates.pop_front();
        }
        self.certificates.push_back(fingerprint);
        self.certificate_ends_ns = Some(ends_ns);
    }

    /// The key that signed its snapshot of this number.
    pub fn signing_key_at(&self, snapshot: SnapshotNumber) -> VerifyingKey {
        let former = self.former_keys.iter().find(|former| snapshot.get() < former.until);
        former.map_or(self.enrolled.signing_key, |former| former.key)
    }
}

/// A token, and how often it was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// As it was made.
    pub record: TokenRecord,
    /// The hosts that came with it.
    pub used_by: Vec<HostId>,
    /// The host whose place the server takes that enrols with it.
    pub replaces: Option<HostId>,
}

/// A snapshot, as the journal knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The hash of its manifest.
    pub id: SnapshotId,
    /// Whose it is.
    pub host: HostId,
    /// Of which source set.
    pub source_set: String,
    /// Its number there.
    pub sequence: u64,
    /// Where its tree begins.
    pub root: RootRef,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it counts as failed, if it does.
    pub suspect: Option<String>,
    /// Whether a person said that it is right all the same.
    pub accepted: bool,
    /// Where it is on its way out.
    pub state: SnapshotState,
    /// Whether retention leaves it alone.
    pub held: bool,
    /// Not purged before: nanoseconds since 1970, UTC.
    pub locked_until_ns: Option<i64>,
    /// When it was committed, by the coordinator's clock.
    pub committed_ns: i64,
}

impl Snapshot {
    /// Whether it counts as failed until a person accepts it.
    pub fn is_suspect(&self) -> bool {
        self.suspect.is_some() && !self.accepted
    }

    /// Whether it is what a long run left on its way.
    pub fn is_checkpoint(&self) -> bool {
        self.outcome == Outcome::Checkpoint
    }

    /// Whether its tree is kept: nodes in it may be relied on.
    pub fn is_kept(&self) -> bool {
        matches!(self.state, SnapshotState::Live | SnapshotState::Trash)
    }
}

/// What is known of one source set of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSet {
    /// Sequence and manifest of its last snapshot, whatever became of it: the next manifest names both.
    pub last: Option<(u64, SnapshotId, SnapshotNumber)>,
    /// How many snapshots it has had.
    pub committed: u64,
    /// Its last job that was recorded, with its end, message and time.
    pub last_job: Option<EndedJob>,
}

impl SourceSet {
    /// The last attempt, if it failed or was cancelled.
    pub fn last_without_snapshot(&self) -> Option<&EndedJob> {
        self.job_after_last_snapshot().filter(|job| !matches!(job.outcome, JobOutcome::Committed(_)))
    }

    /// What went wrong after the last snapshot, which stands all the same: a hook that failed.
    pub fn last_warning(&self) -> Option<&EndedJob> {
        self.job_after_last_snapshot().filter(|job| matches!(job.outcome, JobOutcome::Committed(_)))
    }

    /// By numbers, not by times: clocks are put back.
    fn job_after_last_snapshot(&self) -> Option<&EndedJob> {
        let snapshot = self.last.as_ref().map_or(0, |(_, _, number)| number.get());
        self.last_job.as_ref().filter(|job| job.number > snapshot)
    }
}

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedJob {
    /// Its name; empty if nobody had ordered it.
    pub job: String,
    /// How it ended.
    pub outcome: JobOutcome,
    /// What went wrong and what to do.
    pub message: String,
    /// When, by the coordinator's clock.
    pub ended_ns: i64,
    /// Its place in the journal, where snapshots are numbered too: what is later has a greater number.
    pub number: u64,
}

/// A grant that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantMade {
    /// What it opens.
    pub snapshot: SnapshotNumber,
    /// To whom.
    pub target: GrantTarget,
    /// When it ends: nanoseconds since 1970, UTC.
    pub expires_ns: i64,
    /// Whether it was shown for reading.
    pub opened: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::envelope::Identity;
    use lifeboat_format::sign::SigningKey;

    fn enrolled(seed: u8) -> HostEnrolled {
        HostEnrolled {
            host: HostId::new(1),
            name: "web1".into(),
            site: String::new(),
            group: "all".into(),
            signing_key: SigningKey::from_seed(&[seed; 32]).verifying_key(),
            box_recipient: Identity::generate().recipient(),
            tls_key: Digest::of(&[seed]),
            token: 1,
        }
    }

    #[test]
    fn a_snapshot_is_checked_with_the_key_of_its_time() {
        let mut first = Host::new(enrolled(1), 0);
        first.add_certificate(Digest::of(b"old"), 9);
        let same = first.enrolled_again(enrolled(1), 1, 50);
        let replaced = same.enrolled_again(enrolled(2), 2, 100).enrolled_again(enrolled(3), 3, 200);
        let key = |number| replaced.signing_key_at(SnapshotNumber::new(number));
        assert_eq!([key(40), key(60), key(99)], [enrolled(1).signing_key; 3]);
        assert_eq!([key(101), key(199)], [enrolled(2).signing_key; 2]);
        assert_eq!(key(201), enrolled(3).signing_key);
        assert!(replaced.certificates.is_empty(), "those of the machines before are no longer valid");
    }

    #[test]
    fn the_certificates_of_a_host_are_kept_within_bounds() {
        let mut host = Host::new(enrolled(1), 0);
        (0..1000_u32).for_each(|number| host.add_certificate(Digest::of(&number.to_le_bytes()), 9));
        assert_eq!(host.certificates.len(), CERTIFICATES_MAX);
        assert!(host.certificates.contains(&Digest::of(&999_u32.to_le_bytes())));
    }
}
