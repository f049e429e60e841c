//! Whether a restore may begin, or goes on with an earlier one. Decided here, before anything is written.

use super::{Expected, Record};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::path::Path;

/// How it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Anew, into a target in this state.
    Anew(Expected),
    /// Where this one was interrupted, and with its snapshot.
    GoOn(Record),
    /// Over what this other one, which was not finished, has left.
    Over(Record),
    /// Not at all: this one is complete, and it is only looked whether it still is there.
    Done(Record),
}

impl Begin {
    /// Whether nothing of it is in the target yet.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::Anew(Expected::Empty | Expected::Without(_)))
    }
}

/// Decides: `asked` is what was typed, `found` the last restore into the same directory, `may_overwrite` whether it was said
/// what happens to what is there.
pub fn begin(target: &Path, asked: &str, found: Option<Record>, may_overwrite: bool) -> Result<Begin, Failure> {
    let is_complete = found.as_ref().is_some_and(|found| found.complete.is_some());
    match found {
        Some(found) if is_complete && !may_overwrite && found.asked == asked => Ok(Begin::Done(found)),
        Some(found) if !is_complete && found.asked == asked => Ok(Begin::GoOn(found)),
        Some(found) if !is_complete && may_overwrite => Ok(Begin::Over(found)),
        Some(Record { asked, .. }) if !is_complete => {
            let problem = format!("{} holds a restore that was not finished: {asked}", target.display());
            Err(Failure::new(ErrorClass::Usage, problem).hint(
                "the same command as then finishes it; with --overwrite always this one is made over it; or name another directory",
            ))
        }
        _ if may_overwrite => Ok(Begin::Anew(Expected::Anything)),
        _ => Ok(Begin::Anew(Expected::Empty)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::Complete;
    use std::path::PathBuf;

    fn unfinished() -> Record {
        let target = PathBuf::from("/target");
        let (asked, snapshot) = ("web1:/etc".to_owned(), "4be1d07c".to_owned());
        Record { target, inode: 7, asked, snapshot, began: 1000, before: None, complete: None }
    }

    fn of(asked: &str, found: Option<Record>, may_overwrite: bool) -> Result<Begin, Failure> {
        begin(Path::new("/target"), asked, found, may_overwrite)
    }

    #[test]
    fn the_same_command_goes_on_and_another_one_needs_to_be_told() {
        assert_eq!(of("web1:/etc", None, false).unwrap(), Begin::Anew(Expected::Empty));
        assert_eq!(of("web1:/etc", None, true).unwrap(), Begin::Anew(Expected::Anything));
        assert_eq!(of("web1:/etc", Some(unfinished()), false).unwrap(), Begin::GoOn(unfinished()));
        assert_eq!(of("web1:/etc", Some(unfinished()), true).unwrap(), Begin::GoOn(unfinished()));
        assert_eq!(of("web2:/etc", Some(unfinished()), true).unwrap(), Begin::Over(unfinished()));
        let refused = of("web2:/etc", Some(unfinished()), false).unwrap_err();
        assert!(refused.to_string().contains("/target holds a restore that was not finished: web1:/etc"), "{refused}");
    }

    #[test]
    fn what_is_complete_is_not_restored_again_unless_it_is_to_be_overwritten() {
        let complete = Complete { at: 2000, lost_attributes: Default::default() };
        let done = Record { complete: Some(complete), ..unfinished() };
        assert_eq!(of("web1:/etc", Some(done.clone()), false).unwrap(), Begin::Done(done.clone()));
        assert_eq!(of("web1:/etc", Some(done.clone()), true).unwrap(), Begin::Anew(Expected::Anything));
        assert_eq!(of("web2:/etc", Some(done.clone()), false).unwrap(), Begin::Anew(Expected::Empty));
        assert_eq!(of("web2:/etc", Some(done), true).unwrap(), Begin::Anew(Expected::Anything));
    }
}
