//! `BackupService`: a snapshot goes up. Only for a host with its certificate, and only for that host.

use super::{Context, blocking, failure, unchecked};
use crate::authorize::Verb;
use crate::run::RunRef;
use crate::run::commit::CommitAnswer;
use crate::run::upload::{IncomingChunk, IncomingNode, Refused};
use lifeboat_format::id::{HostId, SnapshotId};
use lifeboat_proto::convert::backup::{
    Begin, Begun, ChunkUp, Commit, Committed, Has, Missing, NodeUp, RunHandle, Upload, bitmap,
};
use lifeboat_proto::convert::{ConvertError, array};
use lifeboat_proto::v1;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Answers that wait for a slow agent to read them.
const ANSWERS_WAITING: usize = 16;

/// The handlers.
#[derive(Debug, Clone)]
pub struct Backup(pub Arc<Context>);

fn run_of(host: HostId, handle: RunHandle) -> RunRef {
    RunRef { run: handle.run, fence: handle.fence, host }
}

#[tonic::async_trait]
impl v1::backup_service_server::BackupService for Backup {
    type UploadStream = ReceiverStream<Result<v1::UploadResponse, Status>>;

    async fn begin(&self, request: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let begin = Begin::try_from(request.into_inner())?;
        let context = self.0.clone();
        context.dispatch.check_twin(host, &begin.instance).map_err(|error| context.refuse_twin(host, &error))?;
        let begun = blocking(move || {
            context.look_at_head(host, begin.last_head);
            let begun = context.coordinator.begin(host, begin.source_set.as_str());
            let begun = begun.map_err(|error| failure::of_begin(&error))?;
            Ok(Begun {
                handle: RunHandle { run: begun.run, fence: begun.fence },
                next_sequence: begun.next_sequence,
                previous: begun.previous,
                head: unchecked(&begun.head),
            })
        });
        Ok(Response::new(begun.await?.into()))
    }

    async fn has(&self, request: Request<v1::HasRequest>) -> Result<Response<v1::HasResponse>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let has = Has::try_from(request.into_inner())?;
        let context = self.0.clone();
        let have = blocking(move || {
            let have = context.coordinator.has(run_of(host, has.handle), &has.chunks);
            have.map_err(|error| failure::of_upload(&error))
        });
        Ok(Response::new(v1::HasResponse { have: bitmap(&have.await?) }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let (answers, stream) = mpsc::channel(ANSWERS_WAITING);
        let (context, messages) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = receive(&context, host, messages, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn commit(&self, request: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let commit = Commit::try_from(request.into_inner())?;
        let context = self.0.clone();
        let committed = blocking(move || {
            let run = run_of(host, commit.handle);
            let answer = context.coordinator.commit(run, &commit.manifest, &commit.envelope);
            answer.map(committed).map_err(|error| failure::of_commit(&error))
        });
        Ok(Response::new(committed.await?.into()))
    }

    async fn prove(&self, request: Request<v1::ProveRequest>) -> Result<Response<v1::ProveResponse>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let snapshot = SnapshotId::from_bytes(array("snapshot", &request.into_inner().snapshot)?);
        let context = self.0.clone();
        Ok(Response::new(blocking(move || context.prove(host, &snapshot)).await?))
    }

    async fn abort(&self, request: Request<v1::AbortRequest>) -> Result<Response<v1::AbortResponse>, Status> {
        let host = self.0.host(&request, Verb::BackUp)?;
        let handle = RunHandle::try_from(request.into_inner().run)?;
        let context = self.0.clone();
        blocking(move || context.coordinator.abort(run_of(host, handle)).map_err(|error| failure::of_begin(&error)))
            .await?;
        Ok(Response::new(v1::AbortResponse {}))
    }
}

/// Takes the messages of one upload, in order; each is answered when it is received, not yet durable.
async fn receive(
    context: &Arc<Context>,
    host: HostId,
    mut messages: Streaming<v1::UploadRequest>,
    answers: &mpsc::Sender<Result<v1::UploadResponse, Status>>,
) -> Result<(), Status> {
    let mut run = None;
    let mut expected = 1;
    while let Some(message) = next(context, run, &mut messages).await? {
        let upload = Upload::try_from(message)?;
        let caller = match (run, upload.handle) {
            (None, Some(handle)) => *run.insert(run_of(host, handle)),
            (Some(caller), None) => caller,
            (None, None) => Err(ConvertError::new("run", "is missing in the first message"))?,
            (Some(_), Some(_)) => Err(ConvertError::new("run", "belongs into the first message only"))?,
        };
        if upload.sequence != expected {
            Err(ConvertError::new("sequence", format!("is {}, needs {expected}", upload.sequence)))?;
        }
        expected += 1;
        let context = context.clone();
        let refused = blocking(move || {
            let chunks = upload.chunks.into_iter().map(chunk).collect();
            let nodes = upload.nodes.into_iter().map(node).collect();
            context.coordinator.upload(caller, chunks, nodes).map_err(|error| failure::of_upload(&error))
        });
        let refused = refused.await?.into_iter().map(|refused| missing(refused).into()).collect();
        if answers.send(Ok(v1::UploadResponse { sequence: upload.sequence, refused })).await.is_err() {
            break; // The agent no longer listens; what it sent stays for the next run to find.
        }
    }
    Ok(())
}

/// The next message; if the connection is lost, nobody waits for the run any more.
async fn next(
    context: &Arc<Context>,
    run: Option<RunRef>,
    messages: &mut Streaming<v1::UploadRequest>,
) -> Result<Option<v1::UploadRequest>, Status> {
    let message = messages.message().await;
    if let (Err(_), Some(run)) = (&message, run) {
        let context = context.clone();
        blocking(move || {
            context.coordinator.lost_connection(run);
            Ok(())
        })
        .await?;
    }
    message
}

fn chunk(up: ChunkUp) -> IncomingChunk {
    let ChunkUp { id, scope, encoder, digest, sealed } = up;
    IncomingChunk { id, scope, encoder, digest, sealed: sealed.into() }
}

fn node(up: NodeUp) -> IncomingNode {
    let NodeUp { id, scope, encoder, record } = up;
    IncomingNode { id, scope, encoder, record: record.into() }
}

fn missing(refused: Refused) -> Missing {
    let Refused { node, chunks, nodes } = refused;
    Missing { node, chunks, nodes }
}

fn committed(answer: CommitAnswer) -> Committed {
    match answer {
        CommitAnswer::Refused(refused) => Committed::Refused(refused.into_iter().map(missing).collect()),
        CommitAnswer::Committed(snapshot) => Committed::Snapshot {
            id: snapshot.snapshot,
            number: snapshot.number,
            head: unchecked(&snapshot.head),
            suspect: snapshot.suspect,
        },
    }
}
