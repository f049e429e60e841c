//! The calls that change a local repository: as few as there are, so that a test can see each one, and what a power cut
//! between any two of them leaves.
//!
//! Reading needs no such door. In which order they are made, and what is durable when, is for [`super::local`].

use super::Put;
use rustix::fs::{CWD, FallocateFlags, RenameFlags};
use rustix::io::Errno;
use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// A disk, or what a test puts in its place.
pub trait Disk: Debug + Send + Sync {
    /// Makes a file that is not there yet.
    fn create(&self, path: &Path) -> io::Result<File>;
    /// Writes some of these bytes to the end of a file that was made here; answers how many.
    fn write(&self, path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<usize>;
    /// Makes what was written to a file durable, but not its name.
    fn sync_file(&self, path: &Path, file: &File) -> io::Result<()>;
    /// Gives a file another name if nothing has it. One step, also for whoever looks on: the name appears with the whole
    /// file, or it is taken.
    fn rename_if_absent(&self, from: &Path, to: &Path) -> io::Result<Put>;
    /// Gives a file another name in place of whatever file has it. One step, also for whoever looks on.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Whether making something durable takes time, so that several calls are better made at once.
    fn is_slow(&self) -> bool {
        true
    }
    /// Makes a directory that is not there yet.
    fn make_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes all that is on the file system of this directory durable, whoever wrote it.
    fn sync_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a file that holds nothing and takes so much room; all of it, or there is no such file. Where the file system
    /// cannot, it takes none.
    fn take_room(&self, path: &Path, bytes: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug)]
pub struct LocalDisk;

impl Disk for LocalDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        File::create_new(path)
    }

    fn write(&self, _path: &Path, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn sync_file(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename_if_absent(&self, from: &Path, to: &Path) -> io::Result<Put> {
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(Put::Done),
            Err(Errno::EXIST) => Ok(Put::Taken),
            // The file system does not know how: a second link does the same there.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::hard_link(from, to) {
                Ok(()) => Ok(Put::Done),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Put::Taken),
                Err(error) => Err(error),
            },
            Err(error) => Err(error.into()),
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn take_room(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        // Its size stays 0: whoever copies the repository copies nothing.
        match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            Err(error) => {
                fs::remove_file(path)?;
                Err(error.into())
            }
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
