//! A leaf's fields by column: what is alike stands together, so zstd finds more to save.
//!
//! Each column is a byte string of its own, its length first, in the order of the fields of [`Columns`]. Signed
//! numbers are zig-zag varints; most are differences from the entry before, and most of those are 0.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;

/// The columns of a leaf, while it is written (`Encoder`) or read (`Decoder`).
pub(super) struct Columns<T> {
    /// One byte an entry: its kind and which of its fields are there.
    pub tags: T,
    /// How much of each path the one before has, and the lengths of what stands in `texts`.
    pub lengths: T,
    /// What is new of each path; targets of links.
    pub texts: T,
    /// The mode of each entry that has attributes.
    pub modes: T,
    /// Owners, flags, extended attributes, where they are not those of the entry before.
    pub owners: T,
    /// Seconds.
    pub seconds: T,
    /// Nanoseconds.
    pub nanos: T,
    /// Where the content of files stands; device numbers.
    pub contents: T,
    /// The hash of each bundled file, 16 bytes.
    pub hashes: T,
}

impl Columns<Encoder> {
    /// Empty columns.
    pub fn new() -> Self {
        let new = Encoder::new;
        Self {
            tags: new(),
            lengths: new(),
            texts: new(),
            modes: new(),
            owners: new(),
            seconds: new(),
            nanos: new(),
            contents: new(),
            hashes: new(),
        }
    }

    /// Writes them one after the other.
    pub fn finish(self, out: &mut Encoder) {
        let Self { tags, lengths, texts, modes, owners, seconds, nanos, contents, hashes } = self;
        for column in [tags, lengths, texts, modes, owners, seconds, nanos, contents, hashes] {
            out.bytes(&column.finish());
        }
    }
}

impl<'a> Columns<Decoder<'a>> {
    /// Finds them one after the other.
    pub fn read(decoder: &mut Decoder<'a>) -> Result<Self, FormatError> {
        let what = decoder.what();
        let mut column = |field| Ok(Decoder::new(what, decoder.bytes(field, u64::MAX)?));
        Ok(Self {
            tags: column("tags")?,
            lengths: column("lengths")?,
            texts: column("texts")?,
            modes: column("modes")?,
            owners: column("owners")?,
            seconds: column("seconds")?,
            nanos: column("nanos")?,
            contents: column("contents")?,
            hashes: column("hashes")?,
        })
    }

    /// Nothing may be left in any of them.
    pub fn end(self) -> Result<(), FormatError> {
        let Self { tags, lengths, texts, modes, owners, seconds, nanos, contents, hashes } = self;
        [tags, lengths, texts, modes, owners, seconds, nanos, contents, hashes].into_iter().try_for_each(Decoder::end)
    }
}

/// A signed number as an unsigned one that is small if it is near to 0.
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The signed number again.
pub(super) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// A varint that fits into 32 bits.
pub(super) fn varint_u32(decoder: &mut Decoder<'_>, field: &'static str) -> Result<u32, FormatError> {
    Ok(decoder.bounded(field, u64::from(u32::MAX))? as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_signed_number_reads_back_and_a_small_one_is_short(value: i64, small in -64i64..64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
            prop_assert!(zigzag(small) < 128);
        }
    }
}
