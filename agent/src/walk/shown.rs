//! Bytes of a name, made safe to print.

use std::fmt;

/// Shows a path or a name: readable text as it is, everything else escaped, so that no name can act as markup or
/// drive a terminal (INV-54). Two different names never look alike by escaping: the backslash is escaped too.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\'' | '"' => write!(f, "{character}")?,
                    _ => write!(f, "{}", character.escape_debug())?,
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_54_a_name_is_shown_without_acting() {
        let shown = |name: &[u8]| Shown(name).to_string();
        assert_eq!(shown("Grüße's \"plan\".txt".as_bytes()), "Grüße's \"plan\".txt");
        assert_eq!(shown(b"a\x1b[31m\n\\\xff"), "a\\u{1b}[31m\\n\\\\\\xff");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }
}
