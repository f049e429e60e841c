//! A small snapshot is read back for the host that made it, opened, and each content hash checked: how an enrolment ends.
//!
//! The bytes come from the packs, as they do for a restore, and the vault opens them (managed custody). Each time is a
//! record of the journal, made before anything is opened.

use super::{Context, failure};
use crate::repository::ReadError;
use lifeboat_format::FormatError;
use lifeboat_format::id::{HostId, Scope, SnapshotId};
use lifeboat_format::journal::{Event, Principal};
use lifeboat_format::key::OpenKeys;
use lifeboat_format::seal::Opener;
use lifeboat_format::tree::{
    Body, ChunkRef, Entry, EntryKind, Extent, ExtentReader, FileContent, Node, NodeRef, NodeSource, TreeReader,
};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;

/// More is not read for a host that asks: a restore is what reads everything.
const ENTRIES_MAX: u64 = 1000;
const CONTENT_BYTES_MAX: u64 = 16 << 20;

/// Why a snapshot did not prove itself.
#[derive(Debug, thiserror::Error)]
enum ProofError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("the tree is larger than its manifest says")]
    TooLarge,
}

impl Context {
    /// Proves a snapshot of this host.
    pub(super) fn prove(&self, host: HostId, id: &SnapshotId) -> Result<v1::ProveResponse, Failure> {
        self.refuse_while_in_doubt()?;
        let unknown = || Failure::new(ErrorClass::NotFound, format!("host {host} has no snapshot {id}"));
        let own = |catalog: &crate::catalog::Catalog| {
            let found = catalog.snapshot_by_id(id).filter(|(_, row)| row.is_kept() && row.host == host);
            found.map(|(_, row)| row.root)
        };
        let root = self.catalog(own).ok_or_else(unknown)?;
        let manifest = self.manifest(id)?;
        let counts = manifest.clear().counts;
        if counts.entries > ENTRIES_MAX || counts.content_bytes > CONTENT_BYTES_MAX {
            let (entries, bytes) = (counts.entries, counts.content_bytes);
            let failure = format!("snapshot {id} has {entries} entries and {bytes} bytes, too many to prove on demand");
            return Err(Failure::new(ErrorClass::Refused, failure).hint("`lifeboat restore` reads all of it back"));
        }
        self.record(Principal::Host(host), "prove", &format!("snapshot {id}"), Event::Nothing)?;
        let part = self.open_manifest(&manifest)?;
        let source = Reader { context: self, host, keys: self.open_keys(part.scopes())?, opener: Opener::new() };
        let root = NodeRef { id: root.id, scope: root.scope, content: part.root_content(), height: root.height };
        let proof = source.read_all(root).map_err(|error| of_proof(id, error))?;
        tracing::info!(%host, snapshot = %id, entries = proof.entries, "proven: read back and opened");
        Ok(proof)
    }
}

fn of_proof(id: &SnapshotId, error: ProofError) -> Failure {
    let what = |class, error: &dyn std::error::Error| {
        let message = format!("snapshot {id} was committed and did not open again: {error}");
        Failure::new(class, message).hint("`lifeboat repository verify` on the coordinator lists all that is damaged")
    };
    match error {
        ProofError::Read(error) => failure::of_read(&error),
        error => what(ErrorClass::Damaged, &error),
    }
}

/// Reads sealed records from the packs, and opens them.
struct Reader<'a> {
    context: &'a Context,
    host: HostId,
    keys: Vec<(Scope, OpenKeys)>,
    opener: Opener,
}

impl NodeSource for &mut Reader<'_> {
    type Error = ProofError;

    fn node(&mut self, node: &NodeRef) -> Result<Node, ProofError> {
        let record = self.context.coordinator.read_node(&node.id)?;
        let keys = keys_of(&self.keys, node.scope)?;
        let (links, plaintext) = self.opener.open_node(keys, node.scope, &node.content, &record)?;
        Ok(Node::decode(&links, &plaintext)?)
    }
}

fn keys_of(keys: &[(Scope, OpenKeys)], scope: Scope) -> Result<&OpenKeys, FormatError> {
    let missing = || FormatError::field("manifest", "scopes", "a tree of another scope", scope);
    keys.iter().find(|(found, _)| *found == scope).map(|(_, keys)| keys).ok_or_else(missing)
}

impl Reader<'_> {
    fn read_all(mut self, root: NodeRef) -> Result<v1::ProveResponse, ProofError> {
        let mut entries: Vec<Entry> = Vec::new();
        for entry in TreeReader::new(&mut self, root).subtree(b"") {
            entries.push(entry?);
            if entries.len() as u64 > ENTRIES_MAX {
                return Err(ProofError::TooLarge);
            }
        }
        let mut content_bytes = 0;
        for entry in &entries {
            if let EntryKind::File(content) = &entry.kind {
                content_bytes = u64::saturating_add(content_bytes, content.bytes);
                if content_bytes > CONTENT_BYTES_MAX {
                    return Err(ProofError::TooLarge);
                }
                self.read_file(content)?;
            }
        }
        Ok(v1::ProveResponse { entries: entries.len() as u64, content_bytes })
    }

    fn read_file(&mut self, content: &FileContent) -> Result<(), ProofError> {
        if let Body::Bundled { chunk, offset, hash } = &content.body {
            let bundle = self.chunk(chunk)?;
            let start = *offset as usize;
            let part = bundle.get(start..).and_then(|rest| rest.get(..content.bytes as usize));
            let part = part.ok_or(FormatError::Broken { what: "bundled file", check: "range within its bundle" })?;
            let found = keys_of(&self.keys, chunk.scope)?.content_hash(part);
            if found.expose()[..hash.len()] != hash[..] {
                return Err(FormatError::Broken { what: "bundled file", check: "content hash" }.into());
            }
            return Ok(());
        }
        let extents = ExtentReader::new(&mut *self, content)?.collect::<Result<Vec<_>, _>>()?;
        for (_, extent) in extents {
            if let Extent::Data(chunk) = extent {
                self.chunk(&chunk)?;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &ChunkRef) -> Result<Vec<u8>, ProofError> {
        let sealed = self.context.coordinator.read_chunk(&chunk.id, self.host)?;
        let keys = keys_of(&self.keys, chunk.scope)?;
        let bytes = self.opener.open_chunk(keys, chunk.scope, &chunk.content, &sealed)?;
        match bytes.len() == chunk.bytes as usize {
            true => Ok(bytes),
            false => Err(FormatError::Broken { what: "chunk", check: "length" }.into()),
        }
    }
}
