//! Names of objects, and the relative paths under which every implementation of the store keeps them.
//!
//! A name is one path component of `0-9`, `a-z`, `.` and `-`, which does not begin with `.`: no name can leave its
//! directory, and all of them are the same on every file system and bucket. Objects that are named by a hash lie in
//! 256 directories by its first byte. The second copy of an object has the path of the first, below `copies`.

use lifeboat_format::id::{PackId, SnapshotId};
use std::fmt;

const NAME_BYTES_MAX: usize = 128;
/// The directory of second copies.
pub(super) const COPIES: &str = "copies";

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Sealed chunks or nodes.
    Pack,
    /// The signed head of a snapshot.
    Manifest,
    /// The key of a manifest, sealed for its readers.
    Envelope,
    /// One batch of the journal.
    Journal,
    /// A secret of a group or of the coordinator, wrapped.
    Key,
    /// One trust file of the chain.
    Trust,
    /// The state of the journal after one of its batches.
    Checkpoint,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Pack, Self::Manifest, Self::Envelope, Self::Journal, Self::Key, Self::Trust, Self::Checkpoint];

    /// The directory that holds this kind.
    pub fn directory(self) -> &'static str {
        match self {
            Self::Pack => "packs",
            Self::Manifest => "manifests",
            Self::Envelope => "envelopes",
            Self::Journal => "journal",
            Self::Key => "keys",
            Self::Trust => "trust",
            Self::Checkpoint => "checkpoints",
        }
    }

    /// Whether its objects exist twice. Packs are large, and checkpoints can be made again.
    pub fn is_twice(self) -> bool {
        !matches!(self, Self::Pack | Self::Checkpoint)
    }

    /// Whether its objects are spread over directories named by the first two digits.
    pub fn is_spread(self) -> bool {
        matches!(self, Self::Pack | Self::Manifest | Self::Envelope)
    }
}

/// The name of one object. `Display` is its path in the repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    kind: ObjectKind,
    name: String,
    is_copy: bool,
}

impl ObjectName {
    /// A name of this kind; `None` if the text may not stand in a path, or is not a name of this kind.
    pub fn new(kind: ObjectKind, name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        let digits = |count: usize| name.len() == count && name.bytes().all(|byte| byte.is_ascii_digit());
        let spread = || name.len() >= 64 && name.as_bytes()[..64].iter().all(u8::is_ascii_hexdigit);
        let fits = match kind {
            ObjectKind::Pack | ObjectKind::Manifest => name.len() == 64 && spread(),
            ObjectKind::Envelope => spread(),
            ObjectKind::Journal | ObjectKind::Trust | ObjectKind::Checkpoint => digits(20),
            ObjectKind::Key => !name.is_empty() && !name.starts_with('.'),
        };
        let valid = fits && name.len() <= NAME_BYTES_MAX && name.bytes().all(plain);
        valid.then(|| Self::first(kind, name.to_owned()))
    }

    fn first(kind: ObjectKind, name: String) -> Self {
        Self { kind, name, is_copy: false }
    }

    /// The object of a pack.
    pub fn pack(id: PackId) -> Self {
        Self::first(ObjectKind::Pack, id.to_string())
    }

    /// The object of a manifest.
    pub fn manifest(id: SnapshotId) -> Self {
        Self::first(ObjectKind::Manifest, id.to_string())
    }

    /// The first envelope of a manifest.
    pub fn envelope(id: SnapshotId) -> Self {
        Self::first(ObjectKind::Envelope, id.to_string())
    }

    /// A batch of the journal, by its number.
    pub fn journal(number: u64) -> Self {
        Self::first(ObjectKind::Journal, format!("{number:020}"))
    }

    /// A trust file, by its number.
    pub fn trust(number: u64) -> Self {
        Self::first(ObjectKind::Trust, format!("{number:020}"))
    }

    /// The checkpoint after a batch, by the number of that.
    pub fn checkpoint(number: u64) -> Self {
        Self::first(ObjectKind::Checkpoint, format!("{number:020}"))
    }

    /// Back from a relative path; `None` if no object could have it.
    pub fn from_path(path: &str) -> Option<Self> {
        let of_first = path.strip_prefix(COPIES).and_then(|rest| rest.strip_prefix('/'));
        let first = of_first.unwrap_or(path);
        let kind = ObjectKind::ALL.into_iter().find(|kind| first.split('/').next() == Some(kind.directory()))?;
        let name = Self::new(kind, first.rsplit('/').next()?)?;
        let name = if of_first.is_some() && kind.is_twice() { name.copy() } else { name };
        (name.path() == path).then_some(name)
    }

    /// The second copy of this object.
    pub fn copy(&self) -> Self {
        Self { is_copy: true, ..self.clone() }
    }

    /// Whether it is a second copy.
    pub fn is_copy(&self) -> bool {
        self.is_copy
    }

    /// The object of which this is a copy.
    pub fn into_first(self) -> Self {
        Self { is_copy: false, ..self }
    }

    /// What it is.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// The name alone, without directories.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The pack that it is, if it is one.
    pub fn as_pack(&self) -> Option<PackId> {
        (self.kind == ObjectKind::Pack).then(|| self.name.parse().ok())?
    }

    /// The snapshot whose manifest it is, if it is one.
    pub fn as_manifest(&self) -> Option<SnapshotId> {
        (self.kind == ObjectKind::Manifest).then(|| self.name.parse().ok())?
    }

    /// The number of the journal batch, trust file or checkpoint that it is, if it is one.
    pub fn as_number(&self) -> Option<u64> {
        let is_numbered = matches!(self.kind, ObjectKind::Journal | ObjectKind::Trust | ObjectKind::Checkpoint);
        is_numbered.then(|| self.name.parse().ok())?
    }

    /// Its path, relative to the repository, with `/` between components.
    pub fn path(&self) -> String {
        let directory = self.kind.directory();
        let copies = if self.is_copy { format!("{COPIES}/") } else { String::new() };
        match self.kind.is_spread() {
            true => format!("{copies}{directory}/{}/{}", &self.name[..2], self.name),
            false => format!("{copies}{directory}/{}", self.name),
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_name_reads_back_from_its_path_and_never_leaves_its_directory(text in "[0-9a-f]{64}|[0-9]{20}|[a-z./-]{0,9}") {
            for kind in ObjectKind::ALL {
                if let Some(name) = ObjectName::new(kind, &text) {
                    prop_assert_eq!(ObjectName::from_path(&name.path()), Some(name.clone()));
                    let copy = ObjectName::from_path(&name.copy().path());
                    prop_assert_eq!(copy, kind.is_twice().then(|| name.copy()));
                    prop_assert!(!name.name().contains('/') && !name.name().starts_with('.'));
                }
            }
        }
    }

    #[test]
    fn a_path_that_is_not_the_one_of_its_name_is_refused() {
        let id = "ab".repeat(32);
        assert!(ObjectName::from_path(&format!("packs/ab/{id}")).is_some());
        for path in [format!("packs/cd/{id}"), format!("packs/{id}"), format!("tmp/{id}"), "keys/..".to_owned()] {
            assert_eq!(ObjectName::from_path(&path), None, "{path}");
        }
    }
}
