//! Names of files as text: safe to print, and read back to the same bytes.
//!
//! Escapes are `\\`, `\n`, `\r`, `\t`, `\u{…}` for other characters that do not print, `\x80` to `\xff` for bytes that
//! are not UTF-8, and `\x40` for an `@` that an address would take for the beginning of a point in time. A backslash is
//! escaped only where it could be taken for one of these: systemd's `dev-disk-by\x2duuid` is printed as it is.

use std::fmt::{self, Write};

/// Prints a path or a name: readable text unchanged, everything else escaped, so that no name can act as markup or
/// drive a terminal (INV-54). [`unescape`] returns the name from the text, so two names never look alike.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(chunk) = rest.utf8_chunks().next() {
            let text = chunk.valid();
            for (at, character) in text.char_indices() {
                let after = &rest[at + character.len_utf8()..];
                match character {
                    '\\' if looks_like_escape(after) => f.write_str("\\\\")?,
                    '\\' | '\'' | '"' => f.write_char(character)?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
            rest = &rest[text.len() + chunk.invalid().len()..];
        }
        Ok(())
    }
}

/// Whether a backslash before these bytes, once they are printed, would begin an escape.
fn looks_like_escape(after: &[u8]) -> bool {
    let next = after.utf8_chunks().next().map(|chunk| chunk.valid().chars().next());
    let is_escaped = match next {
        None => false,
        // A byte that is not UTF-8: it is printed with a backslash.
        Some(None) => true,
        Some(Some('\'' | '"')) => false,
        Some(Some(character)) => character.escape_debug().len() > 1,
    };
    is_escaped || matches!(after, [b'n' | b'r' | b't', ..] | [b'u', b'{', ..]) || byte_escape(after).is_some()
}

/// The byte that `\x40` or `\x80` to `\xff` stands for, from what follows the backslash.
fn byte_escape(after: &[u8]) -> Option<u8> {
    let [b'x', high, low, ..] = after else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
    (byte == b'@' || byte >= 0x80).then_some(byte)
}

/// The character that `\u{…}` stands for, and how long the escape is without its backslash.
fn character_escape(after: &[u8]) -> Option<(char, usize)> {
    let digits = after.strip_prefix(b"u{")?;
    let end = digits.iter().position(|byte| *byte == b'}').filter(|end| (1..=6).contains(end))?;
    let digits = std::str::from_utf8(&digits[..end]).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let character = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    Some((character, end + 3))
}

/// The name that was printed as this text. A backslash that begins no escape stands for itself.
pub fn unescape(text: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let (byte, used) = match (first, after) {
            (b'\\', [b'\\', ..]) => (b'\\', 1),
            (b'\\', [b'n', ..]) => (b'\n', 1),
            (b'\\', [b'r', ..]) => (b'\r', 1),
            (b'\\', [b't', ..]) => (b'\t', 1),
            (b'\\', after) => match (byte_escape(after), character_escape(after)) {
                (Some(byte), _) => (byte, 3),
                (None, Some((character, used))) => {
                    name.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &after[used..];
                    continue;
                }
                (None, None) => (b'\\', 0),
            },
            (byte, _) => (*byte, 0),
        };
        name.push(byte);
        rest = &after[used..];
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &[u8]) -> String {
        Shown(name).to_string()
    }

    #[test]
    fn inv_54_a_name_is_shown_without_acting() {
        assert_eq!(shown("Grüße's \"plan\".txt".as_bytes()), "Grüße's \"plan\".txt");
        assert_eq!(shown(b"a\x1b[31m\n\\\xff"), "a\\u{1b}[31m\\n\\\\\\xff");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn inv_54_a_backslash_is_escaped_where_it_could_be_taken_for_an_escape() {
        let kept = [r"dev-disk-by\x2duuid-1.swap", r"C:\Users\", r"\x7f", r"\x4", r"\'", r"a\"];
        kept.iter().for_each(|name| assert_eq!(shown(name.as_bytes()), *name));
        assert_eq!(shown(br"C:\new"), r"C:\\new");
        assert_eq!(shown(br"\xc3\xbc"), r"\\xc3\\xbc");
        assert_eq!(shown(br"\x40\u{41}"), r"\\x40\\u{41}");
    }

    /// All names of up to five pieces that backslashes, escapes, control characters and broken UTF-8 are made of.
    #[test]
    fn inv_54_every_name_is_read_back_from_what_is_shown() {
        let pieces: [&[u8]; 14] =
            [b"\\", b"\n", b"n", b"x", b"8", b"4", b"0", b"f", b"u{", b"}", b"\xff", b"\xc3", b"\xbc", b"@"];
        let mut names = vec![Vec::new()];
        for _ in 0..5 {
            let longer = names.iter().flat_map(|name: &Vec<u8>| pieces.map(|piece| [name, piece].concat()));
            names = longer.collect();
            for name in &names {
                assert_eq!(unescape(shown(name).as_bytes()), *name, "{}", name.escape_ascii());
            }
        }
    }

    #[test]
    fn a_backslash_that_begins_no_escape_stands_for_itself() {
        for text in [r"dev\x2d", r"\", r"\u{}", r"\u{110000}", r"\u{1234567}", r"\u{+1}", r"\xg0", r"\q"] {
            assert_eq!(unescape(text.as_bytes()), text.as_bytes());
        }
        assert_eq!(unescape(br"a\x40latest\u{202e}"), "a@latest\u{202e}".as_bytes());
    }
}
