//! Copies a tree as a backup and a restore would, entry by entry.

use lifeboat_agent::metadata::{MetadataReader, kind_without_content};
use lifeboat_agent::restore::{FileSlot, Options, Report, Step, Target, Writer};
use lifeboat_agent::walk::{
    Gap, GapReason, HardLinks, Held, Item, OpenFile, Piece, Rules, Scan, Scanned, Stat, open_file,
};
use lifeboat_format::tree::{Attributes, Body, Entry, EntryKind, Extent, FileContent};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// How many threads write files.
const WRITERS: usize = 3;

/// Scans `source` and writes what was found to `target`, a new directory.
pub fn copy(source: &Path, target: &Path) -> (Vec<Gap>, Report) {
    let rules = Rules::new(&[], &[]).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let scan = Scan::new(&[source.to_owned()], rules, scratch.path()).unwrap();
    let writer = Writer::new(Target::open(target).unwrap(), Options::default()).unwrap();
    let (to_fill, files) = sync_channel::<(FileSlot, OpenFile)>(16);
    let files = Arc::new(Mutex::new(files));
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let files = files.clone();
            scope.spawn(move || {
                loop {
                    let next = files.lock().unwrap().recv();
                    let Ok((slot, file)) = next else { return };
                    fill(slot, &file);
                }
            });
        }
        drop(files); // So that sending fails when every writer has.
        let links = HardLinks::new(scratch.path()).unwrap();
        let top = source.as_os_str().as_bytes()[1..].to_vec();
        let copier = Copier { top, writer, links, metadata: MetadataReader::default(), gaps: Vec::new(), to_fill };
        copier.run(scan)
    })
}

struct Copier {
    top: Vec<u8>,
    writer: Writer,
    links: HardLinks,
    metadata: MetadataReader,
    gaps: Vec<Gap>,
    to_fill: SyncSender<(FileSlot, OpenFile)>,
}

impl Copier {
    fn run(mut self, mut scan: Scan) -> (Vec<Gap>, Report) {
        while let Some(item) = scan.next() {
            match item {
                Item::Gap(gap) => self.gaps.push(gap),
                Item::Entry(found) => {
                    let Some(path) = relative(found.path, &self.top) else { continue };
                    if let Err(reason) = self.entry(&found, path.to_vec()) {
                        self.gaps.push(Gap { path: found.path.to_vec(), reason });
                    }
                }
            }
        }
        drop(self.to_fill);
        (self.gaps, self.writer.finish().unwrap())
    }

    fn entry(&mut self, found: &Scanned<'_>, path: Vec<u8>) -> Result<(), GapReason> {
        if let Some(to) = self.links.first_name(&found.stat, &path, 0).unwrap() {
            let entry = Entry { path, kind: EntryKind::HardLink { to: to.path }, attributes: Attributes::default() };
            assert!(matches!(self.writer.add(entry), Step::Settled));
            return Ok(());
        }
        match open_file(&found.directory, found.name, &found.stat) {
            Ok(file) => self.file(file, path),
            Err(_) if found.stat.kind != rustix::fs::FileType::RegularFile => self.other(found, path),
            Err(reason) => Err(reason),
        }
    }

    fn file(&mut self, file: OpenFile, path: Vec<u8>) -> Result<(), GapReason> {
        let attributes = self.attributes(file.held(), file.stat());
        let bytes = file.stat().bytes;
        let body = if bytes == 0 { Body::Empty } else { Body::Extents(vec![Extent::Hole { bytes }]) };
        let entry = Entry { path, kind: EntryKind::File(FileContent { bytes, body }), attributes };
        if let Step::Content(slot) = self.writer.add(entry) {
            self.to_fill.send((slot, file)).unwrap();
        }
        Ok(())
    }

    fn other(&mut self, found: &Scanned<'_>, path: Vec<u8>) -> Result<(), GapReason> {
        let held = Held::open(&found.directory, found.name, &found.stat)?;
        let kind = kind_without_content(&held, &found.stat, found.completeness)?.unwrap();
        let attributes = self.attributes(&held, &found.stat);
        assert!(matches!(self.writer.add(Entry { path, kind, attributes }), Step::Settled));
        Ok(())
    }

    fn attributes(&mut self, held: &Held, stat: &Stat) -> Attributes {
        let (attributes, unread) = self.metadata.attributes(held, stat);
        assert!(unread.is_empty() || !crate::round_trip::is_root(), "{unread:?}");
        attributes
    }
}

fn relative<'a>(path: &'a [u8], top: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(top)?;
    Some(rest.strip_prefix(b"/").unwrap_or(rest))
}

fn fill(slot: FileSlot, file: &OpenFile) {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while let Some(piece) = file.piece_at(at).unwrap() {
        let (Piece::Data { bytes, .. } | Piece::Hole { bytes, .. }) = piece;
        let end = at + bytes;
        while at < end && matches!(piece, Piece::Data { .. }) {
            let step = ((end - at) as usize).min(buffer.len());
            file.read_at(at, &mut buffer[..step]).unwrap();
            slot.write_at(at, &buffer[..step]).unwrap();
            at += step as u64;
        }
        at = end;
    }
    file.check_unchanged().unwrap();
    slot.finish().unwrap();
}
