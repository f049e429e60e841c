//! Our own reader on golden repositories: `format` alone, with the recovery kit.

use crate::{assert_same, expected, golden, made_today};
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Envelope;
use lifeboat_format::id::{HostId, Scope};
use lifeboat_format::journal::{Batch, Chain, Event};
use lifeboat_format::key::{OpenKeys, ScopeKeys};
use lifeboat_format::kit::RecoveryKit;
use lifeboat_format::link::Target;
use lifeboat_format::manifest::{Manifest, Outcome};
use lifeboat_format::pack::{Footer, verify_record};
use lifeboat_format::seal::Opener;
use lifeboat_format::secret::{KeyKind, KeyObject};
use lifeboat_format::sign::VerifyingKey;
use lifeboat_format::tree::{
    Body, ChunkRef, Entry, EntryKind, Extent, ExtentReader, FileContent, Node, NodeRef, NodeSource, TreeReader,
};
use lifeboat_format::trust::TrustFile;
use lifeboat_tests::golden::json::{self, ContentJson, quoted};
use serde_json::{Value, json as value};
use std::collections::HashMap;
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

#[test]
fn inv_55_what_version_1_wrote_is_still_read() {
    assert_same(&read(&golden()), &expected(&golden()));
}

#[test]
fn what_is_written_today_is_read() {
    let directory = made_today();
    assert_same(&read(directory.path()), &expected(directory.path()));
}

/// All snapshots, by host, source set and sequence.
fn read(directory: &Path) -> Vec<Value> {
    let kit = RecoveryKit::parse(&fs::read_to_string(directory.join("recovery-kit.txt")).unwrap()).unwrap();
    let objects = |kind| objects(&directory.join("repository").join(kind));
    let trust_files = objects("trust");
    let trust = last_trust(&trust_files, &kit);
    let hosts = hosts(&objects("journal"), &trust_files);
    let mut source =
        Source { records: records(&objects("packs"), &trust), keys: HashMap::new(), opener: Opener::new() };
    for object in objects("keys") {
        let object = KeyObject::parse(&object).unwrap();
        if let KeyKind::GroupSecret { scope, .. } = object.kind() {
            let secret = object.open_group_secret(&kit.identity).unwrap();
            assert!(trust.names_secret(*scope, &secret));
            source.keys.insert(*scope, ScopeKeys::derive(&secret, &secret).open_keys().clone());
        }
    }
    let envelopes: Vec<_> = objects("envelopes").iter().map(|bytes| Envelope::parse(bytes).unwrap()).collect();
    let mut snapshots = Vec::new();
    for manifest in objects("manifests").iter().map(|bytes| Manifest::parse(bytes).unwrap()) {
        manifest.verify(&hosts[&manifest.clear().host]).unwrap();
        let envelope = envelopes.iter().find(|envelope| envelope.snapshot() == manifest.id()).unwrap();
        snapshots.push(snapshot(
            &manifest,
            &manifest.open(&envelope.open(&kit.identity).unwrap()).unwrap(),
            &mut source,
        ));
    }
    snapshots.sort_by_key(|of| (of["host"].as_u64(), of["source_set"].to_string(), of["sequence"].as_u64()));
    snapshots
}

/// The bytes of all objects of a kind, sorted by name.
fn objects(directory: &Path) -> Vec<Vec<u8>> {
    let files = WalkDir::new(directory).sort_by_file_name().into_iter().map(Result::unwrap);
    files.filter(|entry| entry.file_type().is_file()).map(|entry| fs::read(entry.path()).unwrap()).collect()
}

fn last_trust(files: &[Vec<u8>], kit: &RecoveryKit) -> TrustFile {
    let files: Vec<_> = files.iter().map(|bytes| TrustFile::parse(bytes).unwrap()).collect();
    for pair in files.windows(2) {
        pair[1].verify_successor(&pair[0]).unwrap();
    }
    assert!(files.iter().any(|file| file.digest() == kit.trust_file), "the kit names a file of the chain");
    files.last().unwrap().clone()
}

fn hosts(batches: &[Vec<u8>], trust_files: &[Vec<u8>]) -> HashMap<HostId, VerifyingKey> {
    let trust_files: Vec<_> = trust_files.iter().map(|bytes| TrustFile::parse(bytes).unwrap()).collect();
    let first = trust_files[0].trust();
    let mut chain = Chain::start(first.repository, first.log_key());
    let mut hosts = HashMap::new();
    for batch in batches.iter().map(|bytes| Batch::parse(bytes).unwrap()) {
        chain.append(batch.signed_head()).unwrap();
        if let Some((number, digest)) = batch.trust_file() {
            let named = &trust_files[number as usize - 1];
            assert_eq!(named.digest(), digest);
            chain.set_log_key(named.trust().log_key());
        }
        hosts.extend(batch.records().iter().filter_map(|record| match &record.act.event {
            Event::HostEnrolled(host) => Some((host.host, host.signing_key)),
            _ => None,
        }));
    }
    hosts
}

fn records(packs: &[Vec<u8>], trust: &TrustFile) -> HashMap<Target, Vec<u8>> {
    let mut records = HashMap::new();
    for pack in packs {
        let part = |offset: u64, bytes: usize| Ok::<_, FormatError>(&pack[offset as usize..][..bytes]);
        let footer = Footer::read(pack.len() as u64, &trust.trust().log_keys, part).unwrap();
        for record in &footer.records {
            let bytes = part(record.place.offset, record.place.length as usize).unwrap();
            verify_record(record, bytes).unwrap();
            records.insert(record.record.target, bytes.to_vec());
        }
    }
    records
}

/// Opens what the packs hold.
struct Source {
    records: HashMap<Target, Vec<u8>>,
    keys: HashMap<Scope, OpenKeys>,
    opener: Opener,
}

impl Source {
    fn chunk(&mut self, chunk: &ChunkRef) -> Vec<u8> {
        let sealed = &self.records[&Target::Chunk(chunk.id)];
        let content = self.opener.open_chunk(&self.keys[&chunk.scope], chunk.scope, &chunk.content, sealed).unwrap();
        assert_eq!(content.len(), chunk.bytes as usize);
        content
    }
}

impl NodeSource for Source {
    type Error = FormatError;

    fn node(&mut self, node: &NodeRef) -> Result<Node, FormatError> {
        let record = &self.records[&Target::Node(node.id)];
        let (links, plaintext) = self.opener.open_node(&self.keys[&node.scope], node.scope, &node.content, record)?;
        Node::decode(&links, &plaintext)
    }
}

fn snapshot(manifest: &Manifest, part: &lifeboat_format::manifest::SealedPart, source: &mut Source) -> Value {
    let clear = manifest.clear();
    let lifeboat_format::manifest::RootRef { id, height, scope } = clear.root;
    let root = NodeRef { id, height, scope, content: part.root_content() };
    let entries: Vec<Entry> = TreeReader::new(&mut *source, root).collect::<Result<_, FormatError>>().unwrap();
    let gaps = part.gaps().iter().map(|gap| value!({ "path": quoted(&gap.path), "reason": gap.reason }));
    let outcome = match clear.outcome {
        Outcome::Complete => "complete",
        Outcome::Gaps => "complete with gaps",
        Outcome::Checkpoint => "checkpoint",
    };
    value!({
        "snapshot": manifest.id().to_string(), "host": clear.host.get(), "source_set": clear.source_set,
        "sequence": clear.sequence, "outcome": outcome, "gaps": gaps.collect::<Vec<_>>(),
        "sources": part.sources().iter().map(|path| quoted(path)).collect::<Vec<_>>(),
        "entries": entries.iter().map(|entry| described(entry, source)).collect::<Vec<_>>(),
    })
}

fn described(entry: &Entry, source: &mut Source) -> Value {
    let kind = match &entry.kind {
        EntryKind::HardLink { to } => return json::hard_link(&entry.path, to),
        EntryKind::File(file) => content(file, source),
        EntryKind::Directory(completeness) => json::directory(*completeness),
        EntryKind::Symlink { target } => json::symlink(target),
        EntryKind::Fifo => json::of_kind("pipe"),
        EntryKind::Socket => json::of_kind("socket"),
        EntryKind::CharDevice(device) => json::device("character-device", device),
        EntryKind::BlockDevice(device) => json::device("block-device", device),
    };
    json::entry(&entry.path, &entry.attributes, kind)
}

fn content(file: &FileContent, source: &mut Source) -> Value {
    let mut json = ContentJson::default();
    if let Body::Bundled { chunk, offset, hash } = &file.body {
        let bundle = source.chunk(chunk);
        let content = &bundle[*offset as usize..][..file.bytes as usize];
        assert_eq!(source.keys[&chunk.scope].content_hash(content).expose()[..16], hash[..]);
        json.data(content);
        return json.finish();
    }
    let extents: Vec<_> = ExtentReader::new(&mut *source, file).unwrap().collect::<Result<_, FormatError>>().unwrap();
    for (_, extent) in extents {
        match extent {
            Extent::Data(chunk) => json.data(&source.chunk(&chunk)),
            Extent::Zeros { bytes } => json.data(&vec![0; bytes as usize]),
            Extent::Hole { bytes } => json.hole(bytes),
        }
    }
    json.finish()
}
