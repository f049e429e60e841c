//! How many files this process may hold open at once.
//!
//! A restore holds some thousands while their content is on its way. The usual limit is 1,024, and every process may raise
//! its own up to a second, higher one (getrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More brings nothing; and what we start inherits the limit, and may be slow with a very high one.
const WANTED: u64 = 8192;

/// Raises the limit as far as it is useful and allowed. Once, at the start.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = WANTED.min(maximum.unwrap_or(WANTED));
    if current.is_some_and(|current| current < wanted) {
        // As it was will do too: whoever opens many files asks for the limit.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

/// The limit as it stands.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(WANTED)
}
