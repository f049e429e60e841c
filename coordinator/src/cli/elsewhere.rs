//! What is said of a path that a snapshot does not have, or not whole: the nearest that is there, and the snapshots
//! that have it.

use super::output::{Output, from_ns, moment};
use super::reading::{AddressArgs, LOOK, Opened, Snapshots, blocking, costs_one_snapshot, short_id};
use super::{Global, symlink};
use crate::address::{self, When};
use lifeboat_agent::restore::content;
use lifeboat_agent::restore::fetch::{FetchError, NodeReader};
use lifeboat_format::tree::{EntryKind, TreeReader, name};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{self, Outcome};
use serde::Serialize;
use std::fmt;

/// So many snapshots on either side are looked at.
const LOOKED_AT_MAX: usize = 16;
/// So many damaged files are looked for.
const DAMAGED_MAX: usize = 20;
/// Longer files are not read only to find out whether they are whole.
const READ_BYTES_MAX: u64 = 1 << 30;
/// So many names of a directory are compared.
const NAMES_MAX: usize = 20_000;
/// Names that are less alike than this are not meant; from 0 to 1, by the edits that lead from one to the other.
const ALIKE_MIN: f64 = 0.6;

/// Makes sure that what was asked for is there, and `more` paths are; else says where it is.
pub async fn check(opened: Opened, more: &[Vec<u8>], snapshots: &mut Snapshots) -> Result<Opened, Failure> {
    let paths = [vec![opened.path.clone()], more.to_vec()].concat();
    let (opened, missing) = blocking(move || {
        for path in paths {
            if let Err(failure) = look(&opened, &path) {
                return Ok((opened, Some((path, failure))));
            }
        }
        let note = opened.link_note();
        Ok((Opened { note, ..opened }, None))
    })
    .await?;
    match missing {
        None => Ok(opened),
        Some((path, failure)) if matches!(failure.class, ErrorClass::NotFound | ErrorClass::Damaged) => {
            // The search is not to cost the answer.
            let found = elsewhere(&opened.snapshot, &path, snapshots).await.unwrap_or_default().join(", and in ");
            let has_way = failure.message.contains("symbolic link");
            Err(if found.is_empty() || has_way { failure } else { failure.hint(format!("it is in {found}")) })
        }
        Some((_, failure)) => Err(failure),
    }
}

/// Whether there is something at a path. Blocks.
fn look(opened: &Opened, path: &[u8]) -> Result<(), Failure> {
    match opened.has(path)? {
        true => Ok(()),
        false => Err(nearest(opened, path)?),
    }
}

/// That a path is not in a snapshot, with the nearest that is. Blocks.
pub fn nearest(opened: &Opened, path: &[u8]) -> Result<Failure, Failure> {
    let mut tree = opened.tree();
    if let Some(through) = symlink::follow(path, |path| tree.lookup(path))? {
        let what = format!("there is no /{} in snapshot {}: {through}", address::shown(path), opened.short_id());
        return Ok(Failure::new(ErrorClass::NotFound, what).hint(through.hint(&opened.snapshot.host_name)));
    }
    let mut what = format!("there is no /{} in snapshot {}", address::shown(path), opened.short_id());
    let nearest = walk_towards(&mut opened.tree(), path)?;
    if !nearest.is_empty() {
        what.push_str(&format!("; the nearest is /{}", address::shown(&nearest)));
    }
    if let Some(reason) = opened.unknown_absence(path)? {
        what.push_str(&format!("; it may have been on the server all the same: {reason}"));
    }
    let failure = Failure::new(ErrorClass::NotFound, what);
    let after_at = path.iter().rposition(|byte| *byte == b'@').map(|at| String::from_utf8_lossy(&path[at + 1..]));
    let not_a_moment = after_at.and_then(|text| text.parse::<When>().err());
    Ok(match not_a_moment {
        Some(error) => failure.hint(error.to_string()),
        None => failure.hint("`lifeboat ls` shows what there is, `lifeboat find` searches"),
    })
}

/// As far as one comes on the way to `path`; where a part of it is not there, by the name that is most alike.
fn walk_towards(tree: &mut TreeReader<NodeReader>, path: &[u8]) -> Result<Vec<u8>, FetchError> {
    let mut there = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        let below = |name: &[u8]| if there.is_empty() { name.to_vec() } else { [&there[..], name].join(&b'/') };
        let next = match tree.lookup(&below(part))? {
            Some(entry) => Some(entry.path),
            None => most_alike(tree, &there, part)?,
        };
        match next {
            Some(next) => there = next,
            None => break,
        }
    }
    Ok(there)
}

fn most_alike(
    tree: &mut TreeReader<NodeReader>,
    directory: &[u8],
    wanted: &[u8],
) -> Result<Option<Vec<u8>>, FetchError> {
    let wanted = String::from_utf8_lossy(wanted);
    let mut best = (ALIKE_MIN, None);
    for entry in tree.list(directory).take(NAMES_MAX) {
        let path = entry?.path;
        let alike = strsim::normalized_damerau_levenshtein(&wanted, &String::from_utf8_lossy(name(&path)));
        if alike >= best.0 {
            best = (alike, Some(path));
        }
    }
    Ok(best.1)
}

/// The snapshots of the same source set before and after one, the nearest first.
fn neighbours(of: &v1::SnapshotInfo, list: &[v1::SnapshotInfo]) -> [Vec<v1::SnapshotInfo>; 2] {
    let same_set = |other: &&v1::SnapshotInfo| {
        other.host == of.host
            && other.source_set == of.source_set
            && other.outcome() != Outcome::Checkpoint
            && other.number != of.number
    };
    // Newest first, as the list is.
    let (later, earlier): (Vec<_>, Vec<_>) =
        list.iter().filter(same_set).cloned().partition(|other| other.number > of.number);
    let nearest = |side: Vec<_>| side.into_iter().take(LOOKED_AT_MAX).collect();
    [nearest(earlier), nearest(later.into_iter().rev().collect())]
}

/// The next snapshots of the same source set that have the path: an earlier one and a later one.
async fn elsewhere(than: &v1::SnapshotInfo, path: &[u8], snapshots: &mut Snapshots) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for side in neighbours(than, &snapshots.list) {
        snapshots.expect_some(side.clone());
        for snapshot in side {
            let other = match snapshots.open(&snapshot, path, "search", LOOK).await {
                Err(failure) if costs_one_snapshot(&failure) => continue,
                opened => opened?,
            };
            let has_it = blocking(move || Ok(other.tree().lookup(&other.path)?.is_some())).await;
            if has_it.unwrap_or(false) {
                found.push(shown(&snapshot));
                break;
            }
        }
    }
    Ok(found)
}

fn shown(snapshot: &v1::SnapshotInfo) -> String {
    format!("@{}, from {}", short_id(snapshot), moment(from_ns(snapshot.committed_ns)))
}

/// Another version of a damaged file, in another snapshot.
#[derive(Debug, Serialize)]
pub struct Whole {
    path: String,
    snapshot: String,
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another version of {} is whole in {}", self.path, self.snapshot)
    }
}

/// For files whose content is damaged in a snapshot: finds other versions of them, and says where.
pub async fn say_whole(
    asked: &AddressArgs,
    damaged: &v1::SnapshotInfo,
    paths: &[Vec<u8>],
    global: &Global,
    out: &Output,
) -> Vec<Whole> {
    let found = whole(asked, damaged, paths, global).await.unwrap_or_else(|failure| {
        out.say(format_args!("other snapshots could not be searched for the damaged files: {failure}"));
        Vec::new()
    });
    found.iter().for_each(|version| out.say(version));
    found
}

/// The nearest earlier and later snapshots that hold another version of a file, read to its end to be sure. Files that
/// are too large to read for this are left out.
async fn whole(
    asked: &AddressArgs,
    damaged: &v1::SnapshotInfo,
    paths: &[Vec<u8>],
    global: &Global,
) -> Result<Vec<Whole>, Failure> {
    let mut found = Vec::new();
    if paths.is_empty() {
        return Ok(found);
    }
    let mut snapshots = asked.snapshots(global).await?;
    for side in neighbours(damaged, &snapshots.list) {
        snapshots.expect_some(side.clone());
        let mut wanted: Vec<Vec<u8>> = paths.iter().take(DAMAGED_MAX).cloned().collect();
        for snapshot in side {
            if wanted.is_empty() {
                break;
            }
            let other = match snapshots.open(&snapshot, b"", "search", LOOK).await {
                Err(failure) if costs_one_snapshot(&failure) => continue,
                opened => opened?,
            };
            let asked = std::mem::take(&mut wanted);
            let (there, missing) =
                blocking(move || Ok(asked.into_iter().partition(|path| is_whole(&other, path)))).await?;
            let there: Vec<Vec<u8>> = there;
            let version =
                |path: Vec<u8>| Whole { path: format!("/{}", address::shown(&path)), snapshot: shown(&snapshot) };
            found.extend(there.into_iter().map(version));
            wanted = missing;
        }
    }
    Ok(found)
}

/// Whether every byte of a file can be had.
fn is_whole(opened: &Opened, path: &[u8]) -> bool {
    let entry = opened.tree().lookup(path).ok().flatten().and_then(|entry| opened.file_of(entry).ok());
    match entry.map(|entry| entry.kind) {
        Some(EntryKind::File(content)) if content.bytes <= READ_BYTES_MAX => {
            content::read::<FetchError>(&opened.reader, &content, |_, _| Ok(true), |_, _| Ok(())).is_ok()
        }
        _ => false,
    }
}
