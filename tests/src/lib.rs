//! What tests of the whole system share: trees to back up, and a judge that shares no code with those who are judged.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

pub mod compare;
pub mod golden;
pub mod torture;
