//! A repository in memory with three hosts, and sealed things made for them. The coordinator never opens anything, so
//! "sealed" bytes here are any bytes.

use crate::clock::{ManualClock, SeededRandom};
use crate::index::{ChunkRow, IndexMemory, NodeRow, Place};
use crate::repository::{Config, Coordinator, OpenError, Parts, create};
use crate::run::RunRef;
use crate::run::commit::{CommitAnswer, CommitError, Committed};
use crate::run::upload::{IncomingChunk, IncomingNode, Refused, UploadError};
use crate::store::faulty::Faulty;
use crate::store::memory::MemoryStore;
use crate::store::{Body, ObjectName, Store};
use crate::trust;
use lifeboat_format::codec::Encoder;
use lifeboat_format::envelope::{Envelope, Identity};
use lifeboat_format::id::{ChunkId, Digest, HostId, NodeId, RepositoryId, Scope, SnapshotId};
use lifeboat_format::journal::event::{Custody, HostEnrolled};
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use lifeboat_format::key::ContentHash;
use lifeboat_format::link::{Link, Target, node_height};
use lifeboat_format::manifest::{Clear, Counts, Manifest, Outcome, RootRef, SealedPart};
use lifeboat_format::seal::parse_links;
use lifeboat_format::sign::SigningKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const A: HostId = HostId::new(1);
pub const B: HostId = HostId::new(2);
pub const C: HostId = HostId::new(3);
pub const SCOPE: Scope = Scope::new(1);

pub struct Lab {
    pub objects: MemoryStore,
    pub store: Arc<Faulty<MemoryStore>>,
    pub clock: Arc<ManualClock>,
    pub index: tempfile::TempDir,
    pub pack_bytes: u64,
    pub log_key: SigningKey,
}

pub fn repository() -> RepositoryId {
    RepositoryId::from_bytes([7; 16])
}

/// A directory for an index: in memory where the machine has such a place, since tests need no disk.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn host_key(host: HostId) -> SigningKey {
    SigningKey::from_seed(&[host.get() as u8; 32])
}

fn identity() -> Identity {
    Identity::from_bytes(&[5; 32]).unwrap()
}

pub fn act(event: Event) -> Act {
    let (verb, object) = ("test".into(), "test".into());
    Act { time_ns: 1, principal: Principal::LocalRoot, verb, object, decision: Decision::Done, event }
}

impl Lab {
    pub fn new() -> Self {
        let objects = MemoryStore::new();
        let lab = Self {
            store: Arc::new(Faulty::new(objects.clone())),
            objects,
            clock: Arc::new(ManualClock::at(1_000)),
            index: directory(),
            pack_bytes: 1 << 20,
            log_key: SigningKey::from_seed(&[9; 32]),
        };
        lab.begin_journal(lab.store.clone());
        lab
    }

    /// A lab with the same keys and settings, and nothing in it.
    pub fn in_place_of(&self) -> Self {
        let objects = MemoryStore::new();
        Self {
            store: Arc::new(Faulty::new(objects.clone())),
            objects,
            clock: Arc::new(ManualClock::at(1_000)),
            index: directory(),
            pack_bytes: self.pack_bytes,
            log_key: self.log_key.clone(),
        }
    }

    /// Begins the journal of a new repository with three hosts.
    pub fn begin_journal(&self, store: Arc<dyn Store>) {
        let trust_file = self.put_trust_file(store.as_ref());
        let mut acts = vec![act(Event::RepositoryCreated { custody: Custody::Managed, trust_file })];
        acts.push(act(Event::ScopeMade { scope: SCOPE, group: "all".into(), first: true }));
        acts.extend([A, B, C].map(|host| {
            act(Event::HostEnrolled(HostEnrolled {
                host,
                name: format!("host-{host}"),
                site: String::new(),
                group: "all".into(),
                signing_key: host_key(host).verifying_key(),
                box_recipient: identity().recipient(),
                tls_key: Digest::of(&host.get().to_le_bytes()),
                token: 1,
            }))
        }));
        create(store, repository(), self.log_key.clone(), acts).unwrap();
    }

    fn put_trust_file(&self, store: &dyn Store) -> Digest {
        let file = trust::sample(repository(), &[self.log_key.verifying_key()], None).unwrap();
        store.put(&ObjectName::trust(1), Body::Bytes(file.to_bytes())).unwrap();
        file.digest()
    }

    pub fn index_path(&self) -> std::path::PathBuf {
        self.index.path().join("index")
    }

    /// A restart: a coordinator over what is in the store now, and the index as it was left.
    pub fn open(&self) -> Coordinator {
        self.try_open(self.store.clone()).unwrap()
    }

    pub fn try_open(&self, store: Arc<dyn Store>) -> Result<Coordinator, OpenError> {
        self.try_open_with(store, |_| {})
    }

    /// The same with other settings.
    pub fn try_open_with(
        &self,
        store: Arc<dyn Store>,
        change: impl FnOnce(&mut Config),
    ) -> Result<Coordinator, OpenError> {
        let mut config = Config::new(repository(), self.index_path());
        change(&mut config);
        self.open_with(config, store)
    }

    /// A coordinator that reads what is intact, with an index of its own.
    pub fn open_despite_damage(&self) -> Result<Coordinator, OpenError> {
        let config = Config::new(repository(), self.index.path().join("index-read-only"));
        self.open_with(Config { despite_damage: true, walks_trees: false, ..config }, self.store.clone())
    }

    fn open_with(&self, mut config: Config, store: Arc<dyn Store>) -> Result<Coordinator, OpenError> {
        (config.pack_bytes, config.share_wait) = (self.pack_bytes, Duration::ZERO);
        config.index_memory = IndexMemory { block_cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20 };
        let parts = Parts {
            store,
            clock: self.clock.clone(),
            random: Arc::new(SeededRandom::new(self.store.calls().len() as u64)),
            log_key: self.log_key.clone(),
        };
        Coordinator::open(config, parts, &mut |_| {})
    }

    /// The store without its faults: what a new process finds after a crash.
    pub fn after_crash(&mut self) {
        self.store = Arc::new(Faulty::new(self.objects.clone()));
    }

    /// Makes the open packs objects, without a commit.
    pub fn close_packs(&self, coordinator: &Coordinator) {
        {
            let mut state = coordinator.shared.lock();
            for ticket in state.open.unfinished() {
                if let Some(holds) = state.open.close(ticket) {
                    coordinator.spool().close(holds, ticket).unwrap();
                }
            }
        }
        wait_for_open_packs(coordinator);
    }

    pub fn delete_index(&self) {
        crate::index::Index::delete(&self.index_path()).unwrap();
    }
}

/// A chunk of this content, in one of its sealed forms.
pub fn chunk_in_form(content: u32, form: u8) -> IncomingChunk {
    let id = ChunkId::from_bytes(*Digest::of(&content.to_le_bytes()).as_bytes());
    let sealed = [content.to_le_bytes().as_slice(), &[form; 500]].concat();
    IncomingChunk { id, scope: SCOPE, encoder: 1, digest: Digest::of(&sealed), sealed }
}

pub fn chunk(content: u32) -> IncomingChunk {
    chunk_in_form(content, 0)
}

pub fn node(links: &[Link]) -> IncomingNode {
    let mut record = Encoder::new();
    record.u32(links.len() as u32);
    links.iter().for_each(|link| link.encode(&mut record));
    record.raw(&[0xee; 200]);
    let record = record.finish();
    let id = NodeId::from_bytes(*Digest::of(&record).as_bytes());
    IncomingNode { id, scope: SCOPE, encoder: 1, record }
}

pub fn to_chunk(chunk: &IncomingChunk) -> Link {
    Link::chunk(SCOPE, chunk.id)
}

pub fn to_node(node: &IncomingNode) -> Link {
    Link::node(SCOPE, node.id, height(node))
}

pub fn height(node: &IncomingNode) -> u8 {
    node_height(&parse_links(&node.record).unwrap()).unwrap()
}

/// A run of a host, as an agent sees it.
pub struct Agent<'c> {
    pub coordinator: &'c Coordinator,
    pub caller: RunRef,
    next: (u64, Option<SnapshotId>),
    pub entries: u64,
}

impl<'c> Agent<'c> {
    pub fn begin(coordinator: &'c Coordinator, host: HostId) -> Self {
        let begun = coordinator.begin(host, "system").unwrap();
        let caller = RunRef { run: begun.run, fence: begun.fence, host };
        Self { coordinator, caller, next: (begun.next_sequence, begun.previous), entries: 10 }
    }

    pub fn has(&self, chunk: &IncomingChunk) -> bool {
        self.coordinator.has(self.caller, &[chunk.id]).unwrap()[0]
    }

    pub fn send(&self, chunks: &[IncomingChunk], nodes: &[IncomingNode]) -> Vec<Refused> {
        self.try_send(chunks, nodes).unwrap()
    }

    pub fn try_send(&self, chunks: &[IncomingChunk], nodes: &[IncomingNode]) -> Result<Vec<Refused>, UploadError> {
        self.coordinator.upload(self.caller, chunks.to_vec(), nodes.to_vec())
    }

    /// Manifest and envelope of a snapshot with this root.
    pub fn manifest(&self, root: &IncomingNode) -> (Vec<u8>, Vec<u8>) {
        let content_bytes = self.entries * 100;
        let counts = Counts { entries: self.entries, files: 1, content_bytes, read_bytes: 0, sent_bytes: 0, gaps: 0 };
        let clear = Clear {
            repository: repository(),
            host: self.caller.host,
            source_set: "system".into(),
            sequence: self.next.0,
            previous: self.next.1,
            root: RootRef { id: root.id, height: height(root), scope: SCOPE },
            started_ns: 1,
            ended_ns: 2,
            outcome: Outcome::Complete,
            counts,
            agent_version: "test".into(),
            encoder: 1,
            parts: Vec::new(),
            extension: Vec::new(),
        };
        let part = SealedPart::new(ContentHash::from_bytes([1; 32]), [SCOPE], []);
        let (manifest, key) = Manifest::seal(&clear, &part, &host_key(self.caller.host)).unwrap();
        let envelope = Envelope::seal(repository(), manifest.id(), &key, &[identity().recipient()]).unwrap();
        (manifest.as_bytes().to_vec(), envelope.to_bytes())
    }

    pub fn try_commit(&self, root: &IncomingNode) -> Result<CommitAnswer, CommitError> {
        let (manifest, envelope) = self.manifest(root);
        self.coordinator.commit(self.caller, &manifest, &envelope)
    }

    pub fn commit(&self, root: &IncomingNode) -> Committed {
        match self.try_commit(root).unwrap() {
            CommitAnswer::Committed(committed) => *committed,
            CommitAnswer::Refused(refused) => panic!("refused: {refused:?}"),
        }
    }

    pub fn refused(&self, root: &IncomingNode) -> Vec<Refused> {
        match self.try_commit(root).unwrap() {
            CommitAnswer::Committed(_) => panic!("committed"),
            CommitAnswer::Refused(refused) => refused,
        }
    }
}

/// A small tree of two levels over some chunks: leaves of two chunks each, then the root, children first.
pub fn tree(chunks: &[IncomingChunk]) -> Vec<IncomingNode> {
    let leaves = chunks.chunks(2).map(|pair| node(&pair.iter().map(to_chunk).collect::<Vec<_>>()));
    let mut nodes: Vec<IncomingNode> = leaves.collect();
    nodes.push(node(&nodes.iter().map(to_node).collect::<Vec<_>>()));
    nodes
}

/// Backs a tree over these chunks up, as an agent that knows nothing would.
pub fn back_up(coordinator: &Coordinator, host: HostId, chunks: &[IncomingChunk]) -> Committed {
    let agent = Agent::begin(coordinator, host);
    let nodes = tree(chunks);
    assert_eq!(agent.send(chunks, &nodes), []);
    agent.commit(&nodes[nodes.len() - 1])
}

/// The same while anything may fail; answers what was acknowledged.
pub fn try_back_up(coordinator: &Coordinator, host: HostId, contents: std::ops::Range<u32>) -> Option<Committed> {
    let chunks: Vec<_> = contents.map(chunk).collect();
    let nodes = tree(&chunks);
    coordinator.begin(host, "system").ok()?;
    let agent = Agent::begin(coordinator, host);
    agent.try_send(&chunks, &nodes).ok()?;
    match agent.try_commit(&nodes[nodes.len() - 1]).ok()? {
        CommitAnswer::Committed(committed) => Some(*committed),
        CommitAnswer::Refused(refused) => panic!("refused: {refused:?}"),
    }
}

/// Reads everything below a root back; fails where anything is missing or damaged.
pub fn restore(coordinator: &Coordinator, host: HostId, root: NodeId) -> Result<usize, String> {
    let links = parse_links(&coordinator.read_node(&root).map_err(|error| error.to_string())?).unwrap();
    let mut read = 1;
    for link in links {
        read += match link.target() {
            Target::Node(id) => restore(coordinator, host, id)?,
            Target::Chunk(id) => {
                coordinator.read_chunk(&id, host).map_err(|error| error.to_string())?;
                1
            }
        };
    }
    Ok(read)
}

/// Restores every snapshot that the journal knows.
pub fn restore_all(coordinator: &Coordinator) -> Result<usize, String> {
    let roots: Vec<(HostId, NodeId)> = coordinator
        .catalog(|catalog| catalog.snapshots().map(|(_, snapshot)| (snapshot.host, snapshot.root.id)).collect());
    roots.into_iter().try_fold(0, |read, (host, root)| Ok(read + restore(coordinator, host, root)?))
}

/// All rows, without what a rebuild may lose (marks, homes, shared flags) and with packs by their real names.
pub fn dump(coordinator: &Coordinator) -> BTreeMap<String, Vec<String>> {
    let index = &coordinator.shared.index;
    let mut rows = BTreeMap::new();
    let chunk_row = |row: ChunkRow| {
        let mut bodies: Vec<String> = row
            .bodies
            .iter()
            .map(|body| {
                let pack = index.pack_id(body.place.pack).unwrap();
                let place = (body.place.record, body.place.offset, body.place.sealed_bytes);
                format!("{} {pack} {place:?} {:?} {:?} {}", body.host, body.digest, body.scope, body.encoder)
            })
            .collect();
        bodies.sort();
        bodies
    };
    let node_row = |row: NodeRow| {
        let place = |place: &Place| {
            let pack = index.pack_id(place.pack).unwrap();
            format!("{pack} {} {} {}", place.record, place.offset, row.height)
        };
        // The packs of a commit are put side by side: whichever is first.
        let mut places: Vec<String> = row.places.iter().map(place).collect();
        places.sort();
        places
    };
    index.each_chunk(|id, row| rows.insert(format!("chunk {id}"), chunk_row(row)).is_none()).unwrap();
    index.each_node(|id, row| rows.insert(format!("node {id}"), node_row(row)).is_none()).unwrap();
    rows
}

/// Waits until every pack that was closed is an object or thrown away.
pub fn wait_for_open_packs(coordinator: &Coordinator) {
    let mut state = coordinator.shared.lock();
    while !state.open.unfinished().is_empty() {
        state = coordinator.shared.wait(state, None);
    }
}

/// The names of the packs in the store.
pub fn packs(lab: &Lab) -> Vec<ObjectName> {
    lab.objects.list(crate::store::ObjectKind::Pack).unwrap()
}
