//! From an address to a channel: TCP without delay, then TLS, each with its own error.

use super::tls::{self, Trusted};
use super::{CONNECT_TIME, endpoint};
use hyper_util::rt::TokioIo;
use lifeboat_proto::limits::{COORDINATOR_TLS_NAME, DEFAULT_PORT};
use rustls::pki_types::ServerName;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;
use tower::service_fn;

/// `HOST:PORT`, where `HOST` is a name, an IPv4 address, or an IPv6 address in brackets. Without a port, the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    host: String,
    port: u16,
}

impl FromStr for Address {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Address { text: text.to_owned() };
        let bracketed = text.strip_prefix('[').map(|rest| rest.split_once(']').ok_or_else(wrong)).transpose()?;
        let (host, port) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || bracketed.is_some() && byte == b':';
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err(wrong());
        }
        let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| wrong()))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// A text that is no address.
    #[error("{text:?} is no address; it needs to be HOST:PORT")]
    Address {
        /// The text.
        text: String,
    },
    /// Nobody answers there.
    #[error("cannot reach the coordinator at {address}")]
    Tcp {
        /// Where.
        address: Address,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// No answer in time.
    #[error("no answer from the coordinator at {address} within {} s", CONNECT_TIME.as_secs())]
    Late {
        /// Where.
        address: Address,
    },
    /// Somebody answers, and TLS did not come about.
    #[error("cannot agree on TLS with {address}")]
    Tls {
        /// Where.
        address: Address,
        /// When our own certificate ends, if we showed one.
        own_ends: Option<SystemTime>,
        /// What is wrong.
        source: Arc<io::Error>,
    },
    /// Our own certificate or the CA cannot be used.
    #[error("this host's certificate or the CA in its trust file cannot be used")]
    Own {
        /// Why.
        #[from]
        source: rustls::Error,
    },
}

/// Makes connections to one coordinator.
#[derive(Clone)]
pub struct Dialer {
    address: Address,
    tls: TlsConnector,
    own_ends: Option<SystemTime>,
}

impl Dialer {
    /// Connects only to the coordinator that the trust file's CA vouches for.
    pub fn verified(address: Address, trusted: &Trusted) -> Result<Self, ConnectError> {
        let own_ends = trusted.identity.as_ref().and_then(|own| own.validity()).map(|(_, until)| until);
        Ok(Self { address, tls: TlsConnector::from(Arc::new(tls::verified(trusted)?)), own_ends })
    }

    /// Connects to whoever answers. For fetching the first trust file alone.
    pub fn unverified(address: Address) -> Result<Self, ConnectError> {
        Ok(Self { address, tls: TlsConnector::from(Arc::new(tls::unverified()?)), own_ends: None })
    }

    /// Where it calls.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connects now. A channel whose connection breaks later connects again at its next call.
    pub async fn connect(&self) -> Result<Channel, tonic::transport::Error> {
        let dialer = self.clone();
        let connector = service_fn(move |_| {
            let dialer = dialer.clone();
            async move { dialer.dial().await.map(TokioIo::new) }
        });
        endpoint().connect_with_connector(connector).await
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let late = |_| ConnectError::Late { address: self.address.clone() };
        tokio::time::timeout(CONNECT_TIME - Duration::from_secs(1), self.dial_without_limit()).await.map_err(late)?
    }

    /// Ends when the coordinator has said its first word: only then has it looked at our certificate, and a refusal can
    /// still be told from a connection that broke.
    async fn dial_without_limit(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let no_tcp = |source| ConnectError::Tcp { address: self.address.clone(), source: Arc::new(source) };
        let no_tls = |source| {
            let (address, own_ends) = (self.address.clone(), self.own_ends);
            ConnectError::Tls { address, own_ends, source: Arc::new(source) }
        };
        let stream = TcpStream::connect((self.address.host.as_str(), self.address.port)).await.map_err(no_tcp)?;
        stream.set_nodelay(true).map_err(no_tcp)?;
        let name = ServerName::try_from(COORDINATOR_TLS_NAME).map_err(|error| no_tls(io::Error::other(error)))?;
        let mut stream = self.tls.connect(name, stream).await.map_err(no_tls)?;
        stream.fill_buf().await.map_err(no_tls)?;
        Ok(stream)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dialer({})", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_with_and_without_a_port() {
        for (text, whole) in [
            ("backup.example:7000", "backup.example:7000"),
            ("backup.example", "backup.example:7420"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[fe80::1]", "[fe80::1]:7420"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), whole);
        }
        for wrong in ["", ":80", "a:b", "::1", "[::1", "a b:1", "a:70000", "[::1]x"] {
            assert!(wrong.parse::<Address>().is_err(), "{wrong:?}");
        }
    }
}
