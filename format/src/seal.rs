//! Sealing: content in, bytes out that only the scope's keys and the content hash open; and back, checking all.
//!
//! Equal content of one scope makes equal sealed bytes, so hosts share chunks without trusting each other. The key of
//! a record comes from its content, the nonce from everything that is encrypted or bound, so no key ever meets one
//! nonce with two frames or two associated data (INV-41). How content becomes a `frame` is told there; which bytes
//! make a chunk is for `cut`, what a node's plaintext means is for `tree`.
//!
//! # Layout
//! * associated data = format version (`u16`) ‖ kind (`u8`) ‖ scope (`u32`) ‖ cipher (`u8`) ‖ for a node, its links
//!   as they stand in its record. So a record opens only in its role (INV-13).
//! * sealed bytes `ct` = nonce (12) ‖ encrypted frame ‖ tag (16), AES-256-GCM.
//! * A chunk is stored as its `ct`. A node is stored as its record = links (see `link`) ‖ `ct`; the BLAKE3 hash of the
//!   record is its id.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{NodeId, Scope};
use crate::key::{ContentHash, OpenKeys, ScopeKeys};
use crate::link::{Link, decode_links, encode_links, node_height};
use frame::{Packer, Unpacker};
use record::{Bound, check_sealed_bytes, decrypt, encrypt};

pub use record::{CHUNK_BYTES_MAX, Cipher, Kind, NODE_BYTES_MAX, NODE_RECORD_BYTES_MAX, SEALED_CHUNK_BYTES_MAX};

mod frame;
mod record;
#[cfg(test)]
pub(crate) mod tests;

/// How often sealed bytes are also decompressed before they may leave (INV-12). Every one is decrypted again and
/// compared in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Each one: where cores are idle.
    Always,
    /// The first and then every eighth: where they are not. The verifier opens the rest.
    OneInEight,
}

/// Why something could not be sealed. None of these is about the file that was read.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The caller cut too large.
    #[error("a {what} of {bytes} bytes is too long to seal, at most {limit} fit; please report this as a fault")]
    TooLong {
        /// What was to be sealed.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The links cannot be those of a node.
    #[error("a node with such links cannot be sealed")]
    Links(#[from] FormatError),
    /// zstd failed: no memory, most likely.
    #[error("cannot compress a {what}")]
    Compression {
        /// What was to be sealed.
        what: &'static str,
        /// What zstd says.
        source: std::io::Error,
    },
    /// The sealed bytes are not those of the content, so they were thrown away.
    #[error("a sealed {what} did not open again ({check} does not hold): test this machine's memory")]
    Faulty {
        /// What was sealed.
        what: &'static str,
        /// What did not hold.
        check: &'static str,
    },
}

/// A node, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedNode {
    /// The BLAKE3 hash of the record.
    pub id: NodeId,
    /// Opens it; belongs into the node above, or the manifest.
    pub content: ContentHash,
    /// 1 + the greatest height among its links.
    pub height: u8,
    /// Links and sealed bytes: what is sent and stored.
    pub record: Vec<u8>,
}

/// Where a bit may flip on the way from content to sealed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Packed,
    Copied,
    Sealed,
}

/// Seals. Holds a zstd context and buffers: one a worker.
pub struct Sealer {
    packer: Packer,
    unpacker: Unpacker,
    check: Check,
    sealed: u64,
    frame: Vec<u8>,
    opened: Vec<u8>,
}

impl Sealer {
    /// A sealer that compresses with zstd at this `level` (3 where the policy says nothing). Fails only if zstd gets no
    /// memory for its context.
    pub fn new(level: i32, check: Check) -> Result<Self, SealError> {
        let packer = Packer::new(level).map_err(|source| SealError::Compression { what: "chunk", source })?;
        let (unpacker, frame, opened) = (Unpacker::default(), Vec::new(), Vec::new());
        Ok(Self { packer, unpacker, check, sealed: 0, frame, opened })
    }

    /// From now on, how often what is sealed is decompressed too.
    pub fn set_check(&mut self, check: Check) {
        self.check = check;
    }

    /// The sealed bytes of a chunk of at most [`CHUNK_BYTES_MAX`]; `content` is the content hash of its `plaintext`.
    pub fn seal_chunk(
        &mut self,
        keys: &ScopeKeys,
        scope: Scope,
        content: &ContentHash,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let bound = Bound { kind: Kind::Chunk, scope, links: &[] };
        self.seal(keys, &bound, content, plaintext, |_, _| ())
    }

    /// The record of a node of at most [`NODE_BYTES_MAX`], with at most [`LINKS_MAX`] links.
    pub fn seal_node(
        &mut self,
        keys: &ScopeKeys,
        scope: Scope,
        links: &[Link],
        plaintext: &[u8],
    ) -> Result<SealedNode, SealError> {
        let height = node_height(links)?;
        let content = keys.open_keys().content_hash(plaintext);
        let mut table = Encoder::new();
        encode_links(links, &mut table);
        let mut record = table.finish();
        let bound = Bound { kind: Kind::Node, scope, links: &record };
        let ct = self.seal(keys, &bound, &content, plaintext, |_, _| ())?;
        record.extend_from_slice(&ct);
        Ok(SealedNode { id: NodeId::from_bytes(*blake3::hash(&record).as_bytes()), content, height, record })
    }

    /// Packs, encrypts and checks. `between` sees the bytes after each stage: tests flip bits there.
    fn seal(
        &mut self,
        keys: &ScopeKeys,
        bound: &Bound<'_>,
        content: &ContentHash,
        plaintext: &[u8],
        mut between: impl FnMut(Stage, &mut [u8]),
    ) -> Result<Vec<u8>, SealError> {
        let (what, limit) = (bound.kind.name(), bound.kind.plain_bytes_max());
        if plaintext.len() > limit {
            return Err(SealError::TooLong { what, bytes: plaintext.len(), limit });
        }
        self.packer.pack(plaintext, &mut self.frame).map_err(|source| SealError::Compression { what, source })?;
        between(Stage::Packed, &mut self.frame);

        let mut ct = encrypt(keys, bound, content, &self.frame, |copy| between(Stage::Copied, copy))
            .ok_or(SealError::Faulty { what, check: "encryption" })?;
        between(Stage::Sealed, &mut ct);

        self.check(keys.open_keys(), bound, content, &ct)?;
        Ok(ct)
    }

    /// Whether what was just made opens to the frame and, when its turn has come, to the content (INV-12). Hashing the
    /// content again also finds what flipped before it was packed, which comparing with the plaintext would not.
    fn check(&mut self, keys: &OpenKeys, bound: &Bound<'_>, content: &ContentHash, ct: &[u8]) -> Result<(), SealError> {
        let what = bound.kind.name();
        let faulty = |check| SealError::Faulty { what, check };
        decrypt(keys, bound, content, ct, &mut self.opened).map_err(|_| faulty("authentication"))?;
        if self.opened != self.frame {
            return Err(faulty("comparison with the frame"));
        }
        let due = self.check == Check::Always || self.sealed.is_multiple_of(8);
        self.sealed += 1;
        if due {
            open_frame(&mut self.unpacker, keys, bound, content, &self.opened)
                .map_err(|_| faulty("comparison with the content"))?;
        }
        Ok(())
    }
}

/// Opens. Holds a zstd context and a buffer: one a worker.
#[derive(Default)]
pub struct Opener {
    unpacker: Unpacker,
    frame: Vec<u8>,
}

impl Opener {
    /// An opener.
    pub fn new() -> Self {
        Self::default()
    }

    /// The plaintext of a sealed chunk. It is the one with this content hash, or an error: any change of the bytes,
    /// another scope and another role are all [`FormatError::Broken`].
    pub fn open_chunk(
        &mut self,
        keys: &OpenKeys,
        scope: Scope,
        content: &ContentHash,
        ct: &[u8],
    ) -> Result<Vec<u8>, FormatError> {
        self.open(keys, &Bound { kind: Kind::Chunk, scope, links: &[] }, content, ct)
    }

    /// The links and the plaintext of a node's record, under the same conditions.
    pub fn open_node(
        &mut self,
        keys: &OpenKeys,
        scope: Scope,
        content: &ContentHash,
        record: &[u8],
    ) -> Result<(Vec<Link>, Vec<u8>), FormatError> {
        let (links, ct) = split_record(record)?;
        let table = &record[..record.len() - ct.len()];
        let plaintext = self.open(keys, &Bound { kind: Kind::Node, scope, links: table }, content, ct)?;
        Ok((links, plaintext))
    }

    fn open(
        &mut self,
        keys: &OpenKeys,
        bound: &Bound<'_>,
        content: &ContentHash,
        ct: &[u8],
    ) -> Result<Vec<u8>, FormatError> {
        decrypt(keys, bound, content, ct, &mut self.frame)?;
        open_frame(&mut self.unpacker, keys, bound, content, &self.frame)
    }
}

/// The links of a node's record, without any key: what the coordinator reads. Also checks that sealed bytes of a
/// possible length follow.
pub fn parse_links(record: &[u8]) -> Result<Vec<Link>, FormatError> {
    split_record(record).map(|(links, _)| links)
}

fn split_record(record: &[u8]) -> Result<(Vec<Link>, &[u8]), FormatError> {
    let mut decoder = Decoder::new(Kind::Node.name(), record);
    let links = decode_links(&mut decoder)?;
    let ct = decoder.rest();
    check_sealed_bytes(Kind::Node, ct.len())?;
    Ok((links, ct))
}

/// The content of an opened frame, if it is the one that was asked for.
fn open_frame(
    unpacker: &mut Unpacker,
    keys: &OpenKeys,
    bound: &Bound<'_>,
    content: &ContentHash,
    frame: &[u8],
) -> Result<Vec<u8>, FormatError> {
    let what = bound.kind.name();
    let plaintext = unpacker.unpack(what, frame, bound.kind.plain_bytes_max())?;
    if keys.content_hash(&plaintext) != *content {
        return Err(FormatError::Broken { what, check: "content hash" });
    }
    Ok(plaintext)
}
