//! Node records that were fetched ahead of need.

use bytes::Bytes;
use lifeboat_format::id::NodeId;
use std::collections::{HashMap, VecDeque};

/// Bytes of records that are kept at most.
const BYTES_MAX: usize = 8 << 20;

/// A few records, each given out once.
#[derive(Debug, Default)]
pub struct Records {
    by_id: HashMap<NodeId, Bytes>,
    oldest_first: VecDeque<NodeId>,
    bytes: usize,
}

impl Records {
    /// The record of this node, if it is here.
    pub fn take(&mut self, id: &NodeId) -> Option<Bytes> {
        let record = self.by_id.remove(id)?;
        self.bytes -= record.len();
        self.oldest_first.retain(|other| other != id);
        Some(record)
    }

    /// Keeps a record; the oldest go to make room for it.
    pub fn keep(&mut self, id: NodeId, record: Bytes) {
        if self.by_id.contains_key(&id) || record.len() > BYTES_MAX {
            return;
        }
        while self.bytes + record.len() > BYTES_MAX {
            let Some(oldest) = self.oldest_first.front().copied() else { break };
            self.take(&oldest);
        }
        self.bytes += record.len();
        self.oldest_first.push_back(id);
        self.by_id.insert(id, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_records_make_room_and_each_is_given_out_once() {
        let mut records = Records::default();
        let id = |number| NodeId::from_bytes([number; 32]);
        for number in 0..5 {
            records.keep(id(number), vec![number; 3 << 20].into());
        }
        assert!(records.bytes <= BYTES_MAX);
        assert!(records.take(&id(0)).is_none());
        assert!(records.take(&id(4)).is_some());
        assert!(records.take(&id(4)).is_none());
    }
}
