//! The signed head of a snapshot: what it is, in clear; how to open its tree, sealed.
//!
//! The clear part is what a coordinator needs to keep and clean up, without any key. The sealed part holds the root's
//! content hash, without which nothing below it opens. It is sealed once, under a key drawn for it alone, bound to
//! the clear part; where that key lies is for `envelope`. The host signs both. Packs, manifests and key objects alone,
//! with one key, restore all data (INV-4).
//!
//! A host's manifests of one source set form a chain: each has the next sequence, and names the one before (INV-43).

mod sealed;

pub use sealed::{GAP_BYTES_MAX, GAPS_MAX, Gap, ManifestKey, SOURCES_MAX, SealedPart};

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{Digest, HostId, NodeId, RepositoryId, Scope, SnapshotId};
use crate::layout::{self, Field};
use crate::link::HEIGHT_MAX;
use crate::sign::{Purpose, Signature, SigningKey, VerifyingKey};

const WHAT: &str = "manifest";
const MAGIC: &[u8; 4] = b"LBMF";
/// The most bytes that a manifest has.
pub const MANIFEST_BYTES_MAX: usize = 6 << 20;

/// The most parts of a source set that a manifest counts apart.
pub const PARTS_MAX: usize = 4096;

/// Where a tree begins; all but its content hash, which is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootRef {
    /// The root node.
    pub id: NodeId,
    /// Its height, 1 to 16.
    pub height: u8,
    /// The scope in which it is sealed.
    pub scope: Scope,
}

impl Field for RootRef {
    fn put(&self, to: &mut Encoder) {
        self.id.put(to);
        to.u8(self.height);
        self.scope.put(to);
    }

    fn take(from: &mut Decoder<'_>, _: &'static str) -> Result<Self, FormatError> {
        let id = Field::take(from, "root id")?;
        let height = from.u8("root height")?;
        if !(1..=HEIGHT_MAX).contains(&height) {
            return Err(FormatError::field(from.what(), "root height", height, "1 to 16"));
        }
        Ok(Self { id, height, scope: Field::take(from, "root scope")? })
    }
}

tagged! {
    /// How a snapshot ended. A run that failed leaves none.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Outcome {
        /// Everything that the source set names is in it.
        1 => Complete,
        /// Everything but what its gaps name.
        2 => Gaps,
        /// What a long run left on its way.
        3 => Checkpoint,
    }
}

layout! {
    /// What a run found, read and sent.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Counts {
        /// Entries of the tree, directories and all.
        pub entries: u64,
        /// Regular files among them.
        pub files: u64,
        /// Bytes in these files.
        pub content_bytes: u64,
        /// Bytes that were read, because a file was new or had changed.
        pub read_bytes: u64,
        /// Sealed bytes that went up.
        pub sent_bytes: u64,
        /// What could not be read; all are counted here, also those that the sealed part has no room to name.
        pub gaps: u64,
    }
}

layout! {
    /// What everybody may know of a snapshot.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Clear {
        /// The repository that it belongs to.
        pub repository: RepositoryId,
        /// The host whose files these are, and that signs.
        pub host: HostId,
        /// The source set's name: 1 to 64 of a–z, 0–9, `-`, `_`.
        pub source_set: String,
        /// Its number among this host's manifests of this source set, from 1.
        pub sequence: u64,
        /// The one with the number before; none before the first.
        pub previous: Option<SnapshotId>,
        /// Where its tree begins.
        pub root: RootRef,
        /// When the run began, by the agent's clock: nanoseconds since 1970, UTC.
        pub started_ns: i64,
        /// When the walk had ended, likewise.
        pub ended_ns: i64,
        /// How it ended.
        pub outcome: Outcome,
        /// What was found, read and sent.
        pub counts: Counts,
        /// The agent's version, for people.
        pub agent_version: String,
        /// The encoder that made its new bytes ([`crate::ENCODER_VERSION`]).
        pub encoder: u16,
        /// How much is in each part of the source set, rising by `id`; at most [`PARTS_MAX`].
        pub parts: Vec<Part>,
        /// For later versions; this one writes nothing and reads over it.
        pub extension: Vec<u8>,
    }
}

layout! {
    /// What a source set has below one source path or on one file system: a part that disappears by itself when a disk
    /// is not mounted.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Part {
        /// The boundary hash of the part's topmost path ([`ScopeKeys::boundary_hash`](crate::key::ScopeKeys)): the
        /// same part has the same one in each snapshot, and it tells nobody the path.
        pub id: u64,
        /// Entries, directories and all, without those of a part further down.
        pub entries: u64,
        /// Regular files among them.
        pub files: u64,
        /// Bytes in these files.
        pub bytes: u64,
    }
}

impl Clear {
    /// What the layout alone does not say.
    fn check(&self) -> Result<(), FormatError> {
        let wrong = |field, found: String, allowed| Err(FormatError::field(WHAT, field, found, allowed));
        if self.host == HostId::WITNESSED {
            return wrong("host", "0".into(), "a host's number, from 1");
        }
        if !is_source_set_name(&self.source_set) {
            return wrong("source set", self.source_set.escape_debug().to_string(), "1 to 64 of a-z, 0-9, '-', '_'");
        }
        if self.sequence == 0 || (self.sequence == 1) != self.previous.is_none() {
            return wrong("sequence", self.sequence.to_string(), "1 without a previous manifest, or more with one");
        }
        layout::rising(WHAT, "parts", &self.parts.iter().map(|part| part.id).collect::<Vec<_>>())?;
        if self.parts.len() > PARTS_MAX {
            return wrong("parts", self.parts.len().to_string(), "at most 4,096");
        }
        if (self.outcome == Outcome::Complete) && self.counts.gaps != 0 {
            return wrong("outcome", "complete".into(), "complete only without gaps");
        }
        Ok(())
    }
}

/// Whether this may name a source set: 1 to 64 of a–z, 0–9, `-`, `_`.
pub fn is_source_set_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

/// A manifest: its bytes, and what stands in them in clear.
#[derive(Clone, PartialEq, Eq)]
pub struct Manifest {
    bytes: Vec<u8>,
    clear: Clear,
    /// Where the clear part ends.
    clear_bytes: usize,
    sealed: Vec<u8>,
    signature: Signature,
}

impl Manifest {
    /// Seals and signs a manifest. The key is drawn here, for this manifest alone: wrap it into an
    /// [`Envelope`](crate::envelope::Envelope), then forget it.
    ///
    /// # Errors
    /// When a field is not what [`Manifest::parse`] takes.
    pub fn seal(clear: &Clear, part: &SealedPart, key: &SigningKey) -> Result<(Self, ManifestKey), FormatError> {
        let mut encoder = layout::begin(MAGIC);
        clear.put(&mut encoder);
        let manifest_key = ManifestKey::generate()?;
        let aad = encoder.finish();
        let sealed = part.seal(&manifest_key, &aad)?;
        let mut encoder = Encoder::new();
        encoder.raw(&aad).bytes(&sealed);
        let mut bytes = encoder.finish();
        let signature = key.sign(Purpose::Manifest, &bytes);
        bytes.extend_from_slice(signature.as_bytes());
        Ok((Self::parse(&bytes)?, manifest_key))
    }

    /// Reads a manifest's shape and its clear part; needs no key and proves nothing about who made it.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", bytes.len(), "at most 6 MiB"));
        }
        let mut decoder = layout::open(WHAT, MAGIC, bytes)?;
        let clear = Clear::take(&mut decoder, "clear part")?;
        clear.check()?;
        let clear_bytes = bytes.len() - decoder.rest().len();
        let sealed = Vec::<u8>::take(&mut decoder, "sealed part")?;
        let signature = Field::take(&mut decoder, "signature")?;
        decoder.end()?;
        Ok(Self { bytes: bytes.to_vec(), clear, clear_bytes, sealed, signature })
    }

    /// Whether the host with this key made it, as it stands.
    pub fn verify(&self, host_key: &VerifyingKey) -> Result<(), FormatError> {
        let signed = &self.bytes[..self.bytes.len() - Signature::BYTES];
        host_key.verify(Purpose::Manifest, signed, &self.signature)
    }

    /// Opens the sealed part with the key from the envelope.
    pub fn open(&self, key: &ManifestKey) -> Result<SealedPart, FormatError> {
        SealedPart::open(key, &self.bytes[..self.clear_bytes], &self.sealed)
    }

    /// The snapshot's name: the hash of these bytes.
    pub fn id(&self) -> SnapshotId {
        SnapshotId::from_bytes(*Digest::of(&self.bytes).as_bytes())
    }

    /// What everybody may know.
    pub fn clear(&self) -> &Clear {
        &self.clear
    }

    /// Its bytes, as they stand in the repository.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest {:?} of {:?} {}", self.id(), self.clear.host, self.clear.source_set)
    }
}

#[cfg(test)]
mod tests;
