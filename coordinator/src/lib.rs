//! The coordinator: keeps what it cannot read, runs the night, gives data back.
//!
//! In reading order: how it is set up (`config`, `pki`, `vault`), what it decides (`authorize`, `address`, `schedule`,
//! `job`), who is told to do what (`dispatch`), how it is reached (`server`).

pub mod address;
pub mod authorize;
pub mod config;
pub mod dispatch;
pub mod job;
pub mod pki;
pub mod schedule;
pub mod server;
pub mod vault;
