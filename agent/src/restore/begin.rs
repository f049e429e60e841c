//! Whether a restore may begin, or goes on with one that did not end. Decided here, before anything is written.

use super::{Expected, Unfinished};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::path::Path;

/// How it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Anew, into a target in this state.
    Anew(Expected),
    /// Where this one was interrupted, and with its snapshot.
    GoOn(Unfinished),
}

/// Decides: `asked` is what was typed, `found` an unfinished restore into the same directory, `may_overwrite` whether it
/// was said what happens to what is there.
pub fn begin(target: &Path, asked: &str, found: Option<Unfinished>, may_overwrite: bool) -> Result<Begin, Failure> {
    match found {
        None if may_overwrite => Ok(Begin::Anew(Expected::Anything)),
        None => Ok(Begin::Anew(Expected::Empty)),
        Some(unfinished) if unfinished.asked == asked => Ok(Begin::GoOn(unfinished)),
        Some(unfinished) if may_overwrite => Ok(Begin::Anew(Expected::Unfinished(unfinished.before))),
        Some(unfinished) => {
            let Unfinished { asked, .. } = unfinished;
            let problem = format!("{} holds a restore that was not finished: {asked}", target.display());
            Err(Failure::new(ErrorClass::Usage, problem).hint(
                "the same command as then finishes it; with --overwrite always this one is made over it; or name another directory",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn unfinished() -> Unfinished {
        let target = PathBuf::from("/target");
        let (asked, snapshot) = ("web1:/etc".to_owned(), "4be1d07c".to_owned());
        Unfinished { target, inode: 7, asked, snapshot, began: 1000, before: None }
    }

    #[test]
    fn the_same_command_goes_on_and_another_one_needs_to_be_told() {
        let of = |asked: &str, found, may_overwrite| begin(Path::new("/target"), asked, found, may_overwrite);
        assert_eq!(of("web1:/etc", None, false).unwrap(), Begin::Anew(Expected::Empty));
        assert_eq!(of("web1:/etc", None, true).unwrap(), Begin::Anew(Expected::Anything));
        assert_eq!(of("web1:/etc", Some(unfinished()), false).unwrap(), Begin::GoOn(unfinished()));
        assert_eq!(of("web1:/etc", Some(unfinished()), true).unwrap(), Begin::GoOn(unfinished()));
        assert_eq!(of("web2:/etc", Some(unfinished()), true).unwrap(), Begin::Anew(Expected::Unfinished(None)));
        let refused = of("web2:/etc", Some(unfinished()), false).unwrap_err();
        assert!(refused.to_string().contains("/target holds a restore that was not finished: web1:/etc"), "{refused}");
    }
}
