//! zip (PKWARE's APPNOTE 6.3.10), with the extra fields of Info-ZIP for times and numbers of owners, and Zip64 where it
//! is needed.
//!
//! The central directory, which stands at the end and names every file, is collected in a temporary file, so memory
//! does not grow with the number of files.

use super::content::{Content, Stop, write_zeros};
use super::walk::Archive;
use crate::cli::output::zone;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use jiff::Timestamp;
use lifeboat_agent::restore::content::Piece;
use lifeboat_agent::restore::fetch::FetchError;
use lifeboat_agent::restore::{Attribute, Report};
use lifeboat_format::tree::{Attributes, Entry, EntryKind};
use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

/// Sizes and places from here on stand in a Zip64 field.
const ZIP64: u64 = 0xffff_ffff;
/// Files from here on get one: compressed, a file may be a little longer.
const LARGE_BYTES: u64 = 0xf000_0000;
/// The version that can read it: 4.5, because of Zip64.
const VERSION: u16 = 45;
/// Made under Unix: attributes are a mode.
const MADE_BY: u16 = 3 << 8 | VERSION;
/// Sizes and checksum stand behind the content.
const SIZES_BEHIND: u16 = 1 << 3;
/// The name is UTF-8.
const UTF8: u16 = 1 << 11;
/// As it is, or deflated.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// A zip that is being written.
pub struct Zip<W: Write> {
    out: Counting<W>,
    central: BufWriter<File>,
    files: u64,
}

/// What stands in the local header and in the central directory alike.
struct Member {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    time: [u8; 4],
    extra: Vec<u8>,
    unix_mode: u32,
    place: u64,
    is_large: bool,
}

/// What is known when the content was written.
#[derive(Default)]
struct Sizes {
    crc: u32,
    compressed: u64,
    bytes: u64,
}

impl<W: Write> Zip<W> {
    /// An empty one.
    pub fn new(out: W) -> io::Result<Self> {
        let central = BufWriter::new(tempfile::tempfile()?);
        Ok(Self { out: Counting { out, written: 0 }, central, files: 0 })
    }

    /// Writes the central directory and the end.
    pub fn finish(mut self) -> io::Result<()> {
        let mut central = self.central.into_inner().map_err(io::IntoInnerError::into_error)?;
        central.rewind()?;
        let start = self.out.written;
        let bytes = io::copy(&mut central, &mut self.out)?;
        let end = self.out.written;
        // The end of a Zip64 archive, where it is, and the end that all readers look for.
        let out = &mut self.out;
        out.write_all(b"PK\x06\x06")?;
        out.write_all(&44u64.to_le_bytes())?;
        out.write_all(&[MADE_BY.to_le_bytes(), VERSION.to_le_bytes()].concat())?;
        out.write_all(&[0; 8])?;
        [self.files, self.files, bytes, start].iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        out.write_all(b"PK\x06\x07\0\0\0\0")?;
        out.write_all(&end.to_le_bytes())?;
        out.write_all(&1u32.to_le_bytes())?;
        let files = u16::try_from(self.files).unwrap_or(u16::MAX).to_le_bytes();
        out.write_all(b"PK\x05\x06\0\0\0\0")?;
        out.write_all(&[files, files].concat())?;
        out.write_all(&[small(bytes), small(start)].concat())?;
        out.write_all(&[0; 2])?;
        out.flush()
    }

    fn begin(&mut self, member: &Member, sizes: &Sizes) -> io::Result<()> {
        let Member { name, flags, method, time, extra, is_large, .. } = member;
        let zip64 = if *is_large { field(1, &[0; 16]) } else { Vec::new() };
        let size = |bytes: u64| if *is_large { [0xff; 4] } else { small(bytes) };
        let out = &mut self.out;
        out.write_all(b"PK\x03\x04")?;
        out.write_all(&[VERSION, *flags, *method].map(u16::to_le_bytes).concat())?;
        out.write_all(time)?;
        out.write_all(&sizes.crc.to_le_bytes())?;
        out.write_all(&[size(sizes.compressed), size(sizes.bytes)].concat())?;
        out.write_all(&[length(name), length(extra) + length(&zip64)].map(u16::to_le_bytes).concat())?;
        [name, extra, &zip64].into_iter().try_for_each(|part| out.write_all(part))
    }

    /// Puts a member into the central directory.
    fn list(&mut self, member: &Member, sizes: &Sizes) -> io::Result<()> {
        let Member { name, flags, method, time, extra, unix_mode, place, .. } = member;
        let large: Vec<u8> = [sizes.bytes, sizes.compressed, *place]
            .into_iter()
            .filter(|number| *number >= ZIP64)
            .flat_map(u64::to_le_bytes)
            .collect();
        let zip64 = if large.is_empty() { Vec::new() } else { field(1, &large) };
        let out = &mut self.central;
        out.write_all(b"PK\x01\x02")?;
        out.write_all(&[MADE_BY, VERSION, *flags, *method].map(u16::to_le_bytes).concat())?;
        out.write_all(time)?;
        out.write_all(&sizes.crc.to_le_bytes())?;
        out.write_all(&[small(sizes.compressed), small(sizes.bytes)].concat())?;
        out.write_all(&[length(name), length(extra) + length(&zip64), 0, 0, 0].map(u16::to_le_bytes).concat())?;
        let dos_directory = if unix_mode >> 12 == 0o4 { 0x10 } else { 0 };
        out.write_all(&(unix_mode << 16 | dos_directory).to_le_bytes())?;
        out.write_all(&small(*place))?;
        [name, extra, &zip64].into_iter().try_for_each(|part| out.write_all(part))?;
        self.files += 1;
        Ok(())
    }

    fn add_stored(&mut self, mut member: Member, content: &[u8]) -> io::Result<()> {
        let mut crc = Crc::new();
        crc.update(content);
        let bytes = content.len() as u64;
        let sizes = Sizes { crc: crc.sum(), compressed: bytes, bytes };
        member.place = self.out.written;
        self.begin(&member, &sizes)?;
        self.out.write_all(content)?;
        self.list(&member, &sizes)
    }

    fn add_deflated(&mut self, mut member: Member, content: &Content<'_>) -> Result<Option<FetchError>, Stop> {
        member.place = self.out.written;
        self.begin(&member, &Sizes::default())?;
        let (start, mut crc) = (self.out.written, Crc::new());
        let mut deflated = DeflateEncoder::new(&mut self.out, Compression::default());
        let mut summed = |bytes: &[u8]| {
            crc.update(bytes);
            deflated.write_all(bytes)
        };
        let damage = content.read(|_, piece| match piece {
            Piece::Data(bytes) => summed(bytes),
            Piece::Zeros(bytes) | Piece::Hole(bytes) => write_zeros(&mut Called(&mut summed), bytes),
        })?;
        deflated.finish()?;
        let sizes = Sizes { crc: crc.sum(), compressed: self.out.written - start, bytes: content.bytes() };
        self.out.write_all(b"PK\x07\x08")?;
        self.out.write_all(&sizes.crc.to_le_bytes())?;
        for size in [sizes.compressed, sizes.bytes] {
            match member.is_large {
                true => self.out.write_all(&size.to_le_bytes())?,
                false => self.out.write_all(&small(size))?,
            }
        }
        self.list(&member, &sizes)?;
        Ok(damage)
    }
}

impl<W: Write> Archive for Zip<W> {
    const HAS_HARD_LINKS: bool = false;

    fn add(&mut self, entry: &Entry, content: Option<&Content<'_>>, report: &mut Report) -> Result<bool, Stop> {
        if entry.path.is_empty() {
            return Ok(true); // A zip has no name for the directory that it becomes.
        }
        if entry.path.len() >= usize::from(u16::MAX) {
            report.fail(&entry.path, "its path is longer than a zip can hold");
            return Ok(false);
        }
        match &entry.kind {
            EntryKind::Directory(_) => self.add_stored(member(entry, 0o4, STORED, 0), b"")?,
            EntryKind::Symlink { target } => self.add_stored(member(entry, 0o12, STORED, 0), target)?,
            EntryKind::File(file) if file.bytes == 0 => self.add_stored(member(entry, 0o10, STORED, 0), b"")?,
            EntryKind::File(file) => {
                let Some(content) = content else { return Ok(false) };
                let damage = self.add_deflated(member(entry, 0o10, DEFLATED, file.bytes), content)?;
                if let Some(damage) = damage {
                    report.damaged(&entry.path);
                    report.fail(&entry.path, format_args!("from the damage on it is zeros in the archive: {damage}"));
                    return Ok(true);
                }
                report.bytes = report.bytes.saturating_add(file.bytes);
            }
            kind => {
                let what = match kind {
                    EntryKind::Fifo => "named pipes",
                    EntryKind::Socket => "sockets",
                    EntryKind::HardLink { .. } => "hard links",
                    _ => "devices",
                };
                report.fail(&entry.path, format_args!("a zip carries no {what}"));
                return Ok(false);
            }
        }
        report.entries += 1;
        for xattr in &entry.attributes.xattrs {
            report.lose(&entry.path, Attribute::Xattr(xattr.name.clone()), "a zip carries none");
        }
        if entry.attributes.flags != 0 {
            report.lose(&entry.path, Attribute::Flags(entry.attributes.flags), "a zip carries none");
        }
        if i32::try_from(entry.attributes.mtime.seconds).is_err() {
            report.lose(&entry.path, Attribute::ModificationTime, "a zip ends in 2038, or begins in 1901");
        }
        Ok(true)
    }
}

fn member(entry: &Entry, kind: u32, method: u16, bytes: u64) -> Member {
    let Attributes { mode, uid, gid, mtime, .. } = &entry.attributes;
    let slash: &[u8] = if kind == 0o4 { b"/" } else { b"" };
    let name = [&entry.path[..], slash].concat();
    let seconds = i32::try_from(mtime.seconds).unwrap_or(if mtime.seconds < 0 { i32::MIN } else { i32::MAX });
    let times = [&[1][..], &seconds.to_le_bytes()].concat();
    let owner = [&[1, 4][..], &uid.to_le_bytes(), &[4], &gid.to_le_bytes()].concat();
    let sizes_behind = if method == DEFLATED { SIZES_BEHIND } else { 0 };
    let utf8 = if std::str::from_utf8(&name).is_ok() { UTF8 } else { 0 };
    Member {
        flags: sizes_behind | utf8,
        name,
        method,
        time: dos_time(mtime.seconds),
        // "UT", the time in UTC, and "ux", the numbers of owner and group.
        extra: [field(0x5455, &times), field(0x7875, &owner)].concat(),
        unix_mode: kind << 12 | u32::from(*mode),
        place: 0,
        is_large: bytes >= LARGE_BYTES,
    }
}

/// Time and date as MS-DOS has them: local, from 1980, every second second.
fn dos_time(seconds: i64) -> [u8; 4] {
    let time = Timestamp::from_second(seconds).unwrap_or_default().to_zoned(zone()).datetime();
    let (date, clock) = match time.year() {
        ..1980 => (1 << 5 | 1, 0),
        2108.. => (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29),
        year => (
            (year as u16 - 1980) << 9 | (time.month() as u16) << 5 | time.day() as u16,
            (time.hour() as u16) << 11 | (time.minute() as u16) << 5 | (time.second() as u16 / 2),
        ),
    };
    let ([low, high], [day, month]) = (clock.to_le_bytes(), u16::to_le_bytes(date));
    [low, high, day, month]
}

/// An extra field.
fn field(id: u16, data: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], &length(data).to_le_bytes(), data].concat()
}

/// What is longer was refused, or is never made.
fn length(bytes: &[u8]) -> u16 {
    bytes.len().min(usize::from(u16::MAX)) as u16
}

/// A size or place, or the sign that it stands in a Zip64 field.
fn small(number: u64) -> [u8; 4] {
    (number.min(ZIP64) as u32).to_le_bytes()
}

/// Counts what goes through.
struct Counting<W> {
    out: W,
    written: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Gives what is written to a function.
struct Called<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<()>> Write for Called<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_four_gibibytes_stand_in_a_field_of_their_own() {
        let mut zip = Zip::new(Vec::new()).unwrap();
        let entry = Entry { path: b"a".to_vec(), kind: EntryKind::Fifo, attributes: Attributes::default() };
        let member = Member { place: 5 << 32, ..member(&entry, 0o10, DEFLATED, 6 << 32) };
        zip.begin(&member, &Sizes::default()).unwrap();
        assert_eq!(zip.out.out[18..26], [0xff; 8], "sizes in the local header");
        zip.list(&member, &Sizes { crc: 7, compressed: 9, bytes: 6 << 32 }).unwrap();
        let central = zip.central.buffer();
        let field = field(1, &[(6u64 << 32).to_le_bytes(), (5u64 << 32).to_le_bytes()].concat());
        assert!(central.ends_with(&field), "{central:x?}");
        assert_eq!(central[20..24], 9u32.to_le_bytes(), "the compressed size fits");
    }

    #[test]
    fn a_time_before_1980_is_the_first_that_a_zip_has() {
        assert_eq!(dos_time(-5), [0, 0, 0x21, 0]);
        assert_eq!(dos_time(i64::from(u32::MAX) * 9)[2..], [0x9f, 0xff]);
    }
}
