//! How the agent reaches its coordinator: TLS 1.3 both ways, deadlines, and what an error means for a person.
//!
//! The agent only calls out. It checks the coordinator's certificate against the CA in the trust file, under one
//! fixed name: the CA signs for this repository alone, so the address proves nothing more. Before enrolment there is
//! no trust file yet; [`Dialer::unverified`] is for fetching it, and for nothing else.
//!
//! What is said over a channel is for `enrol`, `daemon` and `connection::uplink`.

pub mod back_off;
mod dial;
mod explain;
pub mod throttle;
mod tls;
pub mod uplink;

pub use dial::{Address, ConnectError, Dialer};
pub use explain::{explain, explain_transport};
pub use tls::Trusted;

use lifeboat_proto::limits;
use lifeboat_proto::v1::backup_service_client::BackupServiceClient;
use lifeboat_proto::v1::control_service_client::ControlServiceClient;
use lifeboat_proto::v1::enrol_service_client::EnrolServiceClient;
use lifeboat_proto::v1::restore_service_client::RestoreServiceClient;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// How long TCP and TLS together may take.
pub const CONNECT_TIME: Duration = Duration::from_secs(20);
/// How long an answer to a short question may take.
pub const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How long a commit may take: packs are sealed and put before it is answered.
pub const COMMIT_TIME: Duration = Duration::from_secs(600);
/// A connection without a sign of life for so long is asked for one.
const PING_EVERY: Duration = Duration::from_secs(15);
/// An answer to that must come within this time, else the connection is over.
const PING_TIME: Duration = Duration::from_secs(20);

/// The HTTP/2 settings of every connection, to a coordinator or to its local socket.
pub fn endpoint() -> Endpoint {
    // The address is the dialer's affair; HTTP/2 only wants some name in its headers.
    Endpoint::from_static("http://coordinator")
        .connect_timeout(CONNECT_TIME)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIME)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .http2_max_header_list_size(64 << 10)
        .user_agent(concat!("lifeboat-agent/", env!("CARGO_PKG_VERSION")))
        .unwrap_or_else(|_| Endpoint::from_static("http://coordinator"))
}

/// A client of the backup service, with the limits of the conversation.
pub fn backup_client(channel: Channel) -> BackupServiceClient<Channel> {
    BackupServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX)
}

/// A client of the control service.
pub fn control_client(channel: Channel) -> ControlServiceClient<Channel> {
    ControlServiceClient::new(channel).max_decoding_message_size(1 << 20)
}

/// A client of the enrolment service.
pub fn enrol_client(channel: Channel) -> EnrolServiceClient<Channel> {
    EnrolServiceClient::new(channel).max_decoding_message_size(limits::TRUST_FILE_BYTES_MAX + (64 << 10))
}

/// A client of the restore service.
pub fn restore_client(channel: Channel) -> RestoreServiceClient<Channel> {
    RestoreServiceClient::new(channel).max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
}
