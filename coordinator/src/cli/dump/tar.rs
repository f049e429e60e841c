//! tar, in pax format: IEEE Std 1003.1 `pax`, with the records that GNU tar, star and libarchive have agreed on for
//! extended attributes (`SCHILY.xattr.`), ACLs (`SCHILY.acl.`), inode flags (`SCHILY.fflags`) and holes (GNU sparse
//! format 1.0, <https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html>). Names are bytes as they are,
//! as GNU tar writes them.

use super::acl;
use super::content::{Content, Stop, write_zeros};
use super::walk::Archive;
use lifeboat_agent::restore::content::Piece;
use lifeboat_agent::restore::fetch::FetchError;
use lifeboat_agent::restore::{Attribute, Report};
use lifeboat_format::tree::{Attributes, Device, Entry, EntryKind, Extent, Time};
use std::io::{self, Write};
use tar::{Builder, EntryType, Header};

/// tar counts in blocks.
const BLOCK: u64 = 512;
/// What a name may be in a header; longer ones are in a pax record.
const NAME_BYTES_MAX: usize = 100;
/// The same for the names of owners, with a zero behind them.
const OWNER_BYTES_MAX: usize = 31;
/// The greatest number of a device that fits.
const DEVICE_MAX: u32 = 0o7_777_777;

/// A tar that is being written.
pub struct Tar<W: Write>(Builder<W>);

type Records = Vec<(String, Vec<u8>)>;

impl<W: Write> Tar<W> {
    /// An empty one.
    pub fn new(out: W) -> Self {
        Self(Builder::new(out))
    }

    /// Writes its end.
    pub fn finish(self) -> io::Result<()> {
        self.0.into_inner()?.flush()
    }
}

impl<W: Write> Archive for Tar<W> {
    const HAS_HARD_LINKS: bool = true;

    fn add(&mut self, entry: &Entry, content: Option<&Content<'_>>, report: &mut Report) -> Result<bool, Stop> {
        let mut header = Header::new_ustar();
        let mut records = Records::new();
        set_attributes(&mut header, &mut records, entry, report);
        let layout = content.map(layout).transpose()?;
        match &entry.kind {
            EntryKind::Socket => {
                report.fail(&entry.path, "tar carries no sockets; the program that listens makes it anew");
                return Ok(false);
            }
            EntryKind::Directory(_) => header.set_entry_type(EntryType::Directory),
            EntryKind::File(_) => header.set_entry_type(EntryType::Regular),
            EntryKind::Fifo => header.set_entry_type(EntryType::Fifo),
            EntryKind::CharDevice(device) => set_device(&mut header, &mut records, EntryType::Char, device)?,
            EntryKind::BlockDevice(device) => set_device(&mut header, &mut records, EntryType::Block, device)?,
            EntryKind::Symlink { target } => {
                header.set_entry_type(EntryType::Symlink);
                set_link(&mut header, &mut records, target);
            }
            EntryKind::HardLink { to } => {
                header.set_entry_type(EntryType::Link);
                set_link(&mut header, &mut records, to);
            }
        }
        match &layout {
            Some(layout) if layout.is_sparse => {
                let realsize = content.map_or(0, Content::bytes);
                for (key, value) in [("major", 1), ("minor", 0), ("realsize", realsize)] {
                    records.push((format!("GNU.sparse.{key}"), value.to_string().into_bytes()));
                }
                records.push(("GNU.sparse.name".to_owned(), entry.path.clone()));
                set_name(&mut header, &mut records, &[b"GNUSparseFile.0/", &entry.path[..]].concat());
                header.set_size(layout.map_blocks_bytes().saturating_add(layout.data_bytes));
            }
            layout => {
                let slash: &[u8] = if matches!(entry.kind, EntryKind::Directory(_)) { b"/" } else { b"" };
                let name: &[u8] = if entry.path.is_empty() { b"." } else { &entry.path };
                set_name(&mut header, &mut records, &[name, slash].concat());
                header.set_size(layout.as_ref().map_or(0, |layout| layout.data_bytes));
            }
        }
        self.write(&mut header, records)?;
        if let (Some(content), Some(layout)) = (content, layout) {
            let damage = self.write_content(content, &layout)?;
            if let Some(damage) = damage {
                report.damaged(&entry.path);
                report.fail(&entry.path, format_args!("from the damage on it is zeros in the archive: {damage}"));
                return Ok(true);
            }
            report.bytes = report.bytes.saturating_add(content.bytes());
        }
        report.entries += 1;
        Ok(true)
    }
}

impl<W: Write> Tar<W> {
    fn write(&mut self, header: &mut Header, records: Records) -> io::Result<()> {
        if !records.is_empty() {
            self.0.append_pax_extensions(records.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
        }
        header.set_cksum();
        self.0.get_mut().write_all(header.as_bytes())
    }

    fn write_content(&mut self, content: &Content<'_>, layout: &Layout) -> Result<Option<FetchError>, Stop> {
        let out = self.0.get_mut();
        if layout.is_sparse {
            writeln!(out, "{}", layout.segments)?;
            segments(content, |start, end| Ok(write!(out, "{start}\n{}\n", end - start)?))?;
            write_zeros(out, layout.map_blocks_bytes() - layout.map_bytes)?;
        }
        let file_bytes = content.bytes();
        let damage = content.read(|offset, piece| match piece {
            Piece::Data(bytes) => out.write_all(bytes),
            Piece::Zeros(bytes) => write_zeros(out, bytes),
            Piece::Hole(bytes) => match left_out(offset, bytes, file_bytes) {
                Some((start, end)) => write_zeros(out, bytes - (end - start)),
                None => write_zeros(out, bytes),
            },
        })?;
        write_zeros(out, layout.data_bytes.next_multiple_of(BLOCK) - layout.data_bytes)?;
        Ok(damage)
    }
}

/// How much of a file goes into the archive, and how long the list of its segments is.
struct Layout {
    is_sparse: bool,
    segments: u64,
    map_bytes: u64,
    data_bytes: u64,
}

impl Layout {
    fn map_blocks_bytes(&self) -> u64 {
        self.map_bytes.next_multiple_of(BLOCK)
    }
}

fn layout(content: &Content<'_>) -> Result<Layout, Stop> {
    let mut layout = Layout { is_sparse: false, segments: 0, map_bytes: 0, data_bytes: 0 };
    segments(content, |start, end| {
        layout.segments += 1;
        layout.data_bytes = layout.data_bytes.saturating_add(end - start);
        layout.map_bytes += (start.to_string().len() + (end - start).to_string().len() + 2) as u64;
        Ok(())
    })?;
    layout.is_sparse = layout.data_bytes < content.bytes();
    layout.map_bytes += layout.segments.to_string().len() as u64 + 1;
    Ok(layout)
}

/// Names the segments of a file that are no holes, and its end if it ends with a hole. Nothing is kept in memory.
fn segments(content: &Content<'_>, mut take: impl FnMut(u64, u64) -> Result<(), Stop>) -> Result<(), Stop> {
    let file_bytes = content.bytes();
    let mut start = 0;
    for extent in content.extents()? {
        let (offset, extent) = extent?;
        if let Extent::Hole { bytes } = extent
            && let Some((hole, end)) = left_out(offset, bytes, file_bytes)
        {
            if hole > start {
                take(start, hole)?;
            }
            start = end;
            if end == file_bytes {
                take(end, end)?;
            }
        }
    }
    if start < file_bytes { take(start, file_bytes) } else { Ok(()) }
}

/// What is left out of a hole: whole blocks, as some readers expect each segment to begin on one.
fn left_out(offset: u64, bytes: u64, file_bytes: u64) -> Option<(u64, u64)> {
    let end = offset + bytes;
    let start = offset.next_multiple_of(BLOCK);
    let end = if end == file_bytes { end } else { end / BLOCK * BLOCK };
    (start < end).then_some((start, end))
}

fn set_attributes(header: &mut Header, records: &mut Records, entry: &Entry, report: &mut Report) {
    let Attributes { mode, uid, gid, owner, group, mtime, xattrs, flags, .. } = &entry.attributes;
    header.set_mode(u32::from(*mode));
    header.set_uid(u64::from(*uid));
    header.set_gid(u64::from(*gid));
    let mut name = |name: &[u8], key: &str, set: &mut dyn FnMut(&str)| match std::str::from_utf8(name) {
        Ok(name) if name.is_ascii() && name.len() <= OWNER_BYTES_MAX => set(name),
        _ => records.push((key.to_owned(), name.to_vec())),
    };
    // It fits, as was just seen.
    name(owner, "uname", &mut |name| drop(header.set_username(name)));
    name(group, "gname", &mut |name| drop(header.set_groupname(name)));
    header.set_mtime(u64::try_from(mtime.seconds).unwrap_or(0));
    if mtime.nanos > 0 || mtime.seconds < 0 {
        records.push(("mtime".to_owned(), decimal(mtime).into_bytes()));
    }
    for xattr in xattrs {
        match acl::text(xattr) {
            Some((key, text)) => records.push((format!("SCHILY.acl.{key}"), text.into_bytes())),
            None => match std::str::from_utf8(&xattr.name) {
                Ok(name) => {
                    let name = name.replace('%', "%25").replace('=', "%3D");
                    records.push((format!("SCHILY.xattr.{name}"), xattr.value.clone()));
                }
                Err(_) => {
                    let attribute = Attribute::Xattr(xattr.name.clone());
                    report.lose(&entry.path, attribute, "tar cannot carry a name that is no UTF-8");
                }
            },
        }
    }
    let (names, unnamed) = acl::flag_names(*flags);
    if !names.is_empty() {
        records.push(("SCHILY.fflags".to_owned(), names.into_bytes()));
    }
    if unnamed != 0 {
        report.lose(&entry.path, Attribute::Flags(unnamed), "tar has no name for them");
    }
}

/// Seconds with a fraction; nanoseconds count forth, also before 1970.
fn decimal(time: &Time) -> String {
    let total = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    format!("{sign}{}.{:09}", total / 1_000_000_000, total % 1_000_000_000)
}

fn set_name(header: &mut Header, records: &mut Records, name: &[u8]) {
    let short = &name[..name.len().min(NAME_BYTES_MAX)];
    header.as_old_mut().name[..short.len()].copy_from_slice(short);
    if name.len() > NAME_BYTES_MAX || !name.is_ascii() {
        records.push(("path".to_owned(), name.to_vec()));
    }
}

fn set_link(header: &mut Header, records: &mut Records, target: &[u8]) {
    let short = &target[..target.len().min(NAME_BYTES_MAX)];
    header.as_old_mut().linkname[..short.len()].copy_from_slice(short);
    if target.len() > NAME_BYTES_MAX || !target.is_ascii() {
        records.push(("linkpath".to_owned(), target.to_vec()));
    }
}

fn set_device(header: &mut Header, records: &mut Records, kind: EntryType, device: &Device) -> io::Result<()> {
    header.set_entry_type(kind);
    header.set_device_major(device.major.min(DEVICE_MAX))?;
    header.set_device_minor(device.minor.min(DEVICE_MAX))?;
    for (key, number) in [("SCHILY.devmajor", device.major), ("SCHILY.devminor", device.minor)] {
        if number > DEVICE_MAX {
            records.push((key.to_owned(), number.to_string().into_bytes()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_with_its_fraction_also_before_1970() {
        assert_eq!(decimal(&Time { seconds: 5, nanos: 7 }), "5.000000007");
        assert_eq!(decimal(&Time { seconds: -1, nanos: 250_000_000 }), "-0.750000000");
        assert_eq!(decimal(&Time { seconds: -2, nanos: 0 }), "-2.000000000");
    }

    #[test]
    fn of_a_hole_whole_blocks_are_left_out_and_at_the_end_of_the_file_all() {
        assert_eq!(left_out(0, 4096, 8192), Some((0, 4096)));
        assert_eq!(left_out(1, 4096, 8192), Some((512, 4096)));
        assert_eq!(left_out(100, 500, 8192), None);
        assert_eq!(left_out(100, 1000, 1100), Some((512, 1100)));
    }
}
