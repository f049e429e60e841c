//! Files, read by the agent's walk and written again by its restore, with nothing in between: whatever differs
//! afterwards was lost by one of them.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

mod copy;
mod file_systems;
mod hostile;
mod ordinary_user;
mod race;
mod round_trip;
