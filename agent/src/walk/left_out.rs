//! What a rule leaves out as a whole, so that it can be named (INV-76).

use super::file_system::{FileSystemKind, Mount, Mounts};
use super::plan::{Plan, tree_path};
use super::rules::Rules;
use lifeboat_format::tree::is_within;
use std::fmt;
use std::path::PathBuf;

/// Why something was left out as a whole. It is no gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeftOut {
    /// A file system, by the option of the source set that leaves it out.
    FileSystem {
        /// Its type.
        fs_type: String,
        /// The option.
        option: &'static str,
    },
    /// A subvolume, by `one-file-system`.
    Subvolume,
    /// An automount point without its file system.
    Automount,
    /// A mounted snapshot.
    LifeboatMount,
    /// A Lifeboat repository.
    Repository,
    /// The agent's own state.
    OwnState,
}

impl LeftOut {
    /// Why the content of a mount is left out; None if it is backed up, or is a view into the kernel.
    pub fn of_mount(rules: &Rules, mount: &Mount) -> Option<Self> {
        let by = |option| Some(Self::FileSystem { fs_type: mount.fs_type.clone(), option });
        match mount.kind {
            FileSystemKind::Lifeboat => Some(Self::LifeboatMount),
            FileSystemKind::Automount if rules.skip_pseudo => Some(Self::Automount),
            FileSystemKind::Network if rules.skip_foreign => by("skip-network"),
            FileSystemKind::Temporary if rules.skip_temporary => by("skip-temporary"),
            FileSystemKind::Pseudo => None,
            _ if rules.one_file_system => by("one-file-system"),
            _ => None,
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileSystem { fs_type, option } => write!(f, "another file system ({fs_type}), left out by {option}"),
            Self::Subvolume => f.write_str("a subvolume, left out by one-file-system"),
            Self::Automount => f.write_str("an automount point whose file system is not mounted"),
            Self::LifeboatMount => f.write_str("a snapshot shown by `lifeboat mount`"),
            Self::Repository => f.write_str("a Lifeboat repository; to back it up, name it in `paths`"),
            Self::OwnState => f.write_str("the agent's own state"),
        }
    }
}

/// The mounts below `roots` that the rules leave out as a whole, as the mount table shows them now.
pub(crate) fn mounts_within(mounts: &Mounts, roots: &[PathBuf], rules: &Rules) -> Vec<(Vec<u8>, LeftOut)> {
    let plan = Plan::new(roots.iter().filter_map(|root| tree_path(root)).collect());
    let mut found: Vec<(Vec<u8>, LeftOut)> = Vec::new();
    for (path, mount) in mounts.iter() {
        let is_below_source = plan.roots().iter().any(|root| is_within(path, root)) && !plan.is_root(path);
        // What lies in something that is left out is not named again, unless a source path lies between.
        let is_hidden = found
            .iter()
            .any(|(above, _)| is_within(path, above) && !plan.roots_within(above).any(|root| is_within(path, root)));
        if is_below_source
            && !is_hidden
            && !rules.leaves_out_within(path)
            && let Some(why) = LeftOut::of_mount(rules, mount)
        {
            found.push((path.to_vec(), why));
        }
    }
    found
}
