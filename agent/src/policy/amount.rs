//! Amounts as people write them: `50 MB/s`, `256 MiB`.

use serde::Deserialize;
use std::fmt;
use std::str::FromStr;

/// A number of bytes, shown in powers of 1,024 as `lifeboat` does. Written `256 MiB`, `1.5 GB`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Bytes a second. Written `50 MB/s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteRate(pub u64);

/// A text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind}; write it like {example:?}")]
pub struct AmountError {
    text: String,
    kind: &'static str,
    example: &'static str,
}

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// How many bytes a text means; none if it means no amount above zero.
fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_lowercase();
    let &(_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let bytes = number.parse::<f64>().ok()? * factor as f64;
    (1.0..1e18).contains(&bytes).then_some(bytes as u64)
}

impl FromStr for ByteSize {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError { text: text.to_owned(), kind: "size", example: "256 MiB" };
        bytes_of(text).map(Self).ok_or_else(wrong)
    }
}

impl FromStr for ByteRate {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let wrong = || AmountError { text: text.to_owned(), kind: "rate", example: "50 MB/s" };
        text.trim().strip_suffix("/s").and_then(bytes_of).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        match units.into_iter().find(|(_, factor)| self.0 >= *factor) {
            Some((name, factor)) => write!(f, "{:.2} {name}", self.0 as f64 / factor as f64),
            None => write!(f, "{} B", self.0),
        }
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0))
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for ByteRate {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_mean_what_people_mean() {
        assert_eq!("50 MB/s".parse(), Ok(ByteRate(50_000_000)));
        assert_eq!("256 MiB".parse(), Ok(ByteSize(256 << 20)));
        assert_eq!("1.5GB".parse(), Ok(ByteSize(1_500_000_000)));
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        assert_eq!(ByteRate(50 << 20).to_string(), "50.00 MiB/s");
        assert_eq!([1023, 1024, 3 << 39].map(|bytes| ByteSize(bytes).to_string()), ["1023 B", "1.00 KiB", "1.50 TiB"]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["", "MB", "-1 MB", "0", "1 mile", "1.2.3 MB", "nan", "9999999999 GB"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
        assert!("50 MB".parse::<ByteRate>().is_err(), "a size is no rate");
    }
}
