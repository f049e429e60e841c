//! The whole system from outside: real programs, real sockets, a real disk, and what an operator would type.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

mod crashes;
mod half_way;
mod judges;
mod recovery;
mod story;
mod trouble;
mod world;
