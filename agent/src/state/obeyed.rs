//! Which restore orders were obeyed to their end, and what was reported: none is obeyed twice, whoever sends it again.

use super::{StateError, file};
use lifeboat_format::id::Digest;
use lifeboat_proto::convert::control::JobReport;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FILE: &str = "obeyed.json";

/// An order that is over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Obeyed {
    /// Its digest, hexadecimal.
    order: String,
    /// When it would have expired anyway: nanoseconds since 1970, UTC.
    expires_ns: i64,
    /// What was reported, as it was sent.
    report: Vec<u8>,
}

fn load(path: &Path) -> Result<Vec<Obeyed>, StateError> {
    match file::read_private(path)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(damaged(path)),
        None => Ok(Vec::new()),
    }
}

fn damaged<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl Fn(E) -> StateError {
    move |source| StateError::Damaged { path: path.to_owned(), source: source.into() }
}

/// What was reported of an order, if it was obeyed.
pub fn report(state: &Path, order: &Digest) -> Result<Option<JobReport>, StateError> {
    let (path, order) = (state.join(FILE), order.to_string());
    let Some(obeyed) = load(&path)?.into_iter().find(|obeyed| obeyed.order == order) else { return Ok(None) };
    JobReport::from_bytes(&obeyed.report).map(Some).map_err(damaged(&path))
}

/// Remembers an order until it would have expired.
pub fn keep(state: &Path, order: &Digest, report: &JobReport, expires_ns: i64, now_ns: i64) -> Result<(), StateError> {
    let path = state.join(FILE);
    let mut all = load(&path)?;
    all.retain(|obeyed| obeyed.expires_ns > now_ns);
    all.push(Obeyed { order: order.to_string(), expires_ns, report: report.to_bytes() });
    file::replace(&path, &serde_json::to_vec(&all).map_err(damaged(&path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_remembered_until_it_would_have_expired() {
        let state = tempfile::tempdir().unwrap();
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        let (of_first, of_second) =
            (JobReport::failed("1".parse().unwrap(), "a"), JobReport::failed("2".parse().unwrap(), "b"));
        let report = |order| report(state.path(), order).unwrap();
        assert_eq!(report(&first), None);
        keep(state.path(), &first, &of_first, 10, 1).unwrap();
        assert_eq!((report(&first), report(&second)), (Some(of_first), None));
        keep(state.path(), &second, &of_second, 30, 11).unwrap();
        assert_eq!((report(&first), report(&second)), (None, Some(of_second)));
        std::fs::write(state.path().join(FILE), "[").unwrap();
        assert!(super::report(state.path(), &first).is_err(), "what cannot be read allows nothing");
    }
}
