//! The gRPC server: a proto service a file, each call convert, call, convert.
//!
//! Before anything else a call passes [`Context::host`] or [`Context::allow`]: who calls is taken from the connection,
//! how it stands from the catalog as it is now, and the verdict from `authorize`. What the core does may wait for the
//! disk, so it runs on blocking threads; no handler waits for it on the runtime.

mod admin;
mod backup;
mod control;
mod enrol;
mod failure;
mod grant;
mod later;
mod lists;
mod past;
mod proof;
mod read_only;
mod refusals;
mod restore;
mod session;
mod sessions;

pub use failure::{of_object, of_store};
pub use later::Later;
pub use past::Catalogued;
pub use read_only::{BRING_BACK, ReadOnly};
pub use refusals::{Refusals, RefusedHosts};

use crate::authorize::{self, Object, Principal, Verb, Verdict};
use crate::catalog::Catalog;
use crate::clock::Clock;
use crate::config::Config;
use crate::dispatch::{self, Dispatch};
use crate::pki::HostCertificate;
use crate::repository::Coordinator;
use crate::server::peer::{Caller, Peer};
use crate::vault::Vault;
use jiff::Timestamp;
use lifeboat_format::id::HostId;
use lifeboat_format::journal::{self, Act, Decision, Event, SignedHead, Standing};
use lifeboat_format::trust::TrustFile;
use lifeboat_proto::convert::UncheckedHead;
use lifeboat_proto::limits::MESSAGE_BYTES_MAX;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;

use std::sync::{Arc, Mutex, PoisonError};
use tonic::service::Routes;
use tonic::{Request, Status};

/// What all handlers share.
pub struct Context {
    /// The repository and its index.
    pub coordinator: Arc<Coordinator>,
    /// The coordinator's keys.
    pub vault: Vault,
    /// The trust file in force.
    pub trust: TrustFile,
    /// Who is connected, and what they do.
    pub dispatch: Arc<Dispatch>,
    /// The settings.
    pub config: Config,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Held while a new number is taken from the catalog and recorded.
    pub facts: Mutex<()>,
    /// What was refused and is not recorded yet.
    pub refusals: Refusals,
    /// Enrolments and agents that were refused and are not recorded yet.
    pub refused_hosts: RefusedHosts,
    /// Records that wait for the next batch of the journal.
    pub later: Later,
    /// Why the repository is only listed and restored from, if it is.
    pub read_only: Option<ReadOnly>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

/// What agents reach, over TLS.
pub async fn network_routes(context: Arc<Context>) -> Result<Routes, tonic_reflection::server::Error> {
    use v1::backup_service_server::BackupServiceServer;
    use v1::control_service_server::ControlServiceServer;
    use v1::enrol_service_server::EnrolServiceServer;
    let enrol = EnrolServiceServer::new(enrol::Enrolment(context.clone())).max_decoding_message_size(1 << 20);
    let backup = BackupServiceServer::new(backup::Backup(context.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let control = ControlServiceServer::new(control::Control(context.clone())).max_decoding_message_size(1 << 20);
    let routes = common_routes(context).await?;
    Ok(routes.add_service(enrol).add_service(backup).add_service(control))
}

/// What root reaches, at the local socket.
pub async fn local_routes(context: Arc<Context>) -> Result<Routes, tonic_reflection::server::Error> {
    let admin = v1::admin_service_server::AdminServiceServer::new(admin::Administration(context.clone()))
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Ok(common_routes(context).await?.add_service(admin))
}

/// Restores, health and reflection: at both doors.
async fn common_routes(context: Arc<Context>) -> Result<Routes, tonic_reflection::server::Error> {
    let restore = v1::restore_service_server::RestoreServiceServer::new(restore::Restore::new(context))
        .max_decoding_message_size(4 << 20)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(lifeboat_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Many clients still ask in the older form.
    let (v1, v1alpha) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    Ok(Routes::new(restore).add_service(health).add_service(v1).add_service(v1alpha))
}

impl Context {
    /// Who sent this, as it stands now.
    fn principal<T>(&self, request: &Request<T>) -> Principal {
        match request.extensions().get::<Caller>().map(|caller| &caller.peer) {
            Some(Peer::Local) => Principal::LocalRoot,
            Some(Peer::Network(Some(certificate))) => {
                let state = self.catalog(|catalog| catalog.host(certificate.host).map(|host| host.state));
                let is_issued = self.is_issued(certificate);
                let holds = (certificate.begins..certificate.ends).contains(&self.now());
                let standing = authorize::Standing::of(state, is_issued, holds);
                Principal::Host { host: certificate.host, standing }
            }
            Some(Peer::Network(None)) | None => Principal::Stranger,
        }
    }

    /// Whether a certificate was issued since its host was last enrolled.
    fn is_issued(&self, certificate: &HostCertificate) -> bool {
        self.catalog(|catalog| {
            let host = catalog.host(certificate.host);
            host.is_some_and(|host| host.certificates.contains(&certificate.fingerprint))
        })
    }

    /// Whether the caller may; a refusal is counted, and recorded later.
    fn allow<T>(&self, request: &Request<T>, verb: Verb, object: Object) -> Result<Principal, Status> {
        let principal = self.principal(request);
        match authorize::authorize(principal, verb, object) {
            Verdict::Allow => match self.read_only.as_ref().filter(|_| !verb.only_reads()) {
                Some(read_only) => Err(read_only.refusal().into()),
                None => Ok(principal),
            },
            Verdict::Deny(reason) => {
                tracing::warn!(?principal, ?verb, ?object, %reason, "refused");
                self.refusals.note(principal, verb, reason);
                let failure = Failure::new(ErrorClass::Refused, reason.to_string());
                Err(failure.hint(self.times_of(request, reason)).into())
            }
        }
    }

    /// From when until when a certificate holds, where that is the reason: one of two clocks may be off.
    fn times_of<T>(&self, request: &Request<T>, reason: authorize::Reason) -> String {
        match request.extensions().get::<Caller>().map(|caller| &caller.peer) {
            Some(Peer::Network(Some(certificate))) if reason == authorize::Reason::Expired => format!(
                "it holds from {} to {}, and the coordinator's clock says {:.0}: compare both clocks (`timedatectl`)",
                certificate.begins,
                certificate.ends,
                self.now()
            ),
            _ => String::new(),
        }
    }

    /// The host that calls, if it may do this to itself.
    fn host<T>(&self, request: &Request<T>, verb: Verb) -> Result<HostId, Status> {
        let own = match self.principal(request) {
            Principal::Host { host, .. } => Object::Host(host),
            _ => Object::Repository,
        };
        match self.allow(request, verb, own)? {
            Principal::Host { host, .. } => Ok(host),
            _ => Err(Failure::new(ErrorClass::Refused, authorize::Reason::NoCertificate.to_string()).into()),
        }
    }

    /// Reads the catalog.
    fn catalog<R>(&self, read: impl FnOnce(&Catalog) -> R) -> R {
        self.coordinator.catalog(read)
    }

    /// The name of a host, for logs; its number if it is unknown.
    fn host_name(&self, host: HostId) -> String {
        let name = self.catalog(|catalog| catalog.host(host).map(|row| row.enrolled.name.clone()));
        name.unwrap_or_else(|| format!("number {host}"))
    }

    /// Records what somebody did. Blocks until it is durable.
    fn record(&self, by: journal::Principal, verb: &str, object: &str, event: Event) -> Result<(), Failure> {
        self.record_all(vec![self.act(by, verb, object, event)])
    }

    fn act(&self, principal: journal::Principal, verb: &str, object: &str, event: Event) -> Act {
        let (verb, object) = (verb.to_owned(), lifeboat_format::layout::fit_text(object));
        Act { time_ns: self.clock.now_ns(), principal, verb, object, decision: Decision::Done, event }
    }

    /// Looks at the newest head that an agent saw. If this journal does not extend it, the repository was rolled back
    /// or forked. That is recorded: backups continue, orders and grants for hosts are refused, until an operator gives
    /// that head up (INV-53, INV-77).
    fn look_at_head(&self, host: HostId, shown: Option<UncheckedHead>) {
        let Some(shown) = shown else { return };
        let standing =
            SignedHead::parse(&shown.head, &shown.signature).and_then(|head| self.coordinator.standing(&head));
        match standing {
            Ok(Standing::Known) => {}
            Ok(standing) => self.record_divergence(host, &shown, standing),
            Err(error) => tracing::warn!(%host, %error, "this host shows a journal head that nobody here signed"),
        }
    }

    fn record_divergence(&self, host: HostId, shown: &UncheckedHead, standing: Standing) {
        let Ok(head) = SignedHead::parse(&shown.head, &shown.signature) else { return };
        let (number, hash) = (head.head().number, head.hash());
        let _facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if self.catalog(|catalog| catalog.knows_divergence(host, number, hash)) {
            return;
        }
        tracing::error!(
            %host, ?standing, number,
            "this host's journal head is not an ancestor of ours (was the repository restored from an older copy?): \
             restores onto servers are refused until `lifeboat journal accept`"
        );
        let event = Event::HistoryDiverged { host, number, hash };
        if let Err(error) = self.record(journal::Principal::Host(host), "show head", &format!("batch {number}"), event)
        {
            tracing::error!(%error, "cannot record that a host's journal head is not an ancestor of ours");
        }
    }

    fn now(&self) -> Timestamp {
        dispatch::now(self.clock.as_ref())
    }
}

/// A head as it goes into messages.
fn unchecked(head: &SignedHead) -> UncheckedHead {
    UncheckedHead { head: head.head_bytes().into(), signature: *head.signature().as_bytes() }
}

/// Runs what may wait for the disk.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> Result<R, Failure> + Send + 'static) -> Result<R, Status> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "a call failed by our own mistake");
            Err(Failure::new(ErrorClass::Internal, "the coordinator failed; its log says why").into())
        }
    }
}
