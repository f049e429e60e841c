//! Reads one granted tree from the coordinator: nodes and chunks, fetched, opened and checked.
//!
//! The coordinator serves the granted root and links of nodes that it served before; so a reader asks by (served node,
//! number of its link), and remembers for each node that it opened where its links lead ([`homes`]). Every record is
//! checked against its id and its content hash before anything is done with it: who serves it need not be trusted.
//!
//! Calls block; the network runs on the runtime that was given. Chunks are asked for in batches, and several batches
//! may be under way: that is the read-ahead, and its owner decides how much memory it may take.
//!
//! What is done with the content is for the rest of `restore`, and for `ls`, `cat` and `diff`.

mod ask;
mod homes;
mod records;

use crate::connection::{ANSWER_TIME, explain, restore_client};
use ask::Asked;
use homes::{Home, Homes};
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Identity;
use lifeboat_format::grant::{Coverage, Grant, GrantKeys};
use lifeboat_format::id::{NodeId, Scope};
use lifeboat_format::key::OpenKeys;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{ChunkRef, Node, NodeRef, NodeSource};
use lifeboat_proto::convert::UncheckedHead;
use lifeboat_proto::convert::restore::opened;
use lifeboat_proto::limits::READ_LINKS_MAX;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use records::Records;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tonic::Request;
use tonic::transport::Channel;

/// Something of the tree cannot be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// The coordinator has no such record any more, or a damaged one.
    #[error("{what} is lost: {why}")]
    Lost {
        /// Which chunk or node.
        what: String,
        /// In which pack, and what is wrong with it.
        why: String,
    },
    /// What was served is not what it should be.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The coordinator cannot be asked, or does not answer.
    #[error(transparent)]
    Coordinator(#[from] Failure),
    /// A reference that no node that was read lately leads to.
    #[error("{what} is not linked from any part of the tree that was read lately")]
    NotLinked {
        /// Which chunk or node.
        what: String,
    },
}

impl FetchError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Lost { .. } | Self::Format(_) => ErrorClass::Damaged,
            Self::Coordinator(failure) => failure.class,
            Self::NotLinked { .. } => ErrorClass::Internal,
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        let class = error.class();
        match error {
            FetchError::Coordinator(failure) => failure,
            error => Self::of(class, &error).hint("`lifeboat repository verify` lists all that is damaged"),
        }
    }
}

/// One granted tree. Cheap to clone; all clones share what they know of the tree.
#[derive(Clone)]
pub struct GrantReader {
    runtime: Handle,
    channel: Channel,
    session: [u8; 16],
    root: NodeRef,
    scopes: Arc<Vec<(Scope, OpenKeys)>>,
    coverage: Arc<Coverage>,
    homes: Arc<Mutex<Homes>>,
    patience: Duration,
    head: Option<Arc<UncheckedHead>>,
}

impl GrantReader {
    /// Opens a grant with its target's box identity, and shows it to the coordinator at the other end of `channel`.
    /// Blocks; not to be called from a thread of the runtime.
    pub fn open(channel: Channel, runtime: Handle, grant: &[u8], identity: &Identity) -> Result<Self, FetchError> {
        let parsed = Grant::parse(grant)?;
        let GrantKeys { root_content, scopes, coverage } = parsed.open(identity)?;
        let root = parsed.clear().root;
        let mut request = Request::new(v1::OpenRequest { grant: grant.to_vec().into() });
        request.set_timeout(ANSWER_TIME);
        let answer = runtime.block_on(restore_client(channel.clone()).open(request)).map_err(explain)?;
        let (session, head) = opened(answer.into_inner()).map_err(Failure::from)?;
        Ok(Self {
            session,
            head: head.map(Arc::new),
            root: NodeRef { id: root.id, scope: root.scope, content: root_content, height: root.height },
            scopes: Arc::new(scopes),
            coverage: Arc::new(coverage),
            homes: Arc::default(),
            patience: ANSWER_TIME,
            runtime,
            channel,
        })
    }

    /// The same reader, which waits no longer than this for an answer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The newest head of the journal that the coordinator showed.
    pub fn head(&self) -> Option<&UncheckedHead> {
        self.head.as_deref()
    }

    /// What of the tree is complete.
    pub fn coverage(&self) -> &Arc<Coverage> {
        &self.coverage
    }

    /// Where the tree begins.
    pub fn root(&self) -> NodeRef {
        self.root
    }

    /// Reads nodes, for a `TreeReader`, a diff, or the extents of a large file. Each reader keeps a few of its own.
    pub fn nodes(&self) -> NodeReader {
        NodeReader { reader: self.clone(), opener: Opener::new(), records: Records::default(), last: None }
    }

    /// Asks for chunks, and returns at once. They come in the order of `chunks`, which may name one twice. Memory is
    /// that of all their content; the caller bounds it by how many it asks for.
    pub fn request(&self, chunks: Vec<ChunkRef>) -> PendingChunks {
        let homes: Vec<_> = {
            let known = self.known();
            chunks.iter().map(|chunk| known.of(chunk.id.as_bytes())).collect()
        };
        let (done, pending) = oneshot::channel();
        let reader = self.clone();
        self.runtime.spawn(async move {
            // Whoever asked may have given up.
            let _ = done.send(reader.ask_for(&homes).await);
        });
        PendingChunks { reader: self.clone(), chunks, pending }
    }

    /// Asks for chunks and waits for them: [`GrantReader::request`] without read-ahead.
    pub fn chunks(&self, chunks: Vec<ChunkRef>) -> Result<Vec<Result<Vec<u8>, FetchError>>, FetchError> {
        self.request(chunks).wait(&mut Opener::new())
    }

    /// The records at these homes, in their order; none where the home is not known.
    async fn ask_for(&self, homes: &[Option<Home>]) -> Result<Vec<Asked>, Failure> {
        let mut records = Vec::with_capacity(homes.len());
        for part in homes.chunks(READ_LINKS_MAX) {
            records.extend(ask::links(self.channel.clone(), self.session, part, self.patience).await?);
        }
        Ok(records)
    }

    /// Whether these bytes are the content of a chunk.
    pub fn is_chunk(&self, chunk: &ChunkRef, bytes: &[u8]) -> bool {
        let is_content = |keys: &OpenKeys| keys.content_hash(bytes) == chunk.content;
        bytes.len() == chunk.bytes as usize && self.keys(chunk.scope).is_ok_and(is_content)
    }

    /// Whether these bytes are the file of which a bundled entry holds this `hash`.
    pub fn is_bundled_file(&self, scope: Scope, hash: &[u8; 16], bytes: &[u8]) -> bool {
        self.keys(scope).is_ok_and(|keys| keys.content_hash(bytes).expose().starts_with(hash))
    }

    fn keys(&self, scope: Scope) -> Result<&OpenKeys, FormatError> {
        let found = self.scopes.binary_search_by_key(&scope, |(scope, _)| *scope);
        found
            .map(|at| &self.scopes[at].1)
            .map_err(|_| FormatError::NoKey { what: "record of a scope outside the grant" })
    }

    fn known(&self) -> MutexGuard<'_, Homes> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Chunks that are on their way.
pub struct PendingChunks {
    reader: GrantReader,
    chunks: Vec<ChunkRef>,
    pending: oneshot::Receiver<Result<Vec<Asked>, Failure>>,
}

impl PendingChunks {
    /// Which chunks these are.
    pub fn refs(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// Waits for them, opens and checks each. A chunk that is lost or damaged does not stop the others.
    ///
    /// # Errors
    /// The coordinator cannot be asked. The same request may be made again.
    pub fn wait(self, opener: &mut Opener) -> Result<Vec<Result<Vec<u8>, FetchError>>, FetchError> {
        let gone = || Failure::new(ErrorClass::Internal, "the runtime stopped while chunks were on their way");
        let records = self.pending.blocking_recv().map_err(|_| gone())??;
        let open = |(chunk, asked): (&ChunkRef, Asked)| {
            let what = || format!("chunk {}", chunk.id);
            let record = asked.record(what)?;
            let keys = self.reader.keys(chunk.scope)?;
            Ok(opener.open_chunk(keys, chunk.scope, &chunk.content, &record)?)
        };
        Ok(self.chunks.iter().zip(records).map(open).collect())
    }
}

/// Reads nodes of a granted tree, one after the other, with the next siblings ahead of need.
pub struct NodeReader {
    reader: GrantReader,
    opener: Opener,
    records: Records,
    /// Where the last node came from: who reads one sibling after the other reads the next ones too.
    last: Option<Home>,
}

/// How many siblings are fetched with a node, once reading goes from one to the next.
const SIBLINGS_AHEAD: u32 = 16;

impl NodeSource for NodeReader {
    type Error = FetchError;

    fn node(&mut self, reference: &NodeRef) -> Result<Node, FetchError> {
        let record = match self.records.take(&reference.id) {
            Some(record) => record,
            None => self.fetch(reference)?,
        };
        if NodeId::from_bytes(*blake3::hash(&record).as_bytes()) != reference.id {
            return Err(FormatError::Broken { what: "node", check: "id" }.into());
        }
        let keys = self.reader.keys(reference.scope)?;
        let (links, plaintext) = self.opener.open_node(keys, reference.scope, &reference.content, &record)?;
        self.reader.known().remember(reference, &links);
        Ok(Node::decode(&links, &plaintext)?)
    }
}

impl NodeReader {
    fn fetch(&mut self, reference: &NodeRef) -> Result<bytes::Bytes, FetchError> {
        let what = || format!("node {}", reference.id);
        if reference.id == self.reader.root.id {
            let reader = &self.reader;
            let asked = reader.runtime.block_on(ask::root(reader.channel.clone(), reader.session, reader.patience))?;
            return asked.record(what);
        }
        let wanted = self.ahead(reference).ok_or_else(|| FetchError::NotLinked { what: what() })?;
        let homes: Vec<_> = wanted.iter().map(|(_, home)| Some(*home)).collect();
        let mut answers = self.reader.runtime.block_on(self.reader.ask_for(&homes))?.into_iter();
        let own = answers.next().ok_or_else(|| FetchError::NotLinked { what: what() })?;
        for ((id, _), asked) in wanted.iter().skip(1).zip(answers) {
            if let Ok(record) = asked.record(String::new) {
                self.records.keep(*id, record);
            }
        }
        own.record(what)
    }

    /// The node and, if the one before it was read last, the siblings after it.
    fn ahead(&mut self, reference: &NodeRef) -> Option<Vec<(NodeId, Home)>> {
        let known = self.reader.known();
        let home = known.of(reference.id.as_bytes())?;
        let goes_on = self.last.is_some_and(|last| last.node == home.node && last.link < home.link);
        let mut wanted = vec![(reference.id, home)];
        if goes_on {
            let later = home.link + 1..home.link.saturating_add(SIBLINGS_AHEAD);
            wanted.extend(later.filter_map(|link| known.node_at(home.node, link)));
        }
        drop(known);
        self.last = Some(home);
        Some(wanted)
    }
}
