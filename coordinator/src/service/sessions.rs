//! The open sessions: which there are, and which one ends when there are too many. Pure but for the lock.
//!
//! A session ends when its grant does, or some minutes after its reader's connection was lost. One that is in use is
//! never ended to make place for another: then the new one is refused.

use super::session::Session;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Sessions at once: each may keep some hundred KiB of links.
const SESSIONS_MAX: usize = 1024;
/// A session whose connection was lost ends after so long: time for its reader to connect again.
const LOST_FOR: Duration = Duration::from_secs(600);
/// A session that was not used for so long ends when another one needs its place.
const UNUSED_FOR: Duration = Duration::from_secs(3600);

/// How a reader names its session.
pub type SessionId = [u8; 16];

/// The table.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<HashMap<SessionId, Row>>);

#[derive(Debug)]
struct Row {
    session: Arc<Mutex<Session>>,
    /// By the monotonic clock.
    used: Duration,
    /// Ends with the connection of the last reader.
    connection: Weak<()>,
}

/// As many sessions as there may be are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} restores and mounts are open at once, and no more are taken", SESSIONS_MAX)]
pub struct TooMany;

impl Sessions {
    /// Adds a session. Answers which ones ended.
    pub fn add(
        &self,
        id: SessionId,
        session: Session,
        connection: &Arc<()>,
        (now, now_ns): (Duration, i64),
    ) -> Result<Vec<SessionId>, TooMany> {
        let mut rows = self.rows();
        let mut gone: Vec<SessionId> =
            rows.iter().filter(|(_, row)| row.is_over(now, now_ns)).map(|(id, _)| *id).collect();
        if rows.len() - gone.len() >= SESSIONS_MAX {
            let unused = rows.iter().filter(|(id, row)| row.may_give_way(now) && !gone.contains(id));
            gone.push(*unused.min_by_key(|(_, row)| (row.is_connected(), row.used)).ok_or(TooMany)?.0);
        }
        gone.iter().for_each(|id| {
            rows.remove(id);
        });
        let connection = Arc::downgrade(connection);
        rows.insert(id, Row { session: Arc::new(Mutex::new(session)), used: now, connection });
        Ok(gone)
    }

    /// The session of this name, which is used now over this connection.
    pub fn get(&self, id: &SessionId, connection: &Arc<()>, now: Duration) -> Option<Arc<Mutex<Session>>> {
        let mut rows = self.rows();
        let row = rows.get_mut(id)?;
        (row.used, row.connection) = (now, Arc::downgrade(connection));
        Some(row.session.clone())
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<SessionId, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    fn is_connected(&self) -> bool {
        self.connection.strong_count() > 0
    }

    /// Whether a call of its reader is being answered.
    fn is_read(&self) -> bool {
        Arc::strong_count(&self.session) > 1
    }

    fn is_over(&self, now: Duration, now_ns: i64) -> bool {
        let ends_ns = self.session.lock().unwrap_or_else(PoisonError::into_inner).expires_ns;
        let is_lost = !self.is_connected() && now.saturating_sub(self.used) >= LOST_FOR;
        ends_ns <= now_ns || (is_lost && !self.is_read())
    }

    fn may_give_way(&self, now: Duration) -> bool {
        let is_unused = !self.is_connected() || now.saturating_sub(self.used) >= UNUSED_FOR;
        is_unused && !self.is_read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::id::{HostId, NodeId, Scope};
    use lifeboat_format::journal::event::GrantTarget;
    use lifeboat_format::manifest::RootRef;

    const ENDS_NS: i64 = 1_000;

    fn session() -> Session {
        let root = RootRef { id: NodeId::from_bytes([1; 32]), height: 2, scope: Scope::new(1) };
        Session::new(GrantTarget::LocalClient, HostId::new(1), root, ENDS_NS)
    }

    fn id(number: usize) -> SessionId {
        let mut id = SessionId::default();
        id[..8].copy_from_slice(&number.to_le_bytes());
        id
    }

    fn full(connection: &Arc<()>) -> Sessions {
        let sessions = Sessions::default();
        for number in 0..SESSIONS_MAX {
            let now = Duration::from_secs(number as u64);
            assert_eq!(sessions.add(id(number), session(), connection, (now, 0)), Ok(vec![]));
        }
        sessions
    }

    #[test]
    fn no_session_of_a_connected_reader_gives_way_to_another() {
        let connection = Arc::new(());
        let sessions = full(&connection);
        let now = Duration::from_secs(SESSIONS_MAX as u64);
        assert_eq!(sessions.add(id(5_000), session(), &connection, (now, 0)), Err(TooMany));
        assert!(sessions.get(&id(0), &connection, now).is_some());
        // The second is the longest unused one now, and an hour later it is not in use any more.
        let later = UNUSED_FOR + Duration::from_secs(1);
        assert_eq!(sessions.add(id(5_000), session(), &connection, (later, 0)), Ok(vec![id(1)]));
    }

    #[test]
    fn a_session_that_is_read_just_now_does_not_give_way_however_long_that_takes() {
        let connection = Arc::new(());
        let sessions = full(&connection);
        let reading = sessions.get(&id(0), &connection, Duration::ZERO);
        let later = UNUSED_FOR + Duration::from_secs(1);
        assert_eq!(sessions.add(id(5_000), session(), &connection, (later, 0)), Ok(vec![id(1)]));
        drop(reading);
        assert_eq!(sessions.add(id(5_001), session(), &connection, (later, 0)), Ok(vec![id(0)]));
    }

    #[test]
    fn a_session_ends_some_minutes_after_its_connection_and_with_its_grant() {
        let (lost, connection) = (Arc::new(()), Arc::new(()));
        let sessions = Sessions::default();
        sessions.add(id(1), session(), &lost, (Duration::ZERO, 0)).unwrap();
        drop(lost);
        let before = LOST_FOR - Duration::from_secs(1);
        assert_eq!(sessions.add(id(2), session(), &connection, (before, 0)), Ok(vec![]));
        assert_eq!(sessions.add(id(3), session(), &connection, (LOST_FOR, 0)), Ok(vec![id(1)]));
        let mut ended = sessions.add(id(4), session(), &connection, (LOST_FOR, ENDS_NS)).unwrap();
        ended.sort_unstable();
        assert_eq!(ended, [id(2), id(3)]);
    }
}
