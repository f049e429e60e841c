//! The token as one line: `lifeboat-1.ADDRESS.TRUST.SECRET`.
//!
//! Each part is lower-case base32 (RFC 4648, no padding) of its bytes and, behind them, the first three bytes of
//! their BLAKE3. So a typo is found before anything is sent, and the error says in which part it is. The line has no
//! character that a shell, a chat or a terminal would change or break at.

use super::Token;
use crate::codec::{Decoder, Encoder};
use crate::error::FormatError;
use crate::id::Digest;
use crate::layout::Field;
use zeroize::Zeroizing;

const WHAT: &str = "token";
const START: &str = "lifeboat-1";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const CHECK_BYTES: usize = 3;
/// The most bytes of an address.
const ADDRESS_BYTES_MAX: usize = 300;
/// The longest line.
const LINE_BYTES_MAX: usize = 1024;

impl Token {
    /// The line to paste on a server. Show it once, keep it nowhere.
    pub fn expose_text(&self) -> Zeroizing<String> {
        let mut secret = Encoder::new();
        secret.u64(self.number).raw(&self.secret);
        let secret = Zeroizing::new(secret.finish());
        let parts =
            [self.address.as_bytes(), self.trust_file.as_bytes(), &secret].map(|part| Zeroizing::new(write_part(part)));
        let [address, trust, secret] = &parts;
        Zeroizing::new([START, address, trust, secret].join("."))
    }

    /// Reads the line, with or without white space around it.
    ///
    /// # Errors
    /// Names the part that is wrong, and never what stands in it.
    pub fn parse(line: &str) -> Result<Self, FormatError> {
        let line = line.trim();
        let wrong = |field, found, allowed| FormatError::field(WHAT, field, found, allowed);
        let parts: Vec<_> = line.split('.').collect();
        let [START, address, trust_file, secret] = parts[..] else {
            return Err(wrong("line", "not a whole token", "lifeboat-1.… with three parts, as it was shown"));
        };
        if line.len() > LINE_BYTES_MAX {
            return Err(wrong("line", "too long", "at most 1,024 characters"));
        }
        let address = String::from_utf8(read_part("address", address)?.to_vec())
            .ok()
            .filter(|address| is_address(address))
            .ok_or_else(|| wrong("address", "not an address", "HOST:PORT"))?;
        let trust_file = read_part("digest of the trust file", trust_file)?;
        let mut decoder = Decoder::new(WHAT, &trust_file);
        let trust_file = Digest::take(&mut decoder, "digest of the trust file")?;
        decoder.end()?;
        let secret = read_part("secret", secret)?;
        let mut decoder = Decoder::new(WHAT, &secret);
        let token = Self { address, trust_file, number: decoder.u64("number")?, secret: decoder.array("secret")? };
        decoder.end()?;
        Ok(token)
    }
}

/// Whether this is `HOST:PORT`: printable ASCII without spaces, and a port from 1.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let port_is_good = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    let host_is_good = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    port_is_good && host_is_good && address.len() <= ADDRESS_BYTES_MAX
}

/// Bytes and their check, as base32.
fn write_part(bytes: &[u8]) -> String {
    let checked = Zeroizing::new([bytes, &check_of(bytes)].concat());
    let mut text = String::with_capacity(checked.len() * 8 / 5 + 1);
    let (mut held, mut held_bits) = (0_u32, 0);
    let push = |text: &mut String, bits: u32| text.push(char::from(ALPHABET[(bits & 31) as usize]));
    for byte in checked.iter() {
        held = held << 8 | u32::from(*byte);
        held_bits += 8;
        while held_bits >= 5 {
            held_bits -= 5;
            push(&mut text, held >> held_bits);
        }
        held &= (1 << held_bits) - 1;
    }
    if held_bits > 0 {
        push(&mut text, held << (5 - held_bits));
    }
    text
}

/// The bytes of a part, if the check behind them holds and no other text means the same.
fn read_part(part: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, FormatError> {
    let wrong = || FormatError::field(WHAT, part, "mistyped", "what was shown; copy the whole line again");
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut held, mut held_bits) = (0_u32, 0);
    for character in text.bytes() {
        let bits = ALPHABET.iter().position(|known| *known == character).ok_or_else(wrong)?;
        held = held << 5 | bits as u32;
        held_bits += 5;
        if held_bits >= 8 {
            held_bits -= 8;
            bytes.push((held >> held_bits) as u8);
        }
        held &= (1 << held_bits) - 1;
    }
    let checked_bytes = bytes.len().checked_sub(CHECK_BYTES).ok_or_else(wrong)?;
    let check_holds = bytes[checked_bytes..] == check_of(&bytes[..checked_bytes]);
    if !check_holds || held != 0 || held_bits >= 5 {
        return Err(wrong());
    }
    bytes.truncate(checked_bytes);
    Ok(bytes)
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let digest = Digest::of(bytes);
    std::array::from_fn(|at| digest.as_bytes()[at])
}
