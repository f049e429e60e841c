//! Names of things. No bare byte array and no bare number is an id.
//!
//! `Display` is whole, to paste into a command; `Debug` is short, to read in a log. There is no `Default` and no
//! `Deref`, so a [`NodeId`] does not fit where a [`ChunkId`] is meant.

use crate::error::FormatError;
use std::fmt;
use std::str::FromStr;

/// Writes bytes as lower-case hexadecimal.
pub(crate) fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `N` bytes of hexadecimal, upper or lower case.
pub(crate) fn read_hex<const N: usize>(what: &'static str, text: &str) -> Result<[u8; N], FormatError> {
    let wrong = || FormatError::field(what, "text", format!("{text:?}"), format!("{} hexadecimal digits", 2 * N));
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or_else(wrong);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Ok(bytes)
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// How many bytes it has.
            pub const BYTES: usize = $bytes;

            /// Takes bytes that are known to be such a name: read from a checked structure, or just computed.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// Its bytes, as they stand in files and messages.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0[..4])
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                read_hex($what, text).map(Self)
            }
        }
    };
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $number:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($number);

        impl $name {
            /// Takes a number that is known to be such a name.
            pub const fn new(number: $number) -> Self {
                Self(number)
            }

            /// The number, as it stands in files and messages.
            pub const fn get(self) -> $number {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), " {}"), self.0)
            }
        }
    };
}

byte_id!(
    /// Names a chunk by its content, for the hosts of one group, and tells others nothing.
    ///
    /// Made from the content hash, which stays secret: who learns an id can ask for a chunk, not open it.
    ChunkId, 32, "chunk id"
);
byte_id!(
    /// Names a tree node: the plain BLAKE3 of its sealed record, links included. It cannot be forged.
    NodeId, 32, "node id"
);
byte_id!(
    /// Names a pack: the BLAKE3 hash that its trailer holds, over header, footer and record count.
    PackId, 32, "pack id"
);
byte_id!(
    /// Names a snapshot: the BLAKE3 of its manifest. People may type any prefix that is unique.
    SnapshotId, 32, "snapshot id"
);
byte_id!(
    /// Names a run, one backup upload. Random; means nothing after the run has ended.
    RunId, 16, "run id"
);
byte_id!(
    /// Names a repository. Random, made once by `init`.
    RepositoryId, 16, "repository id"
);
byte_id!(
    /// A plain BLAKE3 over bytes that anybody may read; checks them without a key.
    Digest, 32, "digest"
);

number_id!(
    /// Names a host within one repository, for ever: numbers are never reused. 0 is no host; in a row of the index
    /// it stands for "witnessed".
    HostId, u32
);
number_id!(
    /// One (group, epoch of its secret). Every reference to sealed bytes carries it, so secrets can rotate.
    Scope, u32
);
number_id!(
    /// A snapshot's place in the journal: the sequence number of the record that committed it. Never reused.
    SnapshotNumber, u64
);

impl HostId {
    /// Stands in rows and footers where two hosts, or the verifier, vouch for the bytes.
    pub const WITNESSED: Self = Self(0);
}

impl Digest {
    /// The digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// Whether these are the bytes that it was made of.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        Self::of(bytes) == *self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_display_and_shows_four_bytes_in_debug() {
        let id = ChunkId::from_bytes(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(format!("{id:?}"), "00070e15");
    }

    #[test]
    fn text_that_is_not_an_id_is_refused() {
        for text in ["", "00", "zz", &"g".repeat(64), &"é".repeat(32)] {
            assert!(text.parse::<ChunkId>().is_err(), "{text:?}");
        }
    }
}
