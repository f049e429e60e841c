//! Whether a restore may begin, or goes on with one that did not end. Decided here, before anything is written.

use lifeboat_agent::restore::{Expected, Unfinished};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::path::{Path, PathBuf};

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

/// Refuses a target that holds a place of our own, or lies in one: a restore must not write over the repository.
pub fn refuse_own_places<'a>(target: &Path, own: impl IntoIterator<Item = &'a Path>) -> Result<(), Failure> {
    let target = real(target);
    for own in own {
        let own = real(own);
        if own.starts_with(&target) || target.starts_with(&own) {
            let how = if target.starts_with(&own) { "lies in" } else { "holds" };
            let problem = format!("{} {how} {}, which belongs to this coordinator", target.display(), own.display());
            return Err(Failure::new(ErrorClass::Usage, problem).hint("name another directory"));
        }
    }
    Ok(())
}

/// The real path, also of what is not there yet.
fn real(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for ancestor in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), absolute.strip_prefix(ancestor)) {
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_target_in_a_place_of_our_own_or_above_it_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let repository = place.path().join("srv/repository");
        std::fs::create_dir_all(&repository).unwrap();
        std::os::unix::fs::symlink(&repository, place.path().join("link")).unwrap();
        let refused = |target: &str| refuse_own_places(&place.path().join(target), [repository.as_path()]).is_err();
        for target in ["srv/repository", "srv/repository/new/deep", "srv", "", "link/new", "srv/../srv/repository"] {
            assert!(refused(target), "{target}");
        }
        for target in ["srv/other", "new", "srv/repository-2"] {
            assert!(!refused(target), "{target}");
        }
    }
}
