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
use super::room::Room;
use super::selection::Selection;
use super::slot::is_temporary;
use super::target::{of_disk, open_beneath};
use super::visit::{Visitor, tree, visit};
use super::writer::is_alike;
use crate::walk::{Held, Stat, stat_at};
use lifeboat_format::id::ChunkId;
use lifeboat_format::tree::{
    Body, ChunkRef, Entry, EntryKind, Extent, ExtentReader, FileContent, is_within, name, parent,
};
use lifeboat_proto::status::Failure;
use lifeboat_proto::v1::RestorePlan;
use rustix::fs::OFlags;
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
    /// Entries that would be deleted, with all below them.
    pub deleted: u64,
    /// Parts of the tree that cannot be read: what is in them would not be restored.
    pub lost_parts: u64,
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
pub struct Questions {
    /// How the restore would deal with what is there.
    pub rules: Rules,
    /// Whether it would delete.
    pub delete: bool,
    /// Whether content is read and compared; else whatever is not equal in size and time counts as to be fetched.
    pub compare: bool,
}

/// Surveys a restore into a directory; none: into a new one.
pub fn survey(
    reader: &GrantReader,
    selection: &Selection,
    target: Option<OwnedFd>,
    questions: Questions,
) -> Result<Survey, Failure> {
    let listings = Listings::new().map_err(|error| of_disk(&error))?;
    let mut surveyor = Surveyor {
        reader,
        questions,
        listings,
        levels: Vec::new(),
        kept: None,
        last_bundle: None,
        survey: Survey::default(),
    };
    surveyor.go_into(Vec::new(), target.map(Arc::new), false)?;
    visit(reader, selection, &mut surveyor)?;
    while surveyor.levels.len() > 1 {
        surveyor.leave()?;
    }
    surveyor.leave()?;
    Ok(surveyor.survey)
}

struct Surveyor<'a> {
    reader: &'a GrantReader,
    questions: Questions,
    listings: Listings,
    levels: Vec<Level>,
    /// An entry that stays although it is no directory: nothing below it is restored.
    kept: Option<Vec<u8>>,
    /// The bundle that was counted last: the files of one come together.
    last_bundle: Option<ChunkId>,
    survey: Survey,
}

struct Level {
    path: Vec<u8>,
    /// The directory, and what is in it, if it is there.
    there: Option<(Arc<OwnedFd>, Listing)>,
    is_whole: bool,
}

impl Visitor for Surveyor<'_> {
    fn way(&mut self, entry: Entry) -> Result<(), Failure> {
        if self.levels.iter().any(|level| level.path == entry.path) {
            return Ok(());
        }
        let there = self.look(&entry.path)?;
        let opened = there.filter(Stat::is_directory).and_then(|_| self.open(&entry.path));
        self.survey.made += u64::from(opened.is_none());
        self.go_into(entry.path, opened, false)
    }

    fn entry(&mut self, mut entry: Entry, _in_tree: Vec<u8>) -> Result<(), Failure> {
        if entry.path.is_empty() {
            if let Some(root) = self.levels.first_mut() {
                root.is_whole = true;
            }
            return Ok(());
        }
        if self.kept.as_ref().is_some_and(|kept| is_within(&entry.path, kept)) {
            self.survey.kept += 1;
            return Ok(());
        }
        let there = self.look(&entry.path)?;
        if let (EntryKind::HardLink { to }, Overwrite::IfNewer, Some(_)) =
            (&entry.kind, self.questions.rules.overwrite, there)
            && let Some(first) = tree(self.reader).lookup(to)?
        {
            entry.attributes.mtime = first.attributes.mtime;
        }
        let is_alike = there.is_some_and(|there| self.is_alike(&entry, &there));
        let verdict = decide(&entry, there.as_ref(), is_alike, true, &self.questions.rules);
        match (&entry.kind, verdict) {
            (EntryKind::Directory(_), Verdict::Enter { .. }) => {
                self.survey.unchanged += 1;
                let opened = self.open(&entry.path);
                return self.go_into(entry.path, opened, true);
            }
            (EntryKind::Directory(_), Verdict::Keep) => {
                self.survey.kept += 1;
                self.kept = Some(entry.path);
            }
            (EntryKind::Directory(_), verdict) => {
                self.count(verdict);
                return self.go_into(entry.path, None, true);
            }
            (EntryKind::File(content), Verdict::Compare { unread }) => self.compare(&entry.path, content, unread)?,
            (_, Verdict::Replace) if self.is_in_the_way(&entry.path, there) => self.survey.blocked += 1,
            (EntryKind::File(content), Verdict::Make | Verdict::Replace) => {
                self.count(verdict);
                let bytes = self.fetched(content, None)?;
                self.survey.space_bytes += bytes;
            }
            (_, verdict) => self.count(verdict),
        }
        Ok(())
    }

    fn lost(&mut self, _up_to: &[u8], _why: &FetchError) -> Result<(), Failure> {
        self.survey.lost_parts += 1;
        self.questions.delete = false;
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
        let entries = super::remove::count(&mut self.listings, &directory, name(path));
        if self.questions.delete {
            self.survey.deleted += entries;
        }
        entries > 1 && !self.questions.delete
    }

    fn directory(&self) -> Option<Arc<OwnedFd>> {
        self.levels.last().and_then(|level| level.there.as_ref()).map(|(directory, _)| directory.clone())
    }

    /// Goes to the directory of a place, and looks what is there.
    fn look(&mut self, path: &[u8]) -> Result<Option<Stat>, Failure> {
        let above = parent(path).unwrap_or_default();
        while self.levels.len() > 1 && self.levels.last().is_some_and(|level| !is_within(above, &level.path)) {
            self.leave()?;
        }
        let Some(mut level) = self.levels.pop_if(|level| level.path == above) else { return Ok(None) };
        let met = self.meet(&mut level, name(path));
        self.levels.push(level);
        met
    }

    /// What has this name in a directory. Strays before it are counted.
    fn meet(&mut self, level: &mut Level, name: &[u8]) -> Result<Option<Stat>, Failure> {
        let Some((directory, listing)) = &mut level.there else { return Ok(None) };
        loop {
            match self.listings.meet(listing, name).map_err(|error| of_disk(&error))? {
                Met::Stray(stray) => self.stray(directory, &stray, level.is_whole),
                Met::There => return Ok(stat_at(directory, name).ok()),
                Met::Absent => return Ok(None),
            }
        }
    }

    fn open(&self, path: &[u8]) -> Option<Arc<OwnedFd>> {
        let directory = self.directory()?;
        open_beneath(&directory, name(path), OFlags::RDONLY | OFlags::DIRECTORY).ok().map(Arc::new)
    }

    fn go_into(&mut self, path: Vec<u8>, opened: Option<Arc<OwnedFd>>, is_whole: bool) -> Result<(), Failure> {
        let there = match opened {
            Some(directory) => {
                let listing = self.listings.read(&directory).map_err(|error| of_disk(&error))?;
                Some((directory, listing))
            }
            None => None,
        };
        self.levels.push(Level { path, there, is_whole });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), Failure> {
        let Some(Level { there: Some((directory, mut listing)), is_whole, .. }) = self.levels.pop() else {
            return Ok(());
        };
        while let Some(stray) = self.listings.next_stray(&mut listing).map_err(|error| of_disk(&error))? {
            self.stray(&directory, &stray, is_whole);
        }
        self.listings.leave(&listing);
        Ok(())
    }

    fn stray(&mut self, directory: &OwnedFd, name: &[u8], is_whole: bool) {
        if self.questions.delete && is_whole && !is_temporary(name) {
            self.survey.deleted += super::remove::count(&mut self.listings, directory, name);
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
        self.survey.reused_bytes += reused;
        match fetched {
            0 => self.survey.unchanged += 1,
            _ => {
                self.survey.changed += 1;
                self.survey.space_bytes += content.bytes;
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
                    missing += if is_there { 0 } else { u64::from(chunk.bytes) };
                }
                self.survey.fetch_bytes += missing;
            }
        }
        Ok(missing)
    }

    fn count_bundle(&mut self, chunk: &ChunkRef) {
        if self.last_bundle != Some(chunk.id) {
            self.last_bundle = Some(chunk.id);
            self.survey.fetch_bytes += u64::from(chunk.bytes);
        }
    }
}
