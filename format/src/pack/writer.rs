//! Writes a pack in one pass, the footer last. Makes nothing durable: that is the store's.

use super::{FooterRecord, HEADER_BYTES, LENGTH_BYTES, Place, RECORDS_MAX, Record, TRAILER_BYTES, header, pack_id};
use crate::codec::Encoder;
use crate::error::FormatError;
use crate::id::PackId;
use crate::sign::{Purpose, SigningKey};
use std::io::{self, Write};

/// Why a pack cannot be written on.
#[derive(Debug, thiserror::Error)]
pub enum PackWriteError {
    /// These bytes do not belong into a pack; none of them was written, others may follow.
    #[error("a record was not put into the pack")]
    Refused(#[from] FormatError),
    /// Nothing is known of what was written: the pack is void.
    #[error("cannot write the pack")]
    Io(#[from] io::Error),
}

/// A pack that is being written.
#[derive(Debug)]
pub struct PackWriter<W> {
    inner: W,
    end: u64,
    records: Vec<FooterRecord>,
}

/// A pack that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its name: the hash in its trailer.
    pub id: PackId,
    /// What it holds, in the order of places.
    pub records: Vec<FooterRecord>,
    /// How long it is.
    pub bytes: u64,
}

impl<W: Write> PackWriter<W> {
    /// Writes the header. Small writes follow, one a record: `inner` should buffer.
    pub fn begin(mut inner: W) -> io::Result<Self> {
        inner.write_all(&header())?;
        Ok(Self { inner, end: HEADER_BYTES as u64, records: Vec::new() })
    }

    /// Appends sealed bytes: a chunk's, or a node's record. They must match the record's digest, so nothing that was
    /// damaged on its way, or in the pack that it is copied from, is vouched for anew (INV-11).
    pub fn add(&mut self, record: &Record, bytes: &[u8]) -> Result<Place, PackWriteError> {
        record.check(bytes.len())?;
        if !record.digest.matches(bytes) {
            return Err(FormatError::Broken { what: "pack record", check: "digest" }.into());
        }
        if self.records.len() as u64 >= RECORDS_MAX {
            return Err(
                FormatError::field("pack", "record count", RECORDS_MAX + 1, format!("at most {RECORDS_MAX}")).into()
            );
        }
        let place = Place { offset: self.end + LENGTH_BYTES as u64, length: bytes.len() as u32 };
        self.inner.write_all(&place.length.to_le_bytes())?;
        self.inner.write_all(bytes)?;
        self.end = place.offset + bytes.len() as u64;
        self.records.push(FooterRecord { record: *record, place });
        Ok(place)
    }

    /// How long the records are together, header included: to tell when the pack is full.
    pub fn bytes(&self) -> u64 {
        self.end
    }

    /// What it holds so far.
    pub fn records(&self) -> &[FooterRecord] {
        &self.records
    }

    /// What it would be called if it were finished now.
    pub fn id(&self) -> PackId {
        pack_id(&header(), &self.footer(), self.records.len() as u64)
    }

    /// Writes footer and trailer, signed with the coordinator's log key, and flushes.
    pub fn finish(mut self, log_key: &SigningKey) -> io::Result<(Finished, W)> {
        let footer = self.footer();
        let count = self.records.len() as u64;
        let id = pack_id(&header(), &footer, count);
        let signature = log_key.sign(Purpose::Pack, id.as_bytes());
        let mut trailer = Encoder::new();
        trailer.u64(count).raw(id.as_bytes()).raw(signature.as_bytes());
        self.inner.write_all(&footer)?;
        self.inner.write_all(&trailer.finish())?;
        self.inner.flush()?;
        let bytes = self.end + (footer.len() + TRAILER_BYTES) as u64;
        Ok((Finished { id, records: self.records, bytes }, self.inner))
    }

    fn footer(&self) -> Vec<u8> {
        let mut footer = Encoder::new();
        self.records.iter().for_each(|record| record.encode(&mut footer));
        footer.finish()
    }
}
