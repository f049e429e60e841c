//! Bytes at rest: everything that must still be readable when all else is gone.
//!
//! One question decides what may enter this crate: *could a change here make an old backup unreadable, or equal
//! data look new?* Ids, cutting, sealing, packs, trees, manifests, journal, the trust file: yes. Retention,
//! configuration, clocks: no. The crate is pure (`Read`, `Write` and values; no async, no log), so it can be fuzzed,
//! timed and understood alone, and a rescue needs nothing else. `docs/format.md` says the same byte by byte.
//!
//! Version 1 is read and written. Whatever a reader does not know, it refuses; it never guesses (INV-55).

#[macro_use]
pub mod layout;

mod aead;
pub mod codec;
pub mod cut;
pub mod envelope;
pub mod error;
pub mod grant;
pub mod id;
pub mod journal;
pub mod key;
pub mod kit;
pub mod link;
pub mod manifest;
pub mod pack;
pub mod seal;
pub mod secret;
pub mod sign;
pub mod token;
pub mod tree;
pub mod trust;

pub use error::FormatError;

/// The version of every structure at rest that this crate writes.
pub const FORMAT_VERSION: u16 = 1;

/// Names the code that made sealed bytes: cutting, compression level and library. Hosts that write the same version
/// make equal bytes of equal content, so a difference between them is an alarm and not an accident (INV-19).
pub const ENCODER_VERSION: u16 = 1;
