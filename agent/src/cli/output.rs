//! Data to standard output: as text for people, or as JSON.

use crate::error::AgentError;
use lifeboat_proto::status::ErrorClass;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};

/// Where commands put their data.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
}

impl Output {
    /// JSON, or text.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints a value: its JSON on one line, or the text.
    pub fn print(&self, value: &impl Serialize, text: impl Display) -> Result<(), AgentError> {
        let line = match self.json {
            true => serde_json::to_string(value)
                .map_err(|error| AgentError::because(ErrorClass::Internal, "cannot print this as JSON", error))?,
            false => text.to_string().trim_end().to_owned(),
        };
        match writeln!(io::stdout().lock(), "{line}") {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(AgentError::because(ErrorClass::Internal, "cannot write to standard output", error))
            }
            // Whoever read has read enough.
            _ => Ok(()),
        }
    }
}
