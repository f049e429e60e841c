//! What becomes of an entry where something stands in its place already. Pure.

use crate::walk::Stat;
use lifeboat_format::tree::{Attributes, Entry, EntryKind, FileContent, Time};
use rustix::fs::FileType;

/// The mode of a directory that a restore has made and not completed. Nobody gives a directory that only its owner may
/// enter a sticky bit, so a restore that goes on knows its own.
pub const UNFINISHED_MODE: u16 = 0o1700;
/// Set on a directory that was there and that a restore enters, until it has its attributes: to write into it changes its
/// time, by which a restore that goes on would else know whether it may complete it.
pub const ENTERED: u16 = 0o1000;

/// What is written over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// Everything becomes as it was. Content is compared by its hash, and only what differs is fetched and written.
    #[default]
    Always,
    /// The same, but a file of equal size and modification time is taken as equal, unread.
    IfChanged,
    /// What was modified later than in the snapshot, or at the same time, stays.
    IfNewer,
    /// What is there stays.
    Never,
}

/// How a restore deals with what is there.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// What is written over what.
    pub overwrite: Overwrite,
    /// Since when an earlier restore ran that this one finishes: what it left may not have reached the disk before a
    /// power cut, so size and time prove nothing of what changed since then.
    pub goes_on_since: Option<Time>,
    /// Since when an unfinished restore, this one or another, may have made directories that it did not complete.
    pub unfinished_since: Option<Time>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is there: make it.
    Make,
    /// A directory is there: go into it, and give it its attributes, or not.
    Enter {
        /// Whether its attributes become those of the entry.
        attributes: bool,
    },
    /// A file is there: if its content is the same, only its attributes are set.
    Compare {
        /// Whether size and time are enough.
        unread: bool,
    },
    /// It is what it should be, but perhaps for its attributes.
    Adopt,
    /// Something else is there: make a new one, and put it in its place.
    Replace,
    /// It stays as it is.
    Keep,
}

/// Whether an interrupted restore has entered a directory, and was to give it these attributes.
pub fn is_entered(there: &Stat, attributes: &Attributes, rules: &Rules) -> bool {
    rules.goes_on_since.is_some_and(|since| there.ctime >= since)
        && there.mode & ENTERED != 0
        && attributes.mode & ENTERED == 0
}

/// Whether something was made since then, as far as its file system knows.
fn is_made_since(there: &Stat, since: Time) -> bool {
    there.ctime >= since && there.btime.is_none_or(|made| made >= since)
}

/// Decides on an entry that is no hard link. `is_alike` says of a symbolic link or device whether it leads to the same
/// place; `own` whether what is there belongs to this user, or to whom the entry is to belong: so a restore leaves it.
pub fn decide(entry: &Entry, there: Option<&Stat>, is_alike: bool, own: bool, rules: &Rules) -> Verdict {
    let Some(there) = there else { return Verdict::Make };
    let mtime = entry.attributes.mtime;
    let goes_on = rules.goes_on_since.is_some_and(|since| there.ctime >= since);
    let is_newer = mtime > there.mtime;
    if let (EntryKind::Directory(_), FileType::Directory) = (&entry.kind, there.kind) {
        // Made by the earlier restore, or entered, or completed by it though something in it was missing.
        let is_entered = is_entered(there, &entry.attributes, rules);
        // Without an unfinished restore, such a mode is that of a directory which was there.
        let is_unfinished =
            there.mode == UNFINISHED_MODE && rules.unfinished_since.is_some_and(|since| is_made_since(there, since));
        let is_ours = own && (is_unfinished || is_entered || goes_on && there.mtime == mtime);
        let attributes = match rules.overwrite {
            Overwrite::Always | Overwrite::IfChanged => true,
            Overwrite::IfNewer => is_newer || is_ours,
            Overwrite::Never => is_ours,
        };
        return Verdict::Enter { attributes };
    }
    let looks_equal = match &entry.kind {
        EntryKind::File(FileContent { bytes, .. }) => there.bytes == *bytes && there.mtime == mtime,
        _ => is_alike && there.mtime == mtime,
    };
    // What the earlier restore made is not what was there before it.
    let is_ours = goes_on && own && looks_equal;
    let stays = match rules.overwrite {
        Overwrite::Always | Overwrite::IfChanged => false,
        Overwrite::IfNewer => !is_newer,
        Overwrite::Never => true,
    };
    match (&entry.kind, there.kind) {
        _ if stays && !is_ours => Verdict::Keep,
        (EntryKind::File(_), FileType::RegularFile) => {
            Verdict::Compare { unread: rules.overwrite == Overwrite::IfChanged && looks_equal && !goes_on }
        }
        _ if is_alike => Verdict::Adopt,
        _ => Verdict::Replace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::tree::{Body, Completeness};

    const OLD: Time = Time { seconds: 10, nanos: 0 };
    const NEW: Time = Time { seconds: 20, nanos: 0 };

    fn stat(kind: FileType, mtime: Time, ctime: Time) -> Stat {
        let place = tempfile::tempdir().unwrap();
        let any = crate::walk::stat_open(std::fs::File::open(place.path()).unwrap()).unwrap();
        Stat { kind, mtime, ctime, mode: 0o755, bytes: 7, ..any }
    }

    fn entry(kind: EntryKind, mtime: Time) -> Entry {
        Entry { path: b"name".to_vec(), kind, attributes: Attributes { mtime, ..Attributes::default() } }
    }

    fn file(mtime: Time) -> Entry {
        entry(EntryKind::File(FileContent { bytes: 7, body: Body::Empty }), mtime)
    }

    fn rules(overwrite: Overwrite) -> Rules {
        Rules { overwrite, ..Rules::default() }
    }

    /// Those of a restore that finishes an earlier one.
    fn going_on(overwrite: Overwrite) -> Rules {
        Rules { overwrite, goes_on_since: Some(NEW), unfinished_since: Some(NEW) }
    }

    const ALL: [Overwrite; 4] = [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never];

    #[test]
    fn a_file_over_a_file() {
        let of = |mtime, there| {
            ALL.map(|mode| {
                decide(&file(mtime), Some(&stat(FileType::RegularFile, there, there)), false, true, &rules(mode))
            })
        };
        let compare = |unread| Verdict::Compare { unread };
        assert_eq!(of(NEW, OLD), [compare(false), compare(false), compare(false), Verdict::Keep]);
        assert_eq!(of(OLD, OLD), [compare(false), compare(true), Verdict::Keep, Verdict::Keep]);
        assert_eq!(of(OLD, NEW), [compare(false), compare(false), Verdict::Keep, Verdict::Keep]);
    }

    #[test]
    fn something_else_in_the_way_is_replaced_unless_it_stays() {
        let there = stat(FileType::Symlink, OLD, OLD);
        let of = |mode| decide(&file(NEW), Some(&there), false, true, &rules(mode));
        assert_eq!(ALL.map(of), [Verdict::Replace, Verdict::Replace, Verdict::Replace, Verdict::Keep]);
        let link = entry(EntryKind::Symlink { target: b"there".to_vec() }, NEW);
        assert_eq!(decide(&link, Some(&there), true, true, &rules(Overwrite::Always)), Verdict::Adopt);
        assert_eq!(decide(&link, Some(&there), false, true, &rules(Overwrite::Always)), Verdict::Replace);
        assert_eq!(ALL.map(|mode| decide(&link, None, false, true, &rules(mode))), [Verdict::Make; 4]);
    }

    #[test]
    fn directories_are_merged_and_keep_their_attributes_where_they_stay() {
        let of = |mode, stat: &Stat| {
            decide(&entry(EntryKind::Directory(Completeness::COMPLETE), OLD), Some(stat), false, true, &rules(mode))
        };
        let enter = |attributes| Verdict::Enter { attributes };
        let there = stat(FileType::Directory, NEW, NEW);
        assert_eq!(ALL.map(|mode| of(mode, &there)), [enter(true), enter(true), enter(false), enter(false)]);
        let like_unfinished = Stat { mode: UNFINISHED_MODE, ..there };
        let without_one = [enter(true), enter(true), enter(false), enter(false)];
        assert_eq!(ALL.map(|mode| of(mode, &like_unfinished)), without_one, "nobody's but who made it so");
    }

    #[test]
    fn inv_16_a_directory_that_an_unfinished_restore_made_gets_its_attributes_from_another_one_too() {
        let of = |mode, ctime, btime| {
            let rules = Rules { unfinished_since: Some(NEW), ..rules(mode) };
            let there = Stat { mode: UNFINISHED_MODE, btime, ..stat(FileType::Directory, NEW, ctime) };
            decide(&entry(EntryKind::Directory(Completeness::COMPLETE), OLD), Some(&there), false, true, &rules)
        };
        let enter = |attributes| Verdict::Enter { attributes };
        assert_eq!(ALL.map(|mode| of(mode, NEW, None)), [enter(true); 4]);
        assert_eq!(ALL.map(|mode| of(mode, NEW, Some(NEW))), [enter(true); 4]);
        assert_eq!(of(Overwrite::Never, OLD, None), enter(false), "it was so before");
        assert_eq!(of(Overwrite::Never, NEW, Some(OLD)), enter(false), "it was there before");
    }

    #[test]
    fn inv_16_a_directory_that_an_interrupted_restore_completed_gets_its_time_again() {
        let of = |mode, ctime, mtime| {
            let rules = going_on(mode);
            let there = stat(FileType::Directory, mtime, ctime);
            decide(&entry(EntryKind::Directory(Completeness::COMPLETE), OLD), Some(&there), false, true, &rules)
        };
        let enter = |attributes| Verdict::Enter { attributes };
        assert_eq!(ALL.map(|mode| of(mode, NEW, OLD)), [enter(true); 4]);
        assert_eq!(of(Overwrite::Never, OLD, OLD), enter(false), "it was there before");
        assert_eq!(of(Overwrite::Never, NEW, NEW), enter(false), "somebody else changed it");
    }

    #[test]
    fn inv_16_a_directory_that_an_interrupted_restore_has_entered_gets_its_attributes() {
        let of = |mode, ctime, there_mode| {
            let rules = going_on(mode);
            let there = Stat { mode: there_mode, ..stat(FileType::Directory, NEW, ctime) };
            decide(&entry(EntryKind::Directory(Completeness::COMPLETE), OLD), Some(&there), false, true, &rules)
        };
        let enter = |attributes| Verdict::Enter { attributes };
        assert_eq!(ALL.map(|mode| of(mode, NEW, 0o755 | ENTERED)), [enter(true); 4]);
        assert_eq!(of(Overwrite::IfNewer, NEW, 0o755), enter(false), "somebody else changed it");
        assert_eq!(of(Overwrite::Never, OLD, 0o755 | ENTERED), enter(false), "it was so before");
    }

    #[test]
    fn inv_16_what_an_interrupted_restore_left_is_compared_by_content_whatever_the_mode() {
        let of = |mode, ctime| {
            let rules = going_on(mode);
            decide(&file(OLD), Some(&stat(FileType::RegularFile, OLD, ctime)), false, true, &rules)
        };
        assert_eq!(ALL.map(|mode| of(mode, NEW)), [Verdict::Compare { unread: false }; 4]);
        assert_eq!(of(Overwrite::Never, OLD), Verdict::Keep, "it was there before");
    }
}
