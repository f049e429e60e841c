//! The agent's side of TLS.
//!
//! The library (aws-lc-rs) is named explicitly: with two providers in the tree, rustls refuses to choose at run time.

use crate::identity::TlsIdentity;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// The CA certificates of the trust file, and this host's certificate if it has one.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// DER; at least one.
    pub authorities: Vec<Vec<u8>>,
    /// None while enrolling.
    pub identity: Option<TlsIdentity>,
}

/// A configuration that accepts only a coordinator whose certificate the CA signed.
pub fn verified(trusted: &Trusted) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for authority in &trusted.authorities {
        roots.add(CertificateDer::from(authority.as_slice()))?;
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let config = match &trusted.identity {
        Some(own) => builder.with_client_auth_cert(vec![own.certificate().clone()], own.expose_key())?,
        None => builder.with_no_client_auth(),
    };
    Ok(with_http2(config))
}

/// A configuration that accepts any certificate. What comes over it has to be checked by its content (the digest of
/// the trust file), and nothing secret may be sent.
pub fn unverified() -> Result<ClientConfig, Error> {
    let verifier = Arc::new(AcceptAny(provider()));
    let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok(with_http2(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn with_http2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
