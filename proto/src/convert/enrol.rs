//! How a server becomes a host: `EnrolService`, and `Renew`.

use super::*;
use lifeboat_format::id::{HostId, Scope};

/// The public half of what a host is, and the token that lets it in.
#[derive(Clone, PartialEq, Eq)]
pub struct Enrol {
    /// Which token.
    pub token_number: u64,
    /// The half of its secret that may be sent.
    pub auth: [u8; 32],
    /// What the host wants to be called.
    pub host_name: HostName,
    /// Ed25519 public key.
    pub signing_key: [u8; 32],
    /// age recipient, "age1…".
    pub box_recipient: String,
    /// Certificate request, PKCS #10.
    pub csr_der: Bytes,
    /// Over the four fields before it, under the half of the token that is never sent.
    pub keys_mac: [u8; 32],
    /// Over the MAC, by the signing key.
    pub signature: [u8; 64],
}

impl TryFrom<v1::EnrolRequest> for Enrol {
    type Error = ConvertError;

    fn try_from(message: v1::EnrolRequest) -> Result<Self, ConvertError> {
        at_most("box_recipient", message.box_recipient.len(), 128, "bytes")?;
        Ok(Self {
            token_number: message.token_number,
            auth: array("auth", &message.auth)?,
            host_name: message.host_name.parse()?,
            signing_key: array("signing_key", &message.signing_key)?,
            box_recipient: message.box_recipient,
            csr_der: some_bytes("csr_der", message.csr_der, limits::CERTIFICATE_BYTES_MAX)?,
            keys_mac: array("keys_mac", &message.keys_mac)?,
            signature: array("signature", &message.signature)?,
        })
    }
}

impl From<Enrol> for v1::EnrolRequest {
    fn from(enrol: Enrol) -> Self {
        Self {
            token_number: enrol.token_number,
            auth: Bytes::copy_from_slice(&enrol.auth),
            host_name: enrol.host_name.to_string(),
            signing_key: Bytes::copy_from_slice(&enrol.signing_key),
            box_recipient: enrol.box_recipient,
            csr_der: enrol.csr_der,
            keys_mac: Bytes::copy_from_slice(&enrol.keys_mac),
            signature: Bytes::copy_from_slice(&enrol.signature),
        }
    }
}

/// A group secret, still wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// Its scope.
    pub scope: Scope,
    /// Whether cuts and boundaries of the group come from it.
    pub first: bool,
    /// As the format's "Token" says.
    pub wrapped: Bytes,
    /// As the trust file names it.
    pub secret_hash: [u8; 32],
}

/// The host is one now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Its number, for ever.
    pub host: HostId,
    /// Its certificate, DER.
    pub certificate_der: Bytes,
    /// The secrets of its group.
    pub secrets: Vec<Wrapped>,
    /// The journal head that holds the enrolment.
    pub head: UncheckedHead,
}

impl TryFrom<v1::EnrolResponse> for Enrolled {
    type Error = ConvertError;

    fn try_from(message: v1::EnrolResponse) -> Result<Self, ConvertError> {
        at_most("secrets", message.secrets.len(), 4096, "secrets")?;
        if message.host == 0 {
            return Err(ConvertError::new("host", "is 0, which is no host"));
        }
        Ok(Self {
            host: HostId::new(message.host),
            certificate_der: some_bytes("certificate_der", message.certificate_der, limits::CERTIFICATE_BYTES_MAX)?,
            secrets: message.secrets.into_iter().map(Wrapped::try_from).collect::<Result<_, _>>()?,
            head: required("head", message.head)?.try_into()?,
        })
    }
}

impl From<Enrolled> for v1::EnrolResponse {
    fn from(enrolled: Enrolled) -> Self {
        Self {
            host: enrolled.host.get(),
            certificate_der: enrolled.certificate_der,
            secrets: enrolled.secrets.into_iter().map(Into::into).collect(),
            head: Some(enrolled.head.into()),
        }
    }
}

impl TryFrom<v1::WrappedSecret> for Wrapped {
    type Error = ConvertError;

    fn try_from(message: v1::WrappedSecret) -> Result<Self, ConvertError> {
        Ok(Self {
            scope: Scope::new(message.scope),
            first: message.first,
            wrapped: some_bytes("secrets.wrapped", message.wrapped, 4096)?,
            secret_hash: array("secrets.secret_hash", &message.secret_hash)?,
        })
    }
}

impl From<Wrapped> for v1::WrappedSecret {
    fn from(wrapped: Wrapped) -> Self {
        Self {
            scope: wrapped.scope.get(),
            first: wrapped.first,
            wrapped: wrapped.wrapped,
            secret_hash: Bytes::copy_from_slice(&wrapped.secret_hash),
        }
    }
}

/// The trust file's bytes out of an answer.
pub fn trust_file(message: v1::GetTrustResponse) -> Result<Bytes, ConvertError> {
    some_bytes("trust_file", message.trust_file, limits::TRUST_FILE_BYTES_MAX)
}

/// The request for a new certificate.
pub fn renewal(message: v1::RenewRequest) -> Result<Bytes, ConvertError> {
    some_bytes("csr_der", message.csr_der, limits::CERTIFICATE_BYTES_MAX)
}

/// The new certificate out of an answer.
pub fn certificate(message: v1::RenewResponse) -> Result<Bytes, ConvertError> {
    some_bytes("certificate_der", message.certificate_der, limits::CERTIFICATE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enrolment_with_a_short_key_is_refused_with_the_field_named() {
        let message = v1::EnrolRequest {
            auth: Bytes::from_static(&[0; 32]),
            host_name: "web-1".to_owned(),
            signing_key: Bytes::from_static(&[0; 31]),
            ..Default::default()
        };
        let Err(error) = Enrol::try_from(message) else { panic!("accepted") };
        assert_eq!(error.to_string(), "signing_key has 31 bytes, needs 32");
    }
}
