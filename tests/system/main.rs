//! The whole system from outside: real programs, real sockets, a real disk, and what an operator would type.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

mod checkpoints;
mod clients;
mod clocks;
mod copies;
mod crashes;
mod damage;
mod disks;
mod dump;
mod finding;
mod foreign;
mod half_way;
mod harm;
mod hooks;
mod hosts;
mod identity;
mod json;
mod judges;
mod keys;
mod lists;
mod messages;
mod mirror;
mod mount;
mod node_copies;
mod older_copy;
mod ordered;
mod overwrite;
mod owners;
mod proof;
mod reader;
mod recovery;
mod resume;
mod selecting;
mod story;
mod targets;
mod terminal;
mod trouble;
mod unit;
mod world;
