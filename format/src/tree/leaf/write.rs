//! Entries into columns. The fields of each column stand in the order in which they are written here.

use super::super::columns::{Columns, zigzag};
use super::super::entry::{Attributes, Body, Device, Entry, EntryKind, FileContent, Time};
use super::super::extents;
use super::super::path::shared_prefix;
use super::super::table::TableWriter;
use super::*;

/// Writes all entries of a leaf.
pub(super) fn entries(entries: &[Entry], table: &mut TableWriter, out: &mut Encoder) {
    let mut writer = Writer { columns: Columns::new(), table, before: Before::default() };
    entries.iter().for_each(|entry| writer.entry(entry));
    out.varint(entries.len() as u64);
    writer.columns.finish(out);
}

struct Writer<'a> {
    columns: Columns<Encoder>,
    table: &'a mut TableWriter,
    before: Before,
}

impl Writer<'_> {
    fn entry(&mut self, entry: &Entry) {
        let Entry { path, kind, attributes } = entry;
        let shared = shared_prefix(&self.before.path, path);
        self.front_coded(shared, path);
        let kind_tag = self.kind(path, kind);
        let tag = if kind_tag == HARD_LINK { kind_tag } else { kind_tag | self.attributes(attributes) };
        self.columns.tags.u8(tag);
        self.before.path.clone_from(path);
    }

    fn front_coded(&mut self, shared: usize, text: &[u8]) {
        self.columns.lengths.varint(shared as u64);
        self.text(&text[shared..]);
    }

    fn text(&mut self, text: &[u8]) {
        self.columns.lengths.varint(text.len() as u64);
        self.columns.texts.raw(text);
    }

    fn kind(&mut self, path: &[u8], kind: &EntryKind) -> u8 {
        match kind {
            EntryKind::Directory(Completeness::COMPLETE) => DIRECTORY,
            EntryKind::Directory(completeness) => {
                self.columns.contents.varint(completeness.bits().into());
                INCOMPLETE_DIRECTORY
            }
            EntryKind::File(content) => self.content(content),
            EntryKind::Symlink { target } => {
                self.text(target);
                SYMLINK
            }
            EntryKind::Fifo => FIFO,
            EntryKind::Socket => SOCKET,
            EntryKind::CharDevice(device) => self.device(device, CHAR_DEVICE),
            EntryKind::BlockDevice(device) => self.device(device, BLOCK_DEVICE),
            EntryKind::HardLink { to } => {
                self.front_coded(shared_prefix(path, to), to);
                HARD_LINK
            }
        }
    }

    fn device(&mut self, device: &Device, tag: u8) -> u8 {
        self.columns.contents.varint(device.major.into()).varint(device.minor.into());
        tag
    }

    fn content(&mut self, content: &FileContent) -> u8 {
        let out = &mut self.columns.contents;
        match &content.body {
            Body::Empty => EMPTY,
            Body::Bundled { chunk, offset, hash } => {
                let begin = i64::from(*offset);
                let skipped = begin - self.before.end(chunk.id);
                out.varint(content.bytes).varint(self.table.chunk(chunk)).varint(zigzag(skipped));
                self.columns.hashes.raw(hash);
                self.before.ends.insert(chunk.id, begin.saturating_add_unsigned(content.bytes));
                BUNDLED
            }
            Body::Extents(extents) => {
                out.varint(extents.len() as u64);
                extents::encode_each(extents, self.table, out);
                EXTENTS
            }
            Body::List(list) => {
                out.varint(content.bytes).varint(self.table.node(list));
                LIST
            }
        }
    }

    fn attributes(&mut self, attributes: &Attributes) -> u8 {
        let mut tag = 0;
        self.columns.modes.varint(attributes.mode.into());
        if self.before.same_owner(attributes) {
            tag |= SAME_OWNER;
        } else {
            self.owner(attributes);
        }
        if !attributes.xattrs.is_empty() {
            tag |= HAS_XATTRS;
            self.xattrs(attributes);
        }
        self.time(attributes.mtime, self.before.attributes.mtime);
        if let Some(btime) = attributes.btime {
            tag |= HAS_BTIME;
            self.time(btime, attributes.mtime);
        }
        self.before.attributes.clone_from(attributes);
        tag
    }

    fn owner(&mut self, attributes: &Attributes) {
        let Attributes { uid, gid, owner, group, flags, .. } = attributes;
        let out = &mut self.columns.owners;
        out.varint((*uid).into()).varint((*gid).into()).bytes(owner).bytes(group).varint((*flags).into());
    }

    fn xattrs(&mut self, attributes: &Attributes) {
        let out = &mut self.columns.owners;
        out.varint(attributes.xattrs.len() as u64);
        for xattr in &attributes.xattrs {
            out.bytes(&xattr.name).bytes(&xattr.value);
        }
    }

    fn time(&mut self, time: Time, near: Time) {
        self.columns.seconds.varint(zigzag(time.seconds.wrapping_sub(near.seconds)));
        self.columns.nanos.varint(time.nanos.into());
    }
}
