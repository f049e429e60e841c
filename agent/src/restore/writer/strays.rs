//! Names that the snapshot does not have: what becomes of them.

use super::super::listing::Listing;
use super::super::remove::remove;
use super::super::slot::{PART_BYTES, is_temporary, part_name};
use super::{Level, Writer};
use crate::walk::{Stat, stat_at};
use lifeboat_format::tree::{Entry, EntryKind};
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
            _ if self.options.delete && level.is_whole && !self.is_damaged => self.delete(&name),
            _ => {}
        }
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
