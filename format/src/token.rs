//! The token: one line that makes a server a host, and what the repository remembers of it.
//!
//! Its secret is split. `auth` is sent, and only its hash is kept. `wrap` is never sent: group secrets travel under
//! it, so a coordinator in strict custody passes them on unread; and the host's public keys go with a MAC under it,
//! so whoever made the token can tell the host's keys from somebody else's. Both are done when the token is made, by
//! who can read the group's secrets then: see [`TokenRecord::make`].

mod record;
mod text;

pub use record::{HostKeys, MacKey, TokenRecord, TokenTerms, WrappedSecret};

use crate::error::FormatError;
use crate::id::Digest;
use crate::sign;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// What a server needs to become a host. Wiped on drop, never printed but by [`Token::expose_text`].
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Token {
    #[zeroize(skip)]
    address: String,
    #[zeroize(skip)]
    trust_file: Digest,
    number: u64,
    secret: [u8; 16],
}

impl Token {
    /// Draws the secret of a new token. `address` is `HOST:PORT`, at most 300 bytes.
    pub fn generate(address: &str, trust_file: Digest, number: u64) -> Result<Self, FormatError> {
        let token = Self { address: address.to_owned(), trust_file, number, secret: *sign::random()? };
        Self::parse(&token.expose_text())
    }

    /// Where the coordinator listens: `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The digest of the trust file in force when the token was made. The agent takes no other.
    pub fn trust_file(&self) -> Digest {
        self.trust_file
    }

    /// Its number in the journal.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The half that is sent, over a channel that was checked.
    pub fn auth(&self) -> TokenAuth {
        TokenAuth(blake3::derive_key("lifeboat 1 auth", &self.secret))
    }

    /// The half that is never sent.
    pub fn wrap(&self) -> TokenWrap {
        TokenWrap(blake3::derive_key("lifeboat 1 wrap", &self.secret))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token {} for {}", self.number, self.address)
    }
}

/// The half of a token's secret that is sent: shows that the sender has the token. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenAuth([u8; 32]);

impl TokenAuth {
    /// Takes it out of a message.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be sent.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// What the repository keeps of it.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl fmt::Debug for TokenAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenAuth(…)")
    }
}

/// The half of a token's secret that is never sent. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct TokenWrap([u8; 32]);

impl TokenWrap {
    /// Seals group secrets.
    fn secret_key(&self) -> [u8; 32] {
        blake3::derive_key("lifeboat 1 wrapped secret", &self.0)
    }

    /// Authenticates the host's keys.
    pub fn mac_key(&self) -> MacKey {
        MacKey::from_bytes(blake3::derive_key("lifeboat 1 keys mac", &self.0))
    }
}

impl fmt::Debug for TokenWrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenWrap(…)")
    }
}

#[cfg(test)]
mod tests;
