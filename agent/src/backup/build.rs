//! One leaf job, from entries to leaves that are sent: read, cut, hash, ask, seal, send.
//!
//! Small files that are new or changed are bundled (`plan_bundles` decides), unchanged ones keep the reference they had,
//! larger ones are cut by themselves. What cannot be read becomes a gap and the entry is left out: a short or empty
//! file in its place would be a lie. Each entry is checked before it enters a leaf, so that no file of a user, whatever its
//! attributes, can make a leaf that the coordinator refuses.

use super::bench::{Progress, Window};
use super::first_names::FirstNames;
use super::grow::BuiltLeaf;
use super::jobs::{Known, Member, time};
use super::proof::{Proof, proof};
use super::read::{self, Content, Motion, ReadError};
use super::{BackupError, Gaps, Surroundings};
use crate::local_tree::LeafRecord;
use crate::metadata::{MetadataReader, Unread, kind_without_content};
use crate::walk::{FirstName, GapReason, Held, Signature, nanos_between, open_file, stat_open};
use lifeboat_format::FormatError;
use lifeboat_format::id::ChunkId;
use lifeboat_format::key::ScopeKeys;
use lifeboat_format::tree::{
    Attributes, Body, ChunkRef, Entry, EntryKind, Extent, FileContent, Leaf, NODE_METADATA_BYTES_MAX, Node,
    SmallContent, SmallFile, Xattr, plan_bundles,
};
use rustix::fs::FileType;
use std::collections::HashSet;

/// How much of attributes one leaf holds before it is divided.
const LEAF_BYTES: usize = NODE_METADATA_BYTES_MAX;
/// Extended attributes that a worker collects; above this it sends what it has of the job.
const XATTRS_HELD_MAX: usize = 1 << 20;

/// One worker: what it needs beside its jobs.
pub struct Worker<'a> {
    window: Window<'a>,
    metadata: MetadataReader,
    around: &'a Surroundings<'a>,
    gaps: &'a Gaps,
    first_names: &'a FirstNames,
    job: u64,
}

/// An entry on its way into a leaf.
struct Draft {
    member: Member,
    entry: Entry,
    /// Content of a small file that was read now, to be bundled.
    small: Option<Vec<u8>>,
    /// The file that a hard link is a further name of.
    first: Option<FirstName>,
}

/// An entry as it was read once.
struct Fresh {
    entry: Entry,
    small: Option<Vec<u8>>,
    /// Attributes that it is kept without.
    unread: Vec<Unread>,
    /// None if it held still.
    motion: Option<Motion>,
}

impl<'a> Worker<'a> {
    /// A worker with an empty window.
    pub fn new(window: Window<'a>, around: &'a Surroundings<'a>, gaps: &'a Gaps, first_names: &'a FirstNames) -> Self {
        Self { window, metadata: MetadataReader::default(), around, gaps, first_names, job: 0 }
    }

    /// Does the leaf job of this number; returns the leaves, already sent.
    pub fn build(&mut self, job: u64, members: Vec<Member>) -> Result<Vec<BuiltLeaf>, BackupError> {
        self.job = job;
        let lost = self.lost_chunks(&members)?;
        let mut drafts = Vec::with_capacity(members.len());
        let mut leaves = Vec::with_capacity(1);
        let (mut held, mut is_heavy) = (0, false);
        for member in members {
            let draft = self.draft(member, &lost)?;
            held += draft.as_ref().map_or(0, Draft::xattr_bytes);
            drafts.push(draft);
            if held > XATTRS_HELD_MAX {
                (held, is_heavy) = (0, true);
                self.finish(std::mem::take(&mut drafts), is_heavy, &mut leaves)?;
            }
        }
        self.finish(drafts, is_heavy, &mut leaves)?;
        Ok(leaves)
    }

    /// Sends the leaves of some drafts. Of entries with very large attributes the local tree keeps nothing: it would hold
    /// them all in memory, so the next backup reads them again.
    fn finish(
        &mut self,
        mut drafts: Vec<Option<Draft>>,
        is_heavy: bool,
        leaves: &mut Vec<BuiltLeaf>,
    ) -> Result<(), BackupError> {
        self.link_proven(&mut drafts);
        self.bundle(&mut drafts)?;
        if self.read_widowed(&mut drafts)? {
            self.bundle(&mut drafts)?;
        }
        let mut whole = Vec::with_capacity(drafts.len());
        for draft in drafts.into_iter().flatten() {
            match draft.entry.check() {
                Ok(()) => whole.push(draft),
                Err(error) => self.gaps.add(&draft.member.path, error),
            }
        }
        for part in split(whole) {
            let mut leaf = self.send(part)?;
            if is_heavy {
                leaf.record.entries = Vec::new();
            }
            leaves.push(leaf);
        }
        Ok(())
    }

    /// Chunks of unchanged files that the coordinator does not vouch for any more.
    fn lost_chunks(&self, members: &[Member]) -> Result<HashSet<ChunkId>, BackupError> {
        let unchanged = members.iter().filter_map(|member| match &member.known {
            Known::Unchanged(entry) => Some(entry),
            _ => None,
        });
        let mut ids: Vec<_> = unchanged.flat_map(chunks_of).map(|chunk| chunk.id).collect();
        ids.sort_unstable();
        ids.dedup();
        self.window.missing(&ids)
    }

    /// Makes the entry of one member; reads what must be read. None if it became a gap.
    fn draft(&mut self, mut member: Member, lost: &HashSet<ChunkId>) -> Result<Option<Draft>, BackupError> {
        match std::mem::replace(&mut member.known, Known::New) {
            Known::Unchanged(entry) if !chunks_of(&entry).iter().any(|chunk| lost.contains(&chunk.id)) => {
                let first = match &entry.kind {
                    EntryKind::HardLink { to } => Some(FirstName { path: to.clone(), job: self.job }),
                    _ => None,
                };
                Ok(Some(Draft { member, entry, small: None, first }))
            }
            Known::HardLink(first) if !member.evidence.inodes => {
                let draft = self.fresh(member)?;
                Ok(draft.map(|draft| Draft { first: Some(first), ..draft }))
            }
            Known::HardLink(first) => {
                let kind = EntryKind::HardLink { to: first.path.clone() };
                let entry = Entry { path: member.path.clone(), kind, attributes: Attributes::default() };
                Ok(Some(Draft { member, entry, small: None, first: Some(first) }))
            }
            Known::Unchanged(_) | Known::New => self.fresh(member),
        }
    }

    /// Makes links of those entries that were read because their inode number proves nothing, and are their first name's
    /// file by content. The others are files.
    fn link_proven(&self, drafts: &mut [Option<Draft>]) {
        for draft in drafts.iter_mut().flatten() {
            let Some(first) = &draft.first else { continue };
            if draft.is_link() {
                continue;
            }
            match self.first_names.is_same(first, draft.proof(), self.job) {
                true => {
                    draft.entry.kind = EntryKind::HardLink { to: first.path.clone() };
                    draft.entry.attributes = Attributes::default();
                    draft.small = None;
                }
                false => draft.first = None,
            }
        }
    }

    /// A link whose first name is not in the tree is read as the file. Asked when all else of the leaf is read, for its
    /// first name may be in the same leaf. Says whether there was any.
    fn read_widowed(&mut self, drafts: &mut [Option<Draft>]) -> Result<bool, BackupError> {
        let mut any = false;
        for draft in drafts {
            let first = draft.as_ref().and_then(|draft| draft.first.as_ref());
            let lost = first.is_some_and(|first| self.first_names.is_lost(first, self.job));
            if lost && let Some(Draft { member, .. }) = draft.take() {
                *draft = self.fresh(member)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Reads an entry anew. None if it became a gap: then it is nobody's first name.
    fn fresh(&mut self, member: Member) -> Result<Option<Draft>, BackupError> {
        let several = (member.stat.links > 1).then(|| member.path.clone());
        let draft = self.read_until_still(member)?;
        match (&draft, several) {
            (None, Some(path)) => self.first_names.lose(&path),
            (Some(draft), Some(path)) if !draft.member.evidence.inodes => self.first_names.prove(&path, draft.proof()),
            _ => {}
        }
        Ok(draft)
    }

    /// Reads an entry until it holds still, or is not likely to.
    fn read_until_still(&mut self, mut member: Member) -> Result<Option<Draft>, BackupError> {
        if member.is_placeholder {
            return Ok(self.bare_directory(member));
        }
        let mut reads = 0;
        let fresh = loop {
            reads += 1;
            match self.read_once(&mut member) {
                Ok(fresh) if fresh.motion.is_some_and(|motion| motion.is_worth_another_read(reads)) => {}
                Ok(fresh) => break fresh,
                Err(ReadError::Gap(reason)) => {
                    self.gaps.add(&member.path, reason);
                    return Ok(self.bare_directory(member));
                }
                Err(ReadError::Backup(error)) => return Err(error),
            }
        };
        let Fresh { entry, small, unread, motion } = fresh;
        let mut draft = Draft { member, entry, small, first: None };
        if let Err(error) = draft.check() {
            self.gaps.add(&draft.member.path, error);
            return Ok(self.bare_directory(draft.member));
        }
        if let Some(motion) = motion {
            self.gaps.add_kept(&draft.member.path, motion.reason());
            draft.member.signature.racy = true;
        }
        for Unread { attribute, source } in unread {
            self.gaps.add_kept(&draft.member.path, format_args!("without its {attribute}: {source}"));
        }
        Ok(Some(draft))
    }

    /// The entry of a directory that could not be read itself, with what `statx` shows of it: without an entry, nothing
    /// below it could be restored. None for anything else.
    fn bare_directory(&mut self, mut member: Member) -> Option<Draft> {
        if !member.stat.is_directory() {
            return None;
        }
        member.signature.racy |= !member.is_placeholder;
        let kind = EntryKind::Directory(member.completeness);
        let attributes = self.metadata.bare(&member.stat);
        let entry = Entry { path: member.path.clone(), kind, attributes };
        entry.check().is_ok().then_some(Draft { member, entry, small: None, first: None })
    }

    /// Takes hold of an entry, and of everything it is.
    fn read_once(&mut self, member: &mut Member) -> Result<Fresh, ReadError> {
        let start_ns = self.around.clock.now_ns();
        if member.stat.kind != FileType::RegularFile {
            let held = Held::open(&member.directory, &member.name, &member.stat)?;
            let stat = stat_open(&held).map_err(|error| GapReason::of("look at it", error))?;
            member.signature = Signature::of(&stat, time(start_ns), member.evidence);
            let kind = kind_without_content(&held, &stat, member.completeness)?.ok_or(GapReason::Replaced)?;
            let (attributes, unread) = self.metadata.attributes(&held, &stat);
            let entry = Entry { path: member.path.clone(), kind, attributes };
            return Ok(Fresh { entry, small: None, unread, motion: None });
        }
        let file = open_file(&member.directory, &member.name, &member.stat)?;
        member.signature = Signature::of(file.stat(), time(start_ns), member.evidence);
        let read = read::read(&mut self.window, &file, member.evidence.sizes, self.around)?;
        let (body, small) = match read.content {
            Content::Small(content) => (Body::Empty, Some(content)),
            Content::Cut(body) => (body, None),
        };
        Progress::add(&self.around.progress.read_bytes, usize::try_from(read.bytes).unwrap_or(usize::MAX));
        let kind = EntryKind::File(FileContent { bytes: read.bytes, body });
        let (attributes, unread) = self.metadata.attributes(file.held(), file.stat());
        let is_short = read.is_short && !member.evidence.has_no_sizes;
        let motion = match file.check_unchanged() {
            Ok(()) if !is_short => None,
            still @ (Ok(()) | Err(GapReason::Changed)) => {
                let (now, change) = (time(self.around.clock.now_ns()), file.last_change()?);
                Some(Motion {
                    bytes: read.bytes,
                    took_ns: nanos_between(time(start_ns), now),
                    still_ns: nanos_between(change, now),
                    stated: still.is_ok().then_some(file.stat().bytes),
                })
            }
            Err(reason) => return Err(reason.into()),
        };
        let entry = Entry { path: member.path.clone(), kind, attributes };
        Ok(Fresh { entry, small, unread, motion })
    }

    /// Bundles the small files that were read, and whatever else of the leaf must be bundled anew.
    fn bundle(&mut self, drafts: &mut [Option<Draft>]) -> Result<(), BackupError> {
        let (places, files): (Vec<_>, Vec<_>) = drafts
            .iter()
            .enumerate()
            .filter_map(|(place, draft)| Some((place, small_file(draft.as_ref()?, self.window.keys())?)))
            .unzip();
        for group in plan_bundles(&files) {
            let mut members = Vec::with_capacity(group.len());
            for file in group {
                let place = places[file];
                if drafts[place].as_ref().is_some_and(|draft| draft.small.is_none()) {
                    drafts[place] = match drafts[place].take() {
                        Some(draft) => self.fresh(draft.member)?,
                        None => None,
                    };
                }
                members.push(place);
            }
            self.bundle_group(drafts, &members)?;
        }
        Ok(())
    }

    /// Makes one chunk of the contents at these places, and lets each entry refer to its range.
    fn bundle_group(&mut self, drafts: &mut [Option<Draft>], places: &[usize]) -> Result<(), BackupError> {
        let mut bundle = Vec::new();
        let mut ranges = Vec::with_capacity(places.len());
        for place in places {
            if let Some(content) = drafts[*place].as_mut().and_then(|draft| draft.small.take()) {
                let hash = self.window.keys().open_keys().content_hash(&content);
                ranges.push((*place, bundle.len() as u32, hash));
                bundle.extend_from_slice(&content);
            }
        }
        if bundle.is_empty() {
            return Ok(());
        }
        let chunk = self.window.add(&bundle)?;
        for (place, offset, hash) in ranges {
            if let Some(Draft { entry: Entry { kind: EntryKind::File(content), .. }, .. }) = &mut drafts[place] {
                let hash = std::array::from_fn(|at| hash.expose()[at]);
                content.body = Body::Bundled { chunk, offset, hash };
            }
        }
        Ok(())
    }

    /// Seals and sends one leaf; its chunks go first.
    fn send(&mut self, drafts: Vec<Draft>) -> Result<BuiltLeaf, BackupError> {
        let signatures: Vec<_> = drafts.iter().map(|draft| draft.member.signature).collect();
        let leaf = Leaf { entries: drafts.into_iter().map(|draft| draft.entry).collect() };
        let totals = leaf.totals();
        let last_path = leaf.entries.last().map(|entry| entry.path.clone()).unwrap_or_default();
        let node = Node::Leaf(leaf);
        let reference = self.window.send_node(&node)?;
        let receipts = self.window.take_receipts();
        let entries = match node {
            Node::Leaf(leaf) => leaf.entries.into_iter().zip(signatures).collect(),
            _ => Vec::new(),
        };
        Ok(BuiltLeaf { record: LeafRecord { node: reference, totals, entries }, last_path, receipts })
    }
}

impl Draft {
    /// Whether a leaf may hold it. Where the content of a small file is, is decided later.
    fn check(&mut self) -> Result<(), FormatError> {
        if self.small.is_none() {
            return self.entry.check();
        }
        let kind = std::mem::replace(&mut self.entry.kind, EntryKind::Fifo);
        let checked = self.entry.check();
        self.entry.kind = kind;
        checked
    }

    fn is_link(&self) -> bool {
        matches!(self.entry.kind, EntryKind::HardLink { .. })
    }

    fn proof(&self) -> Proof {
        proof(&self.entry, self.small.as_deref())
    }

    fn xattr_bytes(&self) -> usize {
        self.entry.attributes.xattrs.iter().map(Xattr::weight).sum()
    }
}

/// The chunks that an entry refers to itself.
fn chunks_of(entry: &Entry) -> Vec<ChunkRef> {
    let EntryKind::File(content) = &entry.kind else { return Vec::new() };
    match &content.body {
        Body::Bundled { chunk, .. } => vec![*chunk],
        Body::Extents(extents) => extents
            .iter()
            .filter_map(|extent| match extent {
                Extent::Data(chunk) => Some(*chunk),
                Extent::Zeros { .. } | Extent::Hole { .. } => None,
            })
            .collect(),
        Body::Empty | Body::List(_) => Vec::new(),
    }
}

/// What bundling needs to know of a small file; None for anything else.
fn small_file(draft: &Draft, keys: &ScopeKeys) -> Option<SmallFile> {
    let EntryKind::File(FileContent { bytes, body }) = &draft.entry.kind else { return None };
    let content = match body {
        Body::Bundled { chunk, .. } => SmallContent::Kept(*chunk),
        _ if draft.small.is_some() => SmallContent::New,
        _ => return None,
    };
    Some(SmallFile { hash: keys.boundary_hash(&draft.entry.path), bytes: *bytes, content })
}

/// Divides the entries of a job where their attributes are too large for one leaf.
fn split(drafts: Vec<Draft>) -> Vec<Vec<Draft>> {
    let mut parts: Vec<Vec<Draft>> = Vec::with_capacity(1);
    let mut weight = 0;
    for draft in drafts {
        let more = draft.entry.metadata_bytes();
        match parts.last_mut() {
            Some(part) if weight + more <= LEAF_BYTES => part.push(draft),
            _ => {
                parts.push(vec![draft]);
                weight = 0;
            }
        }
        weight += more;
    }
    parts
}
