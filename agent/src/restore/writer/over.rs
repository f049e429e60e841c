//! Entries over what is there: looked at, left, changed or replaced, as `decide` says.

use super::super::attributes::differ;
use super::super::existing::{Existing, IMMUTABLE};
use super::super::listing::Met;
use super::super::shared::Place;
use super::super::slot::{rename_over, temporary_name};
use super::super::target::open_beneath;
use super::special::make_special;
use super::{Level, Step, Writer};
use crate::metadata::{UNWRITABLE_FLAGS, flags_of};
use crate::walk::{Held, Stat, stat_at, stat_open};
use lifeboat_format::tree::{Entry, EntryKind};
use rustix::fs::{AtFlags, FileType, OFlags, unlinkat};
use rustix::io::Errno;

/// So many files that stay as they are remembered. About 4 MiB; when there are more, no further name is made a link.
const KEPT_FILES_MAX: usize = 100_000;

impl Writer {
    /// What is at a place. Nothing, if the restore has made its directory.
    pub(super) fn look(&mut self, place: &Place) -> Result<Option<Stat>, String> {
        let cannot = |error: std::io::Error| format!("cannot look at what is there: {error}");
        let is_there = loop {
            let Some(Level { before: Some(before), .. }) = self.levels.last_mut() else { return Ok(None) };
            match self.listings.meet(&mut before.listing, &place.name).map_err(cannot)? {
                Met::Stray(stray) => self.stray(stray),
                Met::There => break true,
                Met::Absent => break false,
            }
        };
        if !is_there {
            return Ok(None);
        }
        match stat_at(&place.descriptor, &place.name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(cannot(error.into())),
        }
    }

    /// It stays, and nothing of the snapshot is a further name of it.
    pub(super) fn keep(&mut self, entry: Entry) {
        self.shared.report().kept += 1;
        match entry.kind {
            EntryKind::Directory(_) => self.kept = Some(entry.path),
            EntryKind::File(_) if self.kept_files.len() < KEPT_FILES_MAX => {
                self.kept_files.insert(*blake3::hash(&entry.path).as_bytes());
            }
            _ => {}
        }
    }

    pub(super) fn is_kept(&self, path: &[u8]) -> bool {
        self.kept_files.len() >= KEPT_FILES_MAX || self.kept_files.contains(blake3::hash(path).as_bytes())
    }

    pub(super) fn compare(&self, entry: Entry, place: Place, there: &Stat, unread: bool) -> Result<Step, String> {
        let EntryKind::File(content) = entry.kind else { return Err("it is no file".into()) };
        let shared = self.shared.clone();
        Existing::open(shared, place, entry.attributes, content.bytes, there, unread).map(Step::Compare)
    }

    /// A link, device, FIFO or socket that is what it should be.
    pub(super) fn adopt(&self, entry: &Entry, place: &Place, there: &Stat) -> Result<(), String> {
        let held = open_beneath(&place.descriptor, &place.name, OFlags::PATH);
        let held = Held::of_place(held.map_err(|error| format!("cannot look at what is there: {error}"))?);
        if !stat_open(&held).is_ok_and(|now| now.is_same_file(there)) {
            return Err("it was replaced while it was restored".into());
        }
        let wanted = &entry.attributes;
        match differ(&held, there, wanted, self.shared.owners.of(wanted).ids) {
            true if there.links > 1 => {
                return Err("it has other names too, and other attributes: remove it first".into());
            }
            true => self.shared.change_attributes(&held, &place.path, wanted),
            false => {
                self.shared.owner_of(&place.path, wanted);
                self.shared.report().unchanged += 1;
            }
        }
        self.shared.made(0);
        Ok(())
    }

    /// Puts an entry in the place of something else.
    pub(super) fn replace(&mut self, entry: Entry, place: Place, there: &Stat) -> Result<Step, String> {
        if there.is_directory() {
            self.make_room(&place)?;
            return self.make(entry, place);
        }
        if there.kind == FileType::RegularFile && is_protected(&place) {
            return Err(IMMUTABLE.into());
        }
        let unlink = || unlinkat(&place.descriptor, &*place.name, AtFlags::empty());
        match &entry.kind {
            EntryKind::Directory(_) | EntryKind::File(_) => {
                unlink().map_err(|error| format!("cannot remove what is there: {error}"))?;
                self.make(entry, place)
            }
            kind => {
                let made = temporary_name().and_then(|temporary| {
                    make_special(kind, &place, temporary.as_bytes())?;
                    rename_over(&place.descriptor, &temporary, &place.name)
                });
                made.map_err(|error| self.cannot("put it in the place of what is there", error))?;
                self.complete_special(&place, &entry.attributes)?;
                Ok(Step::Settled)
            }
        }
    }

    /// A directory is in the way of something that is none.
    pub(super) fn make_room(&mut self, place: &Place) -> Result<(), String> {
        if self.may_delete_in_the_way(&place.path) {
            self.delete(&place.name);
        }
        match unlinkat(&place.descriptor, &*place.name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(match self.options.mirror {
                None => "a directory that is not empty is in its place: remove it, or let --delete do it",
                Some(_) => {
                    "a directory is in its place, with content that the snapshot is not known to lack: remove it"
                }
            }
            .into()),
            Err(error) => Err(format!("cannot remove the directory in its place: {error}")),
        }
    }
}

/// Whether a file is immutable or append-only.
fn is_protected(place: &Place) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = open_beneath(&place.descriptor, &place.name, flags) else { return false };
    stat_open(&file).is_ok_and(|stat| flags_of(&Held::of_open(file), &stat) & UNWRITABLE_FLAGS != 0)
}
