//! A file that stands where one is to be restored: its content may serve, wholly or in part.
//!
//! It is never written to. Either it is what it should be, and at most its attributes are set; or a new file takes its
//! place. A file that has other names too is not even given attributes, for those names may lie outside the target.

use super::attributes::differ;
use super::shared::{Flight, Place, Shared};
use super::slot::{FileSlot, PART_BYTES, part_name};
use super::target::open_beneath;
use crate::metadata::{KEPT_FLAGS, UNWRITABLE_FLAGS, flags_of};
use crate::walk::{Held, Stat, stat_open};
use lifeboat_format::tree::Attributes;
use rustix::fs::{AtFlags, OFlags, SeekFrom, seek, unlinkat};
use rustix::io::{self, Errno, pread};
use std::sync::Arc;

/// Such a file, held open. Dropped, it is a failure in the report; what is there stays.
#[derive(Debug)]
pub struct Existing(Box<There>);

#[derive(Debug)]
struct There {
    flight: Flight,
    attributes: Attributes,
    bytes: u64,
    file: Held,
    stat: Stat,
    unread: bool,
}

/// What became of an attempt to leave a file as it is.
#[derive(Debug)]
pub enum Adopted {
    /// It is what it should be; losses are in the report.
    Settled,
    /// A new file must take its place, though the content is the same.
    MustBeWritten(Existing),
}

impl Existing {
    /// Takes hold of what was seen at a place.
    pub(super) fn open(
        shared: Arc<Shared>,
        place: Place,
        attributes: Attributes,
        bytes: u64,
        seen: &Stat,
        unread: bool,
    ) -> Result<Self, String> {
        let cannot = |error: Errno| format!("cannot look at what is there: {error}");
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = open_beneath(&place.descriptor, &place.name, flags).map_err(cannot)?;
        let stat = stat_open(&file).map_err(cannot)?;
        if !stat.is_same_file(seen) {
            return Err("it was replaced while it was restored".into());
        }
        let flight = Flight::begin(shared, place, attributes.mtime);
        Ok(Self(Box::new(There { flight, attributes, bytes, file: Held::of_open(file), stat, unread })))
    }

    /// Whether size and time are enough to take its content as equal.
    pub fn is_equal_unread(&self) -> bool {
        self.0.unread
    }

    /// How long it is now.
    pub fn bytes(&self) -> u64 {
        self.0.stat.bytes
    }

    /// Its content, to compare.
    pub fn source(&self) -> Source<'_> {
        Source(&self.0.file)
    }

    /// Leaves its content, which was found equal, and sets the attributes that differ.
    pub fn adopt(self) -> Adopted {
        let shared = self.0.flight.shared().clone();
        let owner = shared.owners.of(&self.0.attributes).ids;
        let path = self.0.flight.path().to_vec();
        if !differ(&self.0.file, &self.0.stat, &self.0.attributes, owner) {
            // Two entries of the tree that are two files there must not be one here.
            if self.0.stat.links > 1 && !shared.claim(&self.0.stat) {
                return Adopted::MustBeWritten(self);
            }
            shared.owner_of(&path, &self.0.attributes);
            shared.report().unchanged += 1;
            return self.settle();
        }
        if self.0.stat.links > 1 {
            return Adopted::MustBeWritten(self);
        }
        if flags_of(&self.0.file, &self.0.stat) & UNWRITABLE_FLAGS != 0 {
            self.0.flight.fail(IMMUTABLE);
            return Adopted::Settled;
        }
        shared.change_attributes(&self.0.file, &path, &self.0.attributes);
        shared.set_flags(&self.0.file, &path, self.0.attributes.flags, KEPT_FLAGS & !UNWRITABLE_FLAGS);
        shared.set_file_flags(&self.0.file, &path, self.0.attributes.flags);
        self.settle()
    }

    /// A new file that will take its place; and this one, from which content may be taken. None if that cannot be: the
    /// report says why.
    pub fn rewrite(self) -> Option<(FileSlot, Held)> {
        if flags_of(&self.0.file, &self.0.stat) & UNWRITABLE_FLAGS != 0 {
            self.0.flight.fail(IMMUTABLE);
            return None;
        }
        let There { flight, attributes, bytes, file, .. } = *self.0;
        FileSlot::begin(flight, attributes, bytes, true).map(|slot| (slot, file))
    }

    /// It cannot be compared: the report says why.
    pub fn fail(self, reason: impl std::fmt::Display) {
        self.0.flight.fail(reason);
    }

    /// The same, because the content of the snapshot is damaged in the repository.
    pub fn lose(self, reason: impl std::fmt::Display) {
        let flight = &self.0.flight;
        flight.shared().report().damaged(flight.path());
        self.fail(reason);
    }

    fn settle(self) -> Adopted {
        if self.0.bytes >= PART_BYTES {
            let place = self.0.flight.place();
            // Mostly an earlier restore has left no part of it.
            let _ = unlinkat(&place.descriptor, part_name(&place.path), AtFlags::empty());
        }
        self.0.flight.shared().made(self.0.bytes);
        self.0.flight.land();
        Adopted::Settled
    }
}

/// Why a file that is protected stays as it is.
pub(super) const IMMUTABLE: &str =
    "what is there is immutable or append-only: take that away with `chattr -ia`, then restore again";

/// Content that is there already. Whoever takes of it checks it first.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a>(pub &'a Held);

impl Source<'_> {
    /// Reads up to `bytes` bytes at an offset; fewer at its end.
    pub fn read_at(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut read = vec![0; bytes];
        let mut filled = 0;
        while filled < bytes {
            match pread(self.0, &mut read[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        read.truncate(filled);
        Ok(read)
    }

    /// Whether nothing is stored from `offset` on, for so many bytes.
    pub fn is_hole(&self, offset: u64, bytes: u64) -> bool {
        match seek(self.0, SeekFrom::Data(offset)) {
            Ok(data) => data >= offset.saturating_add(bytes),
            Err(error) => error == Errno::NXIO,
        }
    }

    /// Whether zeros are stored there, and no hole is among them.
    pub fn is_zeros(&self, offset: u64, bytes: u64) -> io::Result<bool> {
        let end = offset.saturating_add(bytes);
        if !seek(self.0, SeekFrom::Hole(offset)).is_ok_and(|hole| hole >= end) {
            return Ok(false);
        }
        let mut at = offset;
        while at < end {
            let piece = self.read_at(at, (end - at).min(1 << 20) as usize)?;
            if piece.is_empty() || piece.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
        Ok(true)
    }
}
