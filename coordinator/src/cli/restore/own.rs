//! Places of this coordinator, and of an agent on the same machine, which no restore writes over.

use lifeboat_proto::status::{ErrorClass, Failure};
use std::path::{Path, PathBuf};

/// Refuses a target that lies in a place of our own. One that holds such a place is no fault: the place is left as it is.
pub fn refuse_own_places<P: AsRef<Path>>(target: &Path, own: impl IntoIterator<Item = P>) -> Result<(), Failure> {
    let target = real(target);
    for own in own {
        let own = real(own.as_ref());
        if target.starts_with(&own) {
            let problem =
                format!("{} lies in {}, which belongs to Lifeboat on this machine", target.display(), own.display());
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

    #[test]
    fn a_target_in_a_place_of_our_own_is_refused_and_one_above_it_is_not() {
        let place = tempfile::tempdir().unwrap();
        let repository = place.path().join("srv/repository");
        std::fs::create_dir_all(&repository).unwrap();
        std::os::unix::fs::symlink(&repository, place.path().join("link")).unwrap();
        let refused = |target: &str| refuse_own_places(&place.path().join(target), [repository.as_path()]).is_err();
        for target in ["srv/repository", "srv/repository/new/deep", "link/new", "srv/../srv/repository"] {
            assert!(refused(target), "{target}");
        }
        for target in ["srv/other", "new", "srv/repository-2", "srv", ""] {
            assert!(!refused(target), "{target}");
        }
    }
}
