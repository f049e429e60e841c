//! What of a host is left out, although it lies under a root.

use super::file_system::FileSystemKind;
use super::plan::tree_path;
use super::stat::Stat;
use crate::patterns::{PatternError, Patterns};
use lifeboat_format::tree::is_within;
use rustix::fs::{Mode, OFlags, openat};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A directory with a file of this name, that begins with these bytes, says that it can be made again
/// (<https://bford.info/cachedir/>).
const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";
const CACHE_TAG: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A rule that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// An exclude pattern that can never match.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A path that could mean several things, or everything.
    #[error("cannot leave out {path:?}: needs an absolute path without \"..\", below /")]
    Path {
        /// The path.
        path: PathBuf,
    },
}

/// The rules of one source set. What a rule leaves out is no gap.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Stay on the file system of each root.
    pub one_file_system: bool,
    /// Leave out the content of pseudo file systems, which nobody could restore.
    pub skip_pseudo: bool,
    /// Leave out the content of file systems that are gone after a restart.
    pub skip_temporary: bool,
    /// Leave out the content of file systems that others keep.
    pub skip_foreign: bool,
    /// Leave out the content of directories that a `CACHEDIR.TAG` marks as a cache.
    pub skip_caches: bool,
    /// Leave out what carries the nodump flag.
    pub skip_nodump: bool,
    never: Vec<Vec<u8>>,
    patterns: Patterns,
}

impl Rules {
    /// Excludes in the syntax of gitignore, as if in a `.gitignore` at `/`: a later one overrules an earlier one, `!`
    /// takes back in. `never` are absolute paths that nothing takes back in. Pseudo file systems are skipped; every
    /// other option is off.
    pub fn new(patterns: &[String], never: &[PathBuf]) -> Result<Self, RulesError> {
        Ok(Self {
            one_file_system: false,
            skip_pseudo: true,
            skip_temporary: false,
            skip_foreign: false,
            skip_caches: false,
            skip_nodump: false,
            never: never.iter().map(|path| never_path(path)).collect::<Result<_, _>>()?,
            patterns: Patterns::new(patterns)?,
        })
    }

    /// Whether an entry is left out, with everything in it.
    pub fn excludes(&self, path: &[u8], stat: &Stat) -> bool {
        self.never.iter().any(|never| is_within(path, never))
            || self.skip_nodump && stat.nodump
            || self.patterns.matches(path, stat.is_directory())
    }

    /// Whether no rule looks at names or flags.
    pub fn take_every_name(&self) -> bool {
        self.never.is_empty() && self.patterns.is_empty() && !self.skip_nodump
    }

    /// Like [`Rules::excludes`], of an entry that is only looked at where its name does not decide.
    pub fn leaves_out(&self, path: &[u8], look: impl FnOnce() -> Option<Stat>) -> bool {
        if self.never.iter().any(|never| is_within(path, never)) {
            return true;
        }
        let by_name = [false, true].map(|is_directory| self.patterns.matches(path, is_directory));
        match by_name {
            [file, directory] if file == directory && (file || !self.skip_nodump) => file,
            _ => look().is_some_and(|stat| self.excludes(path, &stat)),
        }
    }

    /// Whether the content of such a file system is left out where it is mounted.
    pub fn skips(&self, kind: FileSystemKind) -> bool {
        match kind {
            FileSystemKind::Local => false,
            FileSystemKind::Pseudo => self.skip_pseudo,
            FileSystemKind::Temporary => self.skip_temporary,
            FileSystemKind::Foreign => self.skip_foreign,
        }
    }

    /// Whether the content of an open directory is left out as a cache.
    pub fn skips_as_cache(&self, directory: impl AsFd) -> bool {
        self.skip_caches && is_cache(directory).unwrap_or(false)
    }
}

fn never_path(path: &Path) -> Result<Vec<u8>, RulesError> {
    tree_path(path).filter(|path| !path.is_empty()).ok_or_else(|| RulesError::Path { path: path.to_owned() })
}

fn is_cache(directory: impl AsFd) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tag = openat(directory, CACHE_TAG_NAME, flags, Mode::empty())?;
    let mut start = [0; CACHE_TAG.len()];
    let length = rustix::io::pread(&tag, &mut start, 0)?;
    Ok(length == CACHE_TAG.len() && start == *CACHE_TAG)
}

#[cfg(test)]
mod tests {
    use super::super::stat::stat_at;
    use super::*;
    use rustix::fs::CWD;

    fn excludes(patterns: &[&str], never: &[&str], path: &str, is_directory: bool) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let never: Vec<PathBuf> = never.iter().map(PathBuf::from).collect();
        let rules = Rules::new(&patterns, &never).unwrap();
        rules.excludes(path.as_bytes(), &stat_at(CWD, if is_directory { b"/" } else { b"/proc/version" }).unwrap())
    }

    #[test]
    fn patterns_are_those_of_gitignore_at_the_root() {
        assert!(excludes(&["/var/cache"], &[], "var/cache", true));
        assert!(!excludes(&["/var/cache"], &[], "home/var/cache", true));
        assert!(excludes(&["*.o"], &[], "home/a/b.o", false));
        assert!(excludes(&["build/"], &[], "home/build", true));
        assert!(
            !excludes(&["build/"], &[], "home/build", false),
            "a pattern with a slash at its end is for directories"
        );
        assert!(!excludes(&["*.log", "!keep.log"], &[], "var/keep.log", false));
        assert!(!excludes(&["# a comment", ""], &[], "a comment", false));
    }

    #[test]
    fn what_is_never_to_be_kept_cannot_be_taken_back_in() {
        assert!(excludes(&["!/var/lib/lifeboat"], &["/var/lib/lifeboat"], "var/lib/lifeboat", true));
        assert!(excludes(&[], &["/var/lib/lifeboat"], "var/lib/lifeboat/state", false));
        assert!(!excludes(&[], &["/var/lib/lifeboat"], "var/lib/lifeboats", true));
    }

    #[test]
    fn a_rule_that_makes_no_sense_is_named() {
        assert!(Rules::new(&["[z-a]".into()], &[]).unwrap_err().to_string().contains("[z-a]"));
        assert!(Rules::new(&[], &["state".into()]).is_err());
        assert!(Rules::new(&[], &["/".into()]).is_err());
    }
}
