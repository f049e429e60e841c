//! The repository's own certificates: a root, an issuing authority under it, and what that issues.
//!
//! The root's key is used once, by `init`; then only the recovery key opens it again. The issuing key lies in the
//! vault and signs what lives 30 days: the coordinator's certificate and those of hosts. A host's certificate says
//! `host-7`, and that is all that a connection proves; what host 7 may do is looked up at every call. Of a certificate
//! request only the public key is taken, never a name or an extension.

use jiff::{SignedDuration, Timestamp};
use lifeboat_format::id::{Digest, HostId, RepositoryId};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// How long a host's or a coordinator's certificate is good.
pub const CERTIFICATE_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How old a certificate may be before it is renewed: two thirds of its life.
pub const RENEW_AFTER: SignedDuration = SignedDuration::from_hours(20 * 24);

/// How long an expired certificate of a known host may still be used, to renew it and for nothing else (INV-51).
pub const RENEWAL_GRACE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Certificates begin so long before they are made: a server whose clock is off by a day must still be able to call.
const BACKDATED: SignedDuration = SignedDuration::from_hours(48);

/// Twenty years: the root and the issuing authority outlive the hardware, and change with a new trust file.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);

/// What the common name of a host's certificate begins with; its number follows.
const HOST_PREFIX: &str = "host-";

/// A certificate could not be made, or is not one of ours.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The library refused.
    #[error("cannot make the certificate of {what}")]
    Make {
        /// Whose.
        what: String,
        /// Why.
        source: rcgen::Error,
    },
    /// What a host sent is no request that we sign.
    #[error("csr_der is not a certificate request for a P-256 or Ed25519 key that its holder signed")]
    Request,
    /// A certificate that does not name a host as ours do.
    #[error("this is not the certificate of a host of this repository")]
    NotAHost,
    /// A moment that a certificate cannot express.
    #[error("the clock says {now}, which no certificate can express; set it right")]
    Clock {
        /// What it says.
        now: Timestamp,
    },
}

/// A certificate and its private key.
#[derive(Clone)]
pub struct KeyedCertificate {
    /// X.509, DER.
    pub certificate: CertificateDer<'static>,
    /// PKCS #8, DER. Wiped on drop.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for KeyedCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyedCertificate(…)")
    }
}

impl KeyedCertificate {
    fn issuer(&self, what: &str) -> Result<Issuer<'static, KeyPair>, PkiError> {
        let failed = |source| PkiError::Make { what: what.to_owned(), source };
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.key.as_slice())).map_err(failed)?;
        Issuer::from_ca_cert_der(&self.certificate, key).map_err(failed)
    }
}

/// The root of a new repository, signed by itself.
pub fn make_root(repository: &RepositoryId, now: Timestamp) -> Result<KeyedCertificate, PkiError> {
    let what = format!("lifeboat root {repository}");
    let failed = |source| PkiError::Make { what: what.clone(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = authority(&what, 1, now)?.self_signed(&key).map_err(failed)?;
    Ok(KeyedCertificate { certificate: certificate.der().clone(), key: Zeroizing::new(key.serialize_der()) })
}

/// The authority that signs daily, under the root.
pub fn make_issuing(
    root: &KeyedCertificate,
    repository: &RepositoryId,
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    let what = format!("lifeboat issuing {repository}");
    issue(root, &what, authority(&what, 0, now)?)
}

/// A certificate for the coordinator under these names, DNS names or IP addresses.
pub fn issue_server(
    issuing: &KeyedCertificate,
    names: &[String],
    now: Timestamp,
) -> Result<KeyedCertificate, PkiError> {
    let what = "lifeboat coordinator";
    let failed = |source| PkiError::Make { what: what.to_owned(), source };
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(issuing, what, leaf(params, what, now)?)
}

/// A certificate for `host`, over the key that its request (PKCS #10, DER) proves to hold.
pub fn issue_host(
    issuing: &KeyedCertificate,
    host: HostId,
    request: &[u8],
    now: Timestamp,
) -> Result<CertificateDer<'static>, PkiError> {
    let what = format!("{HOST_PREFIX}{host}");
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|_| PkiError::Request)?;
    let allowed = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ED25519];
    if !allowed.contains(&PublicKeyData::algorithm(&request.public_key)) {
        return Err(PkiError::Request);
    }
    let mut params = CertificateParams::default();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let signed = leaf(params, &what, now)?.signed_by(&request.public_key, &issuing.issuer(&what)?);
    signed.map(|certificate| certificate.der().clone()).map_err(|source| PkiError::Make { what, source })
}

fn issue(issuer: &KeyedCertificate, what: &str, params: CertificateParams) -> Result<KeyedCertificate, PkiError> {
    let failed = |source| PkiError::Make { what: what.to_owned(), source };
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.signed_by(&key, &issuer.issuer(what)?).map_err(failed)?;
    Ok(KeyedCertificate { certificate: certificate.der().clone(), key: Zeroizing::new(key.serialize_der()) })
}

fn authority(name: &str, below: u8, now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = dated(CertificateParams::default(), name, now, AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn leaf(params: CertificateParams, name: &str, now: Timestamp) -> Result<CertificateParams, PkiError> {
    let mut params = dated(params, name, now, CERTIFICATE_LIFE)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn dated(
    mut params: CertificateParams,
    name: &str,
    now: Timestamp,
    life: SignedDuration,
) -> Result<CertificateParams, PkiError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let at = |moment: Result<Timestamp, jiff::Error>| {
        let seconds = moment.ok().and_then(|moment| u64::try_from(moment.as_second()).ok());
        seconds.map(|seconds| epoch + std::time::Duration::from_secs(seconds)).ok_or(PkiError::Clock { now })
    };
    params.not_before = at(now.checked_sub(BACKDATED))?;
    params.not_after = at(now.checked_add(life))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial(name)?);
    Ok(params)
}

/// Sixteen random bytes, positive as X.509 demands.
fn serial(what: &str) -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| PkiError::Make { what: what.to_owned(), source: rcgen::Error::RingUnspecified })?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Whether the coordinator's own certificate is to be made anew. One from the future is: the clock was put back.
pub fn is_renewal_due(made: Timestamp, now: Timestamp) -> bool {
    !(SignedDuration::ZERO..RENEW_AFTER).contains(&now.duration_since(made))
}

/// What a verified client certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostCertificate {
    /// Whose it is.
    pub host: HostId,
    /// When it begins; in the future where our clock was ahead and was set right since.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
    /// The BLAKE3 of its DER, as the journal names it.
    pub fingerprint: Digest,
}

/// Reads a host's certificate whose signature was checked already.
pub fn read_host(certificate: &CertificateDer<'_>) -> Result<HostCertificate, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| PkiError::NotAHost)?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().and_then(|name| name.as_str().ok()).ok_or(PkiError::NotAHost)?;
    let number: u32 = name.strip_prefix(HOST_PREFIX).and_then(|text| text.parse().ok()).ok_or(PkiError::NotAHost)?;
    if number == 0 || names.next().is_some() {
        return Err(PkiError::NotAHost);
    }
    let begins = moment(parsed.validity().not_before.timestamp())?;
    let fingerprint = Digest::of(certificate);
    Ok(HostCertificate { host: HostId::new(number), begins, ends: end_of(&parsed)?, fingerprint })
}

/// When a certificate of ours ends.
pub fn ends(certificate: &CertificateDer<'_>) -> Result<Timestamp, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| PkiError::NotAHost)?;
    end_of(&parsed)
}

/// The public key of a certificate of ours (SubjectPublicKeyInfo, DER).
pub fn public_key(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, PkiError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| PkiError::NotAHost)?;
    Ok(parsed.public_key().raw.to_vec())
}

fn end_of(parsed: &x509_parser::certificate::X509Certificate<'_>) -> Result<Timestamp, PkiError> {
    moment(parsed.validity().not_after.timestamp())
}

fn moment(second: i64) -> Result<Timestamp, PkiError> {
    Timestamp::from_second(second).map_err(|_| PkiError::NotAHost)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-01T12:00:00Z".parse().unwrap()
    }

    fn authorities() -> (KeyedCertificate, KeyedCertificate) {
        let repository = RepositoryId::from_bytes([1; 16]);
        let root = make_root(&repository, now()).unwrap();
        let issuing = make_issuing(&root, &repository, now()).unwrap();
        (root, issuing)
    }

    #[test]
    fn a_host_certificate_says_who_it_is_for_whatever_the_request_asks() {
        let (_, issuing) = authorities();
        let key = KeyPair::generate().unwrap();
        let mut wishes = CertificateParams::new(vec!["coordinator".to_owned()]).unwrap();
        wishes.distinguished_name.push(DnType::CommonName, "host-1");
        wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wishes.use_authority_key_identifier_extension = false;
        wishes.is_ca = IsCa::NoCa;
        let request = wishes.serialize_request(&key).unwrap();
        let certificate = issue_host(&issuing, HostId::new(7), request.der(), now()).unwrap();
        let read = read_host(&certificate).unwrap();
        let (begins, ends) = (now() - BACKDATED, now() + CERTIFICATE_LIFE);
        assert_eq!(read, HostCertificate { host: HostId::new(7), begins, ends, fingerprint: Digest::of(&certificate) });
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).unwrap();
        assert!(parsed.subject_alternative_name().unwrap().is_none());
        assert!(!parsed.is_ca());
    }

    #[test]
    fn a_request_that_nobody_signed_is_refused() {
        let (_, issuing) = authorities();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let mut bytes = request.der().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(matches!(issue_host(&issuing, HostId::new(7), &bytes, now()), Err(PkiError::Request)));
        assert!(matches!(issue_host(&issuing, HostId::new(7), b"", now()), Err(PkiError::Request)));
    }

    #[test]
    fn a_certificate_of_the_coordinator_is_no_host() {
        let (root, issuing) = authorities();
        let server = issue_server(&issuing, &["localhost".to_owned(), "127.0.0.1".to_owned()], now()).unwrap();
        for certificate in [&root.certificate, &issuing.certificate, &server.certificate] {
            assert!(matches!(read_host(certificate), Err(PkiError::NotAHost)));
        }
    }

    #[test]
    fn the_coordinators_certificate_follows_its_clock_wherever_that_is_set() {
        let hours = |hours| now() + SignedDuration::from_hours(hours);
        assert!(!is_renewal_due(now(), hours(0)) && !is_renewal_due(now(), hours(20 * 24 - 1)));
        assert!(is_renewal_due(now(), hours(20 * 24)) && is_renewal_due(now(), hours(-1)));
    }

    #[test]
    fn a_certificate_is_good_for_a_server_whose_clock_is_a_day_behind() {
        let (_, issuing) = authorities();
        let server = issue_server(&issuing, &["localhost".to_owned()], now()).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&server.certificate).unwrap();
        assert!(parsed.validity().not_before.timestamp() < now().as_second() - 24 * 3600);
    }
}
