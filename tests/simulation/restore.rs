//! Reads a snapshot back from the coordinator's core, opens it, and writes it with the agent's writer: a restore without
//! grant and network.

use crate::lab::{identity, keys};
use lifeboat_agent::restore::{Options, Report, Step, Target, Writer};
use lifeboat_coordinator::catalog::Snapshot;
use lifeboat_coordinator::repository::Coordinator;
use lifeboat_coordinator::store::{ByteRange, ObjectName, Store};
use lifeboat_format::envelope::Envelope;
use lifeboat_format::id::{ChunkId, HostId};
use lifeboat_format::key::ScopeKeys;
use lifeboat_format::manifest::Manifest;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{
    Body, ChunkRef, Entry, EntryKind, Extent, ExtentReader, FileContent, Node, NodeRef, NodeSource, TreeReader,
};
use std::error::Error;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Restores what lay below `source` into `target`, which is made.
pub fn restore(
    coordinator: &Coordinator,
    store: &dyn Store,
    snapshot: &Snapshot,
    source: &Path,
    target: &Path,
) -> Result<Report> {
    let mut reader = Reader::new(coordinator, snapshot);
    let top = source.strip_prefix("/")?.as_os_str().as_bytes();
    let entries = TreeReader::new(&mut reader, root(store, snapshot)?).subtree(top).collect::<Result<Vec<Entry>>>()?;
    let mut writer = Writer::new(Target::open(target)?, Options::default())?;
    for mut entry in entries {
        entry.path = below(&entry.path, top);
        if let EntryKind::HardLink { to } = &mut entry.kind {
            *to = below(to, top);
        }
        let kind = entry.kind.clone();
        if let (Step::Content(slot), EntryKind::File(content)) = (writer.add(entry), kind) {
            slot.write_at(0, &reader.content(&content)?)?;
            slot.finish()?;
        }
    }
    Ok(writer.finish()?)
}

/// Opens everything that a snapshot refers to. Each record is checked against the hash that names it in the tree, so what
/// was restored once would be restored again.
pub fn open_all(coordinator: &Coordinator, store: &dyn Store, snapshot: &Snapshot) -> Result<()> {
    let mut reader = Reader::new(coordinator, snapshot);
    let entries = TreeReader::new(&mut reader, root(store, snapshot)?).collect::<Result<Vec<Entry>>>()?;
    for entry in entries {
        if let EntryKind::File(content) = &entry.kind {
            reader.content(content)?;
        }
    }
    Ok(())
}

/// Where the tree begins, opened with manifest and envelope alone.
fn root(store: &dyn Store, snapshot: &Snapshot) -> Result<NodeRef> {
    let manifest = Manifest::parse(&store.get(&ObjectName::manifest(snapshot.id), ByteRange::Whole)?)?;
    let envelope = Envelope::parse(&store.get(&ObjectName::envelope(snapshot.id), ByteRange::Whole)?)?;
    let content = manifest.open(&envelope.open(&identity())?)?.root_content();
    let root = manifest.clear().root;
    Ok(NodeRef { id: root.id, scope: root.scope, content, height: root.height })
}

fn below(path: &[u8], top: &[u8]) -> Vec<u8> {
    path.get(top.len() + 1..).unwrap_or_default().to_vec()
}

struct Reader<'c> {
    coordinator: &'c Coordinator,
    host: HostId,
    keys: ScopeKeys,
    opener: Opener,
    /// The one that was opened last: files of a bundle follow each other.
    last: Option<(ChunkId, Vec<u8>)>,
}

impl NodeSource for Reader<'_> {
    type Error = Box<dyn Error + Send + Sync>;

    fn node(&mut self, node: &NodeRef) -> Result<Node> {
        let record = self.coordinator.read_node(&node.id)?;
        let (links, plaintext) = self.opener.open_node(self.keys.open_keys(), node.scope, &node.content, &record)?;
        Ok(Node::decode(&links, &plaintext)?)
    }
}

impl<'c> Reader<'c> {
    fn new(coordinator: &'c Coordinator, snapshot: &Snapshot) -> Self {
        Self { coordinator, host: snapshot.host, keys: keys(), opener: Opener::new(), last: None }
    }

    fn content(&mut self, file: &FileContent) -> Result<Vec<u8>> {
        if let Body::Bundled { chunk, offset, .. } = &file.body {
            let bundle = self.chunk(chunk)?;
            let content = bundle.get(*offset as usize..).and_then(|rest| rest.get(..file.bytes as usize));
            return Ok(content.ok_or("a file beyond its bundle")?.to_vec());
        }
        let extents = ExtentReader::new(&mut *self, file)?.collect::<Result<Vec<_>>>()?;
        let mut content = Vec::new();
        for (_, extent) in extents {
            match extent {
                Extent::Data(chunk) => content.extend(self.chunk(&chunk)?),
                Extent::Zeros { bytes } | Extent::Hole { bytes } => content.resize(content.len() + bytes as usize, 0),
            }
        }
        Ok(content)
    }

    fn chunk(&mut self, chunk: &ChunkRef) -> Result<&[u8]> {
        let opened = match self.last.take() {
            Some((id, opened)) if id == chunk.id => opened,
            _ => self.open(chunk)?,
        };
        Ok(&self.last.insert((chunk.id, opened)).1)
    }

    fn open(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>> {
        let sealed = self.coordinator.read_chunk(&chunk.id, self.host)?;
        Ok(self.opener.open_chunk(self.keys.open_keys(), chunk.scope, &chunk.content, &sealed)?)
    }
}
