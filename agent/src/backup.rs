//! One backup, from the walk to the snapshot.
//!
//! The walk ([`Jobs`]) compares with the last tree and hands out leaf jobs; workers ([`build_leaves`]) read, cut, hash,
//! ask, seal and send what is missing; the [`Grower`] takes their leaves in order and sends the nodes above them. Threads
//! are plain ones; the network is behind [`Uplink`]. With no processors given, everything runs on the calling thread
//! and always in the same order.
//!
//! A long backup goes in *legs*: at the end of each a checkpoint is committed, so an interrupted first backup goes on
//! where it was. If the coordinator refuses what the agent took for known, the pass is made again with everything
//! named anew: nothing is read twice but what is really missing.
//!
//! # Invariants
//! * One bad file never stops the others: it becomes a gap (INV-17).
//! * What the local tree says is a hint (INV-57); what is uploaded depends on it, what is restored does not.
//! * Memory is a constant of the configuration (INV-67): [`budget`] divides it, and what lies between walk and tree is
//!   bounded in jobs and in bytes of paths.

mod bench;
pub mod budget;
mod build;
mod error;
mod first_names;
mod gaps;
mod grow;
mod idle;
mod jobs;
mod leg;
mod proof;
mod read;

pub use bench::{Progress, Sealery};
pub use error::BackupError;
pub use gaps::Gaps;

use crate::clock::Clock;
use crate::local_tree::{LastTree, LocalTreeFiles, LocalTreeWriter};
use crate::uplink::{Answer, Refused, Run, Uplink};
use crate::walk::{HardLinks, LeftOut, Rules, Scan, tree_path};
use budget::Budget;
use first_names::FirstNames;
use grow::{Grower, Growth};
use jobs::Jobs;
use lifeboat_format::envelope::{Envelope, Recipient};
use lifeboat_format::id::{HostId, RepositoryId, Scope, SnapshotId, SnapshotNumber};
use lifeboat_format::key::ScopeKeys;
use lifeboat_format::manifest::{Clear, Counts, Manifest, Outcome, Part, RootRef, SealedPart};
use lifeboat_format::sign::SigningKey;
use lifeboat_format::tree::{NodeRef, Totals};
use lifeboat_proto::convert::backup::Suspicion;
use lifeboat_proto::shown::Shown;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is to be backed up, and as whom.
pub struct Plan {
    /// The name of the source set.
    pub source_set: String,
    /// Absolute paths; what lies below them is the source.
    pub roots: Vec<PathBuf>,
    /// What is left out.
    pub rules: Rules,
    /// What is missing before the walk begins, by its path in the tree, and why: the output of a failed command.
    pub known_gaps: Vec<(Vec<u8>, String)>,
    /// The order that this backup obeys; empty if none.
    pub job: String,
    /// Processors to use; 0: everything on the calling thread.
    pub processors: usize,
    /// Bytes of memory to stay within: see [`budget`].
    pub memory: u64,
    /// Whether the roots are only a part of the set: then the snapshot is a checkpoint.
    pub is_part: bool,
    /// When to commit a checkpoint.
    pub checkpoint: CheckpointRule,
    /// A directory on disk for temporary files.
    pub scratch: PathBuf,
    /// Where the last tree lies.
    pub local_tree: LocalTreeFiles,
    /// As whom.
    pub author: Author,
}

impl Plan {
    /// Threads and memory; none if everything runs on the calling thread.
    fn budget(&self) -> Option<Budget> {
        (self.processors > 0).then(|| Budget::new(self.memory, self.processors))
    }
}

/// Who signs the snapshot, with which keys, and for whom it is sealed.
pub struct Author {
    /// The repository it goes to.
    pub repository: RepositoryId,
    /// This host.
    pub host: HostId,
    /// The host's signing key.
    pub signing_key: SigningKey,
    /// The keys of the newest scope.
    pub keys: ScopeKeys,
    /// The newest scope.
    pub scope: Scope,
    /// Restore and recovery recipients, from the trust file.
    pub recipients: Vec<Recipient>,
    /// The agent's version, for the manifest.
    pub agent_version: String,
}

/// A checkpoint is committed after so long, or so many sent bytes, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointRule {
    /// How long a leg may take.
    pub after: Duration,
    /// How many sealed bytes a leg may send.
    pub sent_bytes: u64,
}

impl Default for CheckpointRule {
    fn default() -> Self {
        Self { after: Duration::from_secs(15 * 60), sent_bytes: 8 << 30 }
    }
}

/// A backup that became a snapshot.
#[derive(Debug)]
pub struct Report {
    /// The snapshot's name.
    pub snapshot: SnapshotId,
    /// Its place in the journal.
    pub number: SnapshotNumber,
    /// Complete, or complete with gaps.
    pub outcome: Outcome,
    /// Why the coordinator keeps it as suspect, if it does.
    pub suspect: Option<String>,
    /// What it holds, and what it took.
    pub counts: Counts,
    /// What could not be read.
    pub gaps: Gaps,
    /// What rules left out as a whole, by its path in the tree (INV-76).
    pub left_out: Vec<(Vec<u8>, LeftOut)>,
}

/// What a backup needs beside its plan.
pub struct Surroundings<'a> {
    /// The coordinator.
    pub uplink: &'a dyn Uplink,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Counts for whoever watches.
    pub progress: &'a Progress,
    /// Set by whoever wants it to stop: a checkpoint is committed and the backup ends.
    pub stop: &'a AtomicBool,
}

/// Makes one snapshot.
///
/// # Errors
/// No snapshot was made; everything that was sent stays for the next backup. A file that could not be read is no error.
pub fn run(plan: &Plan, around: &Surroundings<'_>) -> Result<Report, BackupError> {
    let mut refused = Vec::new();
    for trust_last_tree in [true, false] {
        match pass(plan, around, trust_last_tree)? {
            Growth::Whole(report) => return Ok(report),
            Growth::Refused(these) => refused = these,
        }
        tracing::info!(refused = refused.len(), "the coordinator lacks parts of the last tree; naming everything anew");
    }
    Err(BackupError::StillRefused {
        nodes: refused.iter().map(|refused| refused.nodes.len()).sum(),
        chunks: refused.iter().map(|refused| refused.chunks.len()).sum(),
    })
}

/// Begins a run; while the coordinator receives as many backups as it can, waits for a place.
fn begin(plan: &Plan, around: &Surroundings<'_>) -> Result<Box<dyn Run>, BackupError> {
    let mut is_told = false;
    loop {
        match around.uplink.begin(&plan.source_set, &plan.job) {
            Err(error) if error.busy => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(source_set = plan.source_set, "{error}");
                }
            }
            begun => return Ok(begun?),
        }
        for _ in 0..BUSY_PAUSE.as_millis() / STOP_EVERY.as_millis() {
            if around.stop.load(Ordering::Relaxed) {
                return Err(BackupError::Stopped);
            }
            around.progress.beat();
            std::thread::sleep(STOP_EVERY);
        }
    }
}

/// One walk over the source, in as many legs as it takes.
fn pass(plan: &Plan, around: &Surroundings<'_>, trust_last_tree: bool) -> Result<Growth<Report>, BackupError> {
    let started_ns = around.clock.now_ns();
    let (gaps, first_names) = (Gaps::default(), FirstNames::default());
    plan.known_gaps.iter().for_each(|(path, reason)| gaps.add(path, reason));
    let sealers = plan.budget().map_or(0, |budget| budget.sealers);
    let sealery = Sealery::new(plan.author.keys.clone(), plan.author.scope, COMPRESSION_LEVEL, sealers)?;
    let mut last = LastTree::open(&plan.local_tree);
    let known = if trust_last_tree { last.take_nodes() } else { Default::default() };
    let local = LocalTreeWriter::create(&plan.local_tree)
        .map_err(|error| BackupError::local("cannot write the local tree in the agent's state directory", error))?;
    let mut grower = Grower::new(&sealery, around.progress, known, local);
    let mut scan = Scan::new(&plan.roots, plan.rules.clone(), &plan.scratch)
        .map_err(|error| BackupError::local("cannot begin to walk the source", error))?;
    scan.count_apart(plan.local_tree.last_parts());
    let links = HardLinks::new(&plan.scratch).map_err(|error| {
        BackupError::local(format!("cannot make a temporary file in {}", plan.scratch.display()), error)
    })?;
    let mut jobs = Jobs::new(scan, last, links, sealery.keys(), trust_last_tree, around, &gaps);
    loop {
        let run = begin(plan, around)?;
        let ended = leg::walk(plan, around, &sealery, run.as_ref(), &mut jobs, &mut grower, (&gaps, &first_names))?;
        let (root, totals) = match grower.root(run.as_ref())? {
            Growth::Whole(root) => root,
            Growth::Refused(refused) => return Ok(Growth::Refused(refused)),
        };
        let outcome = match ended {
            leg::Ended::Whole if plan.is_part => Outcome::Checkpoint,
            leg::Ended::Whole if gaps.count() == 0 => Outcome::Complete,
            leg::Ended::Whole => Outcome::Gaps,
            leg::Ended::More | leg::Ended::Stopped => Outcome::Checkpoint,
        };
        let counts = counts(&totals, around.progress, &gaps);
        let parts = part_list(plan, &jobs);
        let clear = Clear { parts, ..clear(plan, around, run.as_ref(), &root, outcome, counts, started_ns) };
        match commit(plan, run.as_ref(), &clear, &root, &gaps)? {
            Committed::Refused(refused) => return Ok(Growth::Refused(refused)),
            Committed::Stands { snapshot, number, suspect } => match ended {
                leg::Ended::Whole => {
                    let paths = jobs.parts(plan.roots.len()).map(|(path, _)| path);
                    if let Err(error) = plan.local_tree.keep_parts(paths) {
                        tracing::warn!(%error, "cannot keep which file systems the source set has");
                    }
                    let left_out = jobs.left_out().to_vec();
                    let suspect = suspect.map(|suspect| name_part(plan, &jobs, suspect));
                    drop(jobs);
                    grower.keep()?;
                    return Ok(Growth::Whole(Report {
                        snapshot,
                        number,
                        outcome,
                        suspect,
                        counts: clear.counts,
                        gaps,
                        left_out,
                    }));
                }
                leg::Ended::More => grower.mark()?,
                leg::Ended::Stopped => {
                    grower.mark()?;
                    return Err(BackupError::Stopped);
                }
            },
        }
    }
}

/// zstd's level: the peers' default, and the best trade on texts and binaries that was measured.
const COMPRESSION_LEVEL: i32 = 3;

/// So long a backup waits before it asks again for a place among those that are received.
const BUSY_PAUSE: Duration = Duration::from_secs(5);
/// So often a waiting backup looks whether it should stop.
const STOP_EVERY: Duration = Duration::from_millis(100);

enum Committed {
    Stands { snapshot: SnapshotId, number: SnapshotNumber, suspect: Option<Suspicion> },
    Refused(Vec<Refused>),
}

fn counts(totals: &Totals, progress: &Progress, gaps: &Gaps) -> Counts {
    Counts {
        entries: totals.entries,
        files: totals.files,
        content_bytes: totals.bytes,
        read_bytes: progress.read_bytes.load(Ordering::Relaxed),
        sent_bytes: progress.sent_bytes.load(Ordering::Relaxed),
        gaps: gaps.count(),
    }
}

/// The parts of the source set as a manifest has them: by what names each of them in every snapshot.
fn part_list(plan: &Plan, jobs: &Jobs<'_>) -> Vec<Part> {
    let named = |(path, part): (&[u8], Part)| Part { id: plan.author.keys.boundary_hash(path), ..part };
    let mut parts: Vec<_> = jobs.parts(plan.roots.len()).map(named).collect();
    parts.sort_unstable_by_key(|part| part.id);
    parts.dedup_by_key(|part| part.id);
    parts
}

/// The reason with the path of the part that it is about, which the coordinator does not know.
fn name_part(plan: &Plan, jobs: &Jobs<'_>, Suspicion { reason, part }: Suspicion) -> String {
    let is_meant = |path: &[u8]| part == Some(plan.author.keys.boundary_hash(path));
    match jobs.parts(plan.roots.len()).find(|(path, _)| is_meant(path)) {
        Some((path, _)) => format!("{reason} Look at /{}", Shown(path)),
        None => reason,
    }
}

fn clear(
    plan: &Plan,
    around: &Surroundings<'_>,
    run: &dyn Run,
    root: &NodeRef,
    outcome: Outcome,
    counts: Counts,
    started_ns: i64,
) -> Clear {
    Clear {
        repository: plan.author.repository,
        host: plan.author.host,
        source_set: plan.source_set.clone(),
        sequence: run.begun().next_sequence,
        previous: run.begun().previous,
        root: RootRef { id: root.id, height: root.height, scope: root.scope },
        started_ns,
        ended_ns: around.clock.now_ns(),
        outcome,
        counts,
        agent_version: plan.author.agent_version.clone(),
        encoder: lifeboat_format::ENCODER_VERSION,
        parts: Vec::new(),
        extension: Vec::new(),
    }
}

fn commit(plan: &Plan, run: &dyn Run, clear: &Clear, root: &NodeRef, gaps: &Gaps) -> Result<Committed, BackupError> {
    let sources = plan.roots.iter().filter_map(|root| tree_path(root));
    let mut part = SealedPart::new(root.content, [plan.author.scope], sources);
    gaps.name_all(|path, reason| part.name_gap(path, reason));
    let (manifest, key) = Manifest::seal(clear, &part, &plan.author.signing_key)?;
    let envelope = Envelope::seal(plan.author.repository, manifest.id(), &key, &plan.author.recipients)?;
    match run.commit(manifest.as_bytes().to_vec(), envelope.to_bytes())? {
        Answer::Committed { snapshot, number, suspect } => Ok(Committed::Stands { snapshot, number, suspect }),
        Answer::Refused(refused) => Ok(Committed::Refused(refused)),
    }
}

#[cfg(test)]
mod tests;
