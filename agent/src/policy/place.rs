//! Where a restore that the coordinator orders may write: what the order names, held against the host's own law. Pure.

use super::RestoreMode;
use std::path::{Component, Path, PathBuf};

/// The word with which a directory of an order means the staging directory.
pub const STAGING: &str = "staging";

/// A directory that may be restored into: somewhere below a directory that root has named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlace {
    /// Named by root, in the policy or by where the state lies.
    pub base: PathBuf,
    /// Named by the order: components, none of them `..`; empty for the base itself.
    pub below: PathBuf,
}

impl RestorePlace {
    /// A directory that only root has named, and that is not the place itself.
    pub fn beside(&self) -> Option<&Path> {
        if self.below.as_os_str().is_empty() { self.base.parent() } else { Some(&self.base) }
    }

    /// As one path, to be shown.
    pub fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.base.clone() } else { self.base.join(&self.below) }
    }
}

/// The policy does not allow it. The text says which line of it would.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No restores at all.
    #[error("this host's policy allows no restores (restore = \"off\"); {allowing}")]
    Off {
        /// The line that would allow it.
        allowing: String,
    },
    /// Only the staging directory, or only other directories.
    #[error("this host's policy does not allow a restore into {directory}; {allowing}")]
    Elsewhere {
        /// What the order names.
        directory: String,
        /// The line that would allow it.
        allowing: String,
    },
    /// Not a directory that could be allowed.
    #[error("{directory:?} is neither \"staging\", nor a path below it, nor an absolute path without \"..\"")]
    Form {
        /// What the order names.
        directory: String,
    },
}

/// The directory that an order names: `staging`, `staging/NAME`, or an absolute path. `staging` is where the first two
/// lie on this host.
pub fn place(mode: &RestoreMode, staging: &Path, directory: &str) -> Result<RestorePlace, PlaceError> {
    let wanted = Path::new(directory);
    let form = || PlaceError::Form { directory: directory.to_owned() };
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    if directory.contains('\0') || !wanted.components().all(is_plain) {
        return Err(form());
    }
    let line = match (wanted.is_absolute(), wanted.strip_prefix(STAGING)) {
        (true, _) => format!("restore = [{directory:?}]"),
        (false, Ok(_)) => "restore = \"staging\"".to_owned(),
        (false, Err(_)) => return Err(form()),
    };
    let allowing = format!("{line} above the first table of policy.toml would");
    let elsewhere = || PlaceError::Elsewhere { directory: directory.to_owned(), allowing: allowing.clone() };
    match (mode, wanted.strip_prefix(STAGING)) {
        (RestoreMode::Off, _) => Err(PlaceError::Off { allowing }),
        (RestoreMode::Staging, Ok(below)) => {
            Ok(RestorePlace { base: staging.to_owned(), below: below.components().collect() })
        }
        (RestoreMode::Staging, Err(_)) | (RestoreMode::Below(_), Ok(_)) => Err(elsewhere()),
        (RestoreMode::Below(allowed), Err(_)) => {
            let within = allowed.iter().filter_map(|base| Some((base, wanted.strip_prefix(base).ok()?)));
            // The deepest that is allowed: what is above it, others may have made.
            let deepest = within.max_by_key(|(base, _)| base.components().count());
            let (base, below) = deepest.ok_or_else(elsewhere)?;
            Ok(RestorePlace { base: base.clone(), below: below.components().collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: &RestoreMode, directory: &str) -> Result<(String, String), String> {
        let shown = |path: &Path| path.display().to_string();
        place(mode, Path::new("/state/restore"), directory)
            .map(|place| (shown(&place.base), shown(&place.below)))
            .map_err(|error| error.to_string())
    }

    fn at(base: &str, below: &str) -> Result<(String, String), String> {
        Ok((base.to_owned(), below.to_owned()))
    }

    #[test]
    fn inv_46_an_order_goes_only_where_the_policy_allows_it() {
        let staging = RestoreMode::Staging;
        assert_eq!(of(&staging, "staging"), at("/state/restore", ""));
        assert_eq!(of(&staging, "staging/web1/etc"), at("/state/restore", "web1/etc"));
        let refused = of(&staging, "/srv/www").unwrap_err();
        assert!(refused.contains("restore = [\"/srv/www\"] above the first table of policy.toml would"), "{refused}");
        let below = RestoreMode::Below(vec!["/srv".into(), "/srv/deep/er".into()]);
        assert_eq!(of(&below, "/srv"), at("/srv", ""));
        assert_eq!(of(&below, "/srv/www"), at("/srv", "www"));
        assert_eq!(of(&below, "/srv/deep/er/x"), at("/srv/deep/er", "x"));
        for directory in ["/", "/srv2", "/etc", "/s"] {
            assert!(of(&below, directory).unwrap_err().contains("does not allow"), "{directory}");
        }
        let refused = of(&below, "staging").unwrap_err();
        assert!(refused.contains("restore = \"staging\""), "{refused}");
        for directory in ["staging", "/srv"] {
            let refused = of(&RestoreMode::Off, directory).unwrap_err();
            assert!(refused.contains("restore = \"off\"") && refused.contains("would"), "{refused}");
        }
    }

    #[test]
    fn inv_46_what_leads_up_or_is_no_path_is_refused_under_every_policy() {
        let modes = [RestoreMode::Off, RestoreMode::Staging, RestoreMode::Below(vec!["/".into()])];
        for mode in &modes {
            for directory in ["", "srv", "../x", "staging/../../etc", "/srv/../etc", "./staging", "stagingx", "/a\0b"] {
                assert!(of(mode, directory).is_err(), "{directory:?}");
            }
        }
    }
}
