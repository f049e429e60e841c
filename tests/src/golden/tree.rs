//! From described files to sealed records, by the rules that every writer keeps (`docs/format.md`, Tree).
//!
//! It does what an agent does, one step after the other and without a disk, so it can be read beside the page.

use super::files::{File, Kind, Piece};
use lifeboat_format::ENCODER_VERSION;
use lifeboat_format::cut::{Segment, Segmenter, Sizes};
use lifeboat_format::id::{Digest, HostId, Scope};
use lifeboat_format::key::{ContentHash, ScopeKeys};
use lifeboat_format::link::{Link, Target};
use lifeboat_format::pack::Record;
use lifeboat_format::seal::{Check, Sealer};
use lifeboat_format::tree::{
    Body, ChunkRef, Entry, EntryKind, Extent, ExtentListBuilder, FileContent, Leaf, LeafCutter, Node, NodeRef,
    SMALL_FILE_BYTES, SmallContent, SmallFile, Totals, TreeBuilder, plan_bundles,
};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;

/// The content of files and where it went, by path: what an agent remembers of its last tree.
pub type Memory = HashMap<Vec<u8>, (Vec<Piece>, FileContent)>;

/// Builds one tree, and collects the records that it needs.
pub struct TreeMaker<'a> {
    keys: &'a ScopeKeys,
    scope: Scope,
    host: HostId,
    sealer: Sealer,
    /// With their sealed bytes; each id once.
    pub records: Vec<(Record, Vec<u8>)>,
    /// All scopes that the tree refers to.
    pub scopes: BTreeSet<Scope>,
}

impl<'a> TreeMaker<'a> {
    /// For one snapshot of this host.
    pub fn new(keys: &'a ScopeKeys, scope: Scope, host: HostId) -> Self {
        let sealer = Sealer::new(3, Check::Always).unwrap();
        Self { keys, scope, host, sealer, records: Vec::new(), scopes: BTreeSet::from([scope]) }
    }

    /// The tree of these files, which are sorted. `memory` is that of the host's last tree, and then of this one.
    pub fn tree(&mut self, files: &[File], memory: &mut Memory) -> (NodeRef, Totals) {
        let mut builder = TreeBuilder::new(self.keys);
        for members in self.leaves(files, memory) {
            let leaf = Leaf { entries: self.bundled(members) };
            self.remember(files, &leaf, memory);
            let pushed = builder.push_leaf(leaf, &mut |node| Ok::<_, Infallible>(self.node(&node)));
            pushed.unwrap();
        }
        builder.finish(&mut |node| Ok::<_, Infallible>(self.node(&node))).unwrap()
    }

    /// Entries by leaf; beside small files stands their content.
    fn leaves(&mut self, files: &[File], memory: &Memory) -> Vec<Vec<(Entry, Vec<u8>)>> {
        let mut cutter = LeafCutter::new(self.keys);
        let mut leaves: Vec<Vec<_>> = Vec::new();
        for file in files {
            let (kind, small) = self.kind(file, memory);
            let entry = Entry { path: file.path.clone(), kind, attributes: file.attributes.clone() };
            if cutter.begins_leaf(&entry.path, entry.metadata_bytes()) {
                leaves.push(Vec::new());
            }
            leaves.last_mut().unwrap().push((entry, small));
        }
        leaves
    }

    /// Keeps what is known of the files of a leaf, and notes to which scopes they refer.
    fn remember(&mut self, files: &[File], leaf: &Leaf, memory: &mut Memory) {
        let pieces: HashMap<_, _> = files.iter().map(|file| (&file.path, &file.kind)).collect();
        for entry in &leaf.entries {
            if let (EntryKind::File(content), Some(Kind::Content(pieces))) = (&entry.kind, pieces.get(&entry.path)) {
                self.scopes.extend(scopes_of(&content.body));
                memory.insert(entry.path.clone(), (pieces.clone(), content.clone()));
            }
        }
    }

    fn kind(&mut self, file: &File, memory: &Memory) -> (EntryKind, Vec<u8>) {
        let kind = match &file.kind {
            Kind::Directory(completeness) => EntryKind::Directory(*completeness),
            Kind::Symlink(target) => EntryKind::Symlink { target: target.clone() },
            Kind::Fifo => EntryKind::Fifo,
            Kind::Socket => EntryKind::Socket,
            Kind::CharDevice(device) => EntryKind::CharDevice(*device),
            Kind::BlockDevice(device) => EntryKind::BlockDevice(*device),
            Kind::HardLink(to) => EntryKind::HardLink { to: to.clone() },
            Kind::Content(pieces) => {
                let kept = memory.get(&file.path).filter(|(content, _)| content == pieces);
                let kept = kept.map(|(_, content)| content.clone());
                return match pieces.as_slice() {
                    [Piece::Data(data)] if (data.len() as u64) < SMALL_FILE_BYTES => {
                        let new = FileContent { bytes: data.len() as u64, body: Body::Empty };
                        (EntryKind::File(kept.unwrap_or(new)), data.clone())
                    }
                    pieces => (EntryKind::File(kept.unwrap_or_else(|| self.extents(pieces))), Vec::new()),
                };
            }
        };
        (kind, Vec::new())
    }

    /// Cuts what is not small.
    fn extents(&mut self, pieces: &[Piece]) -> FileContent {
        let segmenter = Segmenter::new(self.keys, Sizes::NORMAL);
        let mut list = ExtentListBuilder::new();
        for piece in pieces {
            let mut rest = match piece {
                Piece::Hole(bytes) => {
                    self.extend(&mut list, Extent::Hole { bytes: *bytes });
                    continue;
                }
                Piece::Data(data) => &data[..],
            };
            while let Some(segment) = segmenter.next(rest, true) {
                let (taken, later) = rest.split_at(segment.bytes());
                let extent = match segment {
                    Segment::Chunk(_) => Extent::Data(self.chunk(taken)),
                    Segment::Zeros(bytes) => Extent::Zeros { bytes: bytes as u64 },
                };
                self.extend(&mut list, extent);
                rest = later;
            }
        }
        list.finish(&mut |node| Ok::<_, Infallible>(self.node(&node))).unwrap()
    }

    fn extend(&mut self, list: &mut ExtentListBuilder, extent: Extent) {
        list.push(extent, &mut |node| Ok::<_, Infallible>(self.node(&node))).unwrap();
    }

    /// Bundles what a leaf has of small files that are new or changed.
    fn bundled(&mut self, mut members: Vec<(Entry, Vec<u8>)>) -> Vec<Entry> {
        let places: Vec<_> = (0..members.len()).filter(|place| !members[*place].1.is_empty()).collect();
        let small: Vec<_> = places.iter().map(|place| self.small_file(&members[*place].0)).collect();
        for group in plan_bundles(&small) {
            let group: Vec<_> = group.into_iter().map(|file| places[file]).collect();
            let content: Vec<u8> = group.iter().flat_map(|place| members[*place].1.clone()).collect();
            let chunk = self.chunk(&content);
            let mut offset = 0;
            for place in group {
                let (entry, content) = &mut members[place];
                let hash = self.keys.open_keys().content_hash(content);
                let hash = std::array::from_fn(|at| hash.expose()[at]);
                content_of(entry).body = Body::Bundled { chunk, offset, hash };
                offset += content.len() as u32;
            }
        }
        members.into_iter().map(|(entry, _)| entry).collect()
    }

    fn small_file(&self, entry: &Entry) -> SmallFile {
        let EntryKind::File(FileContent { bytes, body }) = &entry.kind else { panic!("not a file") };
        let content = match body {
            Body::Bundled { chunk, .. } => SmallContent::Kept(*chunk),
            _ => SmallContent::New,
        };
        SmallFile { hash: self.keys.boundary_hash(&entry.path), bytes: *bytes, content }
    }

    fn chunk(&mut self, plaintext: &[u8]) -> ChunkRef {
        let content = self.keys.open_keys().content_hash(plaintext);
        let id = self.keys.chunk_id(&content);
        if !self.has(Target::Chunk(id)) {
            let sealed = self.sealer.seal_chunk(self.keys, self.scope, &content, plaintext).unwrap();
            self.add(Target::Chunk(id), 0, sealed);
        }
        ChunkRef { id, scope: self.scope, content, bytes: plaintext.len() as u32 }
    }

    fn node(&mut self, node: &Node) -> NodeRef {
        node.check().unwrap();
        let (links, plaintext): (Vec<Link>, Vec<u8>) = node.encode();
        let sealed = self.sealer.seal_node(self.keys, self.scope, &links, &plaintext).unwrap();
        let (id, content, height): (_, ContentHash, _) = (sealed.id, sealed.content, sealed.height);
        if !self.has(Target::Node(id)) {
            self.add(Target::Node(id), height, sealed.record);
        }
        NodeRef { id, scope: self.scope, content, height }
    }

    fn has(&self, target: Target) -> bool {
        self.records.iter().any(|(record, _)| record.target == target)
    }

    fn add(&mut self, target: Target, height: u8, bytes: Vec<u8>) {
        let (host, scope, encoder) = (self.host, self.scope, ENCODER_VERSION);
        let record = Record { target, height, digest: Digest::of(&bytes), host, scope, encoder };
        self.records.push((record, bytes));
    }
}

fn content_of(entry: &mut Entry) -> &mut FileContent {
    match &mut entry.kind {
        EntryKind::File(content) => content,
        _ => panic!("not a file"),
    }
}

fn scopes_of(body: &Body) -> Vec<Scope> {
    match body {
        Body::Empty => vec![],
        Body::Bundled { chunk, .. } => vec![chunk.scope],
        // All that is below a list was sealed together with it.
        Body::List(list) => vec![list.scope],
        Body::Extents(extents) => extents
            .iter()
            .filter_map(|extent| if let Extent::Data(chunk) = extent { Some(chunk.scope) } else { None })
            .collect(),
    }
}
