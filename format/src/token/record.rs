//! What the repository remembers of a token: its terms, the hash of the half that is sent, and what was sealed under
//! the half that is not.

use super::{Token, TokenAuth, TokenWrap};
use crate::aead;
use crate::codec::Encoder;
use crate::envelope::{Identity, Recipient, Role, unwrap, wrap};
use crate::error::FormatError;
use crate::id::{Digest, Scope};
use crate::key::GroupSecret;
use crate::layout::{self, Field};
use crate::sign::{self, VerifyingKey};
use crate::trust::secret_hash;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const WRAPPED: &str = "wrapped secret";
const NONCE_BYTES: usize = 12;

layout! {
    /// What a token is good for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenTerms {
        /// The site that its hosts hang from; may be empty.
        pub site: String,
        /// Glob that a host's name must match; empty: any.
        pub name_pattern: String,
        /// The group that its hosts become members of.
        pub group: String,
        /// When it ends: nanoseconds since 1970, UTC.
        pub expires_ns: i64,
        /// How many hosts may come with it.
        pub uses: u32,
    }
}

layout! {
    /// One secret of the group, sealed under the half of a token that is never sent.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct WrappedSecret {
        /// Its scope.
        pub scope: Scope,
        /// Whether it is the group's first one: cuts and boundaries come from it.
        pub first: bool,
        /// A nonce, then the sealed secret: 60 bytes.
        pub wrapped: Vec<u8>,
        /// The hash of the secret, as the trust file names it.
        pub secret_hash: Digest,
    }
}

impl WrappedSecret {
    /// Seals `secret` for whoever has the token of this number.
    pub fn seal(
        wrap: &TokenWrap,
        token_number: u64,
        scope: Scope,
        first: bool,
        secret: &GroupSecret,
    ) -> Result<Self, FormatError> {
        let nonce = sign::random::<NONCE_BYTES>()?;
        let key = Zeroizing::new(wrap.secret_key());
        let sealed = aead::seal(&key, *nonce, &aad(token_number, scope, first), secret.expose())?;
        let wrapped = [nonce.as_slice(), &sealed].concat();
        Ok(Self { scope, first, wrapped, secret_hash: secret_hash(secret) })
    }

    /// The secret. Compare it with the trust file before use ([`crate::trust::TrustFile::names_secret`]): the hash
    /// in here comes from who sent it.
    pub fn open(&self, wrap: &TokenWrap, token_number: u64) -> Result<GroupSecret, FormatError> {
        let broken = |check| FormatError::Broken { what: WRAPPED, check };
        let (nonce, sealed) = self.wrapped.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| broken("length"))?;
        let key = Zeroizing::new(wrap.secret_key());
        let secret = aead::open(WRAPPED, &key, *nonce, &aad(token_number, self.scope, self.first), sealed)?;
        let secret = Zeroizing::new(<[u8; 32]>::try_from(secret.as_slice()).map_err(|_| broken("length"))?);
        let secret = GroupSecret::from_bytes(*secret);
        match secret_hash(&secret) == self.secret_hash {
            true => Ok(secret),
            false => Err(broken("hash of the secret")),
        }
    }
}

fn aad(token_number: u64, scope: Scope, first: bool) -> Vec<u8> {
    let mut encoder = layout::begin(b"LBWS");
    encoder.u64(token_number);
    scope.put(&mut encoder);
    first.put(&mut encoder);
    encoder.finish()
}

/// What a new host says of itself.
#[derive(Debug, Clone, Copy)]
pub struct HostKeys<'a> {
    /// Its name.
    pub host_name: &'a str,
    /// Checks its manifests.
    pub signing_key: &'a VerifyingKey,
    /// Receives group secrets and grants.
    pub box_recipient: &'a Recipient,
    /// The certificate request for its TLS key (PKCS #10, DER).
    pub csr_der: &'a [u8],
}

/// Authenticates a new host's keys. Wiped on drop, never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MacKey([u8; 32]);

impl MacKey {
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Keyed BLAKE3 over the four fields, each behind its length.
    pub fn mac(&self, keys: &HostKeys<'_>) -> [u8; 32] {
        *self.hash(keys).as_bytes()
    }

    /// Whether the host that sent `keys` has the token; in constant time.
    pub fn check(&self, keys: &HostKeys<'_>, mac: &[u8; 32]) -> Result<(), FormatError> {
        match self.hash(keys) == *mac {
            true => Ok(()),
            false => Err(FormatError::Broken { what: "host's keys", check: "MAC under the token" }),
        }
    }

    fn hash(&self, keys: &HostKeys<'_>) -> blake3::Hash {
        let mut encoder = Encoder::new();
        encoder
            .bytes(keys.host_name.as_bytes())
            .bytes(keys.signing_key.as_bytes())
            .bytes(keys.box_recipient.to_string().as_bytes())
            .bytes(keys.csr_der);
        blake3::keyed_hash(&self.0, &encoder.finish())
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

layout! {
    /// A token, as the journal keeps it: enough to serve it, and nothing that opens it.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenRecord {
        /// Its number.
        pub number: u64,
        /// The hash of the half that is sent.
        pub auth_hash: Digest,
        /// What it is good for.
        pub terms: TokenTerms,
        /// The secrets of its group, all epochs, the scopes rising.
        pub secrets: Vec<WrappedSecret>,
        /// The key that checks its hosts' keys, sealed to those who made it.
        pub mac_key: Vec<u8>,
        /// For later versions; this one writes nothing and reads over it.
        pub extension: Vec<u8>,
    }
}

impl TokenRecord {
    /// Seals what the token's hosts will need, while its maker holds both the token and the group's secrets:
    /// `(scope, whether it is the group's first, secret)`, the scopes rising. `custodians` can check the hosts' keys
    /// later: the restore recipients.
    pub fn make(
        token: &Token,
        terms: TokenTerms,
        secrets: &[(Scope, bool, GroupSecret)],
        custodians: &[Recipient],
    ) -> Result<Self, FormatError> {
        let half = token.wrap();
        let seal = |(scope, first, secret): &(Scope, bool, GroupSecret)| {
            WrappedSecret::seal(&half, token.number(), *scope, *first, secret)
        };
        Ok(Self {
            number: token.number(),
            auth_hash: token.auth().hash(),
            terms,
            secrets: secrets.iter().map(seal).collect::<Result<_, _>>()?,
            mac_key: wrap(Role::TokenKey, &mac_place(token.number()), custodians, &half.mac_key().0)?,
            extension: Vec::new(),
        })
    }

    /// Whether `auth` is the half of this token that is sent.
    pub fn admits(&self, auth: &TokenAuth) -> bool {
        blake3::Hash::from_bytes(*auth.hash().as_bytes()) == *self.auth_hash.as_bytes()
    }

    /// The key that checks a host's keys, if `identity` is one of the custodians.
    pub fn open_mac_key(&self, identity: &Identity) -> Result<MacKey, FormatError> {
        let key = unwrap(Role::TokenKey, &mac_place(self.number), identity, &self.mac_key)?;
        let wrong = |_| FormatError::Broken { what: "token record", check: "length of the MAC key" };
        Ok(MacKey(key.as_slice().try_into().map_err(wrong)?))
    }
}

fn mac_place(token_number: u64) -> Vec<u8> {
    let mut encoder = layout::begin(b"LBTR");
    encoder.u64(token_number);
    encoder.finish()
}
