//! Limits that both sides keep. A message beyond one of them is refused with the field named; nothing is allocated
//! for it first.

use std::time::Duration;

/// Chunk ids in one `Has`.
pub const ASKED_IDS_MAX: usize = 4096;
/// Bytes of one sealed chunk: plaintext of at most 768 KiB that did not compress, and its wrapping.
pub const SEALED_BYTES_MAX: usize = 1 << 20;
/// Bytes of one node record: links and ciphertext.
pub const RECORD_BYTES_MAX: usize = 12 << 20;
/// Bytes of one gRPC message, either way: the largest node record, and what is around it.
pub const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX + (1 << 20);
/// Bytes of sealed data at which a sender closes an upload message and begins the next.
pub const UPLOAD_BYTES_AIM: usize = 1 << 20;
/// Chunks, and as many nodes, in one upload message.
pub const UPLOAD_ITEMS_MAX: usize = 4096;
/// Ids that one refusal names; a sender that is told of so many asks again after it sent them.
pub const REFUSED_IDS_MAX: usize = 65_536;
/// Links asked for in one `ReadRequest`.
pub const READ_LINKS_MAX: usize = 1024;
/// Bytes of a signed manifest, and of an envelope.
pub const MANIFEST_BYTES_MAX: usize = 6 << 20;
/// Bytes of a grant, and of a signed grant order.
pub const GRANT_BYTES_MAX: usize = 2 << 20;
/// Snapshots that one call opens.
pub const ORDERS_MAX: usize = 1000;
/// Bytes of rows at which a list begins the next message.
pub const PAGE_BYTES_AIM: usize = 1 << 20;
/// Bytes of the signed terms of a restore.
pub const TERMS_BYTES_MAX: usize = 1 << 20;
/// How long a token may be valid: a week.
pub const TOKEN_SECONDS_MAX: u64 = 604_800;
/// Bytes of a trust file.
pub const TRUST_FILE_BYTES_MAX: usize = 4 << 20;
/// Bytes of the head of a journal batch.
pub const HEAD_BYTES_MAX: usize = 1024;
/// Bytes of a certificate request, and of a certificate.
pub const CERTIFICATE_BYTES_MAX: usize = 4096;
/// Letters of a text that is shown to people, such as why a job failed.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Gaps that a report or a manifest names; the rest is only counted.
pub const GAPS_NAMED_MAX: usize = 1000;
/// Source sets that one host offers.
pub const SOURCE_SETS_MAX: usize = 256;
/// Bytes of the name of a source set.
pub const SOURCE_SET_NAME_MAX: usize = 64;
/// Bytes of the name of a host.
pub const HOST_NAME_MAX: usize = 253;
/// Bytes of the name of a job.
pub const JOB_NAME_MAX: usize = 64;

/// How often an agent says that it is alive, at least.
pub const ALIVE_EVERY: Duration = Duration::from_secs(20);
/// How often an agent reads its policy again, and says so if it offers something else.
pub const POLICY_READ_EVERY: Duration = Duration::from_secs(5);
/// HTTP/2 window of one stream for what an agent or a client receives, in bytes.
pub const STREAM_WINDOW: u32 = 4 << 20;
/// HTTP/2 window of a connection, likewise.
pub const CONNECTION_WINDOW: u32 = 8 << 20;
/// HTTP/2 window of one stream for what a coordinator receives, in bytes: it has one for each agent that sends.
pub const UPLOAD_STREAM_WINDOW: u32 = 1 << 20;
/// HTTP/2 window of a connection, likewise.
pub const UPLOAD_CONNECTION_WINDOW: u32 = 2 << 20;
/// Largest HTTP/2 frame, in bytes.
pub const FRAME_BYTES_MAX: u32 = 256 << 10;

/// The name in the coordinator's TLS certificate, at whatever address it is reached: the CA that agents pin signs for
/// this one repository, so the address proves nothing that the CA does not.
pub const COORDINATOR_TLS_NAME: &str = "coordinator.lifeboat.internal";
/// The port of a coordinator whose address names none.
pub const DEFAULT_PORT: u16 = 7420;
