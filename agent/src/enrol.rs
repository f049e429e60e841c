//! How this server becomes a host (`lifeboat/v1/enrol.proto`).
//!
//! The token names the coordinator's address and the digest of its trust file. The trust file is fetched over a
//! channel that proves nothing, and compared with the digest; only then, over a channel that the CA in it vouches
//! for, the half of the token's secret that may be sent goes out. Group secrets come back under the other half.
//!
//! # Invariants
//! * Nothing of the token is sent before trust file and server are checked (INV-50).
//! * The keys are on disk before they are sent: if the answer is lost, the same token with the same keys gives it again.
//! * The identity is written last: a host is enrolled whole, or not.

mod pending;
pub mod proof;
pub mod service;

use crate::connection::{
    ANSWER_TIME, Address, ConnectError, Dialer, Trusted, enrol_client, explain, explain_transport,
};
use crate::error::AgentError;
use crate::host::Places;
use crate::identity::{Identity, ScopeSecret};
use crate::policy;
use crate::state::{HeadKeeper, StateDir, StateLock, Verdict};
use lifeboat_format::FormatError;
use lifeboat_format::sign::Purpose;
use lifeboat_format::token::{HostKeys, Token, WrappedSecret};
use lifeboat_format::trust::TrustFile;
use lifeboat_proto::convert::enrol::{Enrol, Enrolled, Wrapped, trust_file};
use lifeboat_proto::convert::{ConvertError, HostName};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use pending::Pending;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use tonic::Request;

/// What became of an enrolment.
#[derive(Debug)]
pub struct Report {
    /// Who this host is now.
    pub identity: Identity,
    /// Whether the default policy was written; else there was one.
    pub wrote_policy: bool,
}

/// Enrols this server under `name` with the token in `line`.
///
/// # Errors
/// Each names what to do next. Nothing is left behind that a second attempt would stumble over.
pub async fn enrol(places: &Places, line: &str, name: &HostName) -> Result<Report, AgentError> {
    let token = Token::parse(line).map_err(mistyped)?;
    let address: Address = token.address().parse().map_err(|error: ConnectError| error.explain())?;
    let state = StateDir::create(&places.state)?;
    let lock = state.lock()?;
    let before = identity_before(&state, name)?;
    let trust = fetch_trust(&address, &token).await?;
    refuse_other_repository(before.as_ref(), &trust, &state)?;
    let pending = Pending::take_up(&state, &token, name, before.map(|identity| identity.keys))?;
    let answer = send(&address, &trust, &token, name, &pending).await?;
    let secrets = unwrap_secrets(&token, &trust, &answer.secrets)?;
    let identity = Identity {
        host: answer.host,
        name: name.to_string(),
        repository: trust.trust().repository,
        address: address.to_string(),
        keys: pending.keys.clone(),
        secrets,
    };
    let wrote_policy = settle(places, &state, &lock, &trust, &answer, pending, &identity)?;
    Ok(Report { identity, wrote_policy })
}

fn mistyped(error: FormatError) -> AgentError {
    AgentError::because(ErrorClass::Usage, "the token is incomplete or mistyped", error)
        .hint("copy the whole line that `lifeboat token create` printed; it begins with lifeboat-1.")
}

/// The identity of a server that is enrolled already: it enrols again with the same keys and stays the same host.
fn identity_before(state: &StateDir, name: &HostName) -> Result<Option<Identity>, AgentError> {
    if !Identity::exists(state)? {
        return Ok(None);
    }
    let identity = Identity::load(state)?;
    if identity.name == name.as_str() {
        return Ok(Some(identity));
    }
    let message = format!("this server is enrolled already, as host {} ({})", identity.host, identity.name);
    Err(AgentError::new(ErrorClass::Refused, message).hint(format!(
        "to enrol the same host again: `lifeboat-agent enrol`; to make this server another host, move {:?} away first",
        state.path()
    )))
}

fn refuse_other_repository(before: Option<&Identity>, trust: &TrustFile, state: &StateDir) -> Result<(), AgentError> {
    match before {
        Some(identity) if identity.repository != trust.trust().repository => {
            let message = format!("this server is enrolled already, with another repository, at {}", identity.address);
            Err(AgentError::new(ErrorClass::Refused, message)
                .hint(format!("to leave that repository, move {:?} away first", state.path())))
        }
        _ => Ok(()),
    }
}

/// Fetches the trust file from whoever answers, and takes it only if it is the one that the token names.
async fn fetch_trust(address: &Address, token: &Token) -> Result<TrustFile, AgentError> {
    let dialer = Dialer::unverified(address.clone()).map_err(|error| error.explain())?;
    let channel = dialer.connect().await.map_err(|error| explain_transport(&error))?;
    let mut request = Request::new(v1::GetTrustRequest {});
    request.set_timeout(ANSWER_TIME);
    let answer = enrol_client(channel).get_trust(request).await.map_err(explain)?;
    let bytes = trust_file(answer.into_inner()).map_err(unclear)?;
    let trust = TrustFile::parse(&bytes).and_then(|trust| trust.verify_first(&token.trust_file()).map(|()| trust));
    trust.map_err(|error| {
        AgentError::because(
            ErrorClass::Refused,
            format!("what answers at {address} is not the coordinator that made this token"),
            error,
        )
        .hint(
            "check the address; if the repository's keys have changed since, make a new token. Nothing of it was sent",
        )
    })
}

async fn send(
    address: &Address,
    trust: &TrustFile,
    token: &Token,
    name: &HostName,
    pending: &Pending,
) -> Result<Enrolled, AgentError> {
    let trusted = Trusted { authorities: trust.trust().ca_certificates.clone(), identity: None };
    let dialer = Dialer::verified(address.clone(), &trusted).map_err(|error| error.explain())?;
    let channel = dialer.connect().await.map_err(|error| explain_transport(&error))?;
    let mut request = Request::new(v1::EnrolRequest::from(request(token, name, pending)));
    request.set_timeout(ANSWER_TIME);
    let answer = enrol_client(channel).enrol(request).await.map_err(explain)?;
    Ok(Enrolled::try_from(answer.into_inner()).map_err(unclear)?)
}

fn request(token: &Token, name: &HostName, pending: &Pending) -> Enrol {
    let (signing_key, box_recipient) = (pending.keys.signing.verifying_key(), pending.keys.unboxer.recipient());
    let keys = HostKeys {
        host_name: name.as_str(),
        signing_key: &signing_key,
        box_recipient: &box_recipient,
        csr_der: &pending.csr_der,
    };
    let keys_mac = token.wrap().mac_key().mac(&keys);
    Enrol {
        token_number: token.number(),
        auth: *token.auth().expose(),
        host_name: name.clone(),
        signing_key: *signing_key.as_bytes(),
        box_recipient: box_recipient.to_string(),
        csr_der: pending.csr_der.clone().into(),
        keys_mac,
        signature: *pending.keys.signing.sign(Purpose::Enrolment, &keys_mac).as_bytes(),
    }
}

/// Opens the group's secrets, and takes only those that the trust file names.
fn unwrap_secrets(token: &Token, trust: &TrustFile, wrapped: &[Wrapped]) -> Result<Vec<ScopeSecret>, AgentError> {
    let open = |wrapped: &Wrapped| {
        let sealed = WrappedSecret {
            scope: wrapped.scope,
            first: wrapped.first,
            wrapped: wrapped.wrapped.to_vec(),
            secret_hash: lifeboat_format::id::Digest::from_bytes(wrapped.secret_hash),
        };
        let secret = sealed.open(&token.wrap(), token.number()).map_err(|error| wrong_secrets(Some(error)))?;
        match trust.names_secret(wrapped.scope, &secret) {
            true => Ok(ScopeSecret { scope: wrapped.scope, first: wrapped.first, secret }),
            false => Err(wrong_secrets(None)),
        }
    };
    let secrets = wrapped.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    match secrets.iter().filter(|secret| secret.first).count() {
        1 => Ok(secrets),
        _ => Err(wrong_secrets(None)),
    }
}

fn wrong_secrets(source: Option<FormatError>) -> AgentError {
    let message = "the group secrets that the coordinator sent are not those of the trust file";
    let error = AgentError::new(ErrorClass::Refused, message)
        .hint("do not use this coordinator before somebody looked why; nothing was kept");
    AgentError { source: source.map(Into::into), ..error }
}

/// Writes what the host needs from now on, its identity last.
fn settle(
    places: &Places,
    state: &StateDir,
    _lock: &StateLock,
    trust: &TrustFile,
    answer: &Enrolled,
    pending: Pending,
    identity: &Identity,
) -> Result<bool, AgentError> {
    let config = &places.config;
    let cannot_make = |source| AgentError::because(ErrorClass::Internal, format!("cannot make {config:?}"), source);
    DirBuilder::new().recursive(true).mode(0o700).create(config).map_err(cannot_make)?;
    let wrote_policy = policy::write_default(&places.policy())?;
    let policy = policy::load(&places.policy())?;
    write_trust(&places.trust(&policy), trust)?;
    let heads = HeadKeeper::open(state, trust.trust().log_key())?;
    if let Verdict::Forged(error) | Verdict::Parts(error) = heads.take(&answer.head)? {
        return Err(AgentError::because(ErrorClass::Refused, "the coordinator's journal is not one to trust", error));
    }
    let tls = pending.tls.with_certificate(&answer.certificate_der);
    let tls = tls.map_err(|error| AgentError::new(ErrorClass::Refused, error.to_string()))?;
    tls.save(state)?;
    identity.save(state)?;
    Pending::forget(state)?;
    Ok(wrote_policy)
}

/// Puts the trust file in place, whole. Everybody may read it; it holds no secret.
pub fn write_trust(path: &Path, trust: &TrustFile) -> Result<(), AgentError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&trust.to_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(directory)?.sync_all()
    };
    let cannot =
        |source| AgentError::because(ErrorClass::Internal, format!("cannot write the trust file {path:?}"), source);
    write().map_err(cannot)
}

fn unclear(error: ConvertError) -> Failure {
    Failure::new(ErrorClass::Internal, format!("the coordinator's answer makes no sense: {error}"))
        .hint("compare the versions of coordinator and agent")
}
