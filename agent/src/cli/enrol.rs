//! `lifeboat-agent enrol`

use super::{Done, Output, runtime};
use crate::enrol::proof::{Proof, prove};
use crate::enrol::{self, service};
use crate::error::AgentError;
use crate::host::Places;
use crate::identity::Identity;
use crate::policy::ByteSize;
use crate::state::StateDir;
use lifeboat_proto::convert::HostName;
use lifeboat_proto::status::ErrorClass;
use serde_json::json;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;
use zeroize::Zeroizing;

/// A token is one line, much shorter than this.
const TOKEN_BYTES_MAX: u64 = 8192;

/// Enrol this server with the coordinator that created the token
///
/// A server that was enrolled before, and whose certificate has expired, stays the same host. A new or reinstalled server
/// takes the place of a host with a token from `lifeboat token create --replace HOST`.
///
/// The token is read from a file or from standard input, never from the command line, where others could see it.
#[derive(clap::Args)]
pub struct EnrolArgs {
    /// Read the token from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Name of the host [default: its name if it was enrolled before, else this server's host name]
    #[arg(long)]
    name: Option<String>,
    /// Install and start the service (systemd)
    #[arg(long)]
    service: bool,
}

/// Reads the token, enrols, and says what comes next.
pub fn enrol(args: EnrolArgs, places: &Places, out: &Output) -> Result<Done, AgentError> {
    let name = host_name(args.name.or_else(|| name_before(places)))?;
    let token = read_token(args.token_file)?;
    let runtime = runtime()?;
    let report = runtime.block_on(enrol::enrol(places, &token, &name))?;
    // Before the service runs: one agent works here at a time.
    let proof = prove(places, runtime.handle());
    runtime.shutdown_timeout(Duration::from_secs(1));
    if args.service {
        service::install()?;
    }
    let (identity, policy) = (&report.identity, places.policy());
    let fingerprint = identity.keys.signing.verifying_key().fingerprint();
    let what_is_backed_up = match report.wrote_policy {
        true => format!("{} was written: it backs up the whole system; edit it to change that", policy.display()),
        false => format!("{} existed already and was kept", policy.display()),
    };
    let next = match args.service {
        true => "the service runs; the first backup starts by itself, `lifeboat-agent status` shows how it went",
        false => "start the service (`systemctl enable --now lifeboat-agent`), or back up now: `lifeboat-agent backup`",
    };
    let proven = proof.as_ref().ok().copied().flatten();
    let value = json!({
        "host": identity.host.get(),
        "name": identity.name,
        "fingerprint": fingerprint.to_string(),
        "proven_entries": proven.map(|proof| proof.entries),
        "proven_bytes": proven.map(|proof| proof.content_bytes),
    });
    let proven = proven.map_or(String::new(), |Proof { entries, content_bytes }| {
        format!("\nproven: {entries} entries with {} went up, were read back and opened", ByteSize(content_bytes))
    });
    out.print(
        &value,
        format!(
            "this server is host {} ({}) of {}\nfingerprint {fingerprint}\n{what_is_backed_up}{proven}\nnext: {next}",
            identity.host, identity.name, identity.address
        ),
    )?;
    proof.map(|_| Done::Complete)
}

/// The name of a server that is enrolled already; none if it is not, or if its state cannot be read.
fn name_before(places: &Places) -> Option<String> {
    let state = StateDir::open(&places.state).ok()?;
    Identity::load(&state).ok().map(|identity| identity.name)
}

fn host_name(given: Option<String>) -> Result<HostName, AgentError> {
    let name = given.unwrap_or_else(|| {
        let system = rustix::system::uname();
        system.nodename().to_string_lossy().to_ascii_lowercase().replace('_', "-")
    });
    name.parse().map_err(|error| {
        AgentError::because(ErrorClass::Usage, format!("{name:?} cannot be the name of a host"), error)
            .hint("give another one with --name")
    })
}

/// The token in what was pasted, without the quotes and blanks around it.
fn pasted(text: &str) -> Zeroizing<String> {
    let around = |letter: char| letter.is_whitespace() || "\"'`“”‘’".contains(letter);
    Zeroizing::new(text.trim_matches(around).to_owned())
}

fn read_token(file: Option<PathBuf>) -> Result<Zeroizing<String>, AgentError> {
    let mut text = Zeroizing::new(String::new());
    let read = match &file {
        Some(path) => File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text)),
        None => {
            if io::stdin().is_terminal() {
                eprintln!("paste the token that `lifeboat token create` printed, then press Enter:");
                io::stdin().read_line(&mut text)
            } else {
                io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut text)
            }
        }
    };
    let from = file.map_or_else(|| "standard input".to_owned(), |path| format!("{path:?}"));
    read.map(|_| pasted(&text))
        .map_err(|error| AgentError::because(ErrorClass::Usage, format!("cannot read the token from {from}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_blanks_around_a_pasted_token_do_not_matter() {
        for text in
            ["lifeboat-1.a.b", " lifeboat-1.a.b\r\n", "\"lifeboat-1.a.b\"\n", "'lifeboat-1.a.b' ", "`lifeboat-1.a.b`"]
        {
            assert_eq!(pasted(text).as_str(), "lifeboat-1.a.b", "{text:?}");
        }
    }
}
