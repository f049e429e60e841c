//! A failure as the person at the keyboard sees it: what, which one, why, and what now.
//!
//! Modules have errors of their own; each becomes an [`AgentError`] where it leaves the library. Its class alone
//! decides the exit code.

use crate::policy::PolicyError;
use crate::state::StateError;
use lifeboat_proto::status::{ErrorClass, Failure};
use std::error::Error;
use std::fmt;

/// What a command of the agent ends with when it does not succeed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// What kind of failure it is.
    pub class: ErrorClass,
    /// What failed, and which one: lowercase, no full stop.
    pub message: String,
    /// What to do next; empty if the message says it.
    pub hint: String,
    /// Why.
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl AgentError {
    /// A failure without cause and hint.
    pub fn new(class: ErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: String::new(), source: None }
    }

    /// A failure with its cause.
    pub fn because(
        class: ErrorClass,
        message: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { source: Some(source.into()), ..Self::new(class, message) }
    }

    /// The same failure, and what to do next.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// The lines to print: `error: …`, a `caused by: …` for each cause, `hint: …`.
    pub fn report(&self) -> impl fmt::Display {
        let mut lines = format!("error: {}", self.message);
        let mut said = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                lines.push_str(&format!("\n  caused by: {text}"));
                said = text;
            }
            cause = error.source();
        }
        if !self.hint.is_empty() {
            lines.push_str(&format!("\nhint: {}", self.hint));
        }
        lines
    }
}

impl From<PolicyError> for AgentError {
    fn from(error: PolicyError) -> Self {
        let (class, hint) = (error.class(), error.hint());
        take_apart(class, hint, error)
    }
}

impl From<StateError> for AgentError {
    fn from(error: StateError) -> Self {
        let (class, hint) = (error.class(), error.hint());
        take_apart(class, hint, error)
    }
}

impl From<Failure> for AgentError {
    fn from(failure: Failure) -> Self {
        Self::new(failure.class, failure.message).hint(failure.hint)
    }
}

/// The message is the outermost error's; it stays in the chain, which `report` does not say twice.
fn take_apart(class: ErrorClass, hint: String, error: impl Error + Send + Sync + 'static) -> AgentError {
    AgentError::because(class, error.to_string(), error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_why_and_what_now_each_once() {
        let cause = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        let error = PolicyError::Read { path: "/etc/lifeboat/policy.toml".into(), source: cause };
        let report = AgentError::from(error).report().to_string();
        let lines: Vec<_> = report.lines().collect();
        assert_eq!(lines[0], "error: cannot read the policy \"/etc/lifeboat/policy.toml\"");
        assert_eq!(lines[1], "  caused by: no such file");
        assert!(lines[2].starts_with("hint: "), "{report}");
        assert_eq!(lines.len(), 3);
    }
}
