//! The one way in which this crate lays fields into bytes: one after the other, integers little-endian, lengths
//! before what they measure.
//!
//! Everything small and structured (entries, nodes, manifests, journal records, the trust file) is written with
//! [`Encoder`] and read with [`Decoder`]. There is one encoding for each value, so equal values make equal bytes and
//! a signature has nothing to canonicalise. A decoder trusts nothing: each length is checked against a limit and
//! against what is there before anything is allocated (INV-9).

use crate::error::FormatError;

/// Collects fields into bytes.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts empty, with room for this number of bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian, two's complement.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Seven bits a byte, lowest first, the high bit set on all but the last (LEB128): 1 to 10 bytes.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8)
    }

    /// A length as varint, then so many bytes.
    pub fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.varint(value.len() as u64).raw(value)
    }

    /// Bytes whose number the reader knows.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(value);
        self
    }

    /// How many bytes there are so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes fields out of bytes, in the order in which they were laid.
#[derive(Debug)]
pub struct Decoder<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Reads `bytes`, which should be a `what` (it names the structure in errors).
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    /// The structure's name, for errors.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Bytes whose number is known.
    pub fn raw(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], FormatError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(FormatError::Truncated { what: self.what, field });
        };
        self.rest = rest;
        Ok(taken)
    }

    /// An array of bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(field, N)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, FormatError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, FormatError> {
        self.array(field).map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, FormatError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, FormatError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// Eight bytes, little-endian, two's complement.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, FormatError> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A varint in its shortest form; a longer form is refused, so that equal values have equal bytes.
    pub fn varint(&mut self, field: &'static str) -> Result<u64, FormatError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(field)?;
            let bits = u64::from(byte & 0x7f);
            let overflows = shift == 63 && bits > 1;
            let padded = byte == 0 && shift > 0;
            if overflows || padded {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FormatError::field(self.what, field, "a varint too long for its value", "the shortest form, 64 bits"))
    }

    /// A varint that is at most `limit`: a count, a length, an index.
    pub fn bounded(&mut self, field: &'static str, limit: u64) -> Result<u64, FormatError> {
        let value = self.varint(field)?;
        if value > limit {
            return Err(FormatError::field(self.what, field, value, format!("at most {limit}")));
        }
        Ok(value)
    }

    /// A length, at most `limit`, then so many bytes.
    pub fn bytes(&mut self, field: &'static str, limit: u64) -> Result<&'a [u8], FormatError> {
        let count = self.bounded(field, limit)?;
        self.raw(field, usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// A length, at most `limit`, then so many bytes of UTF-8.
    pub fn text(&mut self, field: &'static str, limit: u64) -> Result<&'a str, FormatError> {
        let bytes = self.bytes(field, limit)?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::field(self.what, field, "not UTF-8", "UTF-8"))
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), FormatError> {
        match self.rest.len() {
            0 => Ok(()),
            extra_bytes => Err(FormatError::Trailing { what: self.what, extra_bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_reads_back_and_only_its_shortest_form_is_read(value: u64) {
            let mut encoder = Encoder::new();
            encoder.varint(value);
            let bytes = encoder.finish();
            prop_assert_eq!(Decoder::new("t", &bytes).varint("v"), Ok(value));
            let mut longer = bytes.clone();
            *longer.last_mut().unwrap() |= 0x80;
            longer.push(0);
            prop_assert!(Decoder::new("t", &longer).varint("v").is_err());
        }

        #[test]
        fn inv_09_no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let mut decoder = Decoder::new("t", &bytes);
            while decoder.bytes("b", 1 << 40).is_ok() || decoder.varint("v").is_ok() {
                if decoder.rest().is_empty() {
                    break;
                }
            }
        }
    }

    #[test]
    fn what_follows_after_the_end_is_refused() {
        let mut decoder = Decoder::new("t", &[1, 2]);
        assert_eq!(decoder.u8("first"), Ok(1));
        assert_eq!(decoder.end(), Err(FormatError::Trailing { what: "t", extra_bytes: 1 }));
    }
}
