//! Whether there is room for a restore.

use super::fetch::GrantReader;
use super::selection::Selection;
use super::survey::{Questions, Survey, survey};
use super::visit::totals;
use super::{Own, Rules, of_disk};
use crate::policy::ByteSize;
use lifeboat_proto::status::{ErrorClass, Failure};
use std::io;
use std::path::Path;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Free bytes.
    pub bytes: u64,
    /// Free inodes; none where the file system does not count them.
    pub inodes: Option<u64>,
}

impl Room {
    /// That of the file system on which a directory lies, or will lie.
    pub fn at(path: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(path)?;
        let existing = absolute.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let counts = rustix::fs::statvfs(existing)?;
        let inodes = (counts.f_files > 0).then_some(counts.f_favail);
        Ok(Self { bytes: counts.f_bavail.saturating_mul(counts.f_frsize), inodes })
    }

    fn holds(&self, bytes: u64, inodes: u64) -> bool {
        bytes <= self.bytes && self.inodes.is_none_or(|free| inodes <= free)
    }
}

/// Refuses a restore into an empty directory for which there is no room. Only where there is none for all lengths
/// together, holes included, the tree is read to find out more. Blocks.
pub fn refuse_without_room(reader: &GrantReader, selection: &Selection, target: &Path) -> Result<(), Failure> {
    let room = Room::at(target).map_err(|error| of_disk(&error))?;
    // Where the tree is damaged the survey passes over it.
    if totals(reader, selection).is_ok_and(|most| room.holds(most.bytes, most.entries)) {
        return Ok(());
    }
    // Into an empty directory: nothing of our own is in it.
    let own = Own::default();
    let questions = Questions { rules: Rules::default(), mirror: None, own: &own, compare: false };
    let survey: Survey = survey(reader, selection, None, questions)?;
    if room.holds(survey.space_bytes, survey.inodes()) {
        return Ok(());
    }
    let inodes = room.inodes.map(|free| format!(" and {free} inodes")).unwrap_or_default();
    let problem = format!(
        "there is no room in {}: {} and {} inodes are needed, {}{inodes} are free",
        target.display(),
        ByteSize(survey.space_bytes),
        survey.inodes(),
        ByteSize(room.bytes),
    );
    Err(Failure::new(ErrorClass::Full, problem)
        .hint("make room there, or name a directory on another disk; --no-space-check tries all the same"))
}

#[cfg(test)]
mod tests {
    use super::Room;

    #[test]
    fn room_is_for_bytes_and_inodes() {
        let room = Room { bytes: 100, inodes: Some(5) };
        assert!(room.holds(100, 5) && !room.holds(101, 5) && !room.holds(100, 6));
        assert!(Room { bytes: 100, inodes: None }.holds(100, 1 << 40));
        assert!(Room::at(std::path::Path::new("/no/such/directory")).unwrap().bytes > 0);
    }
}
