//! What tests of the whole system share: trees to back up, file systems to keep them on, and the
//! second reader. The judge, which shares no code with those who are judged, is
//! `lifeboat_coordinator::cli::demo::compare`: the demo needs it too.

#![allow(clippy::unwrap_used)] // A panic here is a failed test.

pub mod footers;
pub mod golden;
pub mod many;
pub mod mounted;
pub mod second_reader;
pub mod torture;
