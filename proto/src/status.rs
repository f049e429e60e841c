//! What kind of failure it was, over the wire and back.
//!
//! Each side answers with a [`Failure`]: its class decides what the other does (try again, give up, exit code), its
//! text is for people. A gRPC status carries it whole: the code for any gRPC client, two headers for ours. A status
//! that some library between us made has no headers; then the code alone tells the class.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Names the class exactly, because several share one gRPC code.
const CLASS_HEADER: &str = "lifeboat-class";
/// What to do next, as UTF-8.
const HINT_HEADER: &str = "lifeboat-hint-bin";
/// A header much longer than this would be refused by HTTP/2 libraries, and the failure with it.
const TEXT_BYTES_MAX: usize = 4096;

/// What kind of failure it was. It alone decides on retry, gRPC code and exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// What was asked makes no sense: a wrong argument, a malformed message.
    Usage,
    /// There is no such host, snapshot, token, path.
    NotFound,
    /// It is there, and this caller may not; or a token, certificate or signature is not good.
    Refused,
    /// The other side does not answer. Trying again later may help.
    Unreachable,
    /// Something else is under way. Trying again soon helps.
    Busy,
    /// Bytes are not what they were.
    Damaged,
    /// No room: disk, quota, limit.
    Full,
    /// Our own mistake.
    Internal,
}

impl ErrorClass {
    const ALL: [Self; 8] = [
        Self::Usage,
        Self::NotFound,
        Self::Refused,
        Self::Unreachable,
        Self::Busy,
        Self::Damaged,
        Self::Full,
        Self::Internal,
    ];

    /// Its name on the wire and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Busy => "busy",
            Self::Damaged => "damaged",
            Self::Full => "full",
            Self::Internal => "internal",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::Unreachable | Self::Busy)
    }

    /// The exit code of a program that ends with this failure.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            _ => 1,
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Usage => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Refused => Code::PermissionDenied,
            Self::Unreachable => Code::Unavailable,
            Self::Busy => Code::Aborted,
            Self::Damaged => Code::DataLoss,
            Self::Full => Code::ResourceExhausted,
            Self::Internal => Code::Internal,
        }
    }

    fn of_code(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => Self::Usage,
            Code::NotFound => Self::NotFound,
            Code::PermissionDenied | Code::Unauthenticated => Self::Refused,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unreachable,
            Code::Aborted | Code::AlreadyExists | Code::FailedPrecondition => Self::Busy,
            Code::DataLoss => Self::Damaged,
            Code::ResourceExhausted => Self::Full,
            Code::Ok | Code::Unknown | Code::Internal => Self::Internal,
        }
    }
}

/// A failure as the other side hears of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind.
    pub class: ErrorClass,
    /// What failed, which one, and why: one line, lowercase, no full stop.
    pub message: String,
    /// What to do next; empty if the message says it.
    pub hint: String,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: String::new() }
    }

    /// A failure that an error tells, with its causes in the same line.
    pub fn of(class: ErrorClass, error: &dyn std::error::Error) -> Self {
        Self::new(class, with_causes(error))
    }

    /// The same failure, and what to do next.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

/// The error and its causes in one line. A cause that its error already quotes is not said twice.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut headers = MetadataMap::new();
        headers.insert(CLASS_HEADER, MetadataValue::from_static(failure.class.name()));
        if !failure.hint.is_empty() {
            headers.insert_bin(HINT_HEADER, MetadataValue::from_bytes(shortened(&failure.hint).as_bytes()));
        }
        Status::with_metadata(failure.class.code(), shortened(&failure.message), headers)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let named = status.metadata().get(CLASS_HEADER).and_then(|value| value.to_str().ok());
        let class = named.and_then(ErrorClass::named);
        let hint = status.metadata().get_bin(HINT_HEADER).and_then(|value| value.to_bytes().ok());
        Self {
            class: class.unwrap_or_else(|| ErrorClass::of_code(status.code())),
            message: shortened(status.message()).to_owned(),
            hint: hint.map(|bytes| shortened(&String::from_utf8_lossy(&bytes)).to_owned()).unwrap_or_default(),
        }
    }
}

impl From<Failure> for crate::v1::GrantFailure {
    fn from(failure: Failure) -> Self {
        let Failure { class, message, hint } = failure;
        Self { error_class: class.name().to_owned(), message, hint }
    }
}

impl From<crate::v1::GrantFailure> for Failure {
    fn from(failure: crate::v1::GrantFailure) -> Self {
        let crate::v1::GrantFailure { error_class, message, hint } = failure;
        Self { class: ErrorClass::named(&error_class).unwrap_or(ErrorClass::Internal), message, hint }
    }
}

fn shortened(text: &str) -> &str {
    start_of(text, TEXT_BYTES_MAX)
}

/// The longest beginning of a text that has at most `bytes` and cuts no letter.
pub(crate) fn start_of(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        for class in ErrorClass::ALL {
            let failure = Failure::new(class, "no host „büro“").hint("`lifeboat host list` shows them – all");
            assert_eq!(Failure::from(Status::from(failure.clone())), failure);
            assert_eq!(Failure::from(crate::v1::GrantFailure::from(failure.clone())), failure);
        }
    }

    #[test]
    fn a_status_that_is_not_ours_is_classed_by_its_code() {
        assert_eq!(Failure::from(Status::unavailable("gone")).class, ErrorClass::Unreachable);
        assert_eq!(Failure::from(Status::unauthenticated("who")).class, ErrorClass::Refused);
        assert_eq!(Failure::from(Status::unknown("?")).class, ErrorClass::Internal);
    }

    #[test]
    fn a_text_too_long_for_a_header_is_cut_between_letters() {
        let failure = Failure::new(ErrorClass::Full, "ä".repeat(9000)).hint("ß".repeat(9000));
        let arrived = Failure::from(Status::from(failure));
        assert_eq!(arrived.message.len(), TEXT_BYTES_MAX);
        assert_eq!(arrived.hint.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn causes_are_told_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read pack")]
        struct Outer(#[source] std::fmt::Error);
        let error = Outer(std::fmt::Error);
        assert_eq!(with_causes(&error), format!("cannot read pack: {}", std::fmt::Error));
    }
}
