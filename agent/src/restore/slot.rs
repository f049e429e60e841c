//! A file that is being written: it has no name yet, or a temporary one.

use super::directory::Directory;
use super::shared::{Place, Shared};
use super::target::BENEATH;
use crate::metadata::EARLY_FLAGS;
use crate::walk::{Held, Shown};
use lifeboat_format::tree::Attributes;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ftruncate, linkat, openat2, renameat_with, unlinkat};
use rustix::io::{self, Errno, pwrite};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Zeros are written from here.
const ZEROS: &[u8] = &[0; 64 << 10];

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
/// behind and is a failure in the report.
#[derive(Debug)]
pub struct FileSlot {
    work: Option<Box<Work>>,
}

#[derive(Debug)]
struct Work {
    shared: Arc<Shared>,
    place: Place,
    file: Held,
    temporary_name: Option<String>,
    attributes: Attributes,
    bytes: u64,
}

impl FileSlot {
    /// A file of `bytes` zeros without a name.
    pub(super) fn begin(shared: Arc<Shared>, place: Place, attributes: Attributes, bytes: u64) -> Result<Self, String> {
        let created = create(&place.descriptor).map_err(|error| format!("cannot create it: {error}"))?;
        Self::begin_with(shared, place, attributes, bytes, created)
    }

    fn begin_with(
        shared: Arc<Shared>,
        place: Place,
        attributes: Attributes,
        bytes: u64,
        (file, temporary_name): (OwnedFd, Option<String>),
    ) -> Result<Self, String> {
        let file = Held::of_open(file);
        let work = Work { shared, place, file, temporary_name, attributes, bytes };
        if let Err(error) = work.prepare() {
            work.discard();
            return Err(format!("cannot give it {bytes} bytes: {error}"));
        }
        work.place.directory.hold();
        work.shared.take_off(&work.place.path);
        Ok(Self { work: Some(Box::new(work)) })
    }

    /// Its path in the tree.
    pub fn path(&self) -> &[u8] {
        self.work.as_ref().map_or(b"", |work| &work.place.path)
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

    /// The content is complete: sets attributes, then gives the file its name. Losses are in the report.
    pub fn finish(mut self) -> Result<(), WriteError> {
        let Some(work) = self.work.take() else { return Ok(()) };
        match work.finish() {
            Ok(()) => {
                work.shared.made(work.bytes);
                work.land(Ok(()));
                Ok(())
            }
            Err(error) => {
                let error = work.error("name", error);
                work.fail(format_args!("{error}: {}", error.source));
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
            self.shared.set_flags(&self.file, &self.place.path, self.attributes.flags, EARLY_FLAGS);
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
        self.shared.set_attributes(&self.file, &self.place.path, &self.attributes);
        self.shared.set_file_flags(&self.file, &self.place.path, self.attributes.flags);
        let Place { descriptor, name, .. } = &self.place;
        match &self.temporary_name {
            None => linkat(CWD, self.file.proc_path(), descriptor, &**name, AtFlags::SYMLINK_FOLLOW),
            Some(temporary) => {
                renameat_with(descriptor, temporary.as_str(), descriptor, &**name, RenameFlags::NOREPLACE)
            }
        }
    }

    fn fail(&self, reason: impl fmt::Display) {
        self.discard();
        self.shared.fail(&self.place.path, &reason);
        self.land(Err(&reason.to_string()));
    }

    fn discard(&self) {
        if let Some(temporary) = &self.temporary_name {
            // Whatever is wrong with the file is reported; that its remains stay is not worth more words.
            let _ = unlinkat(&self.place.descriptor, temporary.as_str(), AtFlags::empty());
        }
    }

    fn land(&self, outcome: Result<(), &str>) {
        self.shared.land(&self.place.path, outcome.map(|()| &self.place));
        let directory: &Directory = &self.place.directory;
        directory.release(&self.shared);
    }

    fn error(&self, action: &'static str, error: Errno) -> WriteError {
        WriteError { path: self.place.path.clone(), action, source: error.into() }
    }
}

/// A file without a name, or where that is not possible with one that nobody asked for.
fn create(directory: &OwnedFd) -> io::Result<(OwnedFd, Option<String>)> {
    match create_at(directory, ".", OFlags::TMPFILE) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => create_named(directory),
        result => Ok((result?, None)),
    }
}

fn create_named(directory: &OwnedFd) -> io::Result<(OwnedFd, Option<String>)> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
    let name = format!(".lifeboat-{:032x}", u128::from_le_bytes(random));
    Ok((create_at(directory, &name, OFlags::CREATE | OFlags::EXCL)?, Some(name)))
}

fn create_at(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(directory, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)
}

#[cfg(test)]
mod tests {
    use super::super::owner::Owners;
    use super::super::target::Target;
    use super::*;
    use crate::walk::stat_open;
    use std::os::fd::AsFd;
    use std::path::Path;

    /// A slot for `file` in a target, as on a file system without nameless files.
    fn slot(top: &Path) -> (Arc<Shared>, FileSlot) {
        let target = Target::open(top).unwrap();
        let descriptor = target.as_fd().try_clone_to_owned().unwrap();
        let stat = stat_open(&descriptor).unwrap();
        let shared = Arc::new(Shared::new(target, Owners::new(true)));
        let directory = Arc::new(Directory::new(None, stat, descriptor));
        let descriptor = directory.descriptor().unwrap();
        let created = create_named(&descriptor).unwrap();
        let place = Place { path: b"file".to_vec(), name: b"file".to_vec(), directory, descriptor };
        let slot = FileSlot::begin_with(shared.clone(), place, Attributes::default(), 7, created).unwrap();
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
        assert_eq!(
            shared.report().failures[0].to_string(),
            "/file: not restored: cannot name /file: File exists (os error 17)"
        );
    }
}
