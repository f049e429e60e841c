//! The whole system in one process: the agent's real pipeline on real files, against the coordinator's real core, with
//! no network between them. The store fails on order, time and chance are passed in, and a backup can be disturbed at
//! any call. What must hold is held against a simple model: what was acknowledged, and how its source looked then.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

mod dice;
mod every_write;
mod growth;
mod host;
mod lab;
mod model;
mod picture;
mod random;
mod repeat;
mod restarts;
mod restore;
mod source;
mod uplink;
