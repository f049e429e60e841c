//! The recovery kit: a page of text to print, from which, with the repository alone, everything comes back.
//!
//! It holds the recovery identity twice: as 24 words that a person can type (BIP 39, English), and as one line. A
//! reader takes either; if both are there, they must agree. The kit names the first trust file that is to be believed;
//! newer ones follow from it by their signatures. Drawing the square to scan is for the command line.

use crate::envelope::Identity;
use crate::error::FormatError;
use crate::id::{Digest, RepositoryId};
use crate::layout::TEXT_BYTES_MAX;
use crate::sign::SigningKey;
use bip39::{Language, Mnemonic};
use std::fmt;
use std::fmt::Write;
use zeroize::Zeroizing;

const WHAT: &str = "recovery kit";
const TITLE: &str = "LIFEBOAT RECOVERY KIT 1";
/// The longest text that is read, in bytes.
pub const KIT_BYTES_MAX: usize = 64 << 10;
/// How many words stand in a line.
const WORDS_A_LINE: usize = 6;

/// The last way in. Whoever has it can read everything, so it lies on paper, in a safe. Never printed but by
/// [`RecoveryKit::expose_text`].
#[derive(Clone)]
pub struct RecoveryKit {
    /// The repository.
    pub repository: RepositoryId,
    /// Where it lies: a directory or a URL.
    pub location: String,
    /// The digest of a trust file; this one, or a successor of it, is to be believed.
    pub trust_file: Digest,
    /// Opens everything.
    pub identity: Identity,
}

impl RecoveryKit {
    /// The whole page. Lines that begin with `#` are for people.
    pub fn expose_text(&self) -> Result<Zeroizing<String>, FormatError> {
        let words = words_of(&self.identity)?;
        let mut page = Zeroizing::new(String::with_capacity(4096));
        page.push_str(TITLE);
        page.push_str("\n# Print this page and lock it away. Whoever has it can read every backup;\n");
        page.push_str("# without it, nobody can once the coordinator is lost.\n");
        page.push_str(
            "# tests/reader/lifeboat_reader.py in Lifeboat's sources opens any copy of the repository with it.\n\n",
        );
        page.push_str(&self.expose_lines());
        page.push_str("\n# The same identity, to type by hand: either of the two is enough.\nwords:\n");
        for (line, words) in words.chunks(WORDS_A_LINE).enumerate() {
            for (at, word) in words.iter().enumerate() {
                // Writing to a string cannot fail.
                let _ = write!(page, "{:>4} {word:<9}", line * WORDS_A_LINE + at + 1);
            }
            page.push('\n');
        }
        Ok(page)
    }

    /// The least that a reader needs, in four lines: what the square to scan holds.
    pub fn expose_square(&self) -> Zeroizing<String> {
        Zeroizing::new([TITLE, "\n", &self.expose_lines()].concat())
    }

    /// Reads a page, whole or typed from it: the title, then the four names in any order, `words` or `identity` or
    /// both.
    ///
    /// # Errors
    /// Names the line or the word that is wrong, and never what stands in it.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.len() > KIT_BYTES_MAX {
            return Err(FormatError::field(WHAT, "length", text.len(), "at most 64 KiB"));
        }
        Lines::read(text)?.into_kit()
    }

    /// The operator key that every trust file names: enough alone for a trust file and for restores.
    pub fn operator_key(&self) -> Result<SigningKey, FormatError> {
        recovery_operator(&self.identity)
    }

    fn expose_lines(&self) -> Zeroizing<String> {
        let identity = self.identity.expose_text();
        let (repository, trust_file) = (self.repository.to_string(), self.trust_file.to_string());
        let lines = [
            ["repository: ", &repository, "\n"],
            ["location: ", &self.location, "\n"],
            ["trust file: ", &trust_file, "\n"],
            ["identity: ", &identity, "\n"],
        ];
        Zeroizing::new(lines.concat().concat())
    }
}

impl fmt::Debug for RecoveryKit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoveryKit of {:?}", self.repository)
    }
}

/// The operator key that comes from a recovery identity.
pub fn recovery_operator(identity: &Identity) -> Result<SigningKey, FormatError> {
    let secret = identity.expose_bytes()?;
    let seed = Zeroizing::new(blake3::derive_key("lifeboat 1 recovery operator", secret.as_slice()));
    Ok(SigningKey::from_seed(&seed))
}

/// The 24 words of an identity's 32 secret bytes.
fn words_of(identity: &Identity) -> Result<Vec<&'static str>, FormatError> {
    let secret = identity.expose_bytes()?;
    let mnemonic = Mnemonic::from_entropy_in(Language::English, secret.as_slice())
        .map_err(|error| FormatError::field(WHAT, "words", error, "24 words of 32 bytes"))?;
    Ok(mnemonic.words().collect())
}

/// The identity of 24 words.
fn identity_of(words: &str) -> Result<Identity, FormatError> {
    let wrong = |found: String| FormatError::field(WHAT, "words", found, "the 24 words as they were printed");
    let mnemonic = Mnemonic::parse_in_normalized(Language::English, words).map_err(|error| {
        wrong(match error {
            bip39::Error::UnknownWord(at) => format!("no known word at place {}", at + 1),
            bip39::Error::InvalidChecksum => "mistyped: one word is another known word, or two are swapped".into(),
            other => other.to_string(),
        })
    })?;
    let (secret, secret_bytes) = mnemonic.to_entropy_array();
    let secret = Zeroizing::new(secret);
    match secret.first_chunk::<32>() {
        Some(secret) if secret_bytes == 32 => Identity::from_bytes(secret),
        _ => Err(wrong(format!("{} words", mnemonic.word_count()))),
    }
}

/// What the lines of a page say.
#[derive(Default)]
struct Lines<'a> {
    repository: Option<&'a str>,
    location: Option<&'a str>,
    trust_file: Option<&'a str>,
    identity: Option<&'a str>,
    words: Zeroizing<String>,
}

impl<'a> Lines<'a> {
    fn read(text: &'a str) -> Result<Self, FormatError> {
        let mut numbered = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        if !numbered.next().is_some_and(|(_, line)| line.eq_ignore_ascii_case(TITLE)) {
            return Err(FormatError::field(WHAT, "title", "not there", TITLE));
        }
        let mut lines = Self::default();
        let mut in_words = false;
        for (number, line) in numbered {
            match line.split_once(':') {
                Some((name, value)) => in_words = lines.take(number, name.trim(), value.trim())?,
                None if in_words => lines.take_words(line),
                None => return Err(wrong_line(number, "without a name")),
            }
        }
        Ok(lines)
    }

    /// Takes one named line; says whether words follow it.
    fn take(&mut self, number: usize, name: &str, value: &'a str) -> Result<bool, FormatError> {
        let place = match name.to_ascii_lowercase().as_str() {
            "repository" => &mut self.repository,
            "location" => &mut self.location,
            "trust file" => &mut self.trust_file,
            "identity" => &mut self.identity,
            "words" => {
                self.take_words(value);
                return Ok(true);
            }
            _ => return Err(wrong_line(number, "with an unknown name")),
        };
        match place.replace(value) {
            None => Ok(false),
            Some(_) => Err(wrong_line(number, "a repetition")),
        }
    }

    /// Takes words, in any case, without the numbers before them.
    fn take_words(&mut self, line: &str) {
        let is_number = |word: &&str| word.trim_end_matches('.').bytes().all(|byte| byte.is_ascii_digit());
        for word in line.split_whitespace().filter(|word| !is_number(word)) {
            if !self.words.is_empty() {
                self.words.push(' ');
            }
            self.words.push_str(&Zeroizing::new(word.to_ascii_lowercase()));
        }
    }

    fn into_kit(self) -> Result<RecoveryKit, FormatError> {
        let needed = |field, value: Option<&'a str>| {
            value.ok_or_else(|| FormatError::field(WHAT, field, "not there", "one line of it"))
        };
        let location = needed("location", self.location)?;
        if location.is_empty() || location.len() > TEXT_BYTES_MAX || location.chars().any(char::is_control) {
            return Err(FormatError::field(WHAT, "location", location.escape_debug(), "a directory or a URL"));
        }
        Ok(RecoveryKit {
            repository: needed("repository", self.repository)?.parse()?,
            location: location.to_owned(),
            trust_file: needed("trust file", self.trust_file)?.parse()?,
            identity: self.identity()?,
        })
    }

    fn identity(&self) -> Result<Identity, FormatError> {
        let line = self.identity.map(Identity::from_text).transpose()?;
        let words = (!self.words.is_empty()).then(|| identity_of(&self.words)).transpose()?;
        match (line, words) {
            (Some(line), Some(words)) if line.recipient() != words.recipient() => {
                Err(FormatError::field(WHAT, "identity", "not the one that the words make", "the same in both"))
            }
            (Some(identity), _) | (None, Some(identity)) => Ok(identity),
            (None, None) => Err(FormatError::field(WHAT, "identity", "not there", "its line, or the 24 words")),
        }
    }
}

fn wrong_line(number: usize, found: &str) -> FormatError {
    let allowed = "repository, location, trust file, identity or words, then a colon";
    FormatError::field(WHAT, "line", format!("{number} {found}"), allowed)
}

#[cfg(test)]
mod tests;
