//! What a restore would do, found out without writing anything: for `--dry-run`, and for the question before a mirror
//! deletes.
//!
//! It walks the tree beside what is there and decides as a restore would. Content is compared where a restore would
//! compare it, unless only counts are asked for.

use super::compare;
use super::decide::{Overwrite, Rules, Verdict, decide};
use super::estimate::Estimate;
use super::existing::Source;
use super::fetch::{FetchError, GrantReader};
use super::listing::{Listing, Listings, Met};
use super::mirror::{KeptBack, Mirror, Reason};
use super::own::Own;
use super::remove::{Removed, is_same_file_system};
use super::report::NAMED_MAX;
use super::room::Room;
use super::selection::Selection;
use super::slot::is_temporary;
use super::target::{of_disk, open_beneath};
use super::visit::{Visitor, tree, visit, ways};
use super::writer::{completeness_of, is_alike};
use crate::walk::{Held, Stat, stat_at, stat_open};
use lifeboat_format::id::ChunkId;
use lifeboat_format::tree::{
    Body, ChunkRef, Completeness, Entry, EntryKind, Extent, ExtentReader, FileContent, is_within, name, parent,
};
use lifeboat_proto::status::Failure;
use lifeboat_proto::v1::RestorePlan;
use rustix::fs::OFlags;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What would happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Entries that would be made.
    pub made: u64,
    /// Entries that are there and would become as they were.
    pub changed: u64,
    /// Entries that are there as they were, attributes apart.
    pub unchanged: u64,
    /// Entries that would not be restored, because a directory that is not empty is in their place.
    pub blocked: u64,
    /// Entries that would stay.
    pub kept: u64,
    /// What belongs to Lifeboat on this machine, and would be left as it is; a thousand at most.
    pub protected: Vec<Vec<u8>>,
    /// Entries that would be deleted, with all below them.
    pub deleted: u64,
    /// Parts of the tree that cannot be read: what is in them would not be restored.
    pub lost_parts: u64,
    /// Existing entries that would not be deleted, because the snapshot does not tell whether it had them.
    pub kept_back: KeptBack,
    /// Bytes of content that would be fetched, before compression.
    pub fetch_bytes: u64,
    /// Bytes of content that are there already.
    pub reused_bytes: u64,
    /// Bytes that the file system must have free, at most.
    pub space_bytes: u64,
}

impl Survey {
    /// Inodes that the file system must have free, at most.
    pub fn inodes(&self) -> u64 {
        self.made + self.changed
    }

    /// All of it in a message, with the room that there is, and how long it would take if that is known.
    pub fn plan(&self, room: &Room, estimate: Option<Estimate>) -> RestorePlan {
        RestorePlan {
            made: self.made,
            changed: self.changed,
            blocked: self.blocked,
            lost_parts: self.lost_parts,
            unchanged: self.unchanged,
            kept: self.kept,
            deleted: self.deleted,
            kept_back: Some(self.kept_back.message()),
            protected: self.protected.iter().cloned().map(Into::into).collect(),
            fetch_bytes: self.fetch_bytes,
            reused_bytes: self.reused_bytes,
            space_needed: self.space_bytes,
            space_free: room.bytes,
            inodes_needed: self.inodes(),
            inodes_free: room.inodes,
            milliseconds: estimate.map(|estimate| u64::try_from(estimate.time.as_millis()).unwrap_or(u64::MAX)),
            sampled_entries: estimate.map_or(0, |estimate| estimate.sampled_entries),
            sampled_bytes: estimate.map_or(0, |estimate| estimate.sampled_bytes),
        }
    }
}

/// How it is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Questions<'a> {
    /// How the restore would deal with what is there.
    pub rules: Rules,
    /// What it would delete; none: nothing.
    pub mirror: Option<&'a Mirror>,
    /// What would be left as it is.
    pub own: &'a Own,
    /// Whether content is read and compared; else whatever is not equal in size and time counts as to be fetched.
    pub compare: bool,
}

/// Surveys a restore into a directory; none: into a new one.
pub fn survey(
    reader: &GrantReader,
    selection: &Selection,
    target: Option<OwnedFd>,
    questions: Questions<'_>,
) -> Result<Survey, Failure> {
    let listings = Listings::new().map_err(|error| of_disk(&error))?;
    let mut surveyor = Surveyor {
        reader,
        selection,
        questions,
        listings,
        levels: Vec::new(),
        kept: None,
        outside: HashSet::new(),
        last_bundle: None,
        is_damaged: false,
        survey: Survey::default(),
    };
    surveyor.go_into(Vec::new(), target.map(Arc::new), None)?;
    visit(reader, selection, &mut surveyor)?;
    while surveyor.levels.len() > 1 {
        surveyor.leave()?;
    }
    surveyor.leave()?;
    Ok(surveyor.survey)
}

struct Surveyor<'a> {
    reader: &'a GrantReader,
    selection: &'a Selection,
    questions: Questions<'a>,
    listings: Listings,
    levels: Vec<Level>,
    /// An entry that stays although it is no directory: nothing below it is restored.
    kept: Option<Vec<u8>>,
    /// Files outside the restore of which an entry takes the place: its other names in here are links to it.
    outside: HashSet<Vec<u8>>,
    /// The bundle that was counted last: the files of one come together.
    last_bundle: Option<ChunkId>,
    /// Whether a part of the tree could not be read.
    is_damaged: bool,
    survey: Survey,
}

struct Level {
    path: Vec<u8>,
    /// The directory, and what is in it, if it is there.
    there: Option<(Arc<OwnedFd>, Listing)>,
    /// What the tree says of it, if it is restored itself.
    restored: Option<Completeness>,
    /// Whether it lies on another file system than the target.
    is_mounted: bool,
    /// Existing entries in it that would be kept, and why the first of them would.
    kept_back: Option<(u64, Reason)>,
}

impl Visitor for Surveyor<'_> {
    fn way(&mut self, entry: Entry) -> Result<(), Failure> {
        self.go_to(&entry.path)
    }

    fn entry(&mut self, entry: Entry, _in_tree: Vec<u8>) -> Result<(), Failure> {
        if entry.path.is_empty() {
            if let Some(root) = self.levels.first_mut() {
                root.restored = completeness_of(&entry.kind);
            }
            return Ok(());
        }
        if self.kept.as_ref().is_some_and(|kept| is_within(&entry.path, kept)) {
            self.survey.kept += 1;
            return Ok(());
        }
        let there = self.look(&entry.path)?;
        if there.is_some_and(|there| self.questions.own.has(&there)) {
            self.survey.kept += 1;
            self.protect(&entry.path);
            self.kept = Some(entry.path);
            return Ok(());
        }
        let Some(mut entry) = self.as_restored(entry)? else { return Ok(()) };
        if let (EntryKind::HardLink { to }, Overwrite::IfNewer, Some(_)) =
            (&entry.kind, self.questions.rules.overwrite, there)
            && let Some(first) = self.file_of(to)?
        {
            entry.attributes.mtime = first.attributes.mtime;
        }
        let is_alike = there.is_some_and(|there| self.is_alike(&entry, &there));
        let verdict = decide(&entry, there.as_ref(), is_alike, true, &self.questions.rules);
        match (&entry.kind, verdict) {
            (EntryKind::Directory(completeness), Verdict::Enter { .. }) => {
                self.survey.unchanged += 1;
                let opened = self.open(&entry.path);
                return self.go_into(entry.path, opened, Some(*completeness));
            }
            (EntryKind::Directory(_), Verdict::Keep) => {
                self.survey.kept += 1;
                self.kept = Some(entry.path);
            }
            (EntryKind::Directory(_), verdict) => {
                self.count(verdict);
                return self.go_into(entry.path, None, None);
            }
            (EntryKind::File(content), Verdict::Compare { unread }) => self.compare(&entry.path, content, unread)?,
            (_, Verdict::Replace) if self.is_in_the_way(&entry.path, there) => self.survey.blocked += 1,
            (EntryKind::File(content), Verdict::Make | Verdict::Replace) => {
                self.count(verdict);
                let bytes = self.fetched(content, None)?;
                self.survey.space_bytes = self.survey.space_bytes.saturating_add(bytes);
            }
            (_, verdict) => self.count(verdict),
        }
        Ok(())
    }

    fn lost(&mut self, _up_to: &[u8], _why: &FetchError) -> Result<(), Failure> {
        self.survey.lost_parts += 1;
        self.is_damaged = true;
        Ok(())
    }
}

impl Surveyor<'_> {
    fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Make => self.survey.made += 1,
            Verdict::Replace | Verdict::Compare { .. } => self.survey.changed += 1,
            Verdict::Adopt | Verdict::Enter { .. } => self.survey.unchanged += 1,
            Verdict::Keep => self.survey.kept += 1,
        }
    }

    /// What an entry becomes: of a file that is not restored itself, the first name in here is the file. None if the tree
    /// is damaged there.
    fn as_restored(&mut self, entry: Entry) -> Result<Option<Entry>, Failure> {
        let EntryKind::HardLink { to } = &entry.kind else { return Ok(Some(entry)) };
        if self.selection.has(to) || !self.outside.insert(to.clone()) {
            return Ok(Some(entry));
        }
        let file = self.file_of(to)?;
        Ok(file.map(|file| Entry { path: entry.path, ..file }))
    }

    /// The file that a hard link is a name of; none if the tree is damaged there.
    fn file_of(&self, to: &[u8]) -> Result<Option<Entry>, Failure> {
        match tree(self.reader).lookup(to) {
            Err(FetchError::Lost { .. } | FetchError::Format(_)) => Ok(None),
            found => Ok(found?),
        }
    }

    fn is_alike(&self, entry: &Entry, there: &Stat) -> bool {
        match &entry.kind {
            // A further name counts as what it was; whether it is that of the right file shows when it is restored.
            EntryKind::HardLink { .. } => there.links > 1,
            kind => self.directory().is_some_and(|directory| is_alike(&directory, name(&entry.path), kind, there)),
        }
    }

    /// Whether a directory is in the place of something else, and would not be removed.
    fn is_in_the_way(&mut self, path: &[u8], there: Option<Stat>) -> bool {
        if !there.is_some_and(|there| there.is_directory()) {
            return false;
        }
        let Some(directory) = self.directory() else { return false };
        let within = super::remove::count(&mut self.listings, &directory, name(path), self.questions.own);
        let is_empty = within.entries == 1 && within.refused.is_empty() && within.protected.is_empty();
        let is_mounted = self.levels.last().is_some_and(|level| level.is_mounted);
        let may_delete = |mirror: &Mirror| mirror.keeps_in_the_way(path, is_mounted).is_none();
        if self.is_damaged || !self.questions.mirror.is_some_and(may_delete) {
            return !is_empty;
        }
        let stays = !(within.refused.is_empty() && within.protected.is_empty());
        self.count_removed(within, parent(path).unwrap_or_default());
        stays
    }

    /// Counts what would be removed in a directory.
    fn count_removed(&mut self, removed: Removed, directory: &[u8]) {
        self.survey.deleted += removed.entries;
        let join = |below: Vec<u8>| if directory.is_empty() { below } else { [directory, &below].join(&b'/') };
        removed.protected.into_iter().for_each(|below| self.protect(&join(below)));
    }

    fn protect(&mut self, path: &[u8]) {
        if self.survey.protected.len() < NAMED_MAX {
            self.survey.protected.push(path.to_vec());
        }
    }

    fn directory(&self) -> Option<Arc<OwnedFd>> {
        self.levels.last().and_then(|level| level.there.as_ref()).map(|(directory, _)| directory.clone())
    }

    /// Goes to the directory of a place, and looks what is there.
    fn look(&mut self, path: &[u8]) -> Result<Option<Stat>, Failure> {
        let above = parent(path).unwrap_or_default();
        self.go_to(above)?;
        let Some(mut level) = self.levels.pop_if(|level| level.path == above) else { return Ok(None) };
        let met = self.meet(&mut level, name(path));
        self.levels.push(level);
        met
    }

    /// Goes to a directory, and into those on the way that the tree has no entries of.
    fn go_to(&mut self, path: &[u8]) -> Result<(), Failure> {
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| !is_within(path, &level.path)) {
            self.leave()?;
        }
        let here = self.levels.last().map_or(0, |level| level.path.len());
        if here == path.len() {
            return Ok(());
        }
        for way in ways(path).filter(|way| way.len() > here) {
            let there = self.look(way)?;
            let opened = there.filter(Stat::is_directory).and_then(|_| self.open(way));
            self.survey.made += u64::from(opened.is_none());
            self.go_into(way.to_vec(), opened, None)?;
        }
        Ok(())
    }

    /// What has this name in a directory. Strays before it are counted.
    fn meet(&mut self, level: &mut Level, name: &[u8]) -> Result<Option<Stat>, Failure> {
        loop {
            let Some((directory, listing)) = &mut level.there else { return Ok(None) };
            match self.listings.meet(listing, name).map_err(|error| of_disk(&error))? {
                Met::Stray(stray) => self.stray(level, &stray),
                Met::There => return Ok(stat_at(directory, name).ok()),
                Met::Absent => return Ok(None),
            }
        }
    }

    fn open(&self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        let directory = self.directory()?;
        open_beneath(&directory, name(path), OFlags::RDONLY | OFlags::DIRECTORY).ok().map(Arc::new)
    }

    fn go_into(
        &mut self,
        path: Vec<u8>,
        opened: Option<Arc<OwnedFd>>,
        restored: Option<Completeness>,
    ) -> Result<(), Failure> {
        let stat = |directory: &Arc<OwnedFd>| stat_open(&**directory).ok();
        let top = self.levels.first().and_then(|top| top.there.as_ref()).and_then(|(directory, _)| stat(directory));
        let is_mounted = match (top, opened.as_ref().map(stat)) {
            (Some(top), Some(Some(here))) => !is_same_file_system(&top, &here),
            _ => false,
        };
        let there = match opened {
            Some(directory) => {
                let listing = self.listings.read(&directory).map_err(|error| of_disk(&error))?;
                Some((directory, listing))
            }
            None => None,
        };
        self.levels.push(Level { path, there, restored, is_mounted, kept_back: None });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Failure> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        loop {
            let Some((_, listing)) = &mut level.there else { return Ok(()) };
            let Some(stray) = self.listings.next_stray(listing).map_err(|error| of_disk(&error))? else { break };
            self.stray(&mut level, &stray);
        }
        level.there.iter().for_each(|(_, listing)| self.listings.leave(listing));
        if let Some(kept) = level.kept_back {
            self.survey.kept_back.add(&level.path, kept);
        }
        Ok(())
    }

    fn stray(&mut self, level: &mut Level, name: &[u8]) {
        let (Some(mirror), Some(restored), Some((directory, _))) =
            (self.questions.mirror, level.restored, &level.there)
        else {
            return;
        };
        if is_temporary(name) {
            return;
        }
        let reason = match self.is_damaged {
            true => Some(Reason::LostPart),
            false => mirror.keeps(&level.path, name, restored, level.is_mounted),
        };
        match reason {
            Some(reason) => level.kept_back.get_or_insert((0, reason)).0 += 1,
            None => {
                let removed = super::remove::count(&mut self.listings, directory, name, self.questions.own);
                self.count_removed(removed, &level.path);
            }
        }
    }

    fn compare(&mut self, path: &[u8], content: &FileContent, unread: bool) -> Result<(), Failure> {
        let file = self.directory().and_then(|directory| {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            open_beneath(&directory, name(path), flags).ok()
        });
        let file = file.filter(|_| self.questions.compare && !unread).map(Held::of_open);
        let fetched = match (unread, &file) {
            (true, _) => 0,
            (false, file) => self.fetched(content, file.as_ref())?,
        };
        let reused = content.bytes.saturating_sub(fetched);
        self.survey.reused_bytes = self.survey.reused_bytes.saturating_add(reused);
        match fetched {
            0 => self.survey.unchanged += 1,
            _ => {
                self.survey.changed += 1;
                self.survey.space_bytes = self.survey.space_bytes.saturating_add(content.bytes);
            }
        }
        Ok(())
    }

    /// How much of a file would be fetched, if so much of it is `there`.
    fn fetched(&mut self, content: &FileContent, there: Option<&Held>) -> Result<u64, Failure> {
        let mut missing = 0;
        match &content.body {
            Body::Empty => {}
            Body::Bundled { chunk, hash, .. } => {
                let bytes = there.map(|there| Source(there).read_at(0, content.bytes as usize + 1));
                let is_there = bytes.is_some_and(|bytes| {
                    bytes.is_ok_and(|bytes| self.reader.is_bundled_file(chunk.scope, hash, &bytes))
                });
                if !is_there {
                    missing = content.bytes;
                    self.count_bundle(chunk);
                }
            }
            Body::Extents(_) | Body::List(_) => {
                for extent in ExtentReader::new(self.reader.nodes(), content)? {
                    let (offset, Extent::Data(chunk)) = extent? else { continue };
                    let found = there.map(|there| compare::take(self.reader, Source(there), offset, &chunk));
                    // What cannot be read will be fetched.
                    let is_there = found.is_some_and(|found| found.is_ok_and(|found| found.is_some()));
                    missing = u64::saturating_add(missing, if is_there { 0 } else { u64::from(chunk.bytes) });
                }
                self.survey.fetch_bytes = self.survey.fetch_bytes.saturating_add(missing);
            }
        }
        Ok(missing)
    }

    fn count_bundle(&mut self, chunk: &ChunkRef) {
        if self.last_bundle != Some(chunk.id) {
            self.last_bundle = Some(chunk.id);
            self.survey.fetch_bytes = self.survey.fetch_bytes.saturating_add(u64::from(chunk.bytes));
        }
    }
}
