//! Reads what a pack holds, checking all, trusting nothing. Needs no key but the coordinator's public one.

use super::{
    FOOTER_RECORD_BYTES, FooterRecord, HEADER_BYTES, LENGTH_BYTES, MAGIC, RECORDS_MAX, TRAILER_BYTES, VERSION, pack_id,
};
use crate::codec::Decoder;
use crate::error::FormatError;
use crate::id::PackId;
use crate::sign::{Purpose, Signature, VerifyingKey, verify_any};

/// What a pack holds, after all checks but those of the records' bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The pack's id: the hash in its trailer. Compare it with the name under which the pack was found.
    pub id: PackId,
    /// In the order of places, without gap or overlap.
    pub records: Vec<FooterRecord>,
}

impl Footer {
    /// Reads and checks the footer of a pack of `pack_bytes` in all.
    ///
    /// `read` is called with an offset and a length, three times in all: for header, trailer and footer. `log_keys` are
    /// the coordinator's log key and its former ones, from the trust file; one of them must have signed. Never
    /// allocates more than the pack's own length, and calls `read` for at most 92 · 2^20 bytes.
    pub fn read<B, E>(
        pack_bytes: u64,
        log_keys: &[VerifyingKey],
        mut read: impl FnMut(u64, usize) -> Result<B, E>,
    ) -> Result<Self, E>
    where
        B: AsRef<[u8]>,
        E: From<FormatError>,
    {
        let Some(body_end) = pack_bytes.checked_sub(TRAILER_BYTES as u64).filter(|end| *end >= HEADER_BYTES as u64)
        else {
            return Err(FormatError::Truncated { what: "pack", field: "trailer" }.into());
        };
        let header = read(0, HEADER_BYTES)?;
        check_header(header.as_ref())?;
        let trailer = Trailer::decode(read(body_end, TRAILER_BYTES)?.as_ref())?;
        let footer_bytes = trailer.footer_bytes(body_end)?;
        let footer_start = body_end - footer_bytes as u64;
        let footer = read(footer_start, footer_bytes)?;
        trailer.check(header.as_ref(), footer.as_ref(), log_keys)?;
        let records = decode_records(footer.as_ref(), footer_start)?;
        Ok(Self { id: trailer.id, records })
    }
}

/// Whether these are the bytes that the footer speaks of.
pub fn verify_record(record: &FooterRecord, bytes: &[u8]) -> Result<(), FormatError> {
    let length_holds = bytes.len() == record.place.length as usize;
    if !length_holds || !record.record.digest.matches(bytes) {
        return Err(FormatError::Broken { what: "pack record", check: "digest" });
    }
    Ok(())
}

/// Whether these are the bytes that the footer speaks of, with their length before them: those of
/// [`Place::framed`](super::Place::framed).
pub fn verify_framed(record: &FooterRecord, bytes: &[u8]) -> Result<(), FormatError> {
    let mut decoder = Decoder::new("pack record", bytes);
    let length = decoder.u32("length")?;
    if length != record.place.length {
        return Err(FormatError::field("pack record", "length before it", length, record.place.length));
    }
    verify_record(record, decoder.rest())
}

fn check_header(header: &[u8]) -> Result<(), FormatError> {
    let mut decoder = Decoder::new("pack header", header);
    if decoder.array("magic")? != MAGIC {
        return Err(FormatError::field("pack header", "magic", "not a pack's", "89 4C 42 50 0D 0A 1A 0A"));
    }
    let version = decoder.u16("version")?;
    if version != VERSION {
        return Err(FormatError::Version { what: "pack", found: version, known: "1" });
    }
    if decoder.array("reserved")? != [0; 6] {
        return Err(FormatError::field("pack header", "reserved", "not all zero", "zeros"));
    }
    decoder.end()
}

struct Trailer {
    count: u64,
    id: PackId,
    signature: Signature,
}

impl Trailer {
    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut decoder = Decoder::new("pack trailer", bytes);
        let count = decoder.u64("count")?;
        let id = PackId::from_bytes(decoder.array("hash")?);
        let signature = Signature::from_bytes(decoder.array("signature")?);
        decoder.end()?;
        Ok(Self { count, id, signature })
    }

    /// How long the footer is, if so many records of at least one byte fit before `body_end`.
    fn footer_bytes(&self, body_end: u64) -> Result<usize, FormatError> {
        let fits = (body_end - HEADER_BYTES as u64) / ((FOOTER_RECORD_BYTES + LENGTH_BYTES) as u64 + 1);
        let limit = fits.min(RECORDS_MAX);
        if self.count > limit {
            return Err(FormatError::field("pack trailer", "count", self.count, format!("at most {limit}")));
        }
        Ok(self.count as usize * FOOTER_RECORD_BYTES)
    }

    fn check(&self, header: &[u8], footer: &[u8], log_keys: &[VerifyingKey]) -> Result<(), FormatError> {
        if pack_id(header, footer, self.count) != self.id {
            return Err(FormatError::Broken { what: "pack footer", check: "hash" });
        }
        verify_any(log_keys, Purpose::Pack, self.id.as_bytes(), &self.signature)?;
        Ok(())
    }
}

/// The records, which lie from the header to `footer_start` without gap or overlap.
fn decode_records(footer: &[u8], footer_start: u64) -> Result<Vec<FooterRecord>, FormatError> {
    let mut records = Vec::with_capacity(footer.len() / FOOTER_RECORD_BYTES);
    let mut end = HEADER_BYTES as u64;
    for bytes in footer.chunks(FOOTER_RECORD_BYTES) {
        let record = FooterRecord::decode(&mut Decoder::new("pack footer", bytes))?;
        // Cannot overflow: at most 2^20 lengths of 32 bits.
        end += LENGTH_BYTES as u64;
        if record.place.offset != end {
            return Err(FormatError::field("pack footer", "offset", record.place.offset, end));
        }
        end += u64::from(record.place.length);
        records.push(record);
    }
    if end != footer_start {
        return Err(FormatError::field("pack footer", "end of the last record", end, footer_start));
    }
    Ok(records)
}
