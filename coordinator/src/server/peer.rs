//! A connection, and what it proves about its other end.

use crate::pki::{self, HostCertificate};
use rustls::pki_types::CertificateDer;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tonic::transport::server::Connected;

/// Who is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Over TLS, with a host's certificate or without any.
    Network(Option<HostCertificate>),
    /// At the local socket, which only root can open.
    Local,
}

impl Peer {
    /// From the certificates that the handshake has verified. One that is no host's is as good as none.
    pub fn of_certificates(certificates: Option<&[CertificateDer<'_>]>) -> Self {
        let own = certificates.and_then(|chain| chain.first());
        Self::Network(own.and_then(|certificate| pki::read_host(certificate).ok()))
    }
}

/// Who calls, and over which connection.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who is at the other end.
    pub peer: Peer,
    /// The connection itself: dropped when it ends, so what belongs to it can hold a weak reference.
    pub connection: Arc<()>,
}

/// A stream, with its caller, and its place among the connections that are open at once.
#[derive(Debug)]
pub struct Connection<S> {
    stream: S,
    caller: Caller,
    _place: OwnedSemaphorePermit,
}

impl<S> Connection<S> {
    /// Joins them.
    pub fn new(stream: S, peer: Peer, place: OwnedSemaphorePermit) -> Self {
        Self { stream, caller: Caller { peer, connection: Arc::new(()) }, _place: place }
    }
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
