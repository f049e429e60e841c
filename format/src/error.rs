//! What can be wrong with bytes at rest.

/// Bytes that are not what the format says. Nothing of what was read may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes ended inside a field.
    #[error("{what}: ends inside {field}")]
    Truncated {
        /// The structure that was being read.
        what: &'static str,
        /// The field in which it ended.
        field: &'static str,
    },
    /// A field holds a value that the format does not allow.
    #[error("{what}: {field} is {found}, allowed is {allowed}")]
    Field {
        /// The structure that was being read.
        what: &'static str,
        /// The field that is wrong.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: String,
    },
    /// Bytes follow after the last field.
    #[error("{what}: {extra_bytes} bytes follow after its end")]
    Trailing {
        /// The structure that was being read.
        what: &'static str,
        /// How many bytes are too many.
        extra_bytes: usize,
    },
    /// Written by a later version of this program, or not ours at all.
    #[error("{what}: version {found} is not known here (known: {known}); a newer release may read it")]
    Version {
        /// The structure that was being read.
        what: &'static str,
        /// The version that it states.
        found: u16,
        /// The versions that this release reads.
        known: &'static str,
    },
    /// A hash, an authenticator or a signature does not hold: damage, or forgery.
    #[error("{what}: {check} does not hold")]
    Broken {
        /// The structure that was being read.
        what: &'static str,
        /// The check that failed.
        check: &'static str,
    },
    /// No key that is at hand opens this.
    #[error("{what}: none of the keys at hand opens it")]
    NoKey {
        /// The structure that was to be opened.
        what: &'static str,
    },
}

impl FormatError {
    /// A field with a value that is not allowed.
    pub fn field(
        what: &'static str,
        field: &'static str,
        found: impl std::fmt::Display,
        allowed: impl std::fmt::Display,
    ) -> Self {
        Self::Field { what, field, found: found.to_string(), allowed: allowed.to_string() }
    }
}
