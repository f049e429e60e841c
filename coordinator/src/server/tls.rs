//! TLS of the one port: version 1.3 only, our own certificate, and a client certificate where the caller has one.
//!
//! Who has no certificate can only enrol. One that ended less than 30 days ago is let in too, and one that begins in the
//! future, made while our clock was ahead: such a host may renew and do nothing else (INV-51); [`super::peer`] reads the
//! times. The library, aws-lc-rs, is named explicitly: with two in the tree rustls would refuse to choose, at run time.

use crate::pki::{self, KeyedCertificate, RENEWAL_GRACE};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate or key is not usable.
    #[error("the coordinator's certificate or key cannot be used")]
    Certificate(#[from] Error),
    /// The CA cannot be used to check clients.
    #[error("the repository's CA cannot be used to check clients")]
    Authority(#[from] rustls::server::VerifierBuilderError),
}

/// The coordinator's own certificate; `serve` puts a new one in its place while connections go on.
#[derive(Debug)]
pub struct OwnCertificate(RwLock<Arc<CertifiedKey>>);

impl OwnCertificate {
    /// Begins with this one, issued by `issuing`, whose certificate goes with it.
    pub fn new(own: &KeyedCertificate, issuing: &CertificateDer<'static>) -> Result<Self, TlsError> {
        certified(own, issuing).map(|key| Self(RwLock::new(key)))
    }

    /// Uses this one from the next connection on.
    pub fn replace(&self, own: &KeyedCertificate, issuing: &CertificateDer<'static>) -> Result<(), TlsError> {
        let key = certified(own, issuing)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn certified(own: &KeyedCertificate, issuing: &CertificateDer<'static>) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = vec![own.certificate.clone(), issuing.clone()];
    let key = PrivatePkcs8KeyDer::from(own.key.to_vec()).into();
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?))
}

/// The server's side of TLS. Clients are checked against `issuing`, which the repository's root has signed.
pub fn server_config(own: Arc<OwnCertificate>, issuing: &CertificateDer<'static>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(issuing.clone())?;
    let verifier = HostVerifier::new(roots, provider.clone())?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Checks a client certificate as WebPKI does, but lets one that ended within the grace pass, and one of the future.
#[derive(Debug)]
struct HostVerifier(Arc<dyn ClientCertVerifier>);

impl HostVerifier {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Self(inner.allow_unauthenticated().build()?))
    }
}

impl ClientCertVerifier for HostVerifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let verify_at = |second: u64| {
            let then = UnixTime::since_unix_epoch(Duration::from_secs(second));
            self.0.verify_client_cert(end_entity, intermediates, then)
        };
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
                verify_at(now.as_secs().saturating_sub(RENEWAL_GRACE.as_secs().unsigned_abs()))
            }
            Err(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
                let begins = pki::read_host(end_entity).map_err(|error| Error::General(error.to_string()))?.begins;
                verify_at(begins.as_second().unsigned_abs())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::{SignedDuration, Timestamp};
    use lifeboat_format::id::{HostId, RepositoryId};

    /// The verdict over a host's certificate made 32 days, plus `days`, ago.
    fn verdict(days_after_end: i64, of_another_repository: bool) -> bool {
        let made: Timestamp = "2026-11-01T12:00:00Z".parse().unwrap();
        let authority = |byte| {
            let repository = RepositoryId::from_bytes([byte; 16]);
            let root = pki::make_root(&repository, made).unwrap();
            pki::make_issuing(&root, &repository, made).unwrap()
        };
        let (ours, other) = (authority(1), authority(2));
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let issuing = if of_another_repository { &other } else { &ours };
        let certificate = pki::issue_host(issuing, HostId::new(3), request.der(), made).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ours.certificate.clone()).unwrap();
        let verifier = HostVerifier::new(roots, Arc::new(aws_lc_rs::default_provider())).unwrap();
        let now = made + pki::CERTIFICATE_LIFE + SignedDuration::from_hours(24 * days_after_end);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
        verifier.verify_client_cert(&certificate, &[], now).is_ok()
    }

    #[test]
    fn inv_51_an_expired_certificate_passes_within_the_grace_and_no_longer() {
        assert!(verdict(-1, false));
        assert!(verdict(29, false));
        assert!(!verdict(31, false));
    }

    #[test]
    fn a_certificate_made_while_the_clock_was_ahead_passes_to_be_renewed() {
        assert!(verdict(-33, false));
    }

    #[test]
    fn a_certificate_of_another_repository_does_not_pass() {
        for days in [-33, -1, 29] {
            assert!(!verdict(days, true), "{days}");
        }
    }
}
