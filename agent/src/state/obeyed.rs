//! Which restore orders were obeyed to their end: none is obeyed twice, whoever sends it again.

use super::{StateError, file};
use lifeboat_format::id::Digest;
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
}

fn load(path: &Path) -> Result<Vec<Obeyed>, StateError> {
    let damaged = |source: serde_json::Error| StateError::Damaged { path: path.to_owned(), source: source.into() };
    match file::read_private(path)? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(damaged),
        None => Ok(Vec::new()),
    }
}

/// Whether an order was obeyed.
pub fn is_obeyed(state: &Path, order: &Digest) -> Result<bool, StateError> {
    let order = order.to_string();
    Ok(load(&state.join(FILE))?.iter().any(|obeyed| obeyed.order == order))
}

/// Remembers an order until it would have expired.
pub fn keep(state: &Path, order: &Digest, expires_ns: i64, now_ns: i64) -> Result<(), StateError> {
    let path = state.join(FILE);
    let mut all = load(&path)?;
    all.retain(|obeyed| obeyed.expires_ns > now_ns);
    all.push(Obeyed { order: order.to_string(), expires_ns });
    let damaged = |source: serde_json::Error| StateError::Damaged { path: path.clone(), source: source.into() };
    file::replace(&path, &serde_json::to_vec(&all).map_err(damaged)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_remembered_until_it_would_have_expired() {
        let state = tempfile::tempdir().unwrap();
        let (first, second) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(!is_obeyed(state.path(), &first).unwrap());
        keep(state.path(), &first, 10, 1).unwrap();
        assert!(is_obeyed(state.path(), &first).unwrap() && !is_obeyed(state.path(), &second).unwrap());
        keep(state.path(), &second, 30, 11).unwrap();
        assert!(!is_obeyed(state.path(), &first).unwrap() && is_obeyed(state.path(), &second).unwrap());
        std::fs::write(state.path().join(FILE), "[").unwrap();
        assert!(is_obeyed(state.path(), &first).is_err(), "what cannot be read allows nothing");
    }
}
