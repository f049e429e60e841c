//! `ControlService`: orders down, reports up; and new certificates.

use super::{Context, blocking, failure};
use crate::authorize::{Reason, Verb};
use crate::dispatch::board::{Down, StreamId};
use crate::pki::{self, HostCertificate};
use crate::server::peer::{Caller, Peer};
use lifeboat_format::id::Digest;
use lifeboat_format::journal::{Event, Principal};
use lifeboat_proto::convert::ConvertError;
use lifeboat_proto::convert::control::{BackupFailure, Report};
use lifeboat_proto::convert::enrol::renewal;
use lifeboat_proto::limits::ALIVE_EVERY;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// An agent that is silent for so long is taken for gone; it says that it is alive every 20 s.
const SILENCE_MAX: Duration = ALIVE_EVERY.saturating_mul(3);
/// How long an agent may take to say hello.
const HELLO_MAX: Duration = Duration::from_secs(10);
/// Orders that wait in a stream; the board holds the others.
const ORDERS_WAITING: usize = 4;

/// The handlers.
#[derive(Debug, Clone)]
pub struct Control(pub Arc<Context>);

#[tonic::async_trait]
impl v1::control_service_server::ControlService for Control {
    type FollowStream = ReceiverStream<Result<v1::Order, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<v1::AgentReport>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let host = self.0.host(&request, Verb::Follow)?;
        let certificate = certificate_of(&request);
        let mut reports = request.into_inner();
        let (down, stream) = mpsc::channel(ORDERS_WAITING);
        let context = self.0.clone();
        // The answer's head goes out at once: an agent may wait for it before it says hello.
        tokio::spawn(async move {
            let followed = async {
                let hello = match tokio::time::timeout(HELLO_MAX, next(&mut reports)).await {
                    Ok(Ok(Some(Report::Hello(hello)))) => hello,
                    Ok(Err(status)) => return Err(status),
                    _ => return Err(ConvertError::new("report", "is not hello, which comes first").into()),
                };
                let (looking, shown) = (context.clone(), hello.last_head.clone());
                // The journal may be waiting for the disk.
                let look = move || {
                    looking.look_at_head(host, shown);
                    Ok(())
                };
                blocking(look).await?;
                let connected = context.dispatch.connect(host, hello);
                let (id, orders) = connected.map_err(|error| context.refuse_twin(host, &error))?;
                // Another server may have been enrolled in its place since it was let in.
                if !certificate.is_some_and(|certificate| context.is_issued(&certificate)) {
                    context.dispatch.disconnect(id);
                    return Err(replaced().into());
                }
                let name = context.host_name(host);
                tracing::info!(host = name, "agent connected");
                let ended = follow(&context, id, reports, orders, &down).await;
                context.dispatch.disconnect(id);
                tracing::info!(host = name, "agent disconnected");
                ended
            };
            if let Err(status) = followed.await {
                let _ = down.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn report_failure(
        &self,
        request: Request<v1::ReportFailureRequest>,
    ) -> Result<Response<v1::ReportFailureResponse>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let failed = BackupFailure::try_from(request.into_inner())?;
        let context = self.0.clone();
        blocking(move || context.record_failure(host, &failed)).await?;
        Ok(Response::new(v1::ReportFailureResponse {}))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let host = self.0.host(&request, Verb::Renew)?;
        let shown = certificate_of(&request);
        let csr = renewal(request.into_inner())?;
        let context = self.0.clone();
        let certificate = blocking(move || {
            // No enrolment comes in between: a machine that was replaced gets no new certificate.
            let _facts = context.facts.lock().unwrap_or_else(PoisonError::into_inner);
            if !shown.is_some_and(|shown| context.is_issued(&shown)) {
                return Err(replaced());
            }
            let issued = pki::issue_host(&context.vault.issuing, host, &csr, context.now());
            let certificate = issued.map_err(|error| failure::of_pki(&error))?;
            let event = certificate_issued(host, &certificate)?;
            context.record(Principal::Host(host), "renew", &format!("host-{host}"), event)?;
            Ok(certificate)
        });
        Ok(Response::new(v1::RenewResponse { certificate_der: certificate.await?.to_vec().into() }))
    }
}

/// The certificate that the caller has shown.
fn certificate_of<T>(request: &Request<T>) -> Option<HostCertificate> {
    match request.extensions().get::<Caller>().map(|caller| &caller.peer) {
        Some(Peer::Network(certificate)) => certificate.clone(),
        _ => None,
    }
}

fn replaced() -> Failure {
    Failure::new(ErrorClass::Refused, Reason::Replaced.to_string())
}

/// The record of a certificate.
pub fn certificate_issued(
    host: lifeboat_format::id::HostId,
    certificate: &rustls::pki_types::CertificateDer<'_>,
) -> Result<Event, Failure> {
    let ends = pki::ends(certificate).map_err(|error| failure::of_pki(&error))?;
    let ends_ns = i64::try_from(ends.as_nanosecond()).unwrap_or(i64::MAX);
    Ok(Event::CertificateIssued { host, fingerprint: Digest::of(certificate), ends_ns })
}

async fn next(reports: &mut Streaming<v1::AgentReport>) -> Result<Option<Report>, Status> {
    Ok(reports.message().await?.map(Report::try_from).transpose()?)
}

/// Passes orders down and reports up, until one side ends it.
async fn follow(
    context: &Context,
    id: StreamId,
    mut reports: Streaming<v1::AgentReport>,
    mut orders: mpsc::Receiver<Down>,
    down: &mpsc::Sender<Result<v1::Order, Status>>,
) -> Result<(), Status> {
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Down::Order(order)) => {
                    if down.send(Ok(order.into())).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Down::Replaced) => return Err(Status::already_exists("a newer stream of this host took over")),
                None => return Err(Failure::new(ErrorClass::Unreachable, "the coordinator ends this stream").into()),
            },
            report = tokio::time::timeout(SILENCE_MAX, next(&mut reports)) => match report {
                Ok(Ok(Some(report))) => context.dispatch.report(id, report),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(status)) => return Err(status),
                Err(_) => return Err(Failure::new(ErrorClass::Unreachable, "the agent was silent too long").into()),
            },
        }
    }
}
