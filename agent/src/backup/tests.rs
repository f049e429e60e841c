//! Whole backups against a coordinator that fits on a page: it keeps what it was sent, admits a node only with all its
//! links, and can forget.

use super::*;
use crate::clock::{Clock, SystemClock};
use crate::uplink::{Batch, Begun, Receipt, UplinkError};
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{ChunkId, NodeId, RunId};
use lifeboat_format::key::{GroupSecret, OpenKeys};
use lifeboat_format::link::Target;
use lifeboat_format::seal::{Opener, parse_links};
use lifeboat_format::tree::{
    Body, ChunkRef, Entry, EntryKind, Extent, ExtentReader, FileContent, Node, NodeSource, TreeReader,
};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard};

mod reading;

/// What the page-long coordinator keeps.
#[derive(Default)]
struct Kept {
    chunks: HashMap<ChunkId, Vec<u8>>,
    nodes: HashMap<NodeId, Vec<u8>>,
    /// Nodes that a run may refer to without sending them: those of committed snapshots.
    homes: HashSet<NodeId>,
    snapshots: Vec<(Manifest, Envelope)>,
    sent_chunks: usize,
    sent_nodes: usize,
    asked: usize,
}

#[derive(Clone, Default)]
struct Coordinator(Arc<Mutex<Kept>>);

struct OneRun {
    kept: Arc<Mutex<Kept>>,
    begun: Begun,
    sent: Mutex<HashSet<NodeId>>,
}

impl Coordinator {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap()
    }
}

impl Uplink for Coordinator {
    fn begin(&self, _: &str, _: &str) -> Result<Box<dyn Run>, UplinkError> {
        let kept = self.kept();
        let begun = Begun {
            run: RunId::from_bytes([1; 16]),
            next_sequence: kept.snapshots.len() as u64 + 1,
            previous: kept.snapshots.last().map(|(manifest, _)| manifest.id()),
        };
        Ok(Box::new(OneRun { kept: Arc::clone(&self.0), begun, sent: Mutex::default() }))
    }
}

impl Run for OneRun {
    fn begun(&self) -> &Begun {
        &self.begun
    }

    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>, UplinkError> {
        let mut kept = self.kept.lock().unwrap();
        kept.asked += ids.len();
        Ok(ids.iter().map(|id| kept.chunks.contains_key(id)).collect())
    }

    fn upload(&self, batch: Batch) -> Result<Receipt, UplinkError> {
        let (mut kept, mut sent) = (self.kept.lock().unwrap(), self.sent.lock().unwrap());
        for chunk in batch.chunks {
            assert!(chunk.digest.matches(&chunk.sealed));
            kept.sent_chunks += 1;
            kept.chunks.insert(chunk.id, chunk.sealed);
        }
        let mut refused = Vec::new();
        for node in batch.nodes {
            let (mut chunks, mut nodes) = (Vec::new(), Vec::new());
            for link in parse_links(&node.record).unwrap() {
                match link.target() {
                    Target::Chunk(id) if !kept.chunks.contains_key(&id) => chunks.push(id),
                    Target::Node(id) if !sent.contains(&id) && !kept.homes.contains(&id) => nodes.push(id),
                    _ => {}
                }
            }
            if chunks.is_empty() && nodes.is_empty() {
                kept.sent_nodes += 1;
                kept.nodes.insert(node.id, node.record);
                sent.insert(node.id);
            } else {
                refused.push(Refused { node: Some(node.id), chunks, nodes });
            }
        }
        let (answer, receipt) = Receipt::pending();
        answer.send(Ok(refused)).unwrap();
        Ok(receipt)
    }

    fn commit(&self, manifest: Vec<u8>, envelope: Vec<u8>) -> Result<Answer, UplinkError> {
        let manifest = Manifest::parse(&manifest).unwrap();
        let mut kept = self.kept.lock().unwrap();
        let root = manifest.clear().root.id;
        if !self.sent.lock().unwrap().contains(&root) && !kept.homes.contains(&root) {
            return Ok(Answer::Refused(vec![Refused { node: None, chunks: vec![], nodes: vec![root] }]));
        }
        let sent: Vec<_> = self.sent.lock().unwrap().iter().copied().collect();
        kept.homes.extend(sent);
        let snapshot = manifest.id();
        kept.snapshots.push((manifest, Envelope::parse(&envelope).unwrap()));
        let number = SnapshotNumber::new(kept.snapshots.len() as u64);
        Ok(Answer::Committed { snapshot, number, suspect: None })
    }

    fn abort(&self) -> Result<(), UplinkError> {
        Ok(())
    }
}

/// The system's clock, this much ahead.
#[derive(Default)]
struct Ahead(Duration);

impl Clock for Ahead {
    fn now_ns(&self) -> i64 {
        SystemClock::new().now_ns() + self.0.as_nanos() as i64
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// A source, an agent's state, and a coordinator.
struct Lab {
    directory: tempfile::TempDir,
    coordinator: Coordinator,
    clock: Ahead,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lab = Self { directory, coordinator: Coordinator::default(), clock: Ahead::default() };
        fs::create_dir(lab.source()).unwrap();
        fs::create_dir(lab.state()).unwrap();
        lab
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.source().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn plan(&self, processors: usize) -> Plan {
        let secret = GroupSecret::from_bytes([9; 32]);
        let mut rules = Rules::new(&[], &[]).unwrap();
        rules.skip_pseudo = false;
        Plan {
            source_set: "data".into(),
            roots: vec![self.source()],
            rules,
            known_gaps: Vec::new(),
            job: String::new(),
            processors,
            memory: budget::MEMORY_DEFAULT,
            is_part: false,
            checkpoint: CheckpointRule::default(),
            scratch: self.state(),
            local_tree: LocalTreeFiles::new(&self.state(), "data"),
            author: Author {
                repository: RepositoryId::from_bytes([2; 16]),
                host: HostId::new(1),
                signing_key: SigningKey::from_seed(&[3; 32]),
                keys: ScopeKeys::derive(&secret, &secret),
                scope: Scope::new(1),
                recipients: vec![recovery().recipient()],
                agent_version: "test".into(),
            },
        }
    }

    fn backup(&self) -> Report {
        self.backup_with(&self.plan(2)).unwrap()
    }

    fn backup_with(&self, plan: &Plan) -> Result<Report, BackupError> {
        let progress = Progress::default();
        let around = Surroundings {
            uplink: &self.coordinator,
            clock: &self.clock,
            progress: &progress,
            stop: &AtomicBool::new(false),
        };
        run(plan, &around)
    }

    /// What was sent since the last call: chunks, nodes, asked ids.
    fn traffic(&self) -> (usize, usize, usize) {
        let mut kept = self.coordinator.kept();
        let Kept { sent_chunks, sent_nodes, asked, .. } = &mut *kept;
        (std::mem::take(sent_chunks), std::mem::take(sent_nodes), std::mem::take(asked))
    }

    /// Everything below the source, as the newest snapshot has it. What lies on the way to the source is left out: other
    /// tests change it.
    fn entries(&self) -> Vec<Entry> {
        self.read(|entries, _| entries)
    }

    /// Every regular file below the source, opened from what the coordinator keeps.
    fn contents(&self) -> HashMap<String, Vec<u8>> {
        let prefix = self.source().strip_prefix("/").unwrap().to_owned();
        self.read(|entries, source| {
            let files = entries.into_iter().filter_map(|entry| match entry.kind {
                EntryKind::File(file) => Some((entry.path, file)),
                _ => None,
            });
            files
                .map(|(path, file)| {
                    let path = PathBuf::from(String::from_utf8(path).unwrap());
                    (path.strip_prefix(&prefix).unwrap().to_str().unwrap().to_owned(), source.content(&file))
                })
                .collect()
        })
    }

    fn read<T>(&self, then: impl FnOnce(Vec<Entry>, &mut Source<'_>) -> T) -> T {
        self.read_below(self.source().strip_prefix("/").unwrap().as_os_str().as_encoded_bytes(), then)
    }

    fn read_below<T>(&self, place: &[u8], then: impl FnOnce(Vec<Entry>, &mut Source<'_>) -> T) -> T {
        let kept = self.coordinator.kept();
        let keys = self.plan(0).author.keys;
        let (manifest, envelope) = kept.snapshots.last().unwrap();
        let part = manifest.open(&envelope.open(&recovery()).unwrap()).unwrap();
        let root = &manifest.clear().root;
        let root = NodeRef { id: root.id, scope: root.scope, content: part.root_content(), height: root.height };
        let mut source = Source { kept: &kept, keys: keys.open_keys(), opener: Opener::new() };
        let entries = TreeReader::new(&mut source, root).subtree(place).map(Result::unwrap).collect();
        then(entries, &mut source)
    }
}

fn recovery() -> Identity {
    Identity::from_bytes(&[4; 32]).unwrap()
}

/// Opens what the coordinator keeps.
struct Source<'a> {
    kept: &'a Kept,
    keys: &'a OpenKeys,
    opener: Opener,
}

impl NodeSource for &mut Source<'_> {
    type Error = FormatError;

    fn node(&mut self, node: &NodeRef) -> Result<Node, FormatError> {
        let record = &self.kept.nodes[&node.id];
        let (links, plaintext) = self.opener.open_node(self.keys, node.scope, &node.content, record)?;
        Node::decode(&links, &plaintext)
    }
}

impl Source<'_> {
    fn content(&mut self, file: &FileContent) -> Vec<u8> {
        let mut content = Vec::new();
        if let Body::Bundled { chunk, offset, .. } = &file.body {
            let bundle = self.chunk(chunk);
            return bundle[*offset as usize..][..file.bytes as usize].to_vec();
        }
        let extents: Vec<_> = ExtentReader::new(&mut *self, file).unwrap().map(Result::unwrap).collect();
        for (_, extent) in extents {
            match extent {
                Extent::Data(chunk) => content.extend(self.chunk(&chunk)),
                Extent::Zeros { bytes } | Extent::Hole { bytes } => content.resize(content.len() + bytes as usize, 0),
            }
        }
        content
    }

    fn chunk(&mut self, chunk: &ChunkRef) -> Vec<u8> {
        self.opener.open_chunk(self.keys, chunk.scope, &chunk.content, &self.kept.chunks[&chunk.id]).unwrap()
    }
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// A source with small files in many leaves, a large file, zeros, and names that sort oddly.
fn varied() -> (Lab, HashMap<String, Vec<u8>>) {
    let mut lab = Lab::new();
    let mut files = HashMap::new();
    for at in 0..700_u64 {
        files.insert(format!("small/{}/{at:03}", at % 7), noise(at, (at * 13 % 5000) as usize));
    }
    files.insert("large".to_owned(), noise(1000, 9_000_000));
    files.insert("large-b".to_owned(), [noise(1001, 50_000), vec![0; 200_000], noise(1002, 300_000)].concat());
    files.insert("large.c".to_owned(), noise(1000, 9_000_000));
    files.insert("empty".to_owned(), Vec::new());
    for (path, content) in &files {
        lab.write(path, content);
    }
    // So that no change time is too young to be trusted (INV-18).
    lab.clock.0 = Duration::from_secs(600);
    (lab, files)
}

#[test]
fn what_was_backed_up_opens_as_it_was() {
    let (lab, files) = varied();
    let report = lab.backup();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!(report.counts.files, files.len() as u64);
    assert_eq!(lab.contents(), files);
}

#[test]
fn inv_19_the_tree_does_not_depend_on_threads() {
    let (lab, _) = varied();
    let trees = [0, 1, 2, 5].map(|processors| {
        let _forgotten = fs::remove_file(lab.state().join("data.tree"));
        lab.backup_with(&lab.plan(processors)).unwrap();
        lab.entries()
    });
    assert!(trees.iter().all(|tree| *tree == trees[0]));
}

#[test]
fn inv_66_an_unchanged_source_costs_one_commit() {
    let (lab, files) = varied();
    lab.backup();
    let (entries, _) = (lab.entries(), lab.traffic());
    let report = lab.backup();
    let (chunks, nodes, _) = lab.traffic();
    assert_eq!((lab.entries(), chunks), (entries, 0));
    // Where nodes end depends on the name of the temporary directory: there may be one between leaf and root.
    assert!(nodes <= 3, "{nodes} nodes: at most the leaf with the way to the source, and those above it");
    assert_eq!(report.counts.read_bytes, 0);
    assert_eq!(lab.contents(), files);
}

#[test]
fn a_change_sends_what_changed_and_the_nodes_above_it() {
    let (lab, mut files) = varied();
    lab.backup();
    lab.traffic();
    lab.write("small/3/010", b"changed");
    files.insert("small/3/010".into(), b"changed".to_vec());
    let report = lab.backup();
    let (chunks, nodes, _) = lab.traffic();
    assert_eq!(chunks, 1);
    assert!((2..=4).contains(&nodes), "{nodes} nodes: one leaf and those above, and the way to the source");
    assert_eq!(report.counts.read_bytes, 7);
    assert_eq!(lab.contents(), files);
}

#[test]
fn inv_57_a_local_tree_that_is_lost_cut_or_damaged_changes_nothing_but_the_work() {
    let (lab, files) = varied();
    lab.backup();
    let (entries, tree) = (lab.entries(), lab.state().join("data.tree"));
    let whole = fs::read(&tree).unwrap();
    let mut flipped = whole.clone();
    for place in (100..flipped.len()).step_by(5000) {
        flipped[place] ^= 1;
    }
    for hint in [&[][..], b"something else", &whole[..whole.len() / 2], &flipped] {
        fs::write(&tree, hint).unwrap();
        lab.backup();
        // References of unchanged small files may differ after a lost hint; here nothing changed, so nothing does.
        assert_eq!(lab.entries(), entries, "{} bytes", hint.len());
        assert_eq!(lab.contents(), files);
    }
}

#[test]
fn inv_57_what_the_coordinator_refuses_is_named_anew_and_only_what_is_missing_is_read() {
    let (lab, files) = varied();
    lab.backup();
    lab.traffic();
    lab.coordinator.kept().homes.clear();
    let report = lab.backup();
    let (chunks, nodes, _) = lab.traffic();
    assert_eq!((chunks, report.counts.read_bytes >= 18_000_000), (0, true), "only the lists of large files are read");
    assert!(nodes > 5);
    assert_eq!(lab.contents(), files);
}

#[test]
fn inv_15_a_lost_chunk_below_an_unchanged_leaf_heals_with_the_next_backup() {
    let (lab, files) = varied();
    lab.backup();
    lab.traffic();
    let lost: Vec<_> = {
        // As after a loss: the chunk goes, and with it the homes of all that reaches it.
        let mut kept = lab.coordinator.kept();
        let lost: Vec<_> = kept.chunks.keys().copied().take(3).collect();
        lost.iter().for_each(|id| drop(kept.chunks.remove(id)));
        kept.homes.clear();
        lost
    };
    // Several workers may send at once what two large files have in common.
    lab.backup_with(&lab.plan(1)).unwrap();
    assert_eq!(lab.traffic().0, 3);
    assert!(lost.iter().all(|id| lab.coordinator.kept().chunks.contains_key(id)));
    assert_eq!(lab.contents(), files);
}

#[test]
fn a_long_backup_leaves_checkpoints_and_ends_with_the_same_tree() {
    let (lab, files) = varied();
    let mut plan = lab.plan(0);
    plan.checkpoint.sent_bytes = 500_000;
    lab.backup_with(&plan).unwrap();
    let outcomes: Vec<_> =
        lab.coordinator.kept().snapshots.iter().map(|(manifest, _)| manifest.clear().outcome).collect();
    let (last, checkpoints) = outcomes.split_last().unwrap();
    assert!(checkpoints.len() >= 2, "{outcomes:?}");
    assert!(checkpoints.iter().all(|outcome| *outcome == Outcome::Checkpoint));
    assert_eq!(*last, Outcome::Complete);
    let in_legs = lab.entries();
    fs::remove_file(lab.state().join("data.tree")).unwrap();
    lab.backup();
    assert_eq!(lab.entries(), in_legs);
    assert_eq!(lab.contents(), files);
}

#[test]
fn an_interrupted_backup_goes_on_where_its_last_checkpoint_was() {
    let (lab, files) = varied();
    let mut plan = lab.plan(0);
    plan.checkpoint.sent_bytes = 500_000;
    let progress = Progress::default();
    let stop = AtomicBool::new(false);
    let stopping = StopAfter { coordinator: lab.coordinator.clone(), snapshots: 2, stop: &stop };
    let around = Surroundings { uplink: &stopping, clock: &lab.clock, progress: &progress, stop: &stop };
    assert!(matches!(run(&plan, &around), Err(BackupError::Stopped)));
    let read_before = progress.read_bytes.load(Ordering::Relaxed);
    let report = lab.backup();
    let whole: usize = files.values().map(Vec::len).sum();
    assert!(report.counts.read_bytes + read_before <= whole as u64 + 500_000, "little is read twice");
    assert_eq!(lab.contents(), files);
}

/// Asks a backup to stop once so many snapshots stand.
struct StopAfter<'a> {
    coordinator: Coordinator,
    snapshots: usize,
    stop: &'a AtomicBool,
}

impl Uplink for StopAfter<'_> {
    fn begin(&self, source_set: &str, job: &str) -> Result<Box<dyn Run>, UplinkError> {
        if self.coordinator.kept().snapshots.len() >= self.snapshots {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.coordinator.begin(source_set, job)
    }
}

#[test]
fn inv_17_what_vanishes_is_a_named_gap_and_the_rest_is_backed_up() {
    let (lab, files) = varied();
    let mut plan = lab.plan(1);
    plan.roots.push(lab.directory.path().join("never-there"));
    let report = lab.backup_with(&plan).unwrap();
    assert_eq!((report.outcome, report.counts.gaps), (Outcome::Gaps, 1));
    let (manifest, envelope) = lab.coordinator.kept().snapshots.last().cloned().unwrap();
    let part = manifest.open(&envelope.open(&recovery()).unwrap()).unwrap();
    assert!(part.gaps()[0].path.ends_with(b"never-there"));
    assert_eq!(lab.contents(), files);
}

#[test]
fn inv_18_a_file_that_changes_at_once_after_a_backup_is_read_again() {
    let lab = Lab::new();
    for round in 0..20_u64 {
        lab.write("young", &round.to_le_bytes());
        lab.backup();
        assert_eq!(lab.contents()["young"], round.to_le_bytes(), "same size, perhaps the same tick");
    }
}

type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Does something once, the first time that anything is asked for.
struct WhenAsked {
    coordinator: Coordinator,
    then: Once,
}

struct AskedRun {
    run: Box<dyn Run>,
    then: Once,
}

impl Uplink for WhenAsked {
    fn begin(&self, source_set: &str, job: &str) -> Result<Box<dyn Run>, UplinkError> {
        Ok(Box::new(AskedRun { run: self.coordinator.begin(source_set, job)?, then: self.then.clone() }))
    }
}

impl Run for AskedRun {
    fn begun(&self) -> &Begun {
        self.run.begun()
    }

    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>, UplinkError> {
        if let Some(then) = self.then.lock().unwrap().take() {
            then();
        }
        self.run.has(ids)
    }

    fn upload(&self, batch: Batch) -> Result<Receipt, UplinkError> {
        self.run.upload(batch)
    }

    fn commit(&self, manifest: Vec<u8>, envelope: Vec<u8>) -> Result<Answer, UplinkError> {
        self.run.commit(manifest, envelope)
    }

    fn abort(&self) -> Result<(), UplinkError> {
        self.run.abort()
    }
}

#[test]
fn inv_17_a_hard_link_whose_first_name_vanished_is_read_as_the_file() {
    for processors in [0, 2] {
        let lab = Lab::new();
        // Larger than a window, so that something is asked for after the walk has seen the leaf and before it is read on.
        lab.write("0-large", &noise(1, 9_000_000));
        lab.write("a-first", b"kept by its other names");
        for link in ["b-second", "c-third"] {
            fs::hard_link(lab.source().join("a-first"), lab.source().join(link)).unwrap();
        }
        let first = lab.source().join("a-first");
        let vanish = move || fs::remove_file(first).unwrap();
        let then: Once = Arc::new(Mutex::new(Some(Box::new(vanish))));
        let uplink = WhenAsked { coordinator: lab.coordinator.clone(), then };
        let (progress, stop) = (Progress::default(), AtomicBool::new(false));
        let around = Surroundings { uplink: &uplink, clock: &lab.clock, progress: &progress, stop: &stop };
        run(&lab.plan(processors), &around).unwrap();
        let content = lab.contents();
        assert_eq!(content["b-second"], b"kept by its other names");
        assert!(!content.contains_key("a-first"));
        let tree: HashSet<_> = lab.entries().iter().map(|entry| entry.path.clone()).collect();
        for entry in lab.entries() {
            if let EntryKind::HardLink { to } = &entry.kind {
                assert!(tree.contains(to), "a link that leads nowhere: {:?}", String::from_utf8_lossy(&entry.path));
            }
        }
    }
}

#[test]
fn inv_71_completeness_follows_the_rules_although_no_file_changed() {
    let lab = Lab::new();
    lab.write("a/keep", b"kept");
    lab.write("b/left.tmp", b"left out by one rule");
    let incomplete = || {
        let entries = lab.entries().into_iter();
        let named = entries.filter(|entry| matches!(entry.kind, EntryKind::Directory(found) if !found.is_complete()));
        named.map(|entry| entry.path.last().copied().map(char::from)).collect::<Vec<_>>()
    };
    lab.backup();
    assert_eq!(incomplete(), []);
    let mut plan = lab.plan(1);
    plan.rules = Rules::new(&["*.tmp".to_owned()], &[]).unwrap();
    plan.rules.skip_pseudo = false;
    lab.backup_with(&plan).unwrap();
    assert_eq!(incomplete(), [Some('b')]);
    lab.backup();
    assert_eq!(incomplete(), [], "and back again");
}

#[test]
fn inv_17_each_source_path_is_counted_apart_also_when_nothing_is_left_in_it() {
    let lab = Lab::new();
    (0..20).for_each(|number| lab.write(&format!("one/{number}"), b"1"));
    lab.write("two/file", b"22");
    let mut plan = lab.plan(1);
    plan.roots = ["one", "two", "three"].map(|name| lab.source().join(name)).to_vec();
    let counted = |path: &str| {
        let path = crate::walk::tree_path(&lab.source().join(path)).unwrap();
        let id = plan.author.keys.boundary_hash(&path);
        let kept = lab.coordinator.kept();
        let parts = &kept.snapshots.last().unwrap().0.clear().parts;
        parts.iter().find(|part| part.id == id).map(|part| (part.entries, part.files, part.bytes))
    };
    lab.backup_with(&plan).unwrap();
    assert_eq!(["one", "two", "three"].map(counted), [Some((21, 20, 20)), Some((2, 1, 2)), Some((0, 0, 0))]);
    lab.backup_with(&plan).unwrap();
    assert_eq!(counted("one"), Some((21, 20, 20)), "leaves that are kept are counted too");
    fs::remove_dir_all(lab.source().join("two")).unwrap();
    lab.backup_with(&plan).unwrap();
    assert_eq!(counted("two"), Some((0, 0, 0)));
}
