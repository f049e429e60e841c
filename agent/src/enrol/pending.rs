//! The keys of an enrolment whose answer has not come yet.
//!
//! The first key that presents a token owns it. So the keys are kept before they are sent, and an attempt that lost
//! its answer is made again with the same ones, not refused.

use crate::error::AgentError;
use crate::identity::{HostKeys, TlsKey};
use crate::state::{StateDir, StateError};
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::envelope;
use lifeboat_format::id::Digest;
use lifeboat_format::sign::SigningKey;
use lifeboat_format::token::Token;
use lifeboat_proto::convert::HostName;
use lifeboat_proto::limits::{CERTIFICATE_BYTES_MAX, HOST_NAME_MAX};
use lifeboat_proto::status::ErrorClass;
use zeroize::Zeroizing;

const FILE: &str = "enrolling";
const WHAT: &str = "unfinished enrolment";

/// Keys that were made for one token and one name.
#[derive(Debug)]
pub struct Pending {
    /// Signing and box keys.
    pub keys: HostKeys,
    /// The TLS key.
    pub tls: TlsKey,
    /// The certificate request; its signature is drawn anew each time, so it is kept too.
    pub csr_der: Vec<u8>,
}

impl Pending {
    /// The keys of an earlier attempt with the same token and name, else new ones, on disk. A host that enrols again keeps
    /// its own keys, `before`, and gets a new TLS key only.
    pub fn take_up(
        state: &StateDir,
        token: &Token,
        name: &HostName,
        before: Option<HostKeys>,
    ) -> Result<Self, AgentError> {
        let purpose = purpose(token, name);
        if let Some(bytes) = state.read_secret(FILE)?
            && let Ok(Some(pending)) = Self::decode(&bytes, &purpose)
        {
            return Ok(pending);
        }
        let no_key = |error: &dyn std::error::Error| {
            AgentError::new(ErrorClass::Internal, format!("cannot make keys for this host: {error}"))
        };
        let keys = before.map_or_else(HostKeys::generate, Ok).map_err(|error| no_key(&error))?;
        let tls = TlsKey::generate().map_err(|error| no_key(&error))?;
        let csr_der = tls.request(name.as_str()).map_err(|error| no_key(&error))?;
        let pending = Self { keys, tls, csr_der };
        state.write_secret(FILE, &pending.encode(&purpose))?;
        Ok(pending)
    }

    /// The enrolment is complete, and the keys stand elsewhere.
    pub fn forget(state: &StateDir) -> Result<(), StateError> {
        let path = state.path().join(FILE);
        std::fs::remove_file(&path).map_err(StateError::at("remove", &path))
    }

    fn encode(&self, purpose: &(Digest, &str)) -> Zeroizing<Vec<u8>> {
        let mut encoder = Encoder::new();
        encoder.raw(purpose.0.as_bytes()).bytes(purpose.1.as_bytes());
        encoder.raw(&*self.keys.signing.expose_seed());
        encoder.bytes(self.keys.unboxer.expose_text().as_bytes());
        encoder.bytes(&self.tls.expose_der()).bytes(&self.csr_der);
        Zeroizing::new(encoder.finish())
    }

    /// None if it was for another token or name.
    fn decode(bytes: &[u8], purpose: &(Digest, &str)) -> Result<Option<Self>, FormatError> {
        let mut decoder = Decoder::new(WHAT, bytes);
        let token = Digest::from_bytes(decoder.array("token")?);
        if (token, decoder.text("name", HOST_NAME_MAX as u64)?) != *purpose {
            return Ok(None);
        }
        let seed = Zeroizing::new(decoder.array("signing key")?);
        let unboxer = envelope::Identity::from_text(decoder.text("box key", 256)?)?;
        let tls = TlsKey::from_der(decoder.bytes("TLS key", CERTIFICATE_BYTES_MAX as u64)?)
            .map_err(|_| FormatError::Broken { what: WHAT, check: "TLS key" })?;
        let csr_der = decoder.bytes("request", CERTIFICATE_BYTES_MAX as u64)?.to_vec();
        decoder.end()?;
        Ok(Some(Self { keys: HostKeys { signing: SigningKey::from_seed(&seed), unboxer }, tls, csr_der }))
    }
}

/// What the keys are for. The token's hash names it without giving it away.
fn purpose<'n>(token: &Token, name: &'n HostName) -> (Digest, &'n str) {
    (token.auth().hash(), name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_50_a_second_attempt_with_the_same_token_presents_the_same_keys() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let token = |number| Token::generate("backup.example:7420", Digest::of(b"trust"), number).unwrap();
        let (token, other) = (token(1), token(2));
        let (web, mail) = ("web-1".parse().unwrap(), "mail-1".parse().unwrap());
        let first = Pending::take_up(&state, &token, &web, None).unwrap();
        let again = Pending::take_up(&state, &token, &web, None).unwrap();
        let key = |pending: &Pending| pending.keys.signing.verifying_key();
        assert_eq!((key(&first), &first.csr_der), (key(&again), &again.csr_der));
        let renamed = Pending::take_up(&state, &token, &mail, None).unwrap();
        assert_ne!(key(&first), key(&renamed));
        assert_ne!(key(&renamed), key(&Pending::take_up(&state, &other, &mail, None).unwrap()));
        let returning = Pending::take_up(&state, &token, &web, Some(first.keys.clone())).unwrap();
        assert_eq!(key(&first), key(&returning), "a host that enrols again keeps its keys");
        assert_ne!(first.csr_der, returning.csr_der, "but not its TLS key");
    }
}
