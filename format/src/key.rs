//! Group secrets and what comes from them. Everything here is wiped on drop and never printed.
//!
//! `K_x = derive_key("lifeboat 1 x", S)` for x in cut, path, hash, id, enc, nonce, where `S` is the secret of one
//! scope and `derive_key` is BLAKE3's (BLAKE3 specification, section 2.3). `K_cut` and `K_path` come from the group's
//! *first* secret, so that cuts and tree boundaries outlive a rotation.

use crate::id::ChunkId;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The secret that the hosts of one group share for one epoch: 32 random bytes.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct GroupSecret([u8; 32]);

impl GroupSecret {
    /// Takes bytes that are a secret: just drawn, or just unwrapped.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be wrapped for somebody.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for GroupSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupSecret(…)")
    }
}

/// `h`: the keyed hash of a plaintext. Whoever has it, and the scope's keys, can open the sealed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// How many bytes it has.
    pub const BYTES: usize = 32;

    /// Takes bytes that are a content hash: from an opened node, manifest or grant.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes. They belong only into sealed places.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentHash(…)")
    }
}

/// What opens data of one scope, given its content hash: all that a grant carries.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct OpenKeys {
    hash: [u8; 32],
    enc: [u8; 32],
}

impl OpenKeys {
    /// Takes `K_hash` and `K_enc` from an opened grant.
    pub fn from_parts(hash: [u8; 32], enc: [u8; 32]) -> Self {
        Self { hash, enc }
    }

    /// `K_hash` and `K_enc`, to be put into a grant.
    pub fn expose(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.hash, &self.enc)
    }

    /// `h = keyed(K_hash, plaintext)`.
    pub fn content_hash(&self, plaintext: &[u8]) -> ContentHash {
        ContentHash(*blake3::keyed_hash(&self.hash, plaintext).as_bytes())
    }

    /// `k = keyed(K_enc, h)`, the key of one sealed record.
    pub(crate) fn record_key(&self, content: &ContentHash) -> [u8; 32] {
        *blake3::keyed_hash(&self.enc, &content.0).as_bytes()
    }
}

/// All that a host derives from one scope's secret, and so can cut, name, seal and open.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ScopeKeys {
    cut: [u8; 32],
    path: [u8; 32],
    id: [u8; 32],
    nonce: [u8; 32],
    open: OpenKeys,
}

impl ScopeKeys {
    /// The keys of the scope with this `secret`; `first` is the first secret of the same group, the same one where
    /// nothing was ever rotated.
    pub fn derive(secret: &GroupSecret, first: &GroupSecret) -> Self {
        Self {
            cut: blake3::derive_key("lifeboat 1 cut", &first.0),
            path: blake3::derive_key("lifeboat 1 path", &first.0),
            id: blake3::derive_key("lifeboat 1 id", &secret.0),
            nonce: blake3::derive_key("lifeboat 1 nonce", &secret.0),
            open: OpenKeys {
                hash: blake3::derive_key("lifeboat 1 hash", &secret.0),
                enc: blake3::derive_key("lifeboat 1 enc", &secret.0),
            },
        }
    }

    /// The part that opens, and only opens.
    pub fn open_keys(&self) -> &OpenKeys {
        &self.open
    }

    /// `K_cut`, for cut points.
    pub(crate) fn cut(&self) -> &[u8; 32] {
        &self.cut
    }

    /// `id = keyed(K_id, h)`.
    pub fn chunk_id(&self, content: &ContentHash) -> ChunkId {
        ChunkId::from_bytes(*blake3::keyed_hash(&self.id, &content.0).as_bytes())
    }

    /// The first 8 bytes, little-endian, of `keyed(K_path, bytes)`: decides boundaries of leaves, nodes and bundles.
    pub fn boundary_hash(&self, bytes: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.path, bytes);
        u64::from_le_bytes(std::array::from_fn(|at| hash.as_bytes()[at]))
    }

    /// `n = keyed(K_nonce, aad ‖ f)[..12]`.
    pub(crate) fn nonce(&self, aad: &[u8], frame: &[u8]) -> [u8; 12] {
        let mut hasher = blake3::Hasher::new_keyed(&self.nonce);
        hasher.update(aad).update(frame);
        let hash = hasher.finalize();
        std::array::from_fn(|at| hash.as_bytes()[at])
    }
}

impl fmt::Debug for ScopeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeKeys(…)")
    }
}

impl fmt::Debug for OpenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpenKeys(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_and_boundaries_outlive_a_rotation_and_nothing_else_does() {
        let (first, second) = (GroupSecret([1; 32]), GroupSecret([2; 32]));
        let before = ScopeKeys::derive(&first, &first);
        let after = ScopeKeys::derive(&second, &first);
        assert_eq!(before.cut, after.cut);
        assert_eq!(before.boundary_hash(b"etc/fstab"), after.boundary_hash(b"etc/fstab"));
        assert_ne!(before.open.content_hash(b"x"), after.open.content_hash(b"x"));
        let content = before.open.content_hash(b"x");
        assert_ne!(before.chunk_id(&content), after.chunk_id(&content));
        assert_ne!(before.nonce(b"a", b"f"), after.nonce(b"a", b"f"));
    }

    #[test]
    fn inv_40_no_key_prints_itself() {
        let secret = GroupSecret([0x41; 32]);
        let keys = ScopeKeys::derive(&secret, &secret);
        let printed = format!("{secret:?} {keys:?} {:?} {:?}", keys.open_keys(), keys.open.content_hash(b"x"));
        assert_eq!(printed, "GroupSecret(…) ScopeKeys(…) OpenKeys(…) ContentHash(…)");
    }
}
