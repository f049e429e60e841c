//! The coordinator: keeps what it cannot read, runs the night, gives data back.
//!
//! In reading order: how it is set up (`config`, `pki`, `vault`, `init`), what it decides (`authorize`, `address`,
//! `schedule`, `job`), who is told to do what (`dispatch`), how it is reached (`serve`, `unit`, `server`, `service`), and
//! what people type (`cli`, the only door to the agent's code).
//!
//! Its core, which handlers call: `repository` opens one and answers, `run` is one upload from begin to commit, `spool`
//! makes packs, `journal` and `catalog` are the facts, `index` finds what lies where, `store` is the only door to the
//! disk; `shared` is what they have in common, `clock` gives time and chance, `watch`
//! follows a start.

pub mod address;
pub mod authorize;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dispatch;
pub mod index;
pub mod init;
pub mod job;
pub mod journal;
pub mod objects;
pub mod pki;
pub mod repository;
pub mod run;
pub mod schedule;
pub mod serve;
pub mod server;
pub mod service;
mod shared;
pub mod spool;
pub mod store;
pub mod trust;
pub mod unit;
pub mod vault;
pub mod watch;
