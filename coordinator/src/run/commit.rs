//! Commit: one moment in which a snapshot is there or is not.
//!
//! Every pack that the run waits for is made an object and indexed; what the root reaches is checked again; manifest
//! and batch are put; then the catalog changes, homes are set, and the agent is told: in this order (INV-2).

use super::decide::{Sizes, part_suspicion, suspicion};
use super::upload::{Refused, UploadError};
use super::validate::Verdict;
use super::{Ending, Phase, RunError, RunRef};
use crate::index::{Counted, IndexError};
use crate::journal::JournalError;
use crate::objects::read_manifest;
use crate::repository::{Coordinator, Entry, FactError};
use crate::shared::State;
use crate::spool::Stopped;
use crate::store::twice::{NotPut, put_twice};
use crate::store::{ObjectName, StoreError};
use bytes::Bytes;
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Envelope;
use lifeboat_format::id::{HostId, RepositoryId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::{HostState, SnapshotCommitted};
use lifeboat_format::journal::{Act, Decision, Event, Principal, SignedHead};
use lifeboat_format::manifest::{Manifest, Outcome, RootRef};
use lifeboat_proto::convert::backup::Suspicion;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// So many earlier snapshots are tried, newest first, until one can be compared with.
const COMPARED_MAX: usize = 16;

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum CommitAnswer {
    /// The snapshot stands.
    Committed(Box<Committed>),
    /// Nothing was committed. The run stays; the agent sends these and commits again.
    Refused(Vec<Refused>),
}

/// A snapshot that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The hash of its manifest.
    pub snapshot: SnapshotId,
    /// Its place in the journal.
    pub number: SnapshotNumber,
    /// Why it counts as failed until a person accepts it, if it does.
    pub suspect: Option<Suspicion>,
    /// The journal's last head, signed: the agent keeps it.
    pub head: SignedHead,
}

/// Why a commit failed. Unless the run has ended, the agent may try again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The run may not do this.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The manifest is not one, or not signed by this host.
    #[error("the manifest does not hold")]
    Manifest(#[source] FormatError),
    /// The envelope is not one.
    #[error("the envelope does not hold")]
    Envelope(#[source] FormatError),
    /// The manifest is not the one that this run may commit.
    #[error("the manifest's {field} is {found}, but this run needs {needed}; begin a new run")]
    NotThisRun {
        /// Which field.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        needed: String,
    },
    /// The host was retired or revoked.
    #[error("host {host} may not back up any more; ask who runs this repository")]
    HostNotActive {
        /// The host.
        host: HostId,
    },
    /// A manifest or envelope could not be put.
    #[error("nothing was committed")]
    Put(#[from] NotPut),
    /// The store failed while what was sent was checked.
    #[error("cannot check what was sent; nothing was committed")]
    Store(#[from] StoreError),
    /// The journal could not be continued.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A fact could not be taken into memory.
    #[error(transparent)]
    Fact(#[from] FactError),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The coordinator is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<UploadError> for CommitError {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Run(error) => Self::Run(error),
            UploadError::Index(error) => Self::Index(error),
            UploadError::Stopped(error) => Self::Stopped(error),
            UploadError::Node { source, .. } => Self::Manifest(source),
            UploadError::Chunk { what, .. } => Self::Manifest(FormatError::Broken { what: "chunk", check: what }),
        }
    }
}

impl Coordinator {
    /// Makes the snapshot of this manifest, or says what is missing. Repeated after its answer was lost, it gives the
    /// answer again, also after a restart.
    pub fn commit(&self, caller: RunRef, manifest: &[u8], envelope: &[u8]) -> Result<CommitAnswer, CommitError> {
        let manifest = Arc::new(Manifest::parse(manifest).map_err(CommitError::Manifest)?);
        self.settle()?;
        if let Some(committed) = self.committed_before(caller.host, &manifest.id()) {
            return Ok(CommitAnswer::Committed(committed.into()));
        }
        let envelope = Envelope::parse(envelope).map_err(CommitError::Envelope)?;
        if envelope.snapshot() != manifest.id() || envelope.repository() != self.repository() {
            let check = "that it belongs to this manifest";
            return Err(CommitError::Envelope(FormatError::Broken { what: "envelope", check }));
        }
        self.begin_checking(caller, &manifest)?;
        let answer = self.check_and_put(caller, &manifest, &envelope);
        // Committed, it is no longer among the active ones; void, neither.
        if let Ok(run) = self.shared.lock().runs.get(caller) {
            run.phase = Phase::Sending;
        }
        self.shared.changed.notify_all();
        answer
    }

    fn committed_before(&self, host: HostId, id: &SnapshotId) -> Option<Committed> {
        let state = self.shared.lock();
        let head = state.written.head?;
        let (number, snapshot) = state.catalog.snapshot_by_id(id).filter(|(_, snapshot)| snapshot.host == host)?;
        let suspect = snapshot.suspect.clone().map(|reason| Suspicion { reason, part: None });
        Some(Committed { snapshot: *id, number, suspect, head })
    }

    /// Only one commit of a run at a time.
    fn begin_checking(&self, caller: RunRef, manifest: &Manifest) -> Result<(), CommitError> {
        let mut state = self.shared.lock();
        if state.runs.call(caller, self.shared.clock.monotonic())?.phase != Phase::Sending {
            return Err(RunError::Committing { run: caller.run }.into());
        }
        check_manifest(&mut state, self.repository(), caller, manifest)?;
        state.runs.get(caller)?.phase = Phase::Checking;
        Ok(())
    }

    fn check_and_put(
        &self,
        caller: RunRef,
        manifest: &Arc<Manifest>,
        envelope: &Envelope,
    ) -> Result<CommitAnswer, CommitError> {
        let root = manifest.clear().root;
        if self.acquire_nodes(caller, &[root.id])? != [Some(root.height)] {
            let refused = Refused { node: None, chunks: Vec::new(), nodes: vec![root.id] };
            return Ok(CommitAnswer::Refused(vec![refused]));
        }
        self.put_packs(caller, &root)?;
        loop {
            let (attempt, losses_before) = self.next_attempt(caller)?;
            if let Verdict::Refused(refused) = self.validate(caller, attempt, root.id)? {
                return Ok(CommitAnswer::Refused(refused));
            }
            // A loss that was found meanwhile may lie below what was just found good: look again.
            if let Some(committed) = self.put_snapshot(caller, manifest, envelope, losses_before)? {
                self.settle_in(caller.run, attempt, committed.number, losses_before)?;
                return Ok(CommitAnswer::Committed(committed.into()));
            }
        }
    }

    /// Numbers a validation; answers also how many losses were found before it.
    fn next_attempt(&self, caller: RunRef) -> Result<(u32, u64), RunError> {
        let mut state = self.shared.lock();
        let run = state.runs.get(caller)?;
        run.attempts += 1;
        Ok((run.attempts, state.losses_found))
    }

    /// Step 1: everything that the run sent is durable, and its root in two packs (INV-79).
    fn put_packs(&self, caller: RunRef, root: &RootRef) -> Result<(), CommitError> {
        let deadline = Instant::now() + self.config().share_wait;
        // Before the packs are asked for: so the copy of a small root costs no wait of its own.
        self.copy_root_from_memory(caller, root)?;
        self.wait_for_packs(caller, deadline)?;
        match self.copy_root_from_store(caller, root)? {
            true => self.wait_for_packs(caller, deadline),
            false => Ok(()),
        }
    }

    /// While others still send, waits a little so that they share the packs; then asks for them.
    fn wait_for_packs(&self, caller: RunRef, deadline: Instant) -> Result<(), CommitError> {
        let mut state = self.shared.lock();
        loop {
            let State { runs, open, .. } = &mut *state;
            let waits = runs.get(caller)?.waits.clone();
            if waits.is_empty() {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let share = !left.is_zero() && runs.any_sending(self.shared.clock.monotonic());
            if !share {
                for ticket in waits {
                    open.close(ticket).map_or(Ok(()), |holds| self.spool().close(holds, ticket))?;
                }
            }
            state = self.shared.wait(state, share.then_some(left));
        }
    }

    /// Steps 3 and 4. None if a loss was found since `losses_before`.
    fn put_snapshot(
        &self,
        caller: RunRef,
        manifest: &Arc<Manifest>,
        envelope: &Envelope,
        losses_before: u64,
    ) -> Result<Option<Committed>, CommitError> {
        // From here on no newer run takes this one's place until the answer is known.
        self.set_putting(caller, manifest)?;
        let id = manifest.id();
        let suspect = self.suspicion(caller.host, manifest);
        let objects = [
            (ObjectName::manifest(id), Bytes::copy_from_slice(manifest.as_bytes())),
            (ObjectName::envelope(id), envelope.to_bytes().into()),
        ];
        put_twice(self.shared.store.as_ref(), &objects)?;
        let act = self.committed_act(caller.host, manifest, suspect.as_ref());
        let entry = SnapshotEntry {
            caller,
            manifest: manifest.clone(),
            repository: self.repository(),
            losses_before,
            act: Some(act),
        };
        let sequences = self.record_entry(Box::new(entry))?;
        let mut state = self.shared.lock();
        let Some(sequences) = sequences else {
            check_manifest(&mut state, self.repository(), caller, manifest)?;
            state.runs.get(caller)?.phase = Phase::Checking;
            return Ok(None);
        };
        let head = state.written.head.ok_or(FactError::NoHead)?;
        drop(state);
        let number = SnapshotNumber::new(sequences.start);
        // The snapshot stands: a list that does not find its counts reads the manifest.
        let _ = self.shared.index.set_counts(&[(number, Counted::from(manifest.clear()))]);
        Ok(Some(Committed { snapshot: id, number, suspect, head }))
    }

    fn set_putting(&self, caller: RunRef, manifest: &Manifest) -> Result<(), CommitError> {
        let mut state = self.shared.lock();
        check_manifest(&mut state, self.repository(), caller, manifest)?;
        state.runs.get(caller)?.phase = Phase::Putting;
        Ok(())
    }

    fn committed_act(&self, host: HostId, manifest: &Manifest, suspect: Option<&Suspicion>) -> Act {
        let clear = manifest.clear();
        let reason = suspect.map(|suspect| suspect.reason.clone());
        let committed = SnapshotCommitted::of(manifest.id(), clear, reason);
        Act {
            time_ns: self.shared.clock.now_ns(),
            principal: Principal::Host(host),
            verb: "backup".into(),
            object: format!("{}:{}@{}", self.host_name(host), clear.source_set, clear.sequence),
            decision: Decision::Done,
            event: Event::SnapshotCommitted(committed),
        }
    }

    /// Compares with the last snapshot that is not suspect. A checkpoint is never suspect: it is unfinished.
    fn suspicion(&self, host: HostId, manifest: &Manifest) -> Option<Suspicion> {
        let clear = manifest.clear();
        if clear.outcome == Outcome::Checkpoint {
            return None;
        }
        let before = self.last_readable(host, &clear.source_set)?;
        let sizes = |manifest: &Manifest| {
            let counts = manifest.clear().counts;
            Sizes { entries: counts.entries, content_bytes: counts.content_bytes }
        };
        let of_part = part_suspicion(&before.clear().parts, &clear.parts);
        let as_whole = suspicion(Some(sizes(&before)), sizes(manifest));
        let part = of_part.as_ref().and_then(|of_part| of_part.part);
        as_whole.map(|reason| Suspicion { reason, part }).or(of_part)
    }

    /// The manifest of the newest snapshot to compare with that can be read: one that is lost or corrupt costs itself, and
    /// must not end the backups of its source set.
    fn last_readable(&self, host: HostId, source_set: &str) -> Option<Manifest> {
        let ids: Vec<SnapshotId> = {
            let state = self.shared.lock();
            state.catalog.to_compare(host, source_set).take(COMPARED_MAX).map(|(_, snapshot)| snapshot.id).collect()
        };
        ids.into_iter().find_map(|id| {
            let manifest = read_manifest(self.shared.store.as_ref(), id);
            if let Err(error) = &manifest {
                tracing::error!(snapshot = %id, %error, "the manifest of this snapshot is missing or corrupt: the snapshot is damaged");
            }
            manifest.ok()
        })
    }
}

/// A host writes only its own next manifest of the run's source set (INV-43).
fn check_manifest(
    state: &mut State,
    repository: RepositoryId,
    caller: RunRef,
    manifest: &Manifest,
) -> Result<(), CommitError> {
    let clear = manifest.clear();
    let source_set = state.runs.get(caller)?.source_set.clone();
    let host = caller.host;
    let active = state.catalog.host(host).filter(|host| host.state == HostState::Active);
    let active = active.ok_or(CommitError::HostNotActive { host })?;
    manifest.verify(&active.enrolled.signing_key).map_err(CommitError::Manifest)?;
    let (sequence, previous) = state.next_of(host, &source_set);
    let shown = |id: Option<SnapshotId>| id.map_or("none".to_owned(), |id| id.to_string());
    let fields = [
        ("repository", clear.repository.to_string(), repository.to_string()),
        ("host", clear.host.to_string(), host.to_string()),
        ("source set", clear.source_set.clone(), source_set),
        ("sequence", clear.sequence.to_string(), sequence.to_string()),
        ("hash of the one before", shown(clear.previous), shown(previous)),
    ];
    match fields.into_iter().find(|(_, found, needed)| found != needed) {
        Some((field, found, needed)) => Err(CommitError::NotThisRun { field, found, needed }),
        None => Ok(()),
    }
}

/// A snapshot on its way into the journal: whatever was recorded before it may forbid it still.
struct SnapshotEntry {
    caller: RunRef,
    manifest: Arc<Manifest>,
    repository: RepositoryId,
    losses_before: u64,
    act: Option<Act>,
}

impl Entry for SnapshotEntry {
    fn decide(&mut self, state: &mut State) -> Option<Vec<Act>> {
        check_manifest(state, self.repository, self.caller, &self.manifest).ok()?;
        // A loss that was found meanwhile may lie below what was just found good.
        (state.losses_found == self.losses_before).then(|| self.act.take().into_iter().collect())
    }

    fn depends_on_facts(&self) -> bool {
        true
    }

    fn recorded(&mut self, state: &mut State, sequences: Range<u64>) {
        state.settling.insert(SnapshotNumber::new(sequences.start));
        state.runs.end(&self.caller.run, Ending::Committed);
    }
}
