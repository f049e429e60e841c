//! Links, devices, FIFOs and sockets.

use super::super::shared::Place;
use super::super::target::open_beneath;
use super::Writer;
use crate::walk::{Held, Stat};
use lifeboat_format::tree::{Attributes, Device, EntryKind};
use rustix::fs::{FileType, Mode, OFlags, makedev, mknodat, readlinkat, symlinkat};
use rustix::io::{self, Errno};
use std::os::fd::OwnedFd;

impl Writer {
    pub(super) fn complete_special(&self, place: &Place, attributes: &Attributes) -> Result<(), String> {
        let held = open_beneath(&place.descriptor, &place.name, OFlags::PATH);
        let held = Held::of_place(held.map_err(|error| format!("cannot open it: {error}"))?);
        self.shared.made(0);
        match place.inherits {
            true => self.shared.change_attributes(&held, &place.path, attributes),
            false => self.shared.set_attributes(&held, &place.path, attributes),
        }
        Ok(())
    }
}

/// Makes a link, device, FIFO or socket.
pub(super) fn make_special(kind: &EntryKind, place: &Place, name: &[u8]) -> io::Result<()> {
    let node = |file_type, device: Device| {
        let number = makedev(device.major, device.minor);
        mknodat(&place.descriptor, name, file_type, Mode::RUSR | Mode::WUSR, number)
    };
    let none = Device { major: 0, minor: 0 };
    match kind {
        EntryKind::Symlink { target } => symlinkat(&**target, &place.descriptor, name),
        EntryKind::Fifo => node(FileType::Fifo, none),
        EntryKind::Socket => node(FileType::Socket, none),
        EntryKind::CharDevice(device) => node(FileType::CharacterDevice, *device),
        EntryKind::BlockDevice(device) => node(FileType::BlockDevice, *device),
        EntryKind::Directory(_) | EntryKind::File(_) | EntryKind::HardLink { .. } => Err(Errno::INVAL),
    }
}

/// Whether a link leads where this one does, a device is that device, and so on.
pub fn is_alike(directory: &OwnedFd, name: &[u8], kind: &EntryKind, there: &Stat) -> bool {
    match (kind, there.kind) {
        (EntryKind::Symlink { target }, FileType::Symlink) => {
            readlinkat(directory, name, Vec::new()).is_ok_and(|found| found.to_bytes() == target)
        }
        (EntryKind::Fifo, FileType::Fifo) | (EntryKind::Socket, FileType::Socket) => true,
        (EntryKind::CharDevice(device), FileType::CharacterDevice)
        | (EntryKind::BlockDevice(device), FileType::BlockDevice) => there.names_device == *device,
        _ => false,
    }
}
