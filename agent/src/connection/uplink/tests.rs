//! The uplink against a coordinator that only counts, over real HTTP/2.

use super::*;
use crate::connection::endpoint;
use crate::state::StateDir;
use crate::state::head_for_tests::{journal, log_key};
use crate::uplink::{OutgoingChunk, OutgoingNode};
use hyper_util::rt::TokioIo;
use lifeboat_format::id::{Digest, NodeId, RunId, Scope};
use lifeboat_proto::convert::backup::Upload;
use lifeboat_proto::status::ErrorClass;
use lifeboat_proto::v1::backup_service_server::{BackupService, BackupServiceServer};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tower::service_fn;

/// Refuses nodes of this first byte, ends the stream at chunks of this one, and loses the first answer to a commit.
const REFUSED: u8 = 0xee;
const FATAL: u8 = 0xff;

#[derive(Default)]
struct Counting {
    uploads: Mutex<Vec<(u64, Vec<u8>)>>,
    commits: AtomicU32,
}

struct Fake(Arc<Counting>);

#[tonic::async_trait]
impl BackupService for Fake {
    type UploadStream = ReceiverStream<Result<v1::UploadResponse, Status>>;

    async fn begin(&self, _: Request<v1::BeginRequest>) -> Result<Response<v1::BeginResponse>, Status> {
        let handle = RunHandle { run: RunId::from_bytes([1; 16]), fence: 1 };
        let head = journal(&["begin"]).remove(0);
        Ok(Response::new(BegunMessage { handle, next_sequence: 1, previous: None, head }.into()))
    }

    async fn has(&self, request: Request<v1::HasRequest>) -> Result<Response<v1::HasResponse>, Status> {
        let asked = Has::try_from(request.into_inner())?;
        let have: Vec<_> = asked.chunks.iter().map(|id| id.as_bytes()[0] % 2 == 1).collect();
        Ok(Response::new(v1::HasResponse { have: lifeboat_proto::convert::backup::bitmap(&have) }))
    }

    async fn upload(
        &self,
        request: Request<tonic::Streaming<v1::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let (answers, stream) = tokio::sync::mpsc::channel(4);
        let (mut messages, counting) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                let answer = take(&counting, Upload::try_from(message).unwrap());
                let fatal = answer.is_err();
                if answers.send(answer).await.is_err() || fatal {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn commit(&self, _: Request<v1::CommitRequest>) -> Result<Response<v1::CommitResponse>, Status> {
        if self.0.commits.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(Status::unavailable("the answer was lost"));
        }
        let head = journal(&["begin", "commit"]).remove(1);
        let (id, number) =
            (lifeboat_format::id::SnapshotId::from_bytes([4; 32]), lifeboat_format::id::SnapshotNumber::new(2));
        Ok(Response::new(Committed::Snapshot { id, number, head, suspect: None }.into()))
    }

    async fn prove(&self, _: Request<v1::ProveRequest>) -> Result<Response<v1::ProveResponse>, Status> {
        Err(Status::unimplemented("no run proves anything"))
    }

    async fn abort(&self, _: Request<v1::AbortRequest>) -> Result<Response<v1::AbortResponse>, Status> {
        Ok(Response::new(v1::AbortResponse {}))
    }
}

fn take(counting: &Counting, upload: Upload) -> Result<v1::UploadResponse, Status> {
    let first = |bytes: &[u8]| bytes.first().copied().unwrap_or(0);
    let chunks: Vec<_> = upload.chunks.iter().map(|chunk| first(&chunk.sealed)).collect();
    if chunks.contains(&FATAL) {
        return Err(Failure::new(ErrorClass::Full, "no room").into());
    }
    counting.uploads.lock().unwrap().push((upload.sequence, chunks));
    let refused = upload.nodes.iter().filter(|node| first(&node.record) == REFUSED);
    let refused = refused.map(|node| Missing { node: Some(node.id), chunks: Vec::new(), nodes: Vec::new() }.into());
    Ok(v1::UploadResponse { sequence: upload.sequence, refused: refused.collect() })
}

struct Bench {
    runtime: Runtime,
    counting: Arc<Counting>,
    uplink: GrpcUplink,
    _state: tempfile::TempDir,
}

fn bench() -> Bench {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (counting, directory) = (Arc::new(Counting::default()), tempfile::tempdir().unwrap());
    let state = StateDir::create(&directory.path().join("state")).unwrap();
    let heads = Arc::new(HeadKeeper::open(&state, log_key().verifying_key()).unwrap());
    let channel = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = BackupServiceServer::new(Fake(counting.clone())).max_decoding_message_size(16 << 20);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)));
        let connector = service_fn(move |_| async move { TcpStream::connect(address).await.map(TokioIo::new) });
        endpoint().connect_with_connector(connector).await.unwrap()
    });
    let uplink = GrpcUplink::new(channel, runtime.handle().clone(), heads, [7; 16], None);
    Bench { runtime, counting, uplink, _state: directory }
}

fn chunk(byte: u8, bytes: usize) -> OutgoingChunk {
    let sealed = vec![byte; bytes];
    OutgoingChunk { id: ChunkId::from_bytes([byte; 32]), scope: Scope::new(1), digest: Digest::of(&sealed), sealed }
}

fn node(byte: u8) -> OutgoingNode {
    OutgoingNode { id: NodeId::from_bytes([byte; 32]), scope: Scope::new(1), record: vec![byte; 100] }
}

#[test]
fn a_run_asks_uploads_more_than_may_be_in_flight_and_commits_after_a_lost_answer() {
    let bench = bench();
    let run = bench.uplink.begin("system", "").unwrap();
    assert_eq!(run.has(&[ChunkId::from_bytes([1; 32]), ChunkId::from_bytes([2; 32])]).unwrap(), [true, false]);
    let receipts: Vec<_> = (0..30_u8)
        .map(|byte| run.upload(Batch { chunks: vec![chunk(byte, 900 << 10)], nodes: vec![node(byte)] }).unwrap())
        .collect();
    let refused = run.upload(Batch { chunks: Vec::new(), nodes: vec![node(1), node(REFUSED)] }).unwrap();
    drop(run.upload(Batch::default()).unwrap());
    let Answer::Committed { number, .. } = run.commit(vec![1], vec![1]).unwrap() else { panic!("refused") };
    assert_eq!((number.get(), bench.counting.commits.load(Ordering::SeqCst)), (2, 2));
    assert!(receipts.into_iter().all(|receipt| receipt.wait().unwrap().is_empty()));
    assert_eq!(refused.wait().unwrap()[0].node, Some(NodeId::from_bytes([REFUSED; 32])));
    let uploads = bench.counting.uploads.lock().unwrap();
    assert!(uploads.iter().map(|(sequence, _)| *sequence).eq(1..=31));
    assert!(uploads.iter().flat_map(|(_, chunks)| chunks.iter().copied()).eq(0..30));
    drop(uploads);
    drop(run);
    bench.runtime.shutdown_timeout(Duration::from_secs(1));
}

#[test]
fn inv_26_after_the_stream_has_ended_every_call_and_every_receipt_says_why() {
    let bench = bench();
    let run = bench.uplink.begin("system", "").unwrap();
    let fatal = run.upload(Batch { chunks: vec![chunk(FATAL, 10)], nodes: Vec::new() }).unwrap();
    let error = fatal.wait().unwrap_err();
    assert_eq!((error.message.as_str(), error.retry), ("no room", false));
    assert!(run.has(&[]).is_err());
    assert!(run.upload(Batch { chunks: vec![chunk(1, 10)], nodes: Vec::new() }).is_err());
    assert!(run.commit(vec![1], vec![1]).is_err());
    drop(run);
    bench.runtime.shutdown_timeout(Duration::from_secs(1));
}
