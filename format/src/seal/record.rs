//! One sealed record: the role it is bound to, and its encryption.
//!
//! `seal` says the layout and what follows from it. Here is what both directions need: kinds, limits, associated data,
//! AES-256-GCM there and back. No compression, and no content hash: whoever decrypts must still check it.

use super::frame::HEADER_BYTES;
use crate::FORMAT_VERSION;
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::Scope;
use crate::key::{ContentHash, OpenKeys, ScopeKeys};
use crate::link::{LINK_BYTES, LINKS_MAX};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// The longest plaintext of a chunk.
pub const CHUNK_BYTES_MAX: usize = 768 << 10;

/// The longest plaintext of a node.
pub const NODE_BYTES_MAX: usize = 8 << 20;

/// The longest sealed chunk: that of the longest plaintext, with an eighth of padding.
pub const SEALED_CHUNK_BYTES_MAX: usize = sealed_bytes_max(CHUNK_BYTES_MAX);

/// The longest record of a node: every link that it may have, and the longest plaintext with an eighth of padding.
pub const NODE_RECORD_BYTES_MAX: usize = 4 + LINKS_MAX * LINK_BYTES + sealed_bytes_max(NODE_BYTES_MAX);

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

const fn sealed_bytes_max(plain_bytes: usize) -> usize {
    NONCE_BYTES + HEADER_BYTES + plain_bytes + plain_bytes / 8 + TAG_BYTES
}

/// What seals a scope's records. One a scope, not a machine: else equal content had two bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// AES-256-GCM; 1 on disk.
    Aes256Gcm,
}

impl Cipher {
    /// Its number on disk.
    pub const fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
        }
    }
}

/// The role in which a sealed record is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A piece of content; 1 on disk.
    Chunk,
    /// A node of a tree; 2 on disk.
    Node,
}

impl Kind {
    /// Its number on disk.
    pub const fn code(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Node => 2,
        }
    }

    /// The kind with this number, if there is one.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Chunk),
            2 => Some(Self::Node),
            _ => None,
        }
    }

    /// Its word, for errors.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Node => "node",
        }
    }

    pub(super) const fn plain_bytes_max(self) -> usize {
        match self {
            Self::Chunk => CHUNK_BYTES_MAX,
            Self::Node => NODE_BYTES_MAX,
        }
    }
}

/// What is bound to a record besides its frame.
pub(super) struct Bound<'a> {
    pub(super) kind: Kind,
    pub(super) scope: Scope,
    /// The encoded link list of a node; nothing for a chunk.
    pub(super) links: &'a [u8],
}

impl Bound<'_> {
    pub(super) fn associated_data(&self) -> Vec<u8> {
        let mut data = Encoder::new();
        data.u16(FORMAT_VERSION).u8(self.kind.code()).u32(self.scope.get()).u8(Cipher::Aes256Gcm.code());
        data.raw(self.links);
        data.finish()
    }
}

/// The key of one record, ready for use. `None` cannot happen with a key of 32 bytes.
fn record_key(keys: &OpenKeys, content: &ContentHash) -> Option<LessSafeKey> {
    let key = Zeroizing::new(keys.record_key(content));
    UnboundKey::new(&AES_256_GCM, &key[..]).ok().map(LessSafeKey::new)
}

/// Nonce, encrypted `frame`, tag. `between` sees the copy before it is encrypted. `None` cannot happen with the lengths
/// that frames have.
pub(super) fn encrypt(
    keys: &ScopeKeys,
    bound: &Bound<'_>,
    content: &ContentHash,
    frame: &[u8],
    between: impl FnOnce(&mut [u8]),
) -> Option<Vec<u8>> {
    let associated = bound.associated_data();
    let nonce = keys.nonce(&associated, frame);
    let mut ct = Vec::with_capacity(NONCE_BYTES + frame.len() + TAG_BYTES);
    ct.extend_from_slice(&nonce);
    ct.extend_from_slice(frame);
    between(&mut ct);
    let key = record_key(keys.open_keys(), content)?;
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&associated), &mut ct[NONCE_BYTES..]).ok()?;
    ct.extend_from_slice(tag.as_ref());
    Some(ct)
}

/// Replaces `frame` by what `ct` opens to.
pub(super) fn decrypt(
    keys: &OpenKeys,
    bound: &Bound<'_>,
    content: &ContentHash,
    ct: &[u8],
    frame: &mut Vec<u8>,
) -> Result<(), FormatError> {
    check_sealed_bytes(bound.kind, ct.len())?;
    let mut decoder = Decoder::new(bound.kind.name(), ct);
    let nonce = Nonce::assume_unique_for_key(decoder.array("nonce")?);
    let (encrypted, tag) = decoder.rest().split_at(decoder.rest().len() - TAG_BYTES);
    frame.resize(encrypted.len(), 0);
    record_key(keys, content)
        .and_then(|key| key.open_separate_gather(nonce, Aad::from(bound.associated_data()), encrypted, tag, frame).ok())
        .ok_or(FormatError::Broken { what: bound.kind.name(), check: "authentication" })
}

/// Whether sealed bytes (of a node, without its links) can be so many.
pub(super) fn check_sealed_bytes(kind: Kind, bytes: usize) -> Result<(), FormatError> {
    let (least, most) = (NONCE_BYTES + HEADER_BYTES + TAG_BYTES, sealed_bytes_max(kind.plain_bytes_max()));
    if !(least..=most).contains(&bytes) {
        return Err(FormatError::field(kind.name(), "sealed length", bytes, format!("{least} to {most}")));
    }
    Ok(())
}
