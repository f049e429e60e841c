//! The files of one snapshot: one sorted, content-defined Merkle tree over all its paths.
//!
//! A tree is a sorted list of [`Entry`], one a path, cut into *leaves*; above them *inner* nodes name their children
//! with the last path below each. Where a node ends is decided by the keyed hash of a path alone, so an edit touches
//! one leaf and those above it, equal runs of entries make equal nodes, and a directory of a million files is nothing
//! special. The extents of a large file have nodes of their own, built alike.
//!
//! Sorted entries in, nodes out, and back; what changed between two trees. Sealing a node and naming it is for
//! `seal`, where it is kept for others still: here a node goes out through a closure and comes in through
//! [`NodeSource`].
//!
//! # Invariants
//! * INV-19: where nodes end depends on entries and keys only, not on batches, threads or checkpoints.
//! * INV-56: a tree read in order gives every path once, sorted; every node has hard limits, below.
//! * INV-9: decoding allocates no more than a small multiple of what it was given and the limits below, and nothing
//!   recurses over the depth of paths or of trees.

mod boundary;
mod build;
mod bundle;
mod columns;
mod completeness;
mod cursor;
mod diff;
mod entry;
mod extent_build;
mod extent_read;
mod extents;
mod inner;
mod leaf;
mod node;
mod path;
mod pyramid;
mod table;
#[cfg(test)]
mod testing;
mod walk;

pub use boundary::LeafCutter;
pub use build::TreeBuilder;
pub use bundle::{SmallContent, SmallFile, plan_bundles};
pub use completeness::Completeness;
pub use cursor::NodeSource;
pub use diff::{Change, Diff, diff};
pub use entry::{Attributes, Body, Device, Entry, EntryKind, Extent, FileContent, Time, Xattr, metadata_bytes};
pub use extent_build::ExtentListBuilder;
pub use extent_read::ExtentReader;
pub use extents::{ExtentList, SubList};
pub use inner::{Child, Inner, Totals};
pub use leaf::Leaf;
pub use node::{ChunkRef, Node, NodeRef};
pub use path::{check_path, compare_paths, is_within, name, parent};
pub use walk::{TreeReader, child_towards};

/// How many bytes a path may have. Two of them, the least that an inner node holds, fit into one node.
pub const PATH_BYTES_MAX: usize = 3 << 20;
/// How many bytes one component of a path may have: as many as FUSE allows. 255 characters of NTFS and SMB fit.
pub const NAME_BYTES_MAX: usize = 1024;
/// How many bytes the name of an owner, a group or an extended attribute may have: `XATTR_NAME_MAX` of Linux.
pub const LABEL_BYTES_MAX: usize = 255;
/// How many bytes a symbolic link's target may have: `PATH_MAX` of Linux.
pub const SYMLINK_BYTES_MAX: usize = 4096;
/// How many bytes the value of one extended attribute may have: `XATTR_SIZE_MAX` of Linux.
pub const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
/// How many bytes all extended attributes of an entry may have together, names and values.
pub const XATTRS_BYTES_MAX: usize = 1 << 20;

/// How many entries a leaf, and children an inner node, hold on average.
pub const LEAF_ENTRIES_MEAN: usize = 64;
/// How many entries a leaf, and children an inner node, may hold.
pub const NODE_ENTRIES_MAX: usize = 256;
/// How many bytes of [`metadata_bytes`] a leaf of more than one entry may hold, and how many bytes of paths an inner
/// node of more than two children.
pub const NODE_METADATA_BYTES_MAX: usize = 256 << 10;

/// Regular files below this size are bundled.
pub const SMALL_FILE_BYTES: u64 = 16 << 10;
/// How many bytes a bundle may hold.
pub const BUNDLE_BYTES_MAX: u64 = 128 << 10;

/// Up to so many extents stand in the entry itself; more go to nodes of their own.
pub const EXTENTS_INLINE_MAX: usize = 32;
/// No list node but the last of its level has fewer members. So a file of one chunk, repeated, has no tall tree.
pub const EXTENT_LIST_MIN: usize = 64;
/// How many members a list node holds on average, about.
pub const EXTENT_LIST_MEAN: usize = 256;
/// How many members a list node may hold.
pub const EXTENT_LIST_MAX: usize = 1024;
