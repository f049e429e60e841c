//! Writes entries of a tree below a target directory, with everything that was kept of them.
//!
//! Entries come in the order of the tree. Directories, links and devices are made at once; of a file the caller gets
//! a [`FileSlot`], fills it from any thread, and finishes it. A directory gets its own attributes when all that
//! belongs into it is there. Content comes from `fetch`, which verifies it before it is written.
//!
//! # Invariants
//! * Nothing outside the target is written, linked or changed (INV-47): every step goes by descriptor, beneath the
//!   target, through no link; and while the restore runs, nobody else may enter the target.
//! * A file gets its name when its content and attributes are complete (INV-16).
//! * An attribute that could not be set is a named [`Loss`], an entry that could not be made a named [`Failure`];
//!   neither stops the others.
//! * Memory does not grow with the number of entries; descriptors do not with their depth.

mod attributes;
mod deferred;
mod directory;
pub mod fetch;
mod flags;
mod owner;
mod report;
mod shared;
mod slot;
mod target;
mod writer;

pub use report::{Attribute, Failure, Loss, Report};
pub use slot::{FileSlot, WriteError};
pub use target::{Target, TargetError};
pub use writer::{Options, Step, Writer};
