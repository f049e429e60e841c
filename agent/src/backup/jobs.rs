//! Walks the source beside the last tree, and hands out the work leaf by leaf.
//!
//! Where a leaf ends is decided by the keyed hash of paths, so it is known before any file is read. What `statx` shows as
//! unchanged keeps the reference it had; a leaf of which nothing changed is kept whole.

use super::bench::Progress;
use super::{BackupError, Gaps, Surroundings};
use crate::clock::Clock;
use crate::local_tree::{LastTree, OldLeaf};
use crate::metadata::NameCache;
use crate::walk::{
    Evidence, FileSystems, FirstName, HardLinks, Item, LeftOut, Scan, Scanned, Signature, Stat, is_unchanged,
};
use lifeboat_format::key::ScopeKeys;
use lifeboat_format::manifest::Part;
use lifeboat_format::tree::{Body, Completeness, Entry, EntryKind, LeafCutter, Time, Xattr};
use rustix::fs::FileType;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The entries of one leaf, or of the few that very large attributes make of it.
#[derive(Debug)]
pub struct LeafJob {
    /// Counts from 0 over the whole backup: the order in which leaves become the tree.
    pub number: u64,
    /// What it takes while it waits.
    pub holds: Holds,
    /// What is to be done.
    pub work: Work,
}

/// What the entries of a job take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Holds {
    /// How long their paths are together, and what else is known of them by the last tree.
    pub path_bytes: usize,
    /// How many directories are open for them.
    pub directories: usize,
}

impl Holds {
    fn of(members: &[Member]) -> Self {
        let path_bytes = members.iter().map(|member| member.path.len() + known_bytes(&member.known)).sum();
        let directories = members.chunk_by(|a, b| Arc::ptr_eq(&a.directory, &b.directory)).count();
        Self { path_bytes, directories }
    }
}

/// What is to be done for a leaf.
#[derive(Debug)]
pub enum Work {
    /// Nothing: it is the leaf of the last tree.
    Keep(OldLeaf),
    /// Build it from these entries, in walk order.
    Build(Vec<Member>),
}

/// One entry of a leaf to be built.
#[derive(Debug)]
pub struct Member {
    /// Its path in the tree.
    pub path: Vec<u8>,
    /// Its name in `directory`.
    pub name: Vec<u8>,
    /// Where it lies.
    pub directory: Arc<OwnedFd>,
    /// What `statx` said.
    pub stat: Stat,
    /// What that proves.
    pub evidence: Evidence,
    /// By what the next backup will know it.
    pub signature: Signature,
    /// Whether all children of a directory follow.
    pub completeness: Completeness,
    /// Whether `stat` is made up and the entry must not be touched: a mount point that may hang.
    pub is_placeholder: bool,
    /// What is known of it.
    pub known: Known,
    /// Whether the last tree has it with other names of owner or group.
    pub is_renamed: bool,
}

/// What is known of an entry before anything is opened.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "most files of a night are unchanged: a box for each would cost more")]
pub enum Known {
    /// Unchanged since the last tree, whose entry this is; but for the names of owner and group, which are those of now.
    Unchanged(Entry),
    /// A later name of a file.
    HardLink(FirstName),
    /// New, or changed.
    New,
}

/// What was found in each part of the source set, by its number.
#[derive(Debug, Default)]
struct PartCounts(Vec<Part>);

const EMPTY_PART: Part = Part { id: 0, entries: 0, files: 0, bytes: 0 };

impl PartCounts {
    fn add(&mut self, scanned: &Scanned<'_>) {
        let Some(at) = scanned.part else { return };
        if self.0.len() <= at {
            self.0.resize(at + 1, EMPTY_PART);
        }
        let part = &mut self.0[at];
        part.entries += 1;
        if scanned.stat.kind == FileType::RegularFile {
            part.files += 1;
            part.bytes = part.bytes.saturating_add(scanned.stat.bytes);
        }
    }
}

/// The walk, beside the last tree.
pub struct Jobs<'a> {
    scan: Scan,
    last: LastTree,
    links: HardLinks,
    names: NameCache,
    file_systems: FileSystems,
    cutter: LeafCutter<'a>,
    /// An entry that begins the next leaf.
    held: Option<Member>,
    trust_last_tree: bool,
    clock: &'a dyn Clock,
    progress: &'a Progress,
    gaps: &'a Gaps,
    number: u64,
    counts: PartCounts,
}

impl<'a> Jobs<'a> {
    /// Walks `scan`. Unless the last tree is trusted, each leaf is built anew, though of the references it had.
    pub fn new(
        scan: Scan,
        last: LastTree,
        links: HardLinks,
        keys: &'a ScopeKeys,
        trust_last_tree: bool,
        around: &Surroundings<'a>,
        gaps: &'a Gaps,
    ) -> Self {
        let Surroundings { clock, progress, .. } = *around;
        let cutter = LeafCutter::new(keys);
        Self {
            scan,
            last,
            links,
            names: NameCache::default(),
            file_systems: FileSystems::of_this_machine(),
            cutter,
            held: None,
            trust_last_tree,
            clock,
            progress,
            gaps,
            number: 0,
            counts: PartCounts::default(),
        }
    }

    /// The topmost path of each part of the source set, and what was found in it: the first `sources` are source paths,
    /// which count although nothing was found.
    pub fn parts(&self, sources: usize) -> impl Iterator<Item = (&[u8], Part)> {
        self.scan.parts().iter().enumerate().filter_map(move |(at, path)| {
            let part = self.counts.0.get(at).copied().unwrap_or(EMPTY_PART);
            (at < sources || part.entries > 0).then_some((path.as_slice(), part))
        })
    }

    /// What was left out as a whole so far.
    pub fn left_out(&self) -> &[(Vec<u8>, LeftOut)] {
        self.scan.left_out()
    }

    /// The next job, or none at the end of the source.
    pub fn next(&mut self) -> Result<Option<LeafJob>, BackupError> {
        let mut members: Vec<_> = self.held.take().into_iter().collect();
        while members.is_empty() || !self.cutter.ended() {
            let Some(member) = self.next_member()? else { break };
            if self.cutter.begins_leaf(&member.path, member.path.len()) && !members.is_empty() {
                self.held = Some(member);
                break;
            }
            members.push(member);
        }
        let Some(end) = members.last() else { return Ok(None) };
        let is_alike = |member: &Member| matches!(member.known, Known::Unchanged(_)) && !member.is_renamed;
        let unchanged = members.iter().all(is_alike);
        let kept = match self.trust_last_tree && unchanged {
            true => self.last.leaf_ending_at(&end.path, members.len()),
            false => None,
        };
        let number = self.number;
        self.number += 1;
        // A leaf that is kept holds nothing of what was walked.
        let holds = if kept.is_some() { Holds::default() } else { Holds::of(&members) };
        Ok(Some(LeafJob { number, holds, work: kept.map_or(Work::Build(members), Work::Keep) }))
    }

    fn next_member(&mut self) -> Result<Option<Member>, BackupError> {
        loop {
            let read_start = time(self.clock.now_ns());
            match self.scan.next() {
                None => return Ok(None),
                Some(Item::Gap(gap)) => self.gaps.add(&gap.path, gap.reason.to_string()),
                Some(Item::Entry(scanned)) => {
                    Progress::add(&self.progress.entries, 1);
                    let cannot_write =
                        |error| BackupError::local("cannot write names of hard links to a temporary file", error);
                    self.counts.add(&scanned);
                    let first =
                        self.links.first_name(&scanned.stat, scanned.path, self.number).map_err(cannot_write)?;
                    // A placeholder stands for what must not be touched.
                    let evidence = match scanned.is_placeholder {
                        true => Evidence::ORDINARY,
                        false => self.file_systems.evidence(&scanned.directory, scanned.name, &scanned.stat),
                    };
                    let seen = (scanned, evidence, read_start);
                    let member = examine(seen, first, &mut self.last, self.trust_last_tree);
                    return Ok(Some(self.with_names(member)));
                }
            }
        }
    }

    /// Whose number a name was may change without a change of any file.
    fn with_names(&mut self, mut member: Member) -> Member {
        if let Known::Unchanged(entry) = &mut member.known
            && !matches!(entry.kind, EntryKind::HardLink { .. })
        {
            member.is_renamed = self.names.refresh(&mut entry.attributes);
        }
        member
    }
}

fn examine(
    (scanned, evidence, read_start): (Scanned<'_>, Evidence, Time),
    first: Option<FirstName>,
    last: &mut LastTree,
    trust_last_tree: bool,
) -> Member {
    let signature = Signature::of(&scanned.stat, read_start, evidence);
    let known = match (last.find(scanned.path), first) {
        (Some((entry, old)), first)
            if is_unchanged(&old, &signature)
                && completeness_of(&entry) == scanned.completeness
                && first_of(&entry) == first.as_ref().map(|first| first.path.as_slice())
                && (trust_last_tree || !has_list(&entry)) =>
        {
            Known::Unchanged(entry)
        }
        (_, Some(first)) => Known::HardLink(first),
        (_, None) => Known::New,
    };
    Member {
        path: scanned.path.to_vec(),
        name: scanned.name.to_vec(),
        directory: scanned.directory,
        stat: scanned.stat,
        evidence,
        signature,
        completeness: scanned.completeness,
        is_placeholder: scanned.is_placeholder,
        known,
        is_renamed: false,
    }
}

/// What the extended attributes take that the last tree has of an entry.
fn known_bytes(known: &Known) -> usize {
    match known {
        Known::Unchanged(entry) => entry.attributes.xattrs.iter().map(Xattr::weight).sum(),
        Known::HardLink(_) | Known::New => 0,
    }
}

/// The path of the first name, if the entry is a later one.
fn first_of(entry: &Entry) -> Option<&[u8]> {
    match &entry.kind {
        EntryKind::HardLink { to } => Some(to),
        _ => None,
    }
}

/// What the entry of a directory says about its children; complete for anything else.
fn completeness_of(entry: &Entry) -> Completeness {
    match entry.kind {
        EntryKind::Directory(completeness) => completeness,
        _ => Completeness::COMPLETE,
    }
}

/// Whether the entry leads to nodes of its own, which only a living snapshot can vouch for.
fn has_list(entry: &Entry) -> bool {
    matches!(&entry.kind, EntryKind::File(content) if matches!(content.body, Body::List(_)))
}

/// A moment of the clock, as entries hold it.
pub fn time(ns: i64) -> Time {
    Time { seconds: ns.div_euclid(1_000_000_000), nanos: ns.rem_euclid(1_000_000_000) as u32 }
}
