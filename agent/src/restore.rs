//! Writes entries of a tree below a target directory, with everything that was kept of them.
//!
//! `engine` walks the tree and hands entries, in order, to `writer`. Directories, links and devices are made at once; a
//! file is a [`FileSlot`], which the workers of `fill` fill with what `fetch` has verified, and finish. A directory gets
//! its own attributes when all that belongs into it is there.
//!
//! # Invariants
//! * Nothing outside the target is written, linked or changed (INV-47): every step goes by descriptor, beneath the
//!   target, through no link; and while the restore runs, nobody else may enter the target.
//! * A file gets its name when its content and attributes are complete (INV-16).
//! * An attribute that could not be set is a named [`Loss`], an entry that could not be made a named [`Failure`];
//!   neither stops the others.
//! * Memory does not grow with the number of entries; descriptors do not with their depth.

mod attributes;
mod compare;
pub mod content;
mod decide;
mod deferred;
mod directory;
mod engine;
mod existing;
pub mod fetch;
mod fill;
mod flags;
mod listing;
mod owner;
mod progress;
mod remove;
mod report;
mod selection;
mod shared;
mod slot;
mod survey;
mod target;
mod unfinished;
mod visit;
mod writer;

pub use decide::{Overwrite, Rules};
pub use engine::restore;
pub use existing::{Adopted, Existing, Source};
pub use owner::{Substitute, SubstituteError};
pub use progress::Progress;
pub use report::{Attribute, Failure, Loss, Report};
pub use selection::{Selection, SelectionError};
pub use slot::{FileSlot, WriteError};
pub use survey::{Questions, Survey, survey};
pub use target::{Before, Expected, Target, TargetError, of_disk};
pub use unfinished::{Ledger, LedgerError, Unfinished};
pub use writer::{Options, Step, Writer};
