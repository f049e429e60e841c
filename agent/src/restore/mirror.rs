//! What a mirror may delete: only what the snapshot is known not to hold (INV-70). The same reasons keep a search from
//! calling a path absent.

use super::fetch::{FetchError, NodeReader};
use super::selection::Selection;
use super::visit::ways;
use crate::walk::Shown;
use lifeboat_format::grant::Coverage;
use lifeboat_format::tree::{Completeness, EntryKind, TreeReader, is_within, parent};
use lifeboat_proto::v1;
use std::fmt;
use std::sync::Arc;

/// Directories in which something was kept that are named; more are counted.
const NAMED_MAX: usize = 100;

/// Why a snapshot does not tell whether something was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A part of the tree cannot be read.
    LostPart,
    /// Not all gaps have a name.
    GapsUnnamed,
    /// The backup could not read it, or something in it.
    Gap,
    /// In the target, another file system is mounted there.
    MountedHere,
    /// It lies beside the source paths.
    OutsideSources,
    /// Its directory is not complete.
    Incomplete(Completeness),
}

impl Reason {
    /// Whether the backup was meant to hold it.
    pub fn is_loss(self) -> bool {
        match self {
            Self::LostPart | Self::GapsUnnamed | Self::Gap => true,
            Self::MountedHere | Self::OutsideSources => false,
            Self::Incomplete(completeness) => completeness.contains(Completeness::UNREADABLE),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let completeness = match self {
            Self::LostPart => return f.write_str("a part of the tree is lost"),
            Self::GapsUnnamed => return f.write_str("the snapshot does not name all of its gaps"),
            Self::Gap => return f.write_str("the backup could not read all of it"),
            Self::MountedHere => return f.write_str("another file system is mounted there"),
            Self::OutsideSources => return f.write_str("it is not below a source path"),
            Self::Incomplete(completeness) => *completeness,
        };
        let why = [
            (Completeness::ANCESTOR, "it is only on the way to a source path"),
            (Completeness::OTHER_FILE_SYSTEM, "the backup did not enter the file system there"),
            (Completeness::EXCLUDED, "a rule left out something in it"),
            (Completeness::CACHE, "it is marked as a cache, or as not to be backed up"),
            (Completeness::UNREADABLE, "the backup could not read all of it"),
        ];
        let known: Vec<&str> =
            why.into_iter().filter_map(|(bit, text)| completeness.contains(bit).then_some(text)).collect();
        match known[..] {
            [] => f.write_str("it is not complete, for a reason that this version does not know"),
            [..] => f.write_str(&known.join("; ")),
        }
    }
}

/// Existing entries that a mirror kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptBack {
    /// How many; each with all below it.
    pub entries: u64,
    /// In how many directories.
    pub directories: u64,
    /// Whether the backup was meant to hold some of it.
    pub is_loss: bool,
    /// The first of these directories.
    pub named: Vec<KeptIn>,
}

/// A directory in which entries were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptIn {
    /// Its path below the target.
    pub path: Vec<u8>,
    /// How many entries.
    pub entries: u64,
    /// Why the first of them was.
    pub reason: Reason,
}

impl KeptBack {
    pub(super) fn add(&mut self, path: &[u8], (entries, reason): (u64, Reason)) {
        self.entries += entries;
        self.directories += 1;
        self.is_loss |= reason.is_loss();
        if self.named.len() < NAMED_MAX {
            self.named.push(KeptIn { path: path.to_vec(), entries, reason });
        }
    }

    /// The same in a message.
    pub fn message(&self) -> v1::KeptBack {
        v1::KeptBack {
            entries: self.entries,
            directories: self.directories,
            is_loss: self.is_loss,
            named: self.named.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for KeptIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: kept {}: {}", Shown(&self.path), self.entries, self.reason)
    }
}

/// Decides what is deleted.
#[derive(Debug, Clone)]
pub struct Mirror {
    selection: Selection,
    coverage: Arc<Coverage>,
}

impl Mirror {
    /// Of what is selected of a snapshot.
    pub fn new(selection: &Selection, coverage: Arc<Coverage>) -> Self {
        Self { selection: selection.clone(), coverage }
    }

    /// Why an entry that exists and is not in the tree stays, with all below it; none if it may be deleted. `place` is
    /// its directory in the target, `completeness` what the tree says of that directory; `is_mounted` says whether it
    /// lies on another file system than the target.
    pub fn keeps(&self, place: &[u8], name: &[u8], completeness: Completeness, is_mounted: bool) -> Option<Reason> {
        if is_mounted {
            return Some(Reason::MountedHere);
        }
        let Some(directory) = self.selection.origin(place) else { return Some(Reason::OutsideSources) };
        unknown(&self.coverage, &directory, &join(&directory, name), completeness)
    }

    /// Why a directory that exists where the tree has something else stays; none if it may be deleted.
    pub fn keeps_in_the_way(&self, place: &[u8], is_mounted: bool) -> Option<Reason> {
        let path = self.selection.origin(place);
        match path {
            _ if is_mounted => Some(Reason::MountedHere),
            _ if !self.coverage.is_whole => Some(Reason::GapsUnnamed),
            Some(path) if !self.coverage.touches_gap(&path) => None,
            _ => Some(Reason::Gap),
        }
    }
}

/// Why the tree does not tell whether a path in this directory was there; none if it does.
fn unknown(coverage: &Coverage, directory: &[u8], path: &[u8], completeness: Completeness) -> Option<Reason> {
    // A gap is a loss, whatever else the directory lacks on purpose.
    let gap = || coverage.touches_gap(path).then_some(Reason::Gap);
    gap().or_else(|| incomplete(coverage, directory, completeness))
}

/// Why the children of a directory may not all be in the tree; gaps apart.
fn incomplete(coverage: &Coverage, directory: &[u8], completeness: Completeness) -> Option<Reason> {
    match () {
        () if !coverage.is_whole => Some(Reason::GapsUnnamed),
        () if !completeness.is_complete() => Some(Reason::Incomplete(completeness)),
        () if !coverage.is_in_source(directory) => Some(Reason::OutsideSources),
        () => None,
    }
}

/// Why a list of a directory may lack something; none if it is complete.
pub fn incomplete_list(coverage: &Coverage, directory: &[u8], completeness: Completeness) -> Option<Reason> {
    let is_here = |gap: &Vec<u8>| is_within(directory, gap) || parent(gap) == Some(directory);
    let gap = || (coverage.touches_gap(directory) && coverage.gaps.iter().any(is_here)).then_some(Reason::Gap);
    incomplete(coverage, directory, completeness).or_else(gap)
}

/// Why a path that the tree does not have may have been there all the same; none if it was not. Blocks.
pub fn unknown_absence(
    tree: &mut TreeReader<NodeReader>,
    coverage: &Coverage,
    path: &[u8],
) -> Result<Option<Reason>, FetchError> {
    let above: Vec<&[u8]> = [&b""[..]].into_iter().chain(ways(path)).filter(|way| way.len() < path.len()).collect();
    for directory in above.into_iter().rev() {
        if let Some(entry) = tree.lookup(directory)? {
            return Ok(match entry.kind {
                EntryKind::Directory(completeness) => unknown(coverage, directory, path, completeness),
                // Below what is no directory there was nothing.
                _ if coverage.is_whole && !coverage.touches_gap(directory) => None,
                _ => Some(Reason::Gap),
            });
        }
    }
    Ok(Some(Reason::Incomplete(Completeness::UNREADABLE)))
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(root: &str, sources: &[&str], gaps: &[&str], is_whole: bool) -> Mirror {
        let paths = |paths: &[&str]| paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let coverage = Coverage::new(paths(sources), paths(gaps), is_whole);
        Mirror::new(&Selection::one(root.into(), true), Arc::new(coverage))
    }

    const COMPLETE: Completeness = Completeness::COMPLETE;

    #[test]
    fn inv_70_only_what_a_complete_directory_does_not_have_is_deleted() {
        let all = mirror("srv", &["srv"], &["srv/lost/deep", "srv/file"], true);
        let keeps = |place: &str, name: &str| all.keeps(place.as_bytes(), name.as_bytes(), COMPLETE, false);
        assert_eq!(keeps("", "extra"), None);
        assert_eq!(keeps("a/b", "extra"), None);
        assert_eq!(keeps("", "file"), Some(Reason::Gap));
        assert_eq!(keeps("", "lost"), Some(Reason::Gap), "a gap is in it");
        assert_eq!(keeps("lost/deep", "extra"), Some(Reason::Gap), "it is below a gap");
        assert_eq!(keeps("lost", "extra"), None);
        for reason in [
            Completeness::ANCESTOR,
            Completeness::OTHER_FILE_SYSTEM,
            Completeness::EXCLUDED,
            Completeness::CACHE,
            Completeness::UNREADABLE,
            Completeness::from_bits(128),
        ] {
            assert_eq!(all.keeps(b"", b"extra", reason, false), Some(Reason::Incomplete(reason)), "{reason:?}");
        }
        assert_eq!(all.keeps(b"", b"extra", COMPLETE, true), Some(Reason::MountedHere));
    }

    #[test]
    fn inv_70_nothing_beside_the_source_paths_is_deleted_and_nothing_while_gaps_have_no_names() {
        let mail = mirror("", &["var/mail", "srv/mail"], &[], true);
        for (place, name) in [("", "etc"), ("var", "lib"), ("srv", "www")] {
            let kept = mail.keeps(place.as_bytes(), name.as_bytes(), COMPLETE, false);
            assert_eq!(kept, Some(Reason::OutsideSources), "{place}/{name}");
        }
        assert_eq!(mail.keeps(b"var/mail", b"extra", COMPLETE, false), None);
        let unnamed = mirror("srv", &["srv"], &[], false);
        assert_eq!(unnamed.keeps(b"", b"extra", COMPLETE, false), Some(Reason::GapsUnnamed));
        assert_eq!(unnamed.keeps_in_the_way(b"a", false), Some(Reason::GapsUnnamed));
        let unknown = mirror("srv", &[], &[], true);
        assert_eq!(unknown.keeps(b"", b"extra", COMPLETE, false), Some(Reason::OutsideSources));
    }

    #[test]
    fn inv_70_a_directory_in_the_way_stays_if_a_gap_is_in_it_or_it_is_mounted() {
        let all = mirror("srv", &["srv"], &["srv/a/lost"], true);
        assert_eq!(all.keeps_in_the_way(b"b", false), None);
        assert_eq!(all.keeps_in_the_way(b"a", false), Some(Reason::Gap));
        assert_eq!(all.keeps_in_the_way(b"b", true), Some(Reason::MountedHere));
    }

    #[test]
    fn what_was_to_be_backed_up_is_a_loss_and_what_a_rule_left_out_is_none() {
        assert!(Reason::Gap.is_loss() && Reason::GapsUnnamed.is_loss() && Reason::LostPart.is_loss());
        let of = |completeness| Reason::Incomplete(completeness).is_loss();
        assert!(of(Completeness::UNREADABLE) && of(Completeness::UNREADABLE | Completeness::EXCLUDED));
        assert!(!of(Completeness::EXCLUDED) && !of(Completeness::ANCESTOR));
        assert!(!Reason::MountedHere.is_loss() && !Reason::OutsideSources.is_loss());
    }

    #[test]
    fn what_is_kept_is_counted_and_the_first_directories_are_named() {
        let mut kept = KeptBack::default();
        (0..200).for_each(|number| kept.add(format!("{number}").as_bytes(), (2, Reason::OutsideSources)));
        assert_eq!((kept.entries, kept.directories, kept.named.len(), kept.is_loss), (400, 200, NAMED_MAX, false));
        kept.add(b"x", (1, Reason::Gap));
        assert!(kept.is_loss);
        assert_eq!(kept.named[0].to_string(), "/0: kept 2: it is not below a source path");
    }
}
