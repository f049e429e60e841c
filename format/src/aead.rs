//! AES-256-GCM over small structures. Sealing chunks and nodes is for `seal`.

use crate::error::FormatError;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// How many bytes sealing adds.
const TAG_BYTES: usize = 16;

/// Seals `plaintext`, bound to `aad`. The caller never uses one nonce twice with one key.
pub(crate) fn seal(key: &[u8; 32], nonce: [u8; 12], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, FormatError> {
    let mut sealed = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    sealed.extend_from_slice(plaintext);
    cipher(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed)
        .map_err(|_| FormatError::field("sealed structure", "length", plaintext.len(), "what AES-GCM can seal"))?;
    Ok(sealed)
}

/// Opens what [`seal`] sealed; `what` names it in the error.
pub(crate) fn open(
    what: &'static str,
    key: &[u8; 32],
    nonce: [u8; 12],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let plain_bytes = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
        .map_err(|_| FormatError::Broken { what, check: "authenticator" })?
        .len();
    buffer.truncate(plain_bytes);
    Ok(buffer)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, FormatError> {
    UnboundKey::new(&AES_256_GCM, key)
        .map(LessSafeKey::new)
        .map_err(|_| FormatError::field("sealing key", "length", key.len(), "32 bytes"))
}
