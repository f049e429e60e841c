//! Bytes in motion: what agents, operators and the coordinator say to each other.
//!
//! The conversations are described in `lifeboat/v1/*.proto` and in `docs/protocol.md`; this crate holds the code made
//! from them, the limits that both sides keep, and the one place where messages become domain types.

pub mod convert;
pub mod limits;
pub mod pages;
pub mod shown;
pub mod status;

/// The generated messages and services. No generated type goes further in than a `convert` function.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("lifeboat.v1");
}

/// The descriptors of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
