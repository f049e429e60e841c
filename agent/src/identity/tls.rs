//! The host's TLS key and certificate, in one file so that they change together.

use crate::state::{StateDir, StateError};
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

const FILE: &str = "tls";
/// Neither key nor certificate is nearly as long.
const PART_BYTES_MAX: u64 = 64 << 10;

/// A certificate that does not go with this host's key.
#[derive(Debug, thiserror::Error)]
#[error("the coordinator sent a certificate for another key than this host's")]
pub struct ForAnotherKey;

/// A TLS key without a certificate yet: P-256, made here.
pub struct TlsKey(KeyPair);

impl TlsKey {
    /// Draws a new key.
    pub fn generate() -> Result<Self, rcgen::Error> {
        KeyPair::generate().map(Self)
    }

    /// The key of these bytes (PKCS #8, DER).
    pub fn from_der(der: &[u8]) -> Result<Self, rcgen::Error> {
        KeyPair::try_from(&PrivatePkcs8KeyDer::from(der)).map(Self)
    }

    /// Its bytes (PKCS #8, DER), to be kept in a file of mode 0600.
    pub fn expose_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.serialize_der())
    }

    /// A request (PKCS #10, DER) for a certificate of this key. The name in it is for people; the coordinator decides.
    pub fn request(&self, host_name: &str) -> Result<Vec<u8>, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, host_name);
        params.serialize_request(&self.0).map(|request| request.der().to_vec())
    }

    /// The key with its certificate. Fails if the certificate is for another key.
    pub fn with_certificate(self, certificate_der: &[u8]) -> Result<TlsIdentity, ForAnotherKey> {
        let public = self.0.der_bytes();
        if !certificate_der.windows(public.len()).any(|window| window == public) {
            return Err(ForAnotherKey);
        }
        Ok(TlsIdentity { certificate: CertificateDer::from(certificate_der.to_vec()), key: self.expose_der() })
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsKey(…)")
    }
}

/// A TLS key with its certificate.
#[derive(Clone)]
pub struct TlsIdentity {
    certificate: CertificateDer<'static>,
    key: Zeroizing<Vec<u8>>,
}

impl TlsIdentity {
    /// Reads the one in a state directory.
    pub fn load(state: &StateDir) -> Result<Self, StateError> {
        let path = state.path().join(FILE);
        let Some(bytes) = state.read_secret(FILE)? else {
            return Err(StateError::NotEnrolled { path: state.path().to_owned() });
        };
        let damaged = |source: FormatError| StateError::Damaged { path: path.clone(), source: source.into() };
        let mut decoder = Decoder::new("TLS identity", &bytes);
        let key = decoder.bytes("key", PART_BYTES_MAX).map_err(damaged)?;
        let certificate = decoder.bytes("certificate", PART_BYTES_MAX).map_err(damaged)?;
        let identity =
            Self { certificate: CertificateDer::from(certificate.to_vec()), key: Zeroizing::new(key.to_vec()) };
        decoder.end().map(|()| identity).map_err(damaged)
    }

    /// Writes it in place of the one before, durably.
    pub fn save(&self, state: &StateDir) -> Result<(), StateError> {
        let mut encoder = Encoder::new();
        encoder.bytes(&self.key).bytes(&self.certificate);
        state.write_secret(FILE, &Zeroizing::new(encoder.finish()))
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// From when until when the certificate is good; none if it cannot be read.
    pub fn validity(&self) -> Option<(SystemTime, SystemTime)> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        let moment = |seconds: i64| UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?));
        let validity = certificate.validity();
        Some((moment(validity.not_before.timestamp())?, moment(validity.not_after.timestamp())?))
    }

    /// The key, to be handed to the TLS library.
    pub fn expose_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.to_vec()).into()
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn self_signed(key: &TlsKey) -> Vec<u8> {
        CertificateParams::default().self_signed(&key.0).unwrap().der().to_vec()
    }

    #[test]
    fn key_and_certificate_read_back_together() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::create(&directory.path().join("state")).unwrap();
        let key = TlsKey::generate().unwrap();
        let certificate = self_signed(&key);
        let identity = key.with_certificate(&certificate).unwrap();
        identity.save(&state).unwrap();
        let read = TlsIdentity::load(&state).unwrap();
        assert_eq!(read.certificate(), identity.certificate());
        assert_eq!(read.key, identity.key);
        assert!(read.validity().is_some_and(|(from, until)| from < until));
    }

    #[test]
    fn a_certificate_for_another_key_is_refused() {
        let (own, other) = (TlsKey::generate().unwrap(), TlsKey::generate().unwrap());
        assert!(own.with_certificate(&self_signed(&other)).is_err());
    }
}
