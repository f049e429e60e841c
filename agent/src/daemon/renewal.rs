//! A new certificate when the old one is two thirds through its life, and the next trust file when there is one.

use crate::connection::{ANSWER_TIME, control_client, enrol_client, explain, explain_transport};
use crate::enrol::write_trust;
use crate::host::Host;
use crate::identity::{TlsIdentity, TlsKey};
use lifeboat_format::trust::TrustFile;
use lifeboat_proto::convert::enrol::{certificate, trust_file};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::sync::Arc;
use std::time::SystemTime;
use tonic::Request;
use tonic::transport::Channel;

/// Whether the certificate should be renewed now. One that cannot be read should.
pub fn is_due(tls: &TlsIdentity, now: SystemTime) -> bool {
    tls.validity().is_none_or(|(from, until)| is_out_of_its_first_two_thirds(from, until, now))
}

/// A certificate that begins in the future was made while the coordinator's clock was ahead.
fn is_out_of_its_first_two_thirds(from: SystemTime, until: SystemTime, now: SystemTime) -> bool {
    let life = until.duration_since(from).unwrap_or_default();
    now < from || now >= from + life * 2 / 3
}

/// Renews the certificate if that is due. If it fails the one there is may still do; the next call shows that.
pub async fn renew_if_due(host: &mut Host) {
    if !is_due(&host.tls, SystemTime::now()) {
        return;
    }
    let renewed = async {
        let dialer = host.dialer().map_err(|error| error.explain())?;
        let channel = dialer.connect().await.map_err(|error| explain_transport(&error))?;
        renew(host, channel).await
    };
    match renewed.await {
        Ok(tls) => host.tls = tls,
        Err(failure) => tracing::warn!(%failure, "this host's certificate was not renewed"),
    }
}

/// Asks for a certificate over a new key, and keeps both.
pub async fn renew(host: &Host, channel: Channel) -> Result<TlsIdentity, Failure> {
    let no_key = |error: rcgen::Error| Failure::of(ErrorClass::Internal, &error);
    let key = TlsKey::generate().map_err(no_key)?;
    let csr_der = key.request(&host.identity.name).map_err(no_key)?.into();
    let mut request = Request::new(v1::RenewRequest { csr_der });
    request.set_timeout(ANSWER_TIME);
    let answer = control_client(channel).renew(request).await.map_err(explain)?;
    let tls = key.with_certificate(&certificate(answer.into_inner())?);
    let tls = tls.map_err(|error| Failure::of(ErrorClass::Refused, &error))?;
    tls.save(&host.state).map_err(|error| Failure::of(error.class(), &error))?;
    tracing::info!("this host has a new certificate");
    Ok(tls)
}

/// Takes the next trust file if the operators of ours have signed it (INV-58). Whatever goes wrong, ours stays.
pub async fn refresh_trust(host: &mut Host, channel: Channel) {
    let mut request = Request::new(v1::GetTrustRequest {});
    request.set_timeout(ANSWER_TIME);
    let newest = match enrol_client(channel).get_trust(request).await {
        Ok(answer) => trust_file(answer.into_inner()).map_err(Failure::from),
        Err(status) => Err(explain(status)),
    };
    let taken = newest.and_then(|bytes| take(host, &bytes));
    if let Err(failure) = taken {
        tracing::warn!(%failure, "the coordinator's trust file was not taken; this host keeps its own");
    }
}

fn take(host: &mut Host, bytes: &[u8]) -> Result<(), Failure> {
    let refused = |error| Failure::of(ErrorClass::Refused, &error);
    let newest = TrustFile::parse(bytes).map_err(refused)?;
    if newest.digest() == host.trust.digest() {
        return Ok(());
    }
    newest.verify_successor(&host.trust).map_err(refused)?;
    let failed = |error: crate::error::AgentError| Failure::of(error.class, &error);
    let policy = host.policy().map_err(failed)?;
    write_trust(&host.places.trust(&policy), &newest).map_err(failed)?;
    tracing::info!(number = newest.trust().number, "this host has the next trust file");
    host.trust = Arc::new(newest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
        let day = Duration::from_secs(86_400);
        let from = SystemTime::UNIX_EPOCH + 1000 * day;
        let until = from + 30 * day;
        assert!(!is_out_of_its_first_two_thirds(from, until, from + 19 * day));
        assert!(is_out_of_its_first_two_thirds(from, until, from + 20 * day));
        assert!(is_out_of_its_first_two_thirds(from, until, until + day));
        assert!(is_out_of_its_first_two_thirds(from, until, from - day), "made by a clock that was ahead");
    }
}
