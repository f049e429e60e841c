//! What of a host is left out, although it lies under a root.

use super::file_system::FileSystemKind;
use super::plan::tree_path;
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

/// The rules of one source set. They apply below its source paths; what a rule leaves out there is no gap.
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
    never_patterns: Patterns,
    patterns: Patterns,
    own: Option<Own>,
}

/// The agent's own state, and the directory in it that holds the output of commands.
#[derive(Debug, Clone)]
struct Own {
    state: Vec<u8>,
    output: Vec<u8>,
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
            never_patterns: Patterns::default(),
            patterns: Patterns::new(patterns)?,
            own: None,
        })
    }

    /// Patterns that win over everything, as `never` does.
    pub fn with_never_patterns(self, patterns: &[String]) -> Result<Self, RulesError> {
        Ok(Self { never_patterns: Patterns::new(patterns)?, ..self })
    }

    /// Leaves out the agent's own state, but for `output`, a directory in it.
    pub fn without_own(self, state: &Path, output: &Path) -> Result<Self, RulesError> {
        Ok(Self { own: Some(Own { state: never_path(state)?, output: never_path(output)? }), ..self })
    }

    /// Whether an entry never leaves this host, even if it is a source path.
    pub fn is_never(&self, path: &[u8], is_directory: bool) -> bool {
        self.never.iter().any(|never| is_within(path, never)) || self.never_patterns.matches(path, is_directory)
    }

    /// Whether an entry is left out by its name, with everything in it but source paths.
    pub fn excludes(&self, path: &[u8], is_directory: bool) -> bool {
        self.is_never(path, is_directory) || self.patterns.matches(path, is_directory)
    }

    /// Whether a directory or one above it is left out by its name.
    pub fn leaves_out_within(&self, path: &[u8]) -> bool {
        self.never.iter().any(|never| is_within(path, never))
            || self.never_patterns.matches_within(path, true)
            || self.patterns.matches_within(path, true)
            || self.is_own_state(path)
    }

    /// Whether the path lies in the agent's own state, the output of commands apart.
    pub fn is_own_state(&self, path: &[u8]) -> bool {
        self.own.as_ref().is_some_and(|own| is_within(path, &own.state) && !is_within(path, &own.output))
    }

    /// Whether the content of such a file system is left out without a word: it cannot be restored.
    pub fn skips_silently(&self, kind: FileSystemKind) -> bool {
        kind == FileSystemKind::Pseudo && (self.skip_pseudo || self.one_file_system)
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
    use super::*;

    fn excludes(patterns: &[&str], never: &[&str], path: &str, is_directory: bool) -> bool {
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let never: Vec<PathBuf> = never.iter().map(PathBuf::from).collect();
        let rules = Rules::new(&patterns, &never).unwrap();
        rules.excludes(path.as_bytes(), is_directory)
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
