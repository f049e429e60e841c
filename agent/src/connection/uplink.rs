//! The pipeline's [`Uplink`] over gRPC.
//!
//! The pipeline's threads block here; the network runs on the runtime. Uploads share one stream: whoever holds the
//! lane numbers the messages and sends them, so what one thread gives is processed in that order. At most
//! [`IN_FLIGHT_BYTES`] are sent and not answered; beyond that, and beyond the policy's rate, `upload` waits.
//!
//! # Invariants
//! * Every receipt gets its answer, or the error that ended the stream.
//! * Commit is asked only after every message before it was answered. An answer to it that was lost is asked for
//!   again, which the conversation allows.
//! * After an error of the stream nothing more is sent: what the run was promised no longer holds (INV-26).

mod lane;
mod split;

use super::{ANSWER_TIME, COMMIT_TIME, back_off, backup_client, explain};
use crate::policy::ByteRate;
use crate::state::{HeadKeeper, Verdict};
use crate::uplink::{Answer, Batch, Begun, Receipt, Refused, Run, Uplink, UplinkError};
use lane::Lane;
use lifeboat_format::id::ChunkId;
use lifeboat_proto::convert::backup::Begun as BegunMessage;
use lifeboat_proto::convert::backup::{Begin, Commit, Committed, Has, Missing, RunHandle, from_bitmap};
use lifeboat_proto::convert::{ConvertError, UncheckedHead};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use lifeboat_proto::v1::backup_service_client::BackupServiceClient;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Bytes that may be on their way up without an answer.
pub const IN_FLIGHT_BYTES: usize = 8 << 20;
/// How often a commit is asked again when its answer was lost.
const COMMIT_ATTEMPTS: u32 = 6;

/// Runs on one coordinator, over one channel.
#[derive(Debug, Clone)]
pub struct GrpcUplink {
    channel: Channel,
    runtime: Handle,
    heads: Arc<HeadKeeper>,
    instance: [u8; 16],
    rate: Option<ByteRate>,
}

impl GrpcUplink {
    /// Sends over `channel`, at most `rate`. `runtime` must have threads of its own: the pipeline's only wait.
    pub fn new(
        channel: Channel,
        runtime: Handle,
        heads: Arc<HeadKeeper>,
        instance: [u8; 16],
        rate: Option<ByteRate>,
    ) -> Self {
        Self { channel, runtime, heads, instance, rate }
    }
}

impl Uplink for GrpcUplink {
    fn begin(&self, source_set: &str, job: &str) -> Result<Box<dyn Run>, UplinkError> {
        let begin = Begin {
            source_set: source_set.parse().map_err(unclear)?,
            last_head: self.heads.newest(),
            job: (!job.is_empty()).then(|| job.parse()).transpose().map_err(unclear)?,
            instance: self.instance,
        };
        let mut client = backup_client(self.channel.clone());
        let request = within(ANSWER_TIME, v1::BeginRequest::from(begin));
        let answer = block_on(&self.runtime, client.begin(request))?;
        let answer = BegunMessage::try_from(answer).map_err(unclear)?;
        take_head(&self.heads, &answer.head)?;
        Ok(Box::new(GrpcRun {
            lane: Lane::open(&self.runtime, client.clone(), answer.handle, self.rate),
            begun: Begun { run: answer.handle.run, next_sequence: answer.next_sequence, previous: answer.previous },
            handle: answer.handle,
            client,
            runtime: self.runtime.clone(),
            heads: self.heads.clone(),
        }))
    }
}

struct GrpcRun {
    handle: RunHandle,
    begun: Begun,
    lane: Lane,
    client: BackupServiceClient<Channel>,
    runtime: Handle,
    heads: Arc<HeadKeeper>,
}

impl Run for GrpcRun {
    fn begun(&self) -> &Begun {
        &self.begun
    }

    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>, UplinkError> {
        self.lane.check()?;
        let question = Has { handle: self.handle, chunks: ids.to_vec() };
        let request = within(ANSWER_TIME, v1::HasRequest::from(question));
        let answer = block_on(&self.runtime, self.client.clone().has(request))?;
        from_bitmap(&answer, ids.len()).map_err(unclear)
    }

    fn upload(&self, batch: Batch) -> Result<Receipt, UplinkError> {
        self.lane.send(batch)
    }

    fn commit(&self, manifest: Vec<u8>, envelope: Vec<u8>) -> Result<Answer, UplinkError> {
        self.lane.wait_until_answered()?;
        let commit = Commit { handle: self.handle, manifest: manifest.into(), envelope: envelope.into() };
        match self.ask_for_commit(&commit.into())? {
            Committed::Refused(missing) => Ok(Answer::Refused(missing.into_iter().map(refused).collect())),
            Committed::Snapshot { id, number, head, suspect } => {
                take_head(&self.heads, &head)?;
                Ok(Answer::Committed { snapshot: id, number, suspect })
            }
        }
    }

    fn abort(&self) -> Result<(), UplinkError> {
        let request = within(ANSWER_TIME, v1::AbortRequest { run: Some(self.handle.into()) });
        block_on(&self.runtime, self.client.clone().abort(request)).map(|_| ())
    }
}

impl GrpcRun {
    /// Asks until there is an answer: a lost one may have been a yes.
    fn ask_for_commit(&self, commit: &v1::CommitRequest) -> Result<Committed, UplinkError> {
        let mut failures = 0;
        loop {
            let request = within(COMMIT_TIME, commit.clone());
            match self.runtime.block_on(self.client.clone().commit(request)) {
                Ok(answer) => return Committed::try_from(answer.into_inner()).map_err(unclear),
                Err(status) => {
                    let failure = explain(status);
                    failures += 1;
                    if !failure.class.may_pass() || failures == COMMIT_ATTEMPTS {
                        return Err(ended(failure));
                    }
                    tracing::warn!(%failure, "no answer to a commit; asking again");
                    std::thread::sleep(back_off::wait_after(failures, back_off::chance()));
                }
            }
        }
    }
}

/// Takes the head that came with an answer. Histories that part end no backup: the newest head we hold stays the
/// proof, and the coordinator sees it with the next Begin.
fn take_head(heads: &HeadKeeper, shown: &UncheckedHead) -> Result<(), UplinkError> {
    match heads.take(shown) {
        Ok(Verdict::Fits) => Ok(()),
        Ok(Verdict::Parts(error)) => {
            tracing::error!(%error, "the coordinator's journal does not extend what this host saw; it was rolled back or forked");
            Ok(())
        }
        Ok(Verdict::Forged(error)) => Err(UplinkError::refused(format!(
            "the coordinator's journal is not signed by a key of this host's trust file: {error}"
        ))),
        Err(error) => Err(ended(Failure::of(error.class(), &error).hint(error.hint()))),
    }
}

fn refused(missing: Missing) -> Refused {
    Refused { node: missing.node, chunks: missing.chunks, nodes: missing.nodes }
}

fn within<T>(time: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(time);
    request
}

fn block_on<T>(runtime: &Handle, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, UplinkError> {
    runtime.block_on(call).map(Response::into_inner).map_err(|status| ended(explain(status)))
}

/// What a failed call means for the run.
fn ended(failure: Failure) -> UplinkError {
    let message = match failure.hint.is_empty() {
        true => failure.message,
        false => format!("{}; {}", failure.message, failure.hint),
    };
    UplinkError { message, retry: failure.class.may_pass(), busy: failure.class == ErrorClass::Busy }
}

/// The coordinator's answer, or our own question, is not what the conversation allows.
fn unclear(error: ConvertError) -> UplinkError {
    UplinkError::refused(format!("coordinator and agent do not understand each other: {error}"))
}

#[cfg(test)]
mod tests;
