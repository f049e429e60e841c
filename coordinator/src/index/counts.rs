//! What lists show of snapshots and only their manifests state, so that no list reads manifests again: beside each number
//! of a snapshot when its backup began and its counts.
//!
//! A row is written at the commit, or when a list first needs it; all may be lost.

use super::tables::META;
use super::{Changes, Index, IndexError};
use lifeboat_format::FormatError;
use lifeboat_format::codec::{Decoder, Encoder};
use lifeboat_format::id::SnapshotNumber;
use lifeboat_format::manifest::{Clear, Counts};

const COUNTS: &[u8] = b"counts/";
const KEY_BYTES: usize = COUNTS.len() + 8;

/// What a manifest states of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// When it began: nanoseconds since 1970, UTC, by the agent's clock.
    pub started_ns: i64,
    /// What it found, read and sent.
    pub counts: Counts,
}

impl From<&Clear> for Counted {
    fn from(clear: &Clear) -> Self {
        Self { started_ns: clear.started_ns, counts: clear.counts }
    }
}

impl Counted {
    fn encode(&self) -> Vec<u8> {
        let Counts { entries, files, content_bytes, read_bytes, sent_bytes, gaps } = self.counts;
        let mut to = Encoder::new();
        to.i64(self.started_ns);
        [entries, files, content_bytes, read_bytes, sent_bytes, gaps].into_iter().for_each(|count| {
            to.u64(count);
        });
        to.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Decoder::new("counts in the index", bytes);
        let started_ns = from.i64("started_ns")?;
        let counts = Counts {
            entries: from.u64("entries")?,
            files: from.u64("files")?,
            content_bytes: from.u64("content_bytes")?,
            read_bytes: from.u64("read_bytes")?,
            sent_bytes: from.u64("sent_bytes")?,
            gaps: from.u64("gaps")?,
        };
        from.end().map(|()| Self { started_ns, counts })
    }
}

impl Index {
    /// The counts of snapshots, in the order of `numbers`; none where they are not known here.
    pub fn counts(&self, numbers: &[SnapshotNumber]) -> Result<Vec<Option<Counted>>, IndexError> {
        let keys: Vec<[u8; KEY_BYTES]> = numbers.iter().map(key).collect();
        self.get_many(META, &keys, Counted::decode)
    }

    /// Remembers counts of snapshots.
    pub fn set_counts(&self, counted: &[(SnapshotNumber, Counted)]) -> Result<(), IndexError> {
        let mut changes = Changes::default();
        for (number, counted) in counted {
            changes.0.put_cf(self.table(META)?, key(number), counted.encode());
        }
        self.write(changes)
    }
}

fn key(number: &SnapshotNumber) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let (prefix, rest) = key.split_at_mut(COUNTS.len());
    prefix.copy_from_slice(COUNTS);
    rest.copy_from_slice(&number.get().to_be_bytes());
    key
}
