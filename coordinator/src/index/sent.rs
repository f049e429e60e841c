//! What runs have sent, and what restores were served: sets of node ids, kept here so that neither needs memory.
//!
//! Both are forgotten at a start, with the runs and sessions themselves, so they are written without a log.

use super::tables::{SENT, SERVED};
use super::{Index, IndexError, SentRow};
use lifeboat_format::id::{NodeId, RunId};
use rocksdb::{Direction, IteratorMode, WriteBatch};

fn key(owner: &[u8; 16], node: &NodeId) -> [u8; 48] {
    let mut key = [0; 48];
    key[..16].copy_from_slice(owner);
    key[16..].copy_from_slice(node.as_bytes());
    key
}

impl Index {
    /// What is known of a node that this run may have sent.
    pub fn sent(&self, run: &RunId, node: &NodeId) -> Result<Option<SentRow>, IndexError> {
        self.get(SENT, &key(run.as_bytes(), node), SentRow::decode)
    }

    /// The same for many nodes, in their order.
    pub fn sent_many(&self, run: &RunId, nodes: &[NodeId]) -> Result<Vec<Option<SentRow>>, IndexError> {
        let keys: Vec<[u8; 48]> = nodes.iter().map(|node| key(run.as_bytes(), node)).collect();
        self.get_many(SENT, &keys, SentRow::decode)
    }

    /// Remembers nodes as sent by this run, or what a validation found of them.
    pub fn set_sent(&self, run: &RunId, nodes: &[(NodeId, SentRow)]) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        for (node, row) in nodes {
            batch.put_cf(self.table(SENT)?, key(run.as_bytes(), node), row.encode());
        }
        self.database.write_without_wal(batch).map_err(self.failed("write"))
    }

    /// Of this run's nodes, at most `limit` after `after`, in the order of ids.
    pub fn sent_after(
        &self,
        run: &RunId,
        after: Option<NodeId>,
        limit: usize,
    ) -> Result<Vec<(NodeId, SentRow)>, IndexError> {
        let first =
            after.map_or_else(|| key(run.as_bytes(), &NodeId::from_bytes([0; 32])), |id| key(run.as_bytes(), &id));
        let mut found = Vec::new();
        for row in self.database.iterator_cf(self.table(SENT)?, IteratorMode::From(&first, Direction::Forward)) {
            let (key, value) = row.map_err(self.failed("read"))?;
            let Some(node) = key.strip_prefix(run.as_bytes()) else { break };
            let node = node.try_into().map_err(|_| IndexError::Missing { what: "a node id".into() })?;
            let node = NodeId::from_bytes(node);
            if Some(node) == after {
                continue;
            }
            found.push((node, SentRow::decode(&value)?));
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    /// Of this run's nodes, forgets these: their closure is no longer whole.
    pub fn forget_sent(&self, run: &RunId, nodes: &[NodeId]) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        for node in nodes {
            batch.delete_cf(self.table(SENT)?, key(run.as_bytes(), node));
        }
        self.database.write_without_wal(batch).map_err(self.failed("write"))
    }

    /// The run has ended.
    pub fn forget_run(&self, run: &RunId) -> Result<(), IndexError> {
        self.forget_owner(SENT, run.as_bytes())
    }

    /// All runs and sessions have ended: a start.
    pub fn forget_all_runs_and_sessions(&self) -> Result<(), IndexError> {
        for table in [SENT, SERVED] {
            let mut batch = WriteBatch::default();
            batch.delete_range_cf(self.table(table)?, [].as_slice(), [0xff; 49].as_slice());
            self.database.write_without_wal(batch).map_err(self.failed("write"))?;
        }
        Ok(())
    }

    /// Remembers nodes as served to this session of a restore.
    pub fn set_served(&self, session: &[u8; 16], nodes: &[NodeId]) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        for node in nodes {
            batch.put_cf(self.table(SERVED)?, key(session, node), []);
        }
        self.database.write_without_wal(batch).map_err(self.failed("write"))
    }

    /// Whether this node was served to this session.
    pub fn was_served(&self, session: &[u8; 16], node: &NodeId) -> Result<bool, IndexError> {
        Ok(self.get(SERVED, &key(session, node), |_| Ok(()))?.is_some())
    }

    /// The session has ended.
    pub fn forget_session(&self, session: &[u8; 16]) -> Result<(), IndexError> {
        self.forget_owner(SERVED, session)
    }

    fn forget_owner(&self, table: &'static str, owner: &[u8; 16]) -> Result<(), IndexError> {
        // Longer than any key of this owner, and before every key of the next one.
        let mut end = owner.to_vec();
        end.extend_from_slice(&[0xff; 33]);
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.table(table)?, owner.as_slice(), end.as_slice());
        self.database.write_without_wal(batch).map_err(self.failed("write"))
    }
}
