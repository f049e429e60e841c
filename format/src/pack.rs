//! Packs: sealed records back to back, and at the end what they are. `writer` makes one, `reader` trusts none.
//!
//! # Layout
//! Integers are little-endian; reserved bytes are zero, and checked.
//!
//! | offset  | bytes     | field   | value                                                                  |
//! | ------- | --------- | ------- | ---------------------------------------------------------------------- |
//! | 0       | 8         | magic   | 89 4C 42 50 0D 0A 1A 0A: shows damage by text transfer                 |
//! | 8       | 2, 6      | version | 1, then reserved                                                       |
//! | 16      | …         | records | c times: the length (`u32`) of a sealed chunk or node record, then its bytes |
//! | …       | 92·c      | footer  | a record: id (32), digest (32), offset (8), length (4), host (4), scope (4), encoder (2), kind, height, format version (2), cipher, reserved |
//! | end-104 | 8, 32, 64 | trailer | c; the BLAKE3 hash of header, footer and c; the signature              |
//!
//! The hash is the pack's id. The coordinator's log key signs it, for the purpose `lifeboat 1 pack` (see `sign`).
//!
//! A pack is valid if and only if (1) magic and version are known, (2) the hash and the signature hold, (3) the records
//! lie from 16 to the footer without gap or overlap, each behind its length, (4) each matches its digest. Also: a chunk
//! has height 0, a node its own, 1 to 16; and a node's digest is its id. Footer last: one pass writes the pack; a
//! rebuild reads and checks footers alone; nothing needs a key. The lengths before the records are for a pack whose end
//! is lost: it can still be walked.

use crate::FORMAT_VERSION;
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{ChunkId, Digest, HostId, NodeId, PackId, Scope};
use crate::link::{HEIGHT_MAX, Target};
use crate::seal::{Cipher, Kind, NODE_RECORD_BYTES_MAX, SEALED_CHUNK_BYTES_MAX};
use crate::sign::Signature;

pub use reader::{Footer, verify_framed, verify_record};
pub use writer::{Finished, PackWriteError, PackWriter};

mod reader;
#[cfg(test)]
mod tests;
mod writer;

/// Magic, version and reserved bytes.
pub const HEADER_BYTES: usize = 16;

/// The length that stands before each record.
pub const LENGTH_BYTES: usize = 4;

/// What the footer says of one record.
pub const FOOTER_RECORD_BYTES: usize = 92;

/// Count, hash and signature.
pub const TRAILER_BYTES: usize = 104;

/// How many records a pack may hold: its footer, some 90 MB then, is read into memory whole.
pub const RECORDS_MAX: u64 = 1 << 20;

const MAGIC: [u8; 8] = [0x89, b'L', b'B', b'P', 0x0d, 0x0a, 0x1a, 0x0a];
const VERSION: u16 = 1;

const _: () = {
    assert!(MAGIC.len() + 2 + 6 == HEADER_BYTES);
    assert!(ChunkId::BYTES + Digest::BYTES + 8 + 4 + 4 + 4 + 2 + 1 + 1 + 2 + 1 + 1 == FOOTER_RECORD_BYTES);
    assert!(ChunkId::BYTES == NodeId::BYTES && 8 + Digest::BYTES + Signature::BYTES == TRAILER_BYTES);
    assert!(SEALED_CHUNK_BYTES_MAX < NODE_RECORD_BYTES_MAX && NODE_RECORD_BYTES_MAX <= u32::MAX as usize);
};

/// What is known of sealed bytes without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The chunk or node that they are.
    pub target: Target,
    /// 0 for a chunk; a node's height, 1 to 16.
    pub height: u8,
    /// Of all the bytes; for a node the same as its id.
    pub digest: Digest,
    /// Who brought them.
    pub host: HostId,
    /// Whose keys sealed them.
    pub scope: Scope,
    /// [`crate::ENCODER_VERSION`] of who sealed them.
    pub encoder: u16,
}

/// Where sealed bytes lie in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the start of the pack to the record itself; its length stands before it.
    pub offset: u64,
    /// How many bytes: for a node its whole record, links included.
    pub length: u32,
}

impl Place {
    /// Offset and number of bytes of the record with the length that stands before it.
    pub fn framed(&self) -> (u64, usize) {
        (self.offset.saturating_sub(LENGTH_BYTES as u64), self.length as usize + LENGTH_BYTES)
    }
}

/// A record of the footer: what the bytes are, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FooterRecord {
    /// What is known of the bytes.
    pub record: Record,
    /// Where they lie.
    pub place: Place,
}

impl Record {
    /// Its role.
    pub fn kind(&self) -> Kind {
        match self.target {
            Target::Chunk(_) => Kind::Chunk,
            Target::Node(_) => Kind::Node,
        }
    }

    /// Whether height, digest and this length can be those of its kind.
    fn check(&self, length: usize) -> Result<(), FormatError> {
        const WHAT: &str = "pack record";
        let (heights, bytes_max) = match self.target {
            Target::Chunk(_) => (0..=0, SEALED_CHUNK_BYTES_MAX),
            Target::Node(_) => (1..=HEIGHT_MAX, NODE_RECORD_BYTES_MAX),
        };
        if !heights.contains(&self.height) {
            let allowed = format!("{} to {}", heights.start(), heights.end());
            return Err(FormatError::field(WHAT, "height", self.height, allowed));
        }
        if !(1..=bytes_max).contains(&length) {
            return Err(FormatError::field(WHAT, "length", length, format!("1 to {bytes_max}")));
        }
        match self.target {
            Target::Node(id) if id.as_bytes() != self.digest.as_bytes() => {
                Err(FormatError::Broken { what: "node", check: "digest = id" })
            }
            _ => Ok(()),
        }
    }
}

impl FooterRecord {
    fn encode(&self, encoder: &mut Encoder) {
        let (record, place) = (&self.record, &self.place);
        match &record.target {
            Target::Chunk(id) => encoder.raw(id.as_bytes()),
            Target::Node(id) => encoder.raw(id.as_bytes()),
        };
        encoder.raw(record.digest.as_bytes()).u64(place.offset).u32(place.length);
        encoder.u32(record.host.get()).u32(record.scope.get()).u16(record.encoder);
        encoder.u8(record.kind().code()).u8(record.height);
        encoder.u16(FORMAT_VERSION).u8(Cipher::Aes256Gcm.code()).u8(0);
    }

    fn decode(decoder: &mut Decoder<'_>) -> Result<Self, FormatError> {
        let id = decoder.array("id")?;
        let digest = Digest::from_bytes(decoder.array("digest")?);
        let place = Place { offset: decoder.u64("offset")?, length: decoder.u32("length")? };
        let host = HostId::new(decoder.u32("host")?);
        let scope = Scope::new(decoder.u32("scope")?);
        let encoder = decoder.u16("encoder")?;
        let kind = decoder.u8("kind")?;
        let height = decoder.u8("height")?;
        check_made(decoder)?;
        let target = match Kind::from_code(kind) {
            Some(Kind::Chunk) => Target::Chunk(ChunkId::from_bytes(id)),
            Some(Kind::Node) => Target::Node(NodeId::from_bytes(id)),
            None => return Err(FormatError::field(decoder.what(), "kind", kind, "1 (chunk) or 2 (node)")),
        };
        let record = Record { target, height, digest, host, scope, encoder };
        record.check(place.length as usize)?;
        Ok(Self { record, place })
    }
}

/// Whether a record is of the one version, and under the one cipher, that this code reads (INV-55).
fn check_made(decoder: &mut Decoder<'_>) -> Result<(), FormatError> {
    const WHAT: &str = "pack record";
    match (decoder.u16("format version")?, decoder.u8("cipher")?, decoder.u8("reserved")?) {
        (FORMAT_VERSION, cipher, 0) if cipher == Cipher::Aes256Gcm.code() => Ok(()),
        (FORMAT_VERSION, cipher, 0) => Err(FormatError::field(WHAT, "cipher", cipher, "1 (AES-256-GCM)")),
        (FORMAT_VERSION, _, reserved) => Err(FormatError::field(WHAT, "reserved byte", reserved, "0")),
        (found, ..) => Err(FormatError::Version { what: WHAT, found, known: "1" }),
    }
}

/// The first bytes of every pack of this version.
fn header() -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header
}

/// The hash in the trailer, which names the pack.
fn pack_id(header: &[u8], footer: &[u8], count: u64) -> PackId {
    let hash = blake3::Hasher::new().update(header).update(footer).update(&count.to_le_bytes()).finalize();
    PackId::from_bytes(*hash.as_bytes())
}
