//! The local socket, from the operator's side.

use crate::config::Config;
use hyper_util::rt::TokioIo;
use lifeboat_proto::limits;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use lifeboat_proto::v1::admin_service_client::AdminServiceClient;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use tokio::net::UnixStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// The coordinator, asked by root.
pub type Admin = AdminServiceClient<Channel>;

/// Whether the coordinator warned that something is wrong with it as a whole; unset before it was asked.
static WARNED: OnceLock<bool> = OnceLock::new();

/// Whether the coordinator warned that its lists may lack something.
pub fn is_warned() -> bool {
    WARNED.get().copied().unwrap_or_default()
}

/// Connects to the coordinator of these settings, and prints once its warning, if it has one.
pub async fn connect(config: &Config) -> Result<Admin, Failure> {
    let channel = channel(&config.socket).await?;
    let admin = Admin::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX);
    let mut admin = admin.max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    if WARNED.get().is_none() {
        let warning = admin.get_condition(v1::GetConditionRequest {}).await?.into_inner().warning;
        if !warning.is_empty() {
            eprintln!("warning: {warning}");
        }
        let _ = WARNED.set(!warning.is_empty());
    }
    Ok(admin)
}

/// A connection to the local socket. That somebody listens is found out here, while the reason is still known.
pub async fn channel(socket: &Path) -> Result<Channel, Failure> {
    let first = UnixStream::connect(socket).await.map_err(|error| explain(socket, &error))?;
    let path = socket.to_owned();
    let mut first = Some(first);
    let connector = service_fn(move |_| {
        let (first, path) = (first.take(), path.clone());
        async move {
            match first {
                Some(stream) => Ok(TokioIo::new(stream)),
                None => UnixStream::connect(path).await.map(TokioIo::new),
            }
        }
    });
    let endpoint = Endpoint::from_static("http://lifeboat")
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW);
    let connected = endpoint.connect_with_connector(connector).await;
    connected.map_err(|error| Failure::of(ErrorClass::Unreachable, &error))
}

fn explain(socket: &Path, error: &io::Error) -> Failure {
    let shown = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            let failure = Failure::new(ErrorClass::Unreachable, format!("no coordinator is running at {shown}"));
            failure.hint("start it with `systemctl start lifeboat`, or `lifeboat serve`")
        }
        io::ErrorKind::PermissionDenied => {
            let failure = Failure::new(ErrorClass::Refused, format!("you may not use the local socket {shown}"));
            failure.hint("only root may; try again with sudo")
        }
        _ => Failure::new(ErrorClass::Unreachable, format!("cannot connect to {shown}: {error}")),
    }
}

/// All messages of a stream.
pub async fn all<M>(mut stream: Streaming<M>) -> Result<Vec<M>, Failure> {
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

/// All snapshots of a host, by name or number; of all hosts if the name is empty. Newest first.
pub async fn list_snapshots(
    admin: &mut Admin,
    host: &str,
    source_set: &str,
) -> Result<v1::ListSnapshotsResponse, Failure> {
    let request = v1::ListSnapshotsRequest { host: host.to_owned(), source_set: source_set.to_owned() };
    let pages = all(admin.list_snapshots(request).await?.into_inner()).await?;
    let repository = pages.first().map(|first| first.repository.clone()).unwrap_or_default();
    let snapshots = pages.into_iter().flat_map(|page| page.snapshots).collect();
    Ok(v1::ListSnapshotsResponse { snapshots, repository })
}

/// The host of a name or number; all hosts if it is empty. And the enrolments that were refused.
pub async fn list_hosts(admin: &mut Admin, name: &str) -> Result<v1::ListHostsResponse, Failure> {
    let request = v1::ListHostsRequest { name: name.to_owned() };
    let pages = all(admin.list_hosts(request).await?.into_inner()).await?;
    let mut listed = v1::ListHostsResponse::default();
    for page in pages {
        listed.hosts.extend(page.hosts);
        listed.refused_enrolments.extend(page.refused_enrolments);
    }
    Ok(listed)
}
