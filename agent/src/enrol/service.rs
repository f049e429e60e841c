//! Installs the agent as a service of systemd.

use crate::error::AgentError;
use lifeboat_proto::status::ErrorClass;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The unit that packages install as well.
const UNIT: &str = include_str!("../../../packaging/systemd/lifeboat-agent.service");
const UNIT_NAME: &str = "lifeboat-agent.service";
const UNIT_DIRECTORY: &str = "/etc/systemd/system";
/// Where a package's unit lies; then ours is not needed.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// The program that the unit in packaging starts.
const PACKAGED_PROGRAM: &str = "/usr/local/bin/lifeboat-agent";

/// Installs the unit if no package did, enables and starts it.
pub fn install() -> Result<(), AgentError> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(AgentError::new(
            ErrorClass::NotFound,
            "this system is not run by systemd; no service was installed",
        )
        .hint("have `lifeboat-agent run` started by whatever starts services here"));
    }
    if !PACKAGED.iter().any(|directory| Path::new(directory).join(UNIT_NAME).exists()) {
        let program = std::env::current_exe().map_err(|error| failed("find this program's path", error))?;
        let path = Path::new(UNIT_DIRECTORY).join(UNIT_NAME);
        fs::write(&path, unit_for(&program.to_string_lossy()))
            .map_err(|error| failed("write the service unit", error))?;
        systemctl(&["daemon-reload"])?;
    }
    systemctl(&["enable", "--now", UNIT_NAME])
}

/// The unit, starting this program.
fn unit_for(program: &str) -> String {
    UNIT.replace(PACKAGED_PROGRAM, program)
}

fn systemctl(words: &[&str]) -> Result<(), AgentError> {
    let output = Command::new("systemctl").args(words).output().map_err(|error| failed("run systemctl", error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message = format!("systemctl {} failed: {}", words.join(" "), said.trim());
    Err(AgentError::new(ErrorClass::Internal, message).hint(format!("`journalctl -u {UNIT_NAME}` may tell why")))
}

fn failed(what: &str, error: std::io::Error) -> AgentError {
    AgentError::because(ErrorClass::Internal, format!("cannot {what}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_starts_the_program_that_enrolled() {
        let unit = unit_for("/opt/lifeboat/agent");
        assert!(unit.contains("ExecStart=/opt/lifeboat/agent run\n"), "{unit}");
        assert!(!unit.contains(PACKAGED_PROGRAM));
    }
}
