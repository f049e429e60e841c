//! One leaf job, from entries to leaves that are sent: read, cut, hash, ask, seal, send.
//!
//! Small files that are new or changed are bundled (`plan_bundles` decides), unchanged ones keep the reference they had,
//! larger ones are cut by themselves. What cannot be read becomes a gap and the entry is left out: a short or empty
//! file in its place would be a lie.

use super::bench::{Progress, Window};
use super::first_names::FirstNames;
use super::grow::BuiltLeaf;
use super::jobs::{Known, Member, time};
use super::read::{self, Content, ReadError};
use super::{BackupError, Gaps, Surroundings};
use crate::local_tree::LeafRecord;
use crate::metadata::{MetadataReader, Unread, kind_without_content};
use crate::walk::{FirstName, GapReason, Held, Signature, Stat, open_file, stat_open};
use lifeboat_format::id::ChunkId;
use lifeboat_format::key::ScopeKeys;
use lifeboat_format::tree::{
    Attributes, Body, ChunkRef, Entry, EntryKind, Extent, FileContent, Leaf, NODE_METADATA_BYTES_MAX, Node,
    SmallContent, SmallFile, plan_bundles,
};
use rustix::fs::FileType;
use std::collections::HashSet;

/// How much of attributes one leaf holds before it is divided.
const LEAF_BYTES: usize = NODE_METADATA_BYTES_MAX;
/// How often a file is read before it is kept as it is.
const READS_MAX: usize = 3;

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

/// An entry that was read now, and the content of a small file.
type Fresh = (Entry, Option<Vec<u8>>);

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
        for member in members {
            drafts.push(self.draft(member, &lost)?);
        }
        self.bundle(&mut drafts)?;
        if self.read_widowed(&mut drafts)? {
            self.bundle(&mut drafts)?;
        }
        let mut leaves = Vec::with_capacity(1);
        for part in split(drafts.into_iter().flatten().collect()) {
            leaves.push(self.send(part)?);
        }
        Ok(leaves)
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
            Known::HardLink(first) => {
                let kind = EntryKind::HardLink { to: first.path.clone() };
                let entry = Entry { path: member.path.clone(), kind, attributes: Attributes::default() };
                Ok(Some(Draft { member, entry, small: None, first: Some(first) }))
            }
            Known::Unchanged(_) | Known::New => self.fresh(member),
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
        if let (None, Some(path)) = (&draft, several) {
            self.first_names.lose(&path);
        }
        Ok(draft)
    }

    /// Reads an entry until it holds still.
    fn read_until_still(&mut self, mut member: Member) -> Result<Option<Draft>, BackupError> {
        for reads_left in (0..READS_MAX).rev() {
            match self.read_once(&mut member) {
                Ok((_, Err(GapReason::Changed))) if reads_left > 0 => {}
                Ok((draft, held_still)) => {
                    if let Err(reason) = held_still {
                        self.gaps.add(&member.path, reason.to_string());
                        member.signature.racy = true;
                    }
                    let (entry, small) = draft;
                    if small.is_none()
                        && let Err(error) = entry.check()
                    {
                        self.gaps.add(&member.path, error.to_string());
                        return Ok(self.bare_directory(member));
                    }
                    return Ok(Some(Draft { member, entry, small, first: None }));
                }
                Err(ReadError::Gap(GapReason::Changed)) if reads_left > 0 => {}
                Err(ReadError::Gap(reason)) => {
                    self.gaps.add(&member.path, reason.to_string());
                    return Ok(self.bare_directory(member));
                }
                Err(ReadError::Backup(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The entry of a directory that could not be read itself, with what `statx` shows of it: without an entry, nothing
    /// below it could be restored. None for anything else.
    fn bare_directory(&mut self, mut member: Member) -> Option<Draft> {
        if !member.stat.is_directory() {
            return None;
        }
        member.signature.racy = true;
        let kind = EntryKind::Directory(member.completeness);
        let attributes = self.metadata.bare(&member.stat);
        let entry = Entry { path: member.path.clone(), kind, attributes };
        entry.check().is_ok().then_some(Draft { member, entry, small: None, first: None })
    }

    /// Takes hold of an entry, and of everything it is. The second part says whether it held still meanwhile.
    fn read_once(&mut self, member: &mut Member) -> Result<(Fresh, Result<(), GapReason>), ReadError> {
        let read_start = time(self.around.clock.now_ns());
        if member.stat.kind != FileType::RegularFile {
            let held = Held::open(&member.directory, &member.name, &member.stat)?;
            let stat = stat_open(&held).map_err(|error| GapReason::of("look at it", error))?;
            member.signature = Signature::of(&stat, read_start);
            let kind = kind_without_content(&held, &stat, member.completeness)?.ok_or(GapReason::Replaced)?;
            return Ok(((self.entry(member, &held, &stat, kind), None), Ok(())));
        }
        let file = open_file(&member.directory, &member.name, &member.stat)?;
        member.signature = Signature::of(file.stat(), read_start);
        let bytes = file.stat().bytes;
        let (body, small) = match read::read(&mut self.window, &file, self.around)? {
            Content::Small(content) => (Body::Empty, Some(content)),
            Content::Cut(body) => (body, None),
        };
        Progress::add(&self.around.progress.read_bytes, usize::try_from(bytes).unwrap_or(usize::MAX));
        let kind = EntryKind::File(FileContent { bytes, body });
        let entry = self.entry(member, file.held(), file.stat(), kind);
        Ok(((entry, small), file.check_unchanged()))
    }

    /// An entry with its attributes; those that cannot be read are gaps.
    fn entry(&mut self, member: &Member, held: &Held, stat: &Stat, kind: EntryKind) -> Entry {
        let (attributes, unread) = self.metadata.attributes(held, stat);
        for Unread { attribute, source } in unread {
            self.gaps.add(&member.path, format!("its {attribute} cannot be read: {source}"));
        }
        Entry { path: member.path.clone(), kind, attributes }
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
