//! The two doors: one TLS port for agents, one local socket for root.
//!
//! What is said behind them is for `service`; here connections are accepted, checked, counted and closed in good
//! order. A handshake that dawdles costs one of a limited number of places and is ended; the next connection is
//! accepted meanwhile (INV-45).

pub mod peer;
pub mod tls;

use lifeboat_proto::limits;
use peer::{Connection, Peer};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;

/// Connections that are open at once, at each door.
const CONNECTIONS_MAX: usize = 4096;
/// Accepted connections that wait to be served.
const WAITING_MAX: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Calls at once on one connection.
const CALLS_MAX: u32 = 64;
/// After an error of the system (no more descriptors, say) nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// Somebody listens at the local socket.
    #[error("another `lifeboat serve` answers at {path}; stop it first")]
    AlreadyServed {
        /// The socket.
        path: PathBuf,
    },
    /// The local socket cannot be made.
    #[error("cannot make the local socket {path}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Serving ended with an error.
    #[error("the server stopped")]
    Serve(#[from] tonic::transport::Error),
}

/// Takes the port that agents call.
pub async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, source })
}

/// Makes the local socket, for root alone. One that a dead coordinator left is removed.
pub async fn listen_locally(path: &Path) -> Result<UnixListener, ServerError> {
    let failed = |source| ServerError::Socket { path: path.to_owned(), source };
    match UnixStream::connect(path).await {
        Ok(_) => return Err(ServerError::AlreadyServed { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Serves agents until `stop`, and then lets calls that are under way end.
pub async fn serve_network(
    listener: TcpListener,
    config: Arc<rustls::ServerConfig>,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (ready, connections) = mpsc::channel(WAITING_MAX);
    let accepting = tokio::spawn(async move {
        while let Some((place, stream)) = next(&places, || listener.accept()).await {
            let (acceptor, ready) = (acceptor.clone(), ready.clone());
            tokio::spawn(async move {
                let handshake = tokio::time::timeout(HANDSHAKE_MAX, secured(acceptor, stream)).await;
                match handshake {
                    Ok(Ok((stream, peer))) => {
                        let _ = ready.send(Ok(Connection::new(stream, peer, place))).await;
                    }
                    Ok(Err(error)) => tracing::debug!(%error, "a connection was refused"),
                    Err(_) => tracing::debug!("a connection was ended that did not finish its handshake"),
                }
            });
        }
    });
    let served = serve(connections, routes, stop).await;
    accepting.abort();
    served
}

/// Serves root at the local socket until `stop`.
pub async fn serve_locally(
    listener: UnixListener,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let own_uid = rustix::process::geteuid().as_raw();
    let (ready, connections) = mpsc::channel(WAITING_MAX);
    let accepting = tokio::spawn(async move {
        while let Some((place, stream)) = next(&places, || listener.accept()).await {
            let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own_uid);
            if allowed && ready.send(Ok(Connection::new(stream, Peer::Local, place))).await.is_err() {
                break;
            }
        }
    });
    let served = serve(connections, routes, stop).await;
    accepting.abort();
    served
}

/// The next connection, once there is a place for it.
async fn next<S, A, F>(
    places: &Arc<Semaphore>,
    mut accept: impl FnMut() -> F,
) -> Option<(tokio::sync::OwnedSemaphorePermit, S)>
where
    F: Future<Output = io::Result<(S, A)>>,
{
    let place = places.clone().acquire_owned().await.ok()?;
    loop {
        match accept().await {
            Ok((stream, _)) => return Some((place, stream)),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection whose TLS handshake succeeded. Small messages must not wait for each other: `serve_with_incoming`
/// ignores the server's own setting, and 44 ms a call are lost without this.
async fn secured(
    acceptor: TlsAcceptor,
    stream: TcpStream,
) -> io::Result<(tokio_rustls::server::TlsStream<TcpStream>, Peer)> {
    stream.set_nodelay(true)?;
    let stream = acceptor.accept(stream).await?;
    let peer = Peer::of_certificates(stream.get_ref().1.peer_certificates());
    Ok((stream, peer))
}

async fn serve<S>(
    connections: mpsc::Receiver<io::Result<Connection<S>>>,
    routes: Routes,
    stop: impl Future<Output = ()>,
) -> Result<(), ServerError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = Server::builder()
        .initial_stream_window_size(limits::UPLOAD_STREAM_WINDOW)
        .initial_connection_window_size(limits::UPLOAD_CONNECTION_WINDOW)
        .max_frame_size(limits::FRAME_BYTES_MAX)
        .max_concurrent_streams(CALLS_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_routes(routes);
    Ok(server.serve_with_incoming_shutdown(ReceiverStream::new(connections), stop).await?)
}
