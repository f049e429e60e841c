//! Messages become domain types here, once, and nowhere else.
//!
//! A handler, or a caller that got an answer, converts first and works with a type that cannot be wrong. Whatever does
//! not fit is refused with the field named ("chunk_ids has 127 bytes, needs whole 32s"). Lengths are checked before
//! anything is copied. What bytes at rest mean inside a message (manifest, grant, trust file) is for the format crate.

use crate::limits;
use crate::status::{ErrorClass, Failure, start_of};
use crate::v1;
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;

pub mod backup;
pub mod control;
pub mod enrol;
pub mod restore;

/// A message that is not what the conversation allows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct ConvertError {
    /// The field, as it is called in the `.proto` file.
    pub field: &'static str,
    /// What is wrong with it: "has 127 bytes, needs whole 32s".
    pub problem: String,
}

impl ConvertError {
    /// `field` is wrong because it `problem` (a verb phrase).
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        Failure::new(ErrorClass::Usage, error.to_string())
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Failure::from(error).into()
    }
}

/// A field that must be there.
pub fn required<T>(field: &'static str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

/// Exactly `N` bytes.
pub fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], ConvertError> {
    bytes.try_into().map_err(|_| ConvertError::new(field, format!("has {} bytes, needs {N}", bytes.len())))
}

/// `N` bytes, or none at all.
pub fn optional_array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<Option<[u8; N]>, ConvertError> {
    if bytes.is_empty() { Ok(None) } else { array(field, bytes).map(Some) }
}

/// Arrays of 32 bytes one after the other, at most `max` of them.
pub fn ids<T>(
    field: &'static str,
    bytes: &[u8],
    max: usize,
    from_bytes: impl Fn([u8; 32]) -> T,
) -> Result<Vec<T>, ConvertError> {
    let (whole, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(ConvertError::new(field, format!("has {} bytes, needs whole 32s", bytes.len())));
    }
    at_most(field, whole.len(), max, "ids")?;
    Ok(whole.iter().copied().map(from_bytes).collect())
}

/// Ids one after the other, as they stand in a message.
pub fn flat<'a>(ids: impl ExactSizeIterator<Item = &'a [u8; 32]>) -> Bytes {
    let mut bytes = Vec::with_capacity(32 * ids.len());
    ids.for_each(|id| bytes.extend_from_slice(id));
    bytes.into()
}

/// `1..=max` bytes of something that the format crate reads.
pub fn some_bytes(field: &'static str, bytes: Bytes, max: usize) -> Result<Bytes, ConvertError> {
    if bytes.is_empty() {
        return Err(ConvertError::new(field, "is missing"));
    }
    at_most(field, bytes.len(), max, "bytes")?;
    Ok(bytes)
}

/// A count that is at most `max`.
pub fn at_most(field: &'static str, count: usize, max: usize, unit: &str) -> Result<(), ConvertError> {
    if count > max {
        return Err(ConvertError::new(field, format!("has {count} {unit}, at most {max} are allowed")));
    }
    Ok(())
}

/// A text for people, within limits. Control characters have no business in it, and are made visible.
pub fn shown_text(field: &'static str, text: &str) -> Result<String, ConvertError> {
    at_most(field, text.len(), limits::TEXT_BYTES_MAX, "bytes")?;
    let visible = |letter: char| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter };
    Ok(text.chars().map(visible).collect())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $also:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ConvertError;

            fn from_str(text: &str) -> Result<Self, ConvertError> {
                let allowed = |letter: u8| {
                    letter.is_ascii_lowercase() || letter.is_ascii_digit() || $also.contains(&letter)
                };
                if text.is_empty() || text.len() > $max || !text.bytes().all(allowed) {
                    let also = $also.escape_ascii();
                    return Err(ConvertError::new(
                        $what,
                        format!("is {:?}, needs 1 to {} letters of a-z, 0-9 and {also}", head_of(text), $max),
                    ));
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn head_of(text: &str) -> &str {
    start_of(text, 80)
}

name_type!(
    /// What one agent backs up under one name: `system`, `mail`. Names a part of the host's own policy.
    SourceSetName, "source_set", limits::SOURCE_SET_NAME_MAX, b"-_"
);
name_type!(
    /// What people call a host: its DNS name, or any name within that alphabet.
    HostName, "host_name", limits::HOST_NAME_MAX, b"-."
);

/// Names one backup order in reports, so that an order that came twice is obeyed once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JobName(String);

impl JobName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for JobName {
    type Err = ConvertError;

    fn from_str(text: &str) -> Result<Self, ConvertError> {
        if text.is_empty() || text.len() > limits::JOB_NAME_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = format!("is {:?}, needs 1 to {} visible letters", head_of(text), limits::JOB_NAME_MAX);
            return Err(ConvertError::new("job", problem));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The signed head of a journal batch as it came: its layout and its signature are not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncheckedHead {
    /// The head's bytes, as the format lays them out.
    pub head: Bytes,
    /// Ed25519, by the repository's log key.
    pub signature: [u8; 64],
}

impl TryFrom<v1::SignedHead> for UncheckedHead {
    type Error = ConvertError;

    fn try_from(message: v1::SignedHead) -> Result<Self, ConvertError> {
        Ok(Self {
            head: some_bytes("head.head", message.head, limits::HEAD_BYTES_MAX)?,
            signature: array("head.signature", &message.signature)?,
        })
    }
}

impl From<UncheckedHead> for v1::SignedHead {
    fn from(head: UncheckedHead) -> Self {
        Self { head: head.head, signature: Bytes::copy_from_slice(&head.signature) }
    }
}

/// A head that may be absent.
pub fn optional_head(message: Option<v1::SignedHead>) -> Result<Option<UncheckedHead>, ConvertError> {
    message.map(UncheckedHead::try_from).transpose()
}

/// How a backup or another job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything was backed up.
    Complete,
    /// Everything but what the gaps name; or all of it, and a hook after it failed.
    Gaps,
    /// Nothing was committed.
    Failed,
    /// What a long run left on its way.
    Checkpoint,
    /// Kept, but the source is empty or halved.
    Suspect,
    /// An operator cancelled it.
    Cancelled,
}

impl Ended {
    /// The one name of this outcome in all lists, messages and JSON values of both programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Gaps => "complete with gaps",
            Self::Failed => "failed",
            Self::Checkpoint => "checkpoint",
            Self::Suspect => "suspect",
            Self::Cancelled => "cancelled",
        }
    }
}

impl TryFrom<v1::Outcome> for Ended {
    type Error = ConvertError;

    fn try_from(outcome: v1::Outcome) -> Result<Self, ConvertError> {
        match outcome {
            v1::Outcome::Complete => Ok(Self::Complete),
            v1::Outcome::Gaps => Ok(Self::Gaps),
            v1::Outcome::Failed => Ok(Self::Failed),
            v1::Outcome::Checkpoint => Ok(Self::Checkpoint),
            v1::Outcome::Suspect => Ok(Self::Suspect),
            v1::Outcome::Cancelled => Ok(Self::Cancelled),
            v1::Outcome::Unspecified => Err(ConvertError::new("outcome", "is not said")),
        }
    }
}

impl From<Ended> for v1::Outcome {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Complete => Self::Complete,
            Ended::Gaps => Self::Gaps,
            Ended::Failed => Self::Failed,
            Ended::Checkpoint => Self::Checkpoint,
            Ended::Suspect => Self::Suspect,
            Ended::Cancelled => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_length_is_refused_with_the_field_named() {
        let error = ids("chunk_ids", &[0; 127], 4, |id| id).unwrap_err();
        assert_eq!(error.to_string(), "chunk_ids has 127 bytes, needs whole 32s");
        let error = ids("chunk_ids", &[0; 160], 4, |id| id).unwrap_err();
        assert_eq!(error.to_string(), "chunk_ids has 5 ids, at most 4 are allowed");
        let error = array::<16>("run", &[0; 15]).unwrap_err();
        assert_eq!(error.to_string(), "run has 15 bytes, needs 16");
    }

    #[test]
    fn names_keep_to_their_alphabet() {
        assert!("mail_2-old".parse::<SourceSetName>().is_ok());
        for wrong in ["", "Mail", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(wrong.parse::<SourceSetName>().is_err(), "{wrong:?}");
        }
        assert!("mail-1.berlin.example".parse::<HostName>().is_ok());
        assert!("mail_1".parse::<HostName>().is_err());
    }

    #[test]
    fn a_shown_text_cannot_steer_a_terminal() {
        assert_eq!(shown_text("message", "a\u{1b}[31mb\nc"), Ok("a\u{fffd}[31mb\nc".to_owned()));
    }
}
