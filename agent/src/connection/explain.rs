//! What an error of the connection means, and what a person can do about it.
//!
//! Errors come wrapped by tonic, hyper, h2 and tokio; somewhere inside is one of ours, of TLS, or of the system. It is
//! found by walking the causes.

use super::dial::ConnectError;
use jiff::Timestamp;
use lifeboat_proto::status::{ErrorClass, Failure};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use std::error::Error;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::Status;

/// What a failed call means. A status that the coordinator made itself is taken as it is.
pub fn explain(status: Status) -> Failure {
    match find_cause(&status) {
        Some(failure) => failure,
        None => Failure::from(status),
    }
}

/// What a failed attempt to connect means.
pub fn explain_transport(error: &tonic::transport::Error) -> Failure {
    find_cause(error).unwrap_or_else(|| Failure::of(ErrorClass::Unreachable, error))
}

fn find_cause(error: &(dyn Error + 'static)) -> Option<Failure> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(connect) = error.downcast_ref::<ConnectError>() {
            return Some(connect.explain());
        }
        if let Some(tls) = tls_cause(error) {
            return Some(explain_tls(tls, "the coordinator", None));
        }
        cause = error.source();
    }
    None
}

/// TLS errors travel inside errors of the system, which do not name them as their source.
fn tls_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    error.downcast_ref::<TlsError>().or_else(|| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

impl ConnectError {
    /// What it means, and what to do.
    pub fn explain(&self) -> Failure {
        match self {
            Self::Address { .. } => Failure::of(ErrorClass::Usage, self),
            Self::Own { .. } => Failure::of(ErrorClass::Damaged, self).hint("enrol this host again with a new token"),
            Self::Late { address } => Failure::of(ErrorClass::Unreachable, self)
                .hint(format!("a firewall between here and {address} that drops packets looks like this")),
            Self::Tcp { address, source } => Failure::of(ErrorClass::Unreachable, self).hint(match source.kind() {
                io::ErrorKind::ConnectionRefused => {
                    format!("{address} is up and nothing listens there: is `lifeboat serve` running, on that port?")
                }
                _ => format!("check that the name is right and that this host can reach {address}"),
            }),
            Self::Tls { address, own_ends, source } => match tls_cause(source.as_ref()) {
                Some(tls) => explain_tls(tls, &address.to_string(), *own_ends),
                None => Failure::of(ErrorClass::Unreachable, self)
                    .hint(format!("what answers at {address} may be no coordinator, or it closed the connection")),
            },
        }
    }
}

/// `own_ends` is when our own certificate ends, if that is known.
fn explain_tls(error: &TlsError, who: &str, own_ends: Option<SystemTime>) -> Failure {
    let refused = |message: String| Failure::new(ErrorClass::Refused, message);
    match error {
        TlsError::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => refused(format!(
            "the certificate of {who} begins at {}, and this host's clock says {}",
            shown(*not_before),
            shown(*time)
        ))
        .hint(CLOCKS),
        TlsError::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => refused(format!(
            "the certificate of {who} ended at {}, and this host's clock says {}",
            shown(*not_after),
            shown(*time)
        ))
        .hint(CLOCKS),
        TlsError::InvalidCertificate(_) => {
            refused(format!("the certificate of {who} is not one of this host's repository")).hint(
                "either another machine answers at that address, or the coordinator was set up anew; in that case \
                 enrol this host again. Nothing was sent",
            )
        }
        TlsError::AlertReceived(AlertDescription::CertificateExpired) => refused(format!(
            "{who} says that this host's certificate has expired; it ends at {}, and this host's clock says {}",
            own_ends.map_or_else(|| "an unknown time".to_owned(), to_the_second),
            to_the_second(SystemTime::now())
        ))
        .hint(
            "if both clocks are right, this host was away for more than two months: enrol it again with a new token \
             (`lifeboat token create` on the coordinator, `lifeboat-agent enrol` here); it stays the same host",
        ),
        TlsError::AlertReceived(alert) => refused(format!("{who} does not accept this host's certificate ({alert:?})"))
            .hint("the coordinator may have been set up anew: if it was, enrol this host again with a new token"),
        TlsError::InvalidMessage(_) => Failure::new(ErrorClass::Unreachable, format!("{who} does not speak TLS"))
            .hint("check the port: something else than a coordinator listens there"),
        _ => Failure::new(ErrorClass::Unreachable, format!("cannot agree on TLS 1.3 with {who}: {error}")),
    }
}

const CLOCKS: &str = "compare both clocks (`timedatectl`) and set right the one that is off; then it goes on by itself";

fn shown(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| format!("second {seconds}"), |time| time.to_string())
}

fn to_the_second(time: SystemTime) -> String {
    shown(UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn tls_failure(error: TlsError) -> Failure {
        let address = "backup.example:7420".parse().unwrap();
        let source = Arc::new(io::Error::new(io::ErrorKind::InvalidData, error));
        ConnectError::Tls { address, own_ends: Some(UNIX_EPOCH), source }.explain()
    }

    #[test]
    fn a_clock_that_is_off_is_told_with_both_times() {
        let error = CertificateError::NotValidYetContext { time: at(0), not_before: at(86_400) };
        let failure = tls_failure(TlsError::InvalidCertificate(error));
        assert_eq!(failure.class, ErrorClass::Refused);
        assert_eq!(
            failure.message,
            "the certificate of backup.example:7420 begins at 1970-01-02T00:00:00Z, and this host's clock says 1970-01-01T00:00:00Z"
        );
        assert!(failure.hint.contains("clocks"));
    }

    #[test]
    fn a_host_that_was_away_too_long_is_told_when_its_certificate_ended_and_what_its_clock_says() {
        let failure = tls_failure(TlsError::AlertReceived(AlertDescription::CertificateExpired));
        assert!(failure.message.contains("ends at 1970-01-01T00:00:00Z, and this host's clock says 20"));
        assert!(failure.hint.contains("new token"));
    }

    #[test]
    fn a_certificate_of_somebody_else_is_refused_and_a_refused_connection_is_not() {
        let failure = tls_failure(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(failure.class, ErrorClass::Refused);
        assert!(failure.message.contains("not one of this host's repository"));
        let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
        let failure = ConnectError::Tcp { address: "10.0.0.1:9".parse().unwrap(), source }.explain();
        assert_eq!(failure.class, ErrorClass::Unreachable);
        assert!(failure.message.starts_with("cannot reach the coordinator at 10.0.0.1:9"), "{}", failure.message);
        assert!(failure.hint.contains("lifeboat serve"));
    }

    #[test]
    fn a_cause_is_found_under_any_wrapping() {
        let inner = TlsError::AlertReceived(AlertDescription::CertificateRevoked);
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, inner));
        let mut status = Status::unavailable("broken");
        let address = "a:1".parse().unwrap();
        status.set_source(Arc::new(ConnectError::Tls { address, own_ends: None, source: Arc::new(outer) }));
        assert_eq!(explain(status).class, ErrorClass::Unreachable);
        let direct =
            io::Error::new(io::ErrorKind::InvalidData, TlsError::AlertReceived(AlertDescription::CertificateRevoked));
        let mut status = Status::unavailable("broken");
        status.set_source(Arc::new(direct));
        assert_eq!(explain(status).class, ErrorClass::Refused);
    }
}
