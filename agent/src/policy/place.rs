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
    if !wanted.is_absolute() && !wanted.starts_with(STAGING) {
        return Err(form());
    }
    let allowing = format!("{} above the first table of policy.toml would", allowing(mode, wanted));
    let elsewhere = || PlaceError::Elsewhere { directory: directory.to_owned(), allowing: allowing.clone() };
    match (mode, wanted.strip_prefix(STAGING)) {
        (RestoreMode::Off, _) => Err(PlaceError::Off { allowing }),
        (RestoreMode::Into { staging: true, .. }, Ok(below)) => {
            Ok(RestorePlace { base: staging.to_owned(), below: below.components().collect() })
        }
        (RestoreMode::Into { staging: false, .. }, Ok(_)) => Err(elsewhere()),
        (RestoreMode::Into { paths, .. }, Err(_)) => {
            let within = paths.iter().filter_map(|base| Some((base, wanted.strip_prefix(base).ok()?)));
            // The deepest that is allowed: what is above it, others may have made.
            let deepest = within.max_by_key(|(base, _)| base.components().count());
            let (base, below) = deepest.ok_or_else(elsewhere)?;
            Ok(RestorePlace { base: base.clone(), below: below.components().collect() })
        }
    }
}

/// The line that allows what is allowed now, and the wanted place too.
fn allowing(mode: &RestoreMode, wanted: &Path) -> String {
    let (mut staging, mut paths) = match mode {
        RestoreMode::Off => (false, Vec::new()),
        RestoreMode::Into { staging, paths } => (*staging, paths.iter().map(|path| format!("{path:?}")).collect()),
    };
    match wanted.is_absolute() {
        true => paths.push(format!("{wanted:?}")),
        false => staging = true,
    }
    if staging && paths.is_empty() {
        return format!("restore = {STAGING:?}");
    }
    paths.splice(..0, staging.then(|| format!("{STAGING:?}")));
    format!("restore = [{}]", paths.join(", "))
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
        let into =
            |staging, paths: &[&str]| RestoreMode::Into { staging, paths: paths.iter().map(Into::into).collect() };
        let staging = into(true, &[]);
        assert_eq!(of(&staging, "staging"), at("/state/restore", ""));
        assert_eq!(of(&staging, "staging/web1/etc"), at("/state/restore", "web1/etc"));
        let refused = of(&staging, "/srv/www").unwrap_err();
        let line = "restore = [\"staging\", \"/srv/www\"] above the first table of policy.toml would";
        assert!(refused.contains(line), "{refused}");
        let below = into(false, &["/srv", "/srv/deep/er"]);
        assert_eq!(of(&below, "/srv"), at("/srv", ""));
        assert_eq!(of(&below, "/srv/www"), at("/srv", "www"));
        assert_eq!(of(&below, "/srv/deep/er/x"), at("/srv/deep/er", "x"));
        for directory in ["/", "/srv2", "/etc", "/s"] {
            assert!(of(&below, directory).unwrap_err().contains("does not allow"), "{directory}");
        }
        let refused = of(&below, "staging").unwrap_err();
        assert!(refused.contains("restore = [\"staging\", \"/srv\", \"/srv/deep/er\"]"), "{refused}");
        let both = into(true, &["/srv"]);
        assert_eq!(of(&both, "staging/x"), at("/state/restore", "x"));
        assert_eq!(of(&both, "/srv/www"), at("/srv", "www"));
        assert!(of(&both, "/etc").unwrap_err().contains("restore = [\"staging\", \"/srv\", \"/etc\"]"));
        for (directory, line) in [("staging", "restore = \"staging\" above"), ("/srv", "restore = [\"/srv\"] above")] {
            let refused = of(&RestoreMode::Off, directory).unwrap_err();
            assert!(refused.contains("restore = \"off\"") && refused.contains(line), "{refused}");
        }
    }

    #[test]
    fn inv_46_what_leads_up_or_is_no_path_is_refused_under_every_policy() {
        let modes = [RestoreMode::Off, RestoreMode::Into { staging: true, paths: vec!["/".into()] }];
        for mode in &modes {
            for directory in ["", "srv", "../x", "staging/../../etc", "/srv/../etc", "./staging", "stagingx", "/a\0b"] {
                assert!(of(mode, directory).is_err(), "{directory:?}");
            }
        }
    }
}
