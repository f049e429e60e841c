//! Structures that are laid out as their fields stand: one list gives the type, its bytes and the way back.
//!
//! Where a type is declared with [`layout!`] or [`tagged!`], the order in the source is the order in the bytes, so
//! writer and reader cannot part. Texts are UTF-8 without control characters, so that what is shown on a terminal
//! stays text. Every length has a limit, checked before anything is allocated (INV-9). A writer reads back what it
//! wrote before it lets go of it: so nothing is stored that no reader takes.

use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::{ChunkId, Digest, HostId, NodeId, PackId, RepositoryId, Scope, SnapshotId, SnapshotNumber};

/// The longest text in a structure, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 4096;
/// The longest list in a structure, in items.
pub const LIST_ITEMS_MAX: u64 = 1 << 17;
/// The longest string of bytes in a structure.
pub(crate) const BYTES_MAX: u64 = 8 << 20;

/// The version that every structure here states, and the only one that is read.
const VERSION: u16 = 1;

/// Makes any text one that a structure may hold: control characters become spaces, and what is too long is cut.
pub fn fit_text(text: &str) -> String {
    let mut fitted = String::new();
    for character in text.chars().map(|character| if character.is_control() { ' ' } else { character }) {
        if fitted.len() + character.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        fitted.push(character);
    }
    fitted
}

/// What stands in bytes as itself.
pub(crate) trait Field: Sized {
    fn put(&self, to: &mut Encoder);
    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError>;
}

/// Starts a structure: its magic, its version.
pub(crate) fn begin(magic: &[u8; 4]) -> Encoder {
    let mut encoder = Encoder::new();
    encoder.raw(magic).u16(VERSION);
    encoder
}

/// Reads the start of a structure; any other magic or version is refused (INV-55).
pub(crate) fn open<'a>(what: &'static str, magic: &[u8; 4], bytes: &'a [u8]) -> Result<Decoder<'a>, FormatError> {
    let mut decoder = Decoder::new(what, bytes);
    let found = decoder.array::<4>("magic")?;
    if found != *magic {
        return Err(FormatError::field(what, "magic", found.escape_ascii(), magic.escape_ascii()));
    }
    match decoder.u16("version")? {
        VERSION => Ok(decoder),
        found => Err(FormatError::Version { what, found, known: "1" }),
    }
}

/// Ends an object with the BLAKE3 of all its bytes, so that it can be checked without a key.
pub(crate) fn with_digest(mut bytes: Vec<u8>) -> Vec<u8> {
    let digest = Digest::of(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// What stands before the digest at the end of an object, if it is the digest of that.
pub(crate) fn without_digest<'a>(what: &'static str, bytes: &'a [u8]) -> Result<&'a [u8], FormatError> {
    let Some((body, digest)) = bytes.split_last_chunk::<{ Digest::BYTES }>() else {
        return Err(FormatError::Truncated { what, field: "digest" });
    };
    match Digest::from_bytes(*digest).matches(body) {
        true => Ok(body),
        false => Err(FormatError::Broken { what, check: "digest" }),
    }
}

/// Whether all of `items` are different and in rising order: a set has one encoding.
pub(crate) fn rising<T: Ord>(what: &'static str, field: &'static str, items: &[T]) -> Result<(), FormatError> {
    match items.is_sorted_by(|a, b| a < b) {
        true => Ok(()),
        false => Err(FormatError::field(what, field, "not in rising order", "each greater than the one before")),
    }
}

/// Declares a structure whose bytes are its fields, in order.
macro_rules! layout {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::layout::Field for $name {
            fn put(&self, to: &mut $crate::codec::Encoder) {
                $($crate::layout::Field::put(&self.$field, to);)*
            }

            fn take(
                from: &mut $crate::codec::Decoder<'_>,
                _: &'static str,
            ) -> Result<Self, $crate::error::FormatError> {
                Ok(Self { $($field: $crate::layout::Field::take(from, stringify!($field))?,)* })
            }
        }
    };
}

/// Declares a choice: one byte says which, then come the fields of that one. An unknown byte is refused.
macro_rules! tagged {
    ($(#[$meta:meta])* pub enum $name:ident { $(
        $(#[$variant_meta:meta])* $tag:literal => $variant:ident
        $({ $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })?
        $(($inner:ty))?,
    )* }) => {
        $(#[$meta])*
        pub enum $name { $(
            $(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $type,)* })? $(($inner))?,
        )* }

        impl $crate::layout::Field for $name {
            fn put(&self, to: &mut $crate::codec::Encoder) {
                match self {
                    $(layout_pattern!($name, $variant, value $({ $($field)* })? $(($inner))?) => {
                        to.u8($tag);
                        $($($crate::layout::Field::put($field, to);)*)?
                        $(<$inner as $crate::layout::Field>::put(value, to);)?
                    })*
                }
            }

            fn take(
                from: &mut $crate::codec::Decoder<'_>,
                field: &'static str,
            ) -> Result<Self, $crate::error::FormatError> {
                match from.u8(field)? {
                    $($tag => Ok(Self::$variant
                        $({ $($field: $crate::layout::Field::take(from, stringify!($field))?,)* })?
                        $((<$inner as $crate::layout::Field>::take(from, field)?))?
                    ),)*
                    tag => Err($crate::error::FormatError::field(
                        from.what(), field, tag, concat!("one of the kinds of ", stringify!($name)),
                    )),
                }
            }
        }
    };
}

/// The bit of a skippable choice's kind that a reader must know it.
pub(crate) const NECESSARY: u8 = 0x80;

/// Declares a choice of which a reader may pass over members that it does not know: the kind, the length of the
/// fields, the fields. `needed` sets [`NECESSARY`] in the kind: a reader that does not know it refuses. An `optional`
/// member that is not known is kept as `Unknown`, so that what holds it can be written again byte for byte.
macro_rules! skippable {
    ($(#[$meta:meta])* pub enum $name:ident { $(
        $(#[$variant_meta:meta])* $tag:literal $need:ident => $variant:ident
        $({ $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })?
        $(($inner:ty))?,
    )* }) => {
        $(#[$meta])*
        pub enum $name {
            $($(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $type,)* })? $(($inner))?,)*
            /// A kind of a later version that may be passed over.
            Unknown {
                /// Its kind, below 128.
                kind: u8,
                /// Its fields, as they stand.
                fields: Vec<u8>,
            },
        }

        impl $crate::layout::Field for $name {
            fn put(&self, to: &mut $crate::codec::Encoder) {
                let mut fields = $crate::codec::Encoder::new();
                let kind = match self {
                    $(layout_pattern!($name, $variant, value $({ $($field)* })? $(($inner))?) => {
                        $($($crate::layout::Field::put($field, &mut fields);)*)?
                        $(<$inner as $crate::layout::Field>::put(value, &mut fields);)?
                        skippable_kind!($tag $need)
                    })*
                    Self::Unknown { kind, fields: unknown } => {
                        fields.raw(unknown);
                        *kind
                    }
                };
                to.u8(kind).bytes(&fields.finish());
            }

            fn take(
                from: &mut $crate::codec::Decoder<'_>,
                field: &'static str,
            ) -> Result<Self, $crate::error::FormatError> {
                let kind = from.u8(field)?;
                let bytes = from.bytes(field, $crate::layout::BYTES_MAX)?;
                let mut fields = $crate::codec::Decoder::new(from.what(), bytes);
                let known = match kind & !$crate::layout::NECESSARY {
                    $($tag if kind == skippable_kind!($tag $need) => Self::$variant
                        $({ $($field: $crate::layout::Field::take(&mut fields, stringify!($field))?,)* })?
                        $((<$inner as $crate::layout::Field>::take(&mut fields, field)?))?,)*
                    number if kind != number || [$($tag),*].contains(&number) => {
                        return Err($crate::error::FormatError::field(
                            from.what(), field, kind, concat!("a kind of ", stringify!($name), " of this version, or one that may be passed over"),
                        ));
                    }
                    kind => return Ok(Self::Unknown { kind, fields: bytes.to_vec() }),
                };
                fields.end()?;
                Ok(known)
            }
        }
    };
}

/// The kind byte of a member of [`skippable!`].
macro_rules! skippable_kind {
    ($tag:literal needed) => {
        $tag | $crate::layout::NECESSARY
    };
    ($tag:literal optional) => {
        $tag
    };
}

/// The pattern of one variant, with its fields bound; a part of [`tagged!`] and [`skippable!`].
macro_rules! layout_pattern {
    ($name:ident, $variant:ident, $value:ident) => { $name::$variant };
    ($name:ident, $variant:ident, $value:ident { $($field:ident)* }) => { $name::$variant { $($field),* } };
    ($name:ident, $variant:ident, $value:ident ($inner:ty)) => { $name::$variant($value) };
}

macro_rules! number_fields {
    ($($type:ty: $method:ident),*) => { $(
        impl Field for $type {
            fn put(&self, to: &mut Encoder) {
                to.$method(*self);
            }

            fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
                from.$method(field)
            }
        }
    )* };
}
number_fields!(u16: u16, u32: u32, u64: u64, i64: i64);

macro_rules! number_id_fields {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn put(&self, to: &mut Encoder) {
                self.get().put(to);
            }

            fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
                Field::take(from, field).map(Self::new)
            }
        }
    )* };
}
number_id_fields!(HostId, Scope, SnapshotNumber);

macro_rules! byte_id_fields {
    ($($type:ty),*) => { $(
        impl Field for $type {
            fn put(&self, to: &mut Encoder) {
                to.raw(self.as_bytes());
            }

            fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
                from.array(field).map(Self::from_bytes)
            }
        }
    )* };
}
byte_id_fields!(ChunkId, NodeId, PackId, SnapshotId, RepositoryId, Digest);

impl Field for bool {
    fn put(&self, to: &mut Encoder) {
        to.u8(u8::from(*self));
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        match from.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(FormatError::field(from.what(), field, other, "0 or 1")),
        }
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, to: &mut Encoder) {
        to.raw(self);
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        from.array(field)
    }
}

impl Field for String {
    fn put(&self, to: &mut Encoder) {
        to.bytes(self.as_bytes());
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        let text = from.text(field, TEXT_BYTES_MAX as u64)?;
        match text.chars().any(char::is_control) {
            false => Ok(text.to_owned()),
            true => Err(FormatError::field(from.what(), field, text.escape_debug(), "no control characters")),
        }
    }
}

impl Field for Vec<u8> {
    fn put(&self, to: &mut Encoder) {
        to.bytes(self);
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        from.bytes(field, BYTES_MAX).map(<[u8]>::to_vec)
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, to: &mut Encoder) {
        to.varint(self.len() as u64);
        self.iter().for_each(|item| item.put(to));
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        let count = from.bounded(field, LIST_ITEMS_MAX)?;
        (0..count).map(|_| T::take(from, field)).collect()
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, to: &mut Encoder) {
        self.is_some().put(to);
        self.iter().for_each(|value| value.put(to));
    }

    fn take(from: &mut Decoder<'_>, field: &'static str) -> Result<Self, FormatError> {
        bool::take(from, field)?.then(|| T::take(from, field)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    tagged! {
        /// Something of one kind or another.
        #[derive(Debug, PartialEq)]
        pub enum Shape {
            /// Alone.
            1 => Point,
            /// With fields.
            2 => Box { wide: u16, name: String, },
            /// With another.
            3 => Inner(Option<u32>),
        }
    }

    fn bytes_of(value: &impl Field) -> Vec<u8> {
        let mut encoder = Encoder::new();
        value.put(&mut encoder);
        encoder.finish()
    }

    #[test]
    fn a_choice_reads_back_and_inv_55_an_unknown_one_is_refused() {
        for shape in [Shape::Point, Shape::Box { wide: 7, name: "é".into() }, Shape::Inner(Some(9)), Shape::Inner(None)]
        {
            assert_eq!(Shape::take(&mut Decoder::new("t", &bytes_of(&shape)), "shape"), Ok(shape));
        }
        for tag in (0..=u8::MAX).filter(|tag| !(1..=3).contains(tag)) {
            assert!(Shape::take(&mut Decoder::new("t", &[tag, 0, 0, 0, 0, 0]), "shape").is_err(), "{tag}");
        }
    }

    #[test]
    fn only_text_without_control_characters_is_read_and_any_text_can_be_made_so() {
        let wild = "a\u{1b}[2J\n".to_owned() + &"é".repeat(TEXT_BYTES_MAX);
        assert!(String::take(&mut Decoder::new("t", &bytes_of(&"a\u{1b}[2J".to_owned())), "text").is_err());
        let fitted = fit_text(&wild);
        assert!(fitted.starts_with("a [2J é"));
        assert_eq!(String::take(&mut Decoder::new("t", &bytes_of(&fitted)), "text"), Ok(fitted));
    }

    #[test]
    fn inv_09_a_list_longer_than_its_bytes_is_refused_before_it_is_made() {
        let mut encoder = Encoder::new();
        encoder.varint(LIST_ITEMS_MAX).u32(1);
        let bytes = encoder.finish();
        assert!(Vec::<u32>::take(&mut Decoder::new("t", &bytes), "list").is_err());
        let mut encoder = Encoder::new();
        encoder.varint(LIST_ITEMS_MAX + 1).raw(&vec![0; 1 << 20]);
        assert!(Vec::<u32>::take(&mut Decoder::new("t", &encoder.finish()), "list").is_err());
    }

    #[test]
    fn inv_55_an_unknown_magic_or_version_is_refused() {
        let bytes = begin(b"LBxx").finish();
        assert!(open("t", b"LBxx", &bytes).is_ok());
        assert!(open("t", b"LByy", &bytes).is_err());
        let later = [b"LBxx".as_slice(), &2_u16.to_le_bytes()].concat();
        assert_eq!(
            open("t", b"LBxx", &later).map(|_| ()),
            Err(FormatError::Version { what: "t", found: 2, known: "1" })
        );
    }
}
