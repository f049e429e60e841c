//! A file that is being written: it has no name yet, or a temporary one.
//!
//! Small files have none until they are complete, so an interrupted restore leaves nothing of them. A large one is a
//! *part* meanwhile, named after its path: who restores again finds it, checks what is in it and goes on there.

use super::existing::{IMMUTABLE, Source};
use super::shared::{Flight, Place};
use super::target::{BENEATH, open_beneath};
use crate::metadata::EARLY_FLAGS;
use crate::walk::{Held, Shown, stat_at, stat_open};
use lifeboat_format::tree::Attributes;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, fallocate, fchmod, ftruncate, linkat, openat2,
    renameat, renameat_with, unlinkat,
};
use rustix::io::{self, Errno, pwrite};
use rustix::process::geteuid;
use std::fmt;
use std::os::fd::OwnedFd;

/// Zeros are written from here.
const ZEROS: &[u8] = &[0; 64 << 10];
/// Files of so many bytes are parts while they are written.
pub const PART_BYTES: u64 = 8 << 20;
/// How temporary names begin; 32 hexadecimal digits follow.
const TEMPORARY: &str = ".lifeboat-";
/// And those of parts.
const PART: &str = ".lifeboat-part-";

/// Content that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} /{}", Shown(path))]
pub struct WriteError {
    /// The file.
    pub path: Vec<u8>,
    /// What was tried.
    pub action: &'static str,
    /// What the system said.
    pub source: std::io::Error,
}

/// A file to be filled, by any thread, in any order; what is not written is a hole.
///
/// It appears under its name when [`FileSlot::finish`] has succeeded. A slot that is dropped or failed leaves nothing
/// behind and is a failure in the report; one that is put off leaves its part for the next restore.
#[derive(Debug)]
pub struct FileSlot {
    work: Option<Box<Work>>,
}

#[derive(Debug)]
struct Work {
    flight: Flight,
    file: Held,
    temporary: Option<Temporary>,
    /// Whether it takes the place of what is there.
    over: bool,
    attributes: Attributes,
    bytes: u64,
}

#[derive(Debug)]
struct Temporary {
    name: String,
    /// Whether it is a part that an earlier restore left.
    was_there: bool,
}

/// A new file, and its temporary name if it has one.
type Created = (OwnedFd, Option<Temporary>);

impl FileSlot {
    /// A file of `bytes` zeros without a name, or the part of it that an earlier restore left; `over` if it will take the
    /// place of one that is there. None if it cannot be made: the report says why.
    pub(super) fn begin(flight: Flight, attributes: Attributes, bytes: u64, over: bool) -> Option<Self> {
        let place = flight.place();
        let created = match bytes >= PART_BYTES {
            true => create_part(place),
            // A file without a name cannot be put over another one.
            false if over => create_named(&place.descriptor),
            false => create(&place.descriptor),
        };
        match created {
            Ok(created) => Self::begin_with(flight, attributes, bytes, created, over),
            Err(error) => {
                let reason = cannot_create(place, error, &flight.shared().told(error));
                flight.fail(reason);
                None
            }
        }
    }

    fn begin_with(
        flight: Flight,
        attributes: Attributes,
        bytes: u64,
        (file, temporary): Created,
        over: bool,
    ) -> Option<Self> {
        let file = Held::of_open(file);
        let work = Work { flight, file, temporary, over, attributes, bytes };
        match work.prepare() {
            Ok(()) => Some(Self { work: Some(Box::new(work)) }),
            Err(error) => {
                work.fail(format_args!("cannot give it {bytes} bytes: {error}"));
                None
            }
        }
    }

    /// What an earlier restore has written into it, if it did.
    pub fn left(&self) -> Option<Source<'_>> {
        let work = self.work.as_ref()?;
        work.temporary.as_ref().filter(|temporary| temporary.was_there).map(|_| Source(&work.file))
    }

    /// Writes verified content.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), WriteError> {
        match &self.work {
            Some(work) => work.write_at(offset, data).map_err(|error| work.error("write", error)),
            None => Ok(()),
        }
    }

    /// Writes zeros that shall take place on disk.
    pub fn write_zeros(&self, offset: u64, bytes: u64) -> Result<(), WriteError> {
        let mut written = 0;
        while written < bytes {
            let step = (bytes - written).min(ZEROS.len() as u64);
            self.write_at(offset.saturating_add(written), &ZEROS[..step as usize])?;
            written += step;
        }
        Ok(())
    }

    /// Sees to it that nothing takes place on disk there.
    pub fn leave_hole(&self, offset: u64, bytes: u64) -> Result<(), WriteError> {
        match (&self.work, self.left()) {
            (Some(work), Some(left)) if !left.is_hole(offset, bytes) => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                match fallocate(&work.file, flags, offset, bytes) {
                    Err(Errno::OPNOTSUPP) => self.write_zeros(offset, bytes),
                    done => done.map_err(|error| work.error("write", error)),
                }
            }
            _ => Ok(()),
        }
    }

    /// The content is complete: sets attributes, then gives the file its name. Losses are in the report.
    pub fn finish(mut self) -> Result<(), WriteError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match work.finish() {
            Ok(()) => {
                work.flight.shared().made(work.bytes);
                work.flight.land();
                Ok(())
            }
            Err(error) => {
                let told = work.flight.shared().told(error);
                let error = work.error("name", error);
                work.fail(format_args!("{error}: {told}"));
                Err(error)
            }
        }
    }

    /// The content cannot be had: the file is not restored, the report says why.
    pub fn fail(mut self, reason: impl fmt::Display) {
        if let Some(work) = self.work.take() {
            work.fail(reason);
        }
    }

    /// The same, because the content is damaged in the repository.
    pub fn lose(self, reason: impl fmt::Display) {
        if let Some(work) = &self.work {
            work.flight.shared().report().damaged(work.flight.path());
        }
        self.fail(reason);
    }

    /// The restore ends before the content is complete: a part stays for the next one.
    pub fn put_off(mut self, reason: impl fmt::Display) {
        if let Some(work) = self.work.take() {
            if !work.temporary.as_ref().is_some_and(|temporary| is_part(temporary.name.as_bytes())) {
                work.discard();
            }
            work.flight.fail(reason);
        }
    }
}

impl Drop for FileSlot {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            work.fail("its content was not completed");
        }
    }
}

impl Work {
    fn prepare(&self) -> io::Result<()> {
        if self.attributes.flags & EARLY_FLAGS != 0 {
            let path = self.flight.path();
            self.flight.shared().set_flags(&self.file, path, self.attributes.flags, EARLY_FLAGS);
        }
        if self.bytes > 0 { ftruncate(&self.file, self.bytes) } else { Ok(()) }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset.checked_add(data.len() as u64).is_none_or(|end| end > self.bytes) {
            return Err(Errno::FBIG);
        }
        let mut written = 0;
        while written < data.len() {
            match pwrite(&self.file, &data[written..], offset + written as u64) {
                Ok(0) => return Err(Errno::IO),
                Ok(bytes) => written += bytes,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        let (shared, path) = (self.flight.shared(), self.flight.path());
        match self.flight.place().inherits {
            true => shared.change_attributes(&self.file, path, &self.attributes),
            false => shared.set_attributes(&self.file, path, &self.attributes),
        }
        shared.set_file_flags(&self.file, path, self.attributes.flags);
        let Place { descriptor, name, .. } = self.flight.place();
        match &self.temporary {
            None => linkat(CWD, self.file.proc_path(), descriptor, &**name, AtFlags::SYMLINK_FOLLOW),
            Some(temporary) if self.over => rename_over(descriptor, &temporary.name, name),
            Some(temporary) => rename_new(descriptor, &temporary.name, name),
        }
    }

    fn fail(self, reason: impl fmt::Display) {
        self.discard();
        self.flight.fail(reason);
    }

    fn discard(&self) {
        if let Some(temporary) = &self.temporary {
            // Whatever is wrong with the file is reported; that its remains stay is not worth more words.
            let _ = unlinkat(&self.flight.place().descriptor, temporary.name.as_str(), AtFlags::empty());
        }
    }

    fn error(&self, action: &'static str, error: Errno) -> WriteError {
        WriteError { path: self.flight.path().to_vec(), action, source: error.into() }
    }
}

/// Why nothing can be created there, as well as it can be told.
fn cannot_create(place: &Place, error: Errno, told: &str) -> String {
    match error {
        Errno::PERM if super::flags::forbid_changes(&place.descriptor) => {
            IMMUTABLE.replace("what is there", "its directory")
        }
        _ => format!("cannot create it: {told}"),
    }
}

/// Gives a file its name, unless something has it.
fn rename_new(directory: &OwnedFd, temporary: &str, name: &[u8]) -> io::Result<()> {
    match renameat_with(directory, temporary, directory, name, RenameFlags::NOREPLACE) {
        // Some file systems, among them those of other systems, cannot do it in one step.
        Err(Errno::INVAL | Errno::NOSYS) => match stat_at(directory, name) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => renameat(directory, temporary, directory, name),
            Err(error) => Err(error),
        },
        result => result,
    }
}

/// Puts a file in the place of what is there, unless that is a directory.
pub(super) fn rename_over(directory: &OwnedFd, temporary: &str, name: &[u8]) -> io::Result<()> {
    renameat(directory, temporary, directory, name).inspect_err(|_| {
        // What is in the way is reported; that the temporary name stays is not worth more words.
        let _ = unlinkat(directory, temporary, AtFlags::empty());
    })
}

/// A name that nobody asked for.
pub(super) fn temporary_name() -> io::Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
    Ok(format!("{TEMPORARY}{:032x}", u128::from_le_bytes(random)))
}

/// The name of the part of the file at this path.
pub(super) fn part_name(path: &[u8]) -> String {
    format!("{PART}{}", &blake3::hash(path).to_hex()[..32])
}

/// Whether this is a name that only an interrupted restore leaves.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    let digits = name.strip_prefix(PART.as_bytes()).or_else(|| name.strip_prefix(TEMPORARY.as_bytes()));
    digits.is_some_and(|digits| digits.len() == 32 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn is_part(name: &[u8]) -> bool {
    name.starts_with(PART.as_bytes())
}

/// A file without a name, or where that is not possible with one that nobody asked for.
fn create(directory: &OwnedFd) -> io::Result<Created> {
    match create_at(directory, ".", OFlags::TMPFILE) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => create_named(directory),
        result => Ok((result?, None)),
    }
}

fn create_named(directory: &OwnedFd) -> io::Result<Created> {
    let name = temporary_name()?;
    let file = create_at(directory, &name, OFlags::CREATE | OFlags::EXCL)?;
    Ok((file, Some(Temporary { name, was_there: false })))
}

/// The part that an earlier restore left, if it is one, else a new one.
fn create_part(place: &Place) -> io::Result<Created> {
    let (directory, name) = (&place.descriptor, part_name(&place.path));
    if let Ok(file) = open_beneath(directory, name.as_bytes(), OFlags::RDWR | OFlags::NONBLOCK) {
        let stat = stat_open(&file)?;
        if stat.kind == FileType::RegularFile && stat.uid == geteuid().as_raw() && stat.links == 1 {
            fchmod(&file, Mode::RUSR | Mode::WUSR)?;
            return Ok((file, Some(Temporary { name, was_there: true })));
        }
    }
    match unlinkat(directory, name.as_str(), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    let file = create_at(directory, &name, OFlags::CREATE | OFlags::EXCL)?;
    Ok((file, Some(Temporary { name, was_there: false })))
}

fn create_at(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(directory, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)
}

#[cfg(test)]
mod tests {
    use super::super::directory::Directory;
    use super::super::owner::Owners;
    use super::super::shared::Shared;
    use super::super::target::Target;
    use super::*;
    use crate::walk::stat_open;
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::sync::Arc;

    /// A slot for `file` in a target, as on a file system without nameless files.
    fn slot(top: &Path) -> (Arc<Shared>, FileSlot) {
        let target = Target::open(top).unwrap();
        let descriptor = target.as_fd().try_clone_to_owned().unwrap();
        let stat = stat_open(&descriptor).unwrap();
        let shared = Arc::new(Shared::new(target, Owners::new(true, Vec::new(), Vec::new())));
        let directory = Arc::new(Directory::new(None, stat, descriptor));
        let descriptor = directory.descriptor().unwrap();
        let created = create_named(&descriptor).unwrap();
        let place = Place { path: b"file".to_vec(), name: b"file".to_vec(), directory, descriptor, inherits: false };
        let flight = Flight::begin(shared.clone(), place, Attributes::default().mtime);
        let slot = FileSlot::begin_with(flight, Attributes::default(), 7, created, false).unwrap();
        (shared, slot)
    }

    fn names(top: &Path) -> Vec<std::ffi::OsString> {
        std::fs::read_dir(top).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn inv_16_a_temporary_name_is_replaced_by_the_final_one() {
        let top = tempfile::tempdir().unwrap();
        let (_, slot) = slot(top.path());
        slot.write_at(0, b"content").unwrap();
        assert!(names(top.path())[0].to_str().unwrap().starts_with(".lifeboat-"));
        slot.finish().unwrap();
        assert_eq!(names(top.path()), ["file"]);
        assert_eq!(std::fs::metadata(top.path().join("file")).unwrap().len(), 7);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_no_temporary_name() {
        let top = tempfile::tempdir().unwrap();
        drop(slot(top.path()).1);
        assert!(names(top.path()).is_empty());
    }

    #[test]
    fn what_stands_under_the_name_already_is_not_replaced() {
        let top = tempfile::tempdir().unwrap();
        let (shared, slot) = slot(top.path());
        std::fs::write(top.path().join("file"), "other").unwrap();
        assert!(slot.finish().is_err());
        assert_eq!(names(top.path()), ["file"]);
        assert_eq!(std::fs::read(top.path().join("file")).unwrap(), b"other");
        let failure = shared.report().failures[0].to_string();
        assert!(failure.starts_with("/file: not restored: cannot name /file: File exists (os error 17)"), "{failure}");
    }
}
