//! What a walk over the trees of all snapshots has found, kept here so that it needs no memory and goes on after a
//! restart; and up to which snapshot the nodes have their homes.

use super::tables::{META, NODES, WALKED};
use super::{Index, IndexError};
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::{Digest, HostId, NodeId, SnapshotNumber};
use rocksdb::WriteBatch;

const WALK: &[u8] = b"walk";
const ANCHORED: &[u8] = b"anchored";

/// Names a walk, by what it looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkId(pub Digest);

/// What is known of a node and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Which problems are in it or below it, a bit each; 0: none.
    pub problems: u64,
    /// Whether all below it is witnessed.
    pub witnessed: bool,
}

impl Walked {
    fn encode(self) -> Vec<u8> {
        let mut to = Encoder::new();
        to.u64(self.problems).u8(u8::from(self.witnessed));
        to.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Decoder::new("walked node in the index", bytes);
        let walked = Self { problems: from.u64("problems")?, witnessed: from.u8("witnessed")? == 1 };
        from.end().map(|()| walked)
    }
}

fn key(host: HostId, node: &NodeId) -> Vec<u8> {
    [host.get().to_be_bytes().as_slice(), node.as_bytes()].concat()
}

impl Index {
    /// Begins a walk. If the last one was the same and did not end, what it found stays.
    pub fn begin_walk(&self, id: WalkId) -> Result<(), IndexError> {
        let unfinished = self.get(META, WALK, |value| Ok(value.to_vec()))?;
        if unfinished.as_deref() != Some(id.0.as_bytes()) {
            self.forget_walked()?;
            self.put_meta(WALK, id.0.as_bytes())?;
        }
        Ok(())
    }

    /// The walk is over: what it found of single nodes is forgotten.
    pub fn end_walk(&self) -> Result<(), IndexError> {
        self.put_meta(WALK, &[])?;
        self.forget_walked()
    }

    fn forget_walked(&self) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(self.table(WALKED)?, [].as_slice(), [0xff; 37].as_slice());
        self.database.write_without_wal(batch).map_err(self.failed("write"))
    }

    /// What the walk found of a node on behalf of this host.
    pub fn walked(&self, host: HostId, node: &NodeId) -> Result<Option<Walked>, IndexError> {
        self.get(WALKED, &key(host, node), Walked::decode)
    }

    /// Remembers what the walk found of a node on behalf of this host.
    pub fn set_walked(&self, host: HostId, node: &NodeId, walked: Walked) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.table(WALKED)?, key(host, node), walked.encode());
        self.database.write_without_wal(batch).map_err(self.failed("write"))
    }

    /// The last snapshot up to which all nodes of all snapshots have their homes. It lies beside the homes: where these
    /// are lost, so is it.
    pub fn anchored(&self) -> Result<SnapshotNumber, IndexError> {
        let number = self.get(NODES, ANCHORED, |value| {
            let mut from = Decoder::new("number in the index", value);
            let number = from.u64("number")?;
            from.end().map(|()| number)
        })?;
        Ok(SnapshotNumber::new(number.unwrap_or(0)))
    }

    /// The nodes of all snapshots up to this one have their homes.
    pub fn set_anchored(&self, number: SnapshotNumber) -> Result<(), IndexError> {
        let value = number.get().to_le_bytes();
        self.database.put_cf(self.table(NODES)?, ANCHORED, value).map_err(self.failed("write"))
    }
}
