//! Paths that lead through symbolic links of a snapshot. A tree knows each entry under one path; people type the one that
//! the server would have followed.

use crate::address::shown;
use lifeboat_format::tree::{Entry, EntryKind, parent};
use std::collections::VecDeque;
use std::fmt;

/// As many as Linux follows.
const LINKS_FOLLOWED: usize = 40;

/// Where a path leads that has a link in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Through {
    /// The first link on the way.
    pub link: Vec<u8>,
    /// What stands in that link.
    pub target: Vec<u8>,
    /// The same entry without links on the way, if the links lead to anything that the snapshot holds.
    pub real: Option<Vec<u8>>,
}

impl fmt::Display for Through {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{} is a symbolic link to {}", shown(&self.link), shown(&self.target))
    }
}

impl Through {
    /// What to do next.
    pub fn hint(&self, host: &str) -> String {
        match &self.real {
            Some(real) => format!("use {host}:/{}", shown(real)),
            None => "what it leads to is not in this snapshot".to_owned(),
        }
    }
}

/// Follows a path through links; none if there is no link in it, the last part included.
pub fn follow<E>(path: &[u8], mut lookup: impl FnMut(&[u8]) -> Result<Option<Entry>, E>) -> Result<Option<Through>, E> {
    let (mut first, mut place, mut followed) = (None, Vec::new(), 0);
    let mut rest: VecDeque<Vec<u8>> = parts(path).collect();
    while let Some(part) = rest.pop_front() {
        if part == b".." {
            place = parent(&place).unwrap_or_default().to_vec();
            continue;
        }
        let next = if place.is_empty() { part } else { [&place[..], &part].join(&b'/') };
        match lookup(&next)?.map(|entry| entry.kind) {
            Some(EntryKind::Symlink { target }) => {
                followed += 1;
                if target.starts_with(b"/") {
                    place.clear();
                }
                parts(&target).rev().for_each(|part| rest.push_front(part));
                let (link, target) = first.unwrap_or((next, target));
                if followed > LINKS_FOLLOWED {
                    return Ok(Some(Through { link, target, real: None }));
                }
                first = Some((link, target));
            }
            Some(_) => place = next,
            None => return Ok(first.map(|(link, target)| Through { link, target, real: None })),
        }
    }
    Ok(first.map(|(link, target)| Through { link, target, real: Some(place) }))
}

fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::tree::Attributes;
    use std::convert::Infallible;

    const LINKS: [(&str, &str); 6] = [
        ("bin", "usr/bin"),
        ("usr/bin/sh", "dash"),
        ("var/run", "../run"),
        ("etc/mtab", "/bin/sh"),
        ("loop", "loop"),
        ("away", "/nowhere"),
    ];
    const OTHERS: [&str; 6] = ["usr", "usr/bin", "usr/bin/dash", "run/x", "run", "var"];

    fn followed(path: &str) -> Option<(String, String, Option<String>)> {
        let lookup = |path: &[u8]| {
            let path = std::str::from_utf8(path).unwrap();
            let link = LINKS.iter().find(|(link, _)| *link == path);
            let kind = match link {
                Some((_, target)) => Some(EntryKind::Symlink { target: target.as_bytes().to_vec() }),
                None => OTHERS.contains(&path).then_some(EntryKind::Fifo),
            };
            Ok::<_, Infallible>(kind.map(|kind| Entry { path: path.into(), kind, attributes: Attributes::default() }))
        };
        let Ok(through) = follow(path.as_bytes(), lookup);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        through.map(|Through { link, target, real }| (text(link), text(target), real.map(text)))
    }

    #[test]
    fn a_path_is_followed_through_the_links_on_its_way_and_at_its_end() {
        let through = |link: &str, target: &str, real: Option<&str>| {
            Some((link.to_owned(), target.to_owned(), real.map(str::to_owned)))
        };
        assert_eq!(followed("usr/bin/dash"), None);
        assert_eq!(followed("usr/nothing"), None);
        assert_eq!(followed("bin/dash"), through("bin", "usr/bin", Some("usr/bin/dash")));
        assert_eq!(followed("bin/sh"), through("bin", "usr/bin", Some("usr/bin/dash")));
        assert_eq!(followed("bin"), through("bin", "usr/bin", Some("usr/bin")));
        assert_eq!(followed("var/run/x"), through("var/run", "../run", Some("run/x")));
        assert_eq!(followed("etc/mtab"), None, "there is no /etc");
        assert_eq!(followed("bin/nothing"), through("bin", "usr/bin", None));
        assert_eq!(followed("away/x"), through("away", "/nowhere", None));
        assert_eq!(followed("loop/x"), through("loop", "loop", None));
    }
}
