//! Names that the snapshot does not have: what becomes of them.

use super::super::listing::Listing;
use super::super::mirror::{Mirror, Reason};
use super::super::remove::{is_same_file_system, remove};
use super::super::slot::{PART_BYTES, is_temporary, part_name};
use super::{Level, Writer};
use crate::walk::{Stat, stat_at};
use lifeboat_format::tree::{Completeness, Entry, EntryKind};
use rustix::fs::{AtFlags, FileType, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::collections::HashSet;

/// What was in a directory before.
#[derive(Debug)]
pub(super) struct Before {
    pub listing: Listing,
    /// What an interrupted restore has left in it.
    remains: Vec<Vec<u8>>,
    /// The parts of entries: they are taken up.
    parts: HashSet<String>,
}

impl Before {
    pub fn of(listing: Listing) -> Self {
        Self { listing, remains: Vec::new(), parts: HashSet::new() }
    }
}

impl Writer {
    /// What an earlier restore has written of a large file is not a remain.
    pub(super) fn take_up_part(&mut self, entry: &Entry) {
        let Some(Level { before: Some(before), .. }) = self.levels.last_mut() else { return };
        if let EntryKind::File(content) = &entry.kind
            && content.bytes >= PART_BYTES
        {
            before.parts.insert(part_name(&entry.path));
        }
    }

    /// Something that the snapshot does not have.
    pub(super) fn stray(&mut self, name: Vec<u8>) {
        let Some(level) = self.levels.last_mut() else { return };
        match &mut level.before {
            // It may be the part of an entry that is still to come.
            Some(before) if is_temporary(&name) => before.remains.push(name),
            _ => self.mirror(&name),
        }
    }

    /// Removes an entry that the snapshot does not have, or keeps it and counts it.
    fn mirror(&mut self, name: &[u8]) {
        let (Some(mirror), Some(restored)) = (&self.options.mirror, self.level_restored()) else { return };
        let reason = match self.is_damaged {
            true => Some(Reason::LostPart),
            false => mirror.keeps(&self.path, name, restored, self.is_mounted()),
        };
        match (reason, self.levels.last_mut()) {
            (None, _) => self.delete(name),
            (Some(reason), Some(level)) => level.kept_back.get_or_insert((0, reason)).0 += 1,
            (Some(_), None) => {}
        }
    }

    /// Whether a directory that is in the way of something else may be deleted.
    pub(super) fn may_delete_in_the_way(&self, path: &[u8]) -> bool {
        let keeps = |mirror: &Mirror| mirror.keeps_in_the_way(path, self.is_mounted()).is_some();
        self.options.mirror.as_ref().is_some_and(|mirror| !self.is_damaged && !keeps(mirror))
    }

    fn level_restored(&self) -> Option<Completeness> {
        self.levels.last().and_then(|level| level.restored)
    }

    /// Whether the writer is on another file system than the target.
    fn is_mounted(&self) -> bool {
        let stat = |level: &Level| level.directory.stat;
        let ends = (self.levels.first().map(stat), self.levels.last().map(stat));
        matches!(ends, (Some(top), Some(here)) if !is_same_file_system(&top, &here))
    }

    pub(super) fn delete(&mut self, name: &[u8]) {
        let path =
            |below: &[u8]| if self.path.is_empty() { below.to_vec() } else { [&self.path, &b"/"[..], below].concat() };
        let descriptor = self.levels.last().and_then(|level| level.directory.descriptor());
        let removed = match &descriptor {
            Some(descriptor) => remove(&mut self.listings, descriptor, name, &self.options.own),
            None => Err(Errno::NOENT),
        };
        match removed {
            Ok(removed) => {
                self.shared.report().deleted += removed.entries;
                for below in &removed.protected {
                    self.shared.report().protect(&path(below));
                }
                for (below, reason) in removed.refused {
                    self.shared.report().fail_to_delete(&path(&below), reason);
                }
            }
            Err(error) => self.shared.report().fail_to_delete(&path(name), error),
        }
    }

    /// What is left in a directory when all its entries are made: strays, and the remains of interrupted restores.
    pub(super) fn clear_away(&mut self) {
        loop {
            let Some(Level { before: Some(before), .. }) = self.levels.last_mut() else { return };
            match self.listings.next_stray(&mut before.listing) {
                Ok(Some(name)) => self.stray(name),
                Ok(None) => break,
                Err(error) => {
                    let path = self.path.clone();
                    self.shared.fail(&path, format_args!("cannot read what else is in it: {error}"));
                    break;
                }
            }
        }
        let Some(level) = self.levels.last_mut() else { return };
        if let Some(kept) = level.kept_back.take() {
            self.shared.report().kept_back.add(&self.path, kept);
        }
        let Some(before) = level.before.take() else { return };
        self.listings.leave(&before.listing);
        let Some(descriptor) = level.directory.descriptor() else { return };
        let is_taken = |name: &&Vec<u8>| std::str::from_utf8(name).is_ok_and(|name| before.parts.contains(name));
        for name in before.remains.iter().filter(|name| !is_taken(name)) {
            let own = |stat: Stat| stat.kind == FileType::RegularFile && stat.uid == geteuid().as_raw();
            if stat_at(&descriptor, name).is_ok_and(own) {
                // Nobody will miss it, whether or not it can be removed.
                let _ = unlinkat(&descriptor, &**name, AtFlags::empty());
            }
        }
    }
}
