//! The only way in which the catalog changes: one record after the other.

use super::tables::EndedJob;
use super::{CHECKPOINTS_KEPT, Catalog, CatalogError, GrantMade, Host, ScopeMade, Snapshot, Token};
use lifeboat_format::id::{HostId, SnapshotNumber};
use lifeboat_format::journal::event::{HostEnrolled, SnapshotCommitted, SnapshotState};
use lifeboat_format::journal::{Event, Record};

impl Catalog {
    /// Applies the next record. After an error the catalog is not to be used: the journal is not one that this
    /// release understands.
    pub fn apply(&mut self, record: &Record) -> Result<(), CatalogError> {
        let wrong = |why: String| CatalogError { sequence: record.sequence, why };
        if record.sequence != self.applied + 1 {
            return Err(wrong(format!("record {} was expected", self.applied + 1)));
        }
        self.applied = record.sequence;
        self.apply_event(record).map_err(wrong)
    }

    /// Applies a record of a journal that lacks batches. An error says what could not be applied without them, and the
    /// catalog is good all the same.
    pub fn apply_despite_gaps(&mut self, record: &Record) -> Result<(), CatalogError> {
        self.applied = record.sequence;
        let applied = match &record.act.event {
            Event::SnapshotCommitted(snapshot) => self.insert(record.sequence, snapshot, record.act.time_ns),
            _ => self.apply_event(record),
        };
        applied.map_err(|why| CatalogError { sequence: record.sequence, why })
    }

    /// The records up to this one are missing.
    pub fn skip_to(&mut self, sequence: u64) {
        self.applied = self.applied.max(sequence);
    }

    /// Takes in a snapshot whose record is missing, under a number that no record has.
    pub fn add_unrecorded(&mut self, number: u64, snapshot: &SnapshotCommitted, time_ns: i64) -> Result<(), String> {
        self.insert(number, snapshot, time_ns)
    }

    fn apply_event(&mut self, record: &Record) -> Result<(), String> {
        let time_ns = record.act.time_ns;
        match &record.act.event {
            Event::Nothing
            | Event::Incarnation { .. }
            | Event::Witnessed { .. }
            | Event::RequestMade { .. }
            | Event::RequestApproved { .. }
            | Event::RequestStopped { .. }
            | Event::BackupOrdered { .. }
            | Event::LossGivenUp { .. }
            | Event::RestoreTested { .. }
            | Event::ClockConfirmed { .. }
            | Event::RequestContent { .. }
            | Event::Policy { .. }
            | Event::EntropyAlarm { .. }
            | Event::Unknown { .. } => {}
            Event::JournalCheckpoint { number, digest } => {
                self.checkpoints.push_back((*number, *digest));
                while self.checkpoints.len() > CHECKPOINTS_KEPT {
                    self.checkpoints.pop_front();
                }
            }
            Event::Refused { .. } => self.refused.apply(&record.act),
            Event::RepositoryCreated { custody, trust_file } => {
                self.custody = Some(*custody);
                self.trust_file = Some((1, *trust_file));
            }
            Event::TrustFile { number, digest } => self.trust_file = Some((*number, *digest)),
            Event::ScopeMade { scope, group, first } => {
                let made = ScopeMade { group: group.clone(), first: *first };
                unused(self.scopes.insert(*scope, made).is_some(), "scope", scope)?;
            }
            Event::TokenCreated(token) => {
                let number = token.number;
                let token = Token { record: token.clone(), used_by: Vec::new(), replaces: None };
                unused(self.tokens.insert(number, token).is_some(), "token", number)?;
            }
            Event::TokenReplaces { token, host } => {
                self.host_mut(*host)?;
                self.tokens.get_mut(token).ok_or(format!("there is no token {token}"))?.replaces = Some(*host);
            }
            Event::HostEnrolled(host) => self.enrol(record.sequence, host, time_ns)?,
            Event::HostState { host, state } => self.host_mut(*host)?.state = *state,
            Event::CertificateIssued { host, fingerprint, ends_ns } => {
                self.host_mut(*host)?.add_certificate(*fingerprint, *ends_ns);
            }
            Event::PacksAdded { packs } => {
                for added in packs {
                    self.packs_ever += 1;
                    self.packs.insert(added.pack, (self.packs_ever, added.holds));
                }
            }
            Event::PackDead { pack } => {
                self.packs.remove(pack);
                self.losses.remove(pack);
                self.dead.insert(*pack);
            }
            Event::Loss { pack, records } => {
                self.losses.entry(*pack).or_default().extend(records);
            }
            Event::LossWithdrawn { pack, records } => {
                if let Some(lost) = self.losses.get_mut(pack) {
                    records.iter().for_each(|record| {
                        lost.remove(record);
                    });
                    if lost.is_empty() {
                        self.losses.remove(pack);
                    }
                }
            }
            Event::SnapshotCommitted(snapshot) => self.commit(record.sequence, snapshot, time_ns)?,
            Event::SnapshotState { snapshot, state } => self.snapshot_mut(*snapshot)?.state = *state,
            Event::SnapshotAccepted { snapshot } => self.snapshot_mut(*snapshot)?.accepted = true,
            Event::SnapshotHeld { snapshot, held } => self.snapshot_mut(*snapshot)?.held = *held,
            Event::SnapshotLocked { snapshot, until_ns } => {
                let snapshot = self.snapshot_mut(*snapshot)?;
                // Lock end times only grow (INV-35).
                snapshot.locked_until_ns = snapshot.locked_until_ns.max(Some(*until_ns));
            }
            Event::GrantsMade { first, snapshots, target, expires_ns } => {
                for (number, granted) in (*first..).zip(snapshots) {
                    let (snapshot, target, expires_ns) = (granted.snapshot, *target, *expires_ns);
                    let made = GrantMade { snapshot, target, expires_ns, opened: false };
                    unused(self.grants.insert(number, made).is_some(), "grant", number)?;
                }
            }
            Event::HistoryDiverged { host, number, hash } => {
                self.diverged.insert((*host, *number, *hash));
            }
            Event::HistoryAccepted { number, hash } => {
                self.diverged.retain(|(_, of, head)| (of, head) != (number, hash));
                self.given_up.insert((*number, *hash));
            }
            Event::GrantOpened { grant } => {
                self.grants.get_mut(grant).ok_or(format!("there is no grant {grant}"))?.opened = true;
            }
            Event::JobEnded { job, host, source_set, outcome, message } => {
                let set = self.source_sets.entry((*host, source_set.clone())).or_default();
                set.last_job = Some(EndedJob {
                    job: job.clone(),
                    outcome: *outcome,
                    message: message.clone(),
                    ended_ns: time_ns,
                    number: record.sequence,
                });
            }
        }
        Ok(())
    }

    /// A host that is there already is enrolled again only with its own keys, or with a token that replaces it.
    fn enrol(&mut self, sequence: u64, host: &HostEnrolled, time_ns: i64) -> Result<(), String> {
        let number = host.host;
        let replaces = self.tokens.get(&host.token).and_then(|token| token.replaces);
        let row = match self.hosts.get(&number) {
            _ if number == HostId::WITNESSED => return Err(format!("host {number} is not one")),
            None => Host::new(host.clone(), time_ns),
            Some(before) => {
                let has_keys = before.enrolled.signing_key == host.signing_key
                    && before.enrolled.box_recipient == host.box_recipient;
                unused(!has_keys && replaces != Some(number), "host", number)?;
                before.enrolled_again(host.clone(), time_ns, sequence)
            }
        };
        self.hosts.insert(number, row);
        if let Some(token) = self.tokens.get_mut(&host.token) {
            token.used_by.push(number);
        }
        Ok(())
    }

    fn commit(&mut self, sequence: u64, committed: &SnapshotCommitted, time_ns: i64) -> Result<(), String> {
        let set = self.source_set(committed.host, &committed.source_set);
        let expected = set.and_then(|set| set.last).map_or(1, |(last, ..)| last + 1);
        if committed.sequence != expected {
            return Err(format!("snapshot {} of its source set was expected", expected));
        }
        self.insert(sequence, committed, time_ns)
    }

    fn insert(&mut self, sequence: u64, committed: &SnapshotCommitted, time_ns: i64) -> Result<(), String> {
        let number = SnapshotNumber::new(sequence);
        let set = self.source_sets.entry((committed.host, committed.source_set.clone())).or_default();
        set.last = set.last.max(Some((committed.sequence, committed.snapshot, number)));
        set.committed += 1;
        unused(self.by_id.insert(committed.snapshot, number).is_some(), "snapshot", committed.snapshot)?;
        let snapshot = Snapshot {
            id: committed.snapshot,
            host: committed.host,
            source_set: committed.source_set.clone(),
            sequence: committed.sequence,
            root: committed.root,
            outcome: committed.outcome,
            suspect: committed.suspect.clone(),
            accepted: false,
            state: SnapshotState::Live,
            held: false,
            locked_until_ns: None,
            committed_ns: time_ns,
        };
        self.snapshots.insert(number, snapshot);
        Ok(())
    }

    fn host_mut(&mut self, host: HostId) -> Result<&mut Host, String> {
        self.hosts.get_mut(&host).ok_or(format!("there is no host {host}"))
    }

    fn snapshot_mut(&mut self, number: SnapshotNumber) -> Result<&mut Snapshot, String> {
        self.snapshots.get_mut(&number).ok_or(format!("there is no snapshot number {number}"))
    }
}

fn unused(used: bool, what: &str, which: impl std::fmt::Display) -> Result<(), String> {
    match used {
        true => Err(format!("{what} {which} is there already")),
        false => Ok(()),
    }
}
