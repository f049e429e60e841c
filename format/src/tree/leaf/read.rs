//! Columns into entries: the mirror of `write`.
//!
//! Nothing here is trusted to be in order: what was read is checked as a whole afterwards (`Leaf::check`). Only what
//! could make this file allocate more than it was given is checked at once.

use super::super::columns::{Columns, unzigzag, varint_u32};
use super::super::entry::{Attributes, Body, Device, Entry, EntryKind, Extent, FileContent, Time, Xattr};
use super::super::extents;
use super::super::table::TableReader;
use super::super::{EXTENTS_INLINE_MAX, LABEL_BYTES_MAX, PATH_BYTES_MAX, SYMLINK_BYTES_MAX, XATTRS_BYTES_MAX};
use super::*;

/// Reads all entries of a leaf, and whether any of them has a further field.
pub(super) fn entries(table: &mut TableReader, decoder: &mut Decoder<'_>) -> Result<(Vec<Entry>, bool), FormatError> {
    let count = decoder.bounded("entries", NODE_ENTRIES_MAX as u64)?;
    let mut reader =
        Reader { columns: Columns::read(decoder)?, table, before: Before::default(), has_further_fields: false };
    let mut entries = Vec::new();
    let mut metadata_bytes = 0;
    for _ in 0..count {
        let entry = reader.entry()?;
        metadata_bytes += entry.metadata_bytes();
        entries.push(entry);
        check_metadata_bytes(entries.len(), metadata_bytes)?;
    }
    let has_further_fields = reader.has_further_fields;
    reader.columns.end()?;
    Ok((entries, has_further_fields))
}

struct Reader<'a, 'b> {
    columns: Columns<Decoder<'a>>,
    table: &'b mut TableReader,
    before: Before,
    has_further_fields: bool,
}

impl Reader<'_, '_> {
    fn entry(&mut self) -> Result<Entry, FormatError> {
        let tag = self.columns.tags.u8("tag")?;
        let before = std::mem::take(&mut self.before.path);
        let path = self.front_coded(&before)?;
        let kind = self.kind(&path, tag & KIND)?;
        let attributes = match tag & !HAS_FURTHER_FIELD {
            HARD_LINK => Attributes::default(),
            tag => self.attributes(tag)?,
        };
        if tag & HAS_FURTHER_FIELD != 0 {
            self.text(FURTHER_FIELD_BYTES_MAX)?;
            self.has_further_fields = true;
        }
        self.before.path.clone_from(&path);
        Ok(Entry { path, kind, attributes })
    }

    fn front_coded(&mut self, before: &[u8]) -> Result<Vec<u8>, FormatError> {
        let shared = self.columns.lengths.bounded("shared prefix", before.len() as u64)?;
        let rest = self.text(PATH_BYTES_MAX)?;
        Ok([&before[..shared as usize], &rest].concat())
    }

    fn text(&mut self, bytes_max: usize) -> Result<Vec<u8>, FormatError> {
        let bytes = self.columns.lengths.bounded("length", bytes_max as u64)?;
        Ok(self.columns.texts.raw("text", bytes as usize)?.to_vec())
    }

    fn kind(&mut self, path: &[u8], kind: u8) -> Result<EntryKind, FormatError> {
        Ok(match kind {
            DIRECTORY => EntryKind::Directory(Completeness::COMPLETE),
            INCOMPLETE_DIRECTORY => EntryKind::Directory(self.completeness()?),
            EMPTY | BUNDLED | EXTENTS | LIST => EntryKind::File(self.content(kind)?),
            SYMLINK => EntryKind::Symlink { target: self.text(SYMLINK_BYTES_MAX)? },
            FIFO => EntryKind::Fifo,
            SOCKET => EntryKind::Socket,
            CHAR_DEVICE => EntryKind::CharDevice(self.device()?),
            BLOCK_DEVICE => EntryKind::BlockDevice(self.device()?),
            HARD_LINK => EntryKind::HardLink { to: self.front_coded(path)? },
            unknown => return Err(FormatError::field(WHAT, "kind", unknown, "0 to 11")),
        })
    }

    fn completeness(&mut self) -> Result<Completeness, FormatError> {
        match self.columns.contents.bounded("completeness", u8::MAX.into())? as u8 {
            0 => Err(FormatError::field(WHAT, "completeness", 0, "at least one reason")),
            bits => Ok(Completeness::from_bits(bits)),
        }
    }

    fn device(&mut self) -> Result<Device, FormatError> {
        let major = varint_u32(&mut self.columns.contents, "device")?;
        Ok(Device { major, minor: varint_u32(&mut self.columns.contents, "device")? })
    }

    fn content(&mut self, kind: u8) -> Result<FileContent, FormatError> {
        let decoder = &mut self.columns.contents;
        match kind {
            EMPTY => Ok(FileContent { bytes: 0, body: Body::Empty }),
            BUNDLED => self.bundled(),
            EXTENTS => {
                let count = decoder.bounded("extents", EXTENTS_INLINE_MAX as u64)?;
                let extents = extents::decode_each(count, self.table, decoder)?;
                let bytes = extents::sum(extents.iter().map(Extent::bytes))?;
                Ok(FileContent { bytes, body: Body::Extents(extents) })
            }
            _ => {
                let bytes = decoder.varint("file length")?;
                let list = self.table.node(decoder.varint("list")?)?;
                Ok(FileContent { bytes, body: Body::List(list) })
            }
        }
    }

    fn bundled(&mut self) -> Result<FileContent, FormatError> {
        let decoder = &mut self.columns.contents;
        let bytes = decoder.varint("file length")?;
        let chunk = self.table.chunk(decoder.varint("bundle")?)?;
        let skipped = unzigzag(decoder.varint("offset")?);
        let begin = self.before.end(chunk.id).saturating_add(skipped);
        let offset = u32::try_from(begin).map_err(|_| FormatError::field(WHAT, "offset", begin, "32 bits"))?;
        let hash = self.columns.hashes.array("hash")?;
        self.before.ends.insert(chunk.id, begin.saturating_add_unsigned(bytes));
        Ok(FileContent { bytes, body: Body::Bundled { chunk, offset, hash } })
    }

    fn attributes(&mut self, tag: u8) -> Result<Attributes, FormatError> {
        let mode = self.columns.modes.bounded("mode", u16::MAX.into())? as u16;
        let mut attributes = if tag & SAME_OWNER == 0 { self.owner()? } else { self.last_owner() };
        attributes.mode = mode;
        if tag & HAS_XATTRS != 0 {
            attributes.xattrs = self.xattrs()?;
        }
        attributes.mtime = self.time(self.before.attributes.mtime)?;
        if tag & HAS_BTIME != 0 {
            attributes.btime = Some(self.time(attributes.mtime)?);
        }
        self.before.attributes.clone_from(&attributes);
        Ok(attributes)
    }

    fn last_owner(&self) -> Attributes {
        let Attributes { uid, gid, owner, group, flags, .. } = &self.before.attributes;
        Attributes {
            uid: *uid,
            gid: *gid,
            owner: owner.clone(),
            group: group.clone(),
            flags: *flags,
            ..Attributes::default()
        }
    }

    fn owner(&mut self) -> Result<Attributes, FormatError> {
        let decoder = &mut self.columns.owners;
        Ok(Attributes {
            uid: varint_u32(decoder, "uid")?,
            gid: varint_u32(decoder, "gid")?,
            owner: decoder.bytes("owner", LABEL_BYTES_MAX as u64)?.to_vec(),
            group: decoder.bytes("group", LABEL_BYTES_MAX as u64)?.to_vec(),
            flags: varint_u32(decoder, "flags")?,
            ..Attributes::default()
        })
    }

    fn xattrs(&mut self) -> Result<Vec<Xattr>, FormatError> {
        let decoder = &mut self.columns.owners;
        let limit = XATTRS_BYTES_MAX as u64;
        let count = decoder.bounded("extended attributes", limit)?;
        let mut xattr = || {
            let name = decoder.bytes("extended attribute", limit)?.to_vec();
            Ok(Xattr { name, value: decoder.bytes("extended attribute", limit)?.to_vec() })
        };
        (0..count).map(|_| xattr()).collect()
    }

    fn time(&mut self, near: Time) -> Result<Time, FormatError> {
        let seconds = unzigzag(self.columns.seconds.varint("seconds")?).wrapping_add(near.seconds);
        Ok(Time { seconds, nanos: varint_u32(&mut self.columns.nanos, "nanoseconds")? })
    }
}
