//! A file that is being written: it has no name yet, or a temporary one.

use super::directory::Directory;
use super::shared::{Place, Shared};
use crate::metadata::EARLY_FLAGS;
use crate::walk::{Held, Shown};
use lifeboat_format::tree::Attributes;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags, ftruncate, linkat, openat2, renameat_with, unlinkat,
};
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
        let (file, temporary_name) = create(&place.descriptor).map_err(|error| format!("cannot create it: {error}"))?;
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
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode = Mode::RUSR | Mode::WUSR;
    let create = |name: &str, flags: OFlags| {
        openat2(directory, name, flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode, resolve)
    };
    match create(".", OFlags::TMPFILE) {
        Ok(file) => return Ok((file, None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|_| Errno::IO)?;
    let name = format!(".lifeboat-{:032x}", u128::from_le_bytes(random));
    let file = create(&name, OFlags::CREATE | OFlags::EXCL)?;
    Ok((file, Some(name)))
}
