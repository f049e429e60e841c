//! What a restore did, and what it could not do.

use super::mirror::KeptBack;
use crate::walk::Shown;
use std::collections::BTreeMap;
use std::fmt;

/// So many losses and failures are named; the rest is counted.
pub(super) const NAMED_MAX: usize = 1000;

/// An attribute that can be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Who owns it.
    Owner,
    /// Whose group it belongs to.
    Group,
    /// Permissions, setuid, setgid, sticky.
    Mode,
    /// When its content changed.
    ModificationTime,
    /// An extended attribute, by name.
    Xattr(Vec<u8>),
    /// Inode flags, as bits of `FS_IOC_GETFLAGS`.
    Flags(u32),
    /// That it is one file with others; it became a file of its own.
    HardLink,
}

impl Attribute {
    /// What it is called when losses are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Mode => "mode",
            Self::ModificationTime => "modification time",
            Self::Xattr(name) if name.starts_with(b"system.posix_acl") => "ACL",
            Self::Xattr(_) => "extended attribute",
            Self::Flags(_) => "inode flags",
            Self::HardLink => "hard link",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xattr(name) => write!(f, "{} {}", self.kind(), Shown(name)),
            Self::Flags(bits) => write!(f, "{} {bits:#x}", self.kind()),
            _ => f.write_str(self.kind()),
        }
    }
}

/// An attribute that the restored entry does not have as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The entry.
    pub path: Vec<u8>,
    /// What it lost.
    pub attribute: Attribute,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: {} not restored: {}", Shown(&self.path), self.attribute, self.reason)
    }
}

/// An entry that was not restored, or not deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The entry.
    pub path: Vec<u8>,
    /// What did not happen to it, and why.
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: {}", Shown(&self.path), self.reason)
    }
}

/// The outcome of a restore.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Entries that are there now, some perhaps with losses.
    pub entries: u64,
    /// How many of them were there before, as they should be.
    pub unchanged: u64,
    /// Entries that were there and stayed as they were, because nothing was to be written over them.
    pub kept: u64,
    /// What belongs to Lifeboat on this machine, and was left as it is; a thousand at most.
    pub protected: Vec<Vec<u8>>,
    /// Entries that were removed because the snapshot does not have them.
    pub deleted: u64,
    /// Existing entries that were not removed, because the snapshot does not tell whether it had them.
    pub kept_back: KeptBack,
    /// Bytes of content in them, holes included.
    pub bytes: u64,
    /// How many attributes were lost, by [`Attribute::kind`].
    pub lost_attributes: BTreeMap<String, u64>,
    /// The first thousand of them.
    pub losses: Vec<Loss>,
    /// How many entries were not restored.
    pub failed_entries: u64,
    /// The first thousand of them.
    pub failures: Vec<Failure>,
    /// Which files are among them because their content is damaged in the repository; a thousand at most.
    pub damaged: Vec<Vec<u8>>,
}

impl Report {
    /// Whether everything is as it was.
    pub fn is_complete(&self) -> bool {
        self.failed_entries == 0 && self.lost_attributes.is_empty() && !self.kept_back.is_loss
    }

    /// Counts an attribute that an entry lost.
    pub fn lose(&mut self, path: &[u8], attribute: Attribute, reason: impl fmt::Display) {
        *self.lost_attributes.entry(attribute.kind().to_owned()).or_default() += 1;
        if self.losses.len() < NAMED_MAX {
            self.losses.push(Loss { path: path.to_vec(), attribute, reason: reason.to_string() });
        }
    }

    /// Counts an entry that was not restored.
    pub fn fail(&mut self, path: &[u8], reason: impl fmt::Display) {
        self.add(path, format_args!("not restored: {reason}"));
    }

    /// Names what belongs to Lifeboat, and was left as it is.
    pub(super) fn protect(&mut self, path: &[u8]) {
        if self.protected.len() < NAMED_MAX {
            self.protected.push(path.to_vec());
        }
    }

    /// Names a file whose content is damaged in the repository.
    pub fn damaged(&mut self, path: &[u8]) {
        if self.damaged.len() < NAMED_MAX {
            self.damaged.push(path.to_vec());
        }
    }

    pub(super) fn fail_to_delete(&mut self, path: &[u8], reason: impl fmt::Display) {
        self.add(path, format_args!("not deleted: {reason}"));
    }

    fn add(&mut self, path: &[u8], reason: impl fmt::Display) {
        self.failed_entries += 1;
        if self.failures.len() < NAMED_MAX {
            self.failures.push(Failure { path: path.to_vec(), reason: reason.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_16_every_loss_is_counted_and_the_first_are_named() {
        let mut report = Report::default();
        assert!(report.is_complete());
        for _ in 0..3000 {
            report.lose(b"a\n", Attribute::Xattr(b"trusted.x".to_vec()), "not permitted");
        }
        assert!(!report.is_complete(), "a lost attribute counts");
        report.fail(b"b", "disk full");
        assert_eq!((report.lost_attributes["extended attribute"], report.losses.len()), (3000, NAMED_MAX));
        assert_eq!(report.losses[0].to_string(), "/a\\n: extended attribute trusted.x not restored: not permitted");
        assert_eq!(report.failures[0].to_string(), "/b: not restored: disk full");
    }
}
