//! Writes entries of a tree below a target directory, with everything that was kept of them.
//!
//! `selection` says what is restored and where to, and `visit` walks the tree accordingly; `engine` hands its entries, in
//! order, to `writer`, which looks at what is there and asks `decide` what becomes of it. Directories, links and devices
//! are made at once; a file is a [`FileSlot`], which the workers of `fill` fill with what `fetch` has verified, and finish;
//! a file that is there is [`Existing`], which they compare first. A directory gets its own attributes when all that
//! belongs into it is there. `survey` tells the same beforehand, and `ledger` remembers what began.
//!
//! # Invariants
//! * Nothing outside the target is written, linked or changed (INV-47): every step goes by descriptor, beneath the
//!   target, through no link. A target that was empty is closed to others besides, until the restore has ended.
//! * A file gets its name when its content and attributes are complete (INV-16). What is there is never written to: a new
//!   file takes its place.
//! * An attribute that could not be set is a named [`Loss`], an entry that could not be made a named [`Failure`];
//!   neither stops the others.
//! * Memory does not grow with the number of entries; descriptors do not with their depth.

mod attributes;
mod begin;
mod compare;
pub mod conduct;
pub mod content;
mod decide;
mod deferred;
mod directory;
mod engine;
mod estimate;
mod existing;
pub mod fetch;
mod fill;
mod flags;
mod ledger;
mod listing;
mod mirror;
mod own;
mod owner;
mod progress;
mod remove;
mod report;
mod room;
mod selection;
mod shared;
mod slot;
mod survey;
mod target;
mod unmatched;
mod visit;
mod writer;

pub use begin::{Begin, begin};
pub use decide::{Overwrite, Rules};
pub use engine::restore;
pub use estimate::{Estimate, estimate};
pub use existing::{Adopted, Existing, Source};
pub use fill::small_chunks;
pub use ledger::{Complete, Ledger, LedgerError, Record};
pub use mirror::{KeptBack, KeptIn, Mirror, Reason, incomplete_list, unknown_absence};
pub use own::{OURS, Own};
pub use owner::{Owners, Substitute, SubstituteError};
pub use progress::Progress;
pub use report::{Attribute, Failure, Loss, Report};
pub use room::{Room, refuse_without_room};
pub use selection::{Selection, SelectionError};
pub use slot::{FileSlot, WriteError};
pub use survey::{Questions, Survey, survey};
pub use target::{Before, Expected, Target, TargetError, of_disk};
pub use visit::{Visitor, content_bytes, has_below, tree, visit};
pub use writer::{Options, Step, Writer};
