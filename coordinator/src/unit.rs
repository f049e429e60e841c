//! What the service unit allows: the shipped one may write in two places, and a drop-in names others.

use crate::config;
use std::fmt::Write;
use std::path::Path;

/// Where `packaging/systemd/lifeboat.service` lets the service write.
const WRITABLE: [&str; 2] = [config::STATE_DEFAULT, config::REPOSITORY_DEFAULT];

/// The text to enter in `systemctl edit lifeboat` for these places; none where the shipped unit is enough.
pub fn drop_in(state: &Path, repository: &Path) -> Option<String> {
    let is_default_state = state == Path::new(config::STATE_DEFAULT);
    let is_writable = |path: &Path| WRITABLE.iter().any(|writable| path.starts_with(writable));
    let mut places: Vec<&Path> = [state, repository].into_iter().filter(|path| !is_writable(path)).collect();
    places.dedup();
    if places.is_empty() && is_default_state {
        return None;
    }
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "[Unit]\nRequiresMountsFor={}\n[Service]", quoted(repository));
    if !is_default_state {
        let _ = writeln!(text, "Environment={}", quoted(Path::new(&format!("LIFEBOAT_STATE={}", state.display()))));
    }
    for place in &places {
        let _ = writeln!(text, "ReadWritePaths={}", quoted(place));
    }
    let is_below = |directories: &[&str]| places.iter().any(|place| directories.iter().any(|at| place.starts_with(at)));
    if is_below(&["/home", "/root", "/run/user"]) {
        text.push_str("ProtectHome=no\n");
    }
    if is_below(&["/tmp", "/var/tmp"]) {
        text.push_str("PrivateTmp=no\n");
    }
    Some(text)
}

/// A path as systemd reads it: `%` begins a specifier, and blanks end a path that is not quoted.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace('%', "%%");
    match text.contains([' ', '\t', '"', '\'', '\\']) {
        true => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(state: &str, repository: &str) -> Option<String> {
        drop_in(Path::new(state), Path::new(repository))
    }

    #[test]
    fn the_shipped_unit_is_enough_for_the_places_it_names() {
        assert_eq!(of(config::STATE_DEFAULT, config::REPOSITORY_DEFAULT), None);
        assert_eq!(of("/var/lib/lifeboat", "/var/lib/lifeboat/repository"), None);
        let unit = include_str!("../../packaging/systemd/lifeboat.service");
        assert!(unit.contains("StateDirectory=lifeboat\n") && unit.contains("ReadWritePaths=-/srv/lifeboat\n"));
    }

    #[test]
    fn other_places_are_named() {
        assert_eq!(
            of("/var/lib/lifeboat", "/mnt/back up").as_deref(),
            Some("[Unit]\nRequiresMountsFor=\"/mnt/back up\"\n[Service]\nReadWritePaths=\"/mnt/back up\"\n")
        );
        let moved = of("/root/state", "/tmp/100%").unwrap();
        for line in [
            "Environment=LIFEBOAT_STATE=/root/state",
            "ReadWritePaths=/root/state",
            "ReadWritePaths=/tmp/100%%",
            "ProtectHome=no",
            "PrivateTmp=no",
        ] {
            assert!(moved.lines().any(|found| found == line), "{line} in {moved}");
        }
    }
}
