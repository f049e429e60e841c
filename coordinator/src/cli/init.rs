//! `lifeboat init`: makes the repository, and hands over the recovery kit once.

use super::output::Output;
use super::{Done, Global};
use crate::clock::SystemClock;
use crate::config::{self, ConfigFile};
use crate::init::{self, InitError};
use crate::store::StoreError;
use crate::{unit, vault};
use clap::Args;
use lifeboat_format::kit::RecoveryKit;
use lifeboat_proto::limits::DEFAULT_PORT;
use lifeboat_proto::status::{ErrorClass, Failure};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf, absolute};
use zeroize::Zeroizing;

/// Create a repository and its keys; prints the recovery kit once
#[derive(Debug, Args)]
#[command(after_help = "Example: lifeboat init --repository /srv/lifeboat --address backup.example.org:7420")]
pub struct InitArgs {
    /// Directory for the repository, new or empty; best on a file system of its own
    #[arg(long, value_name = "DIR", default_value = config::REPOSITORY_DEFAULT)]
    repository: PathBuf,
    /// Who holds the restore key; `managed` is the coordinator's vault
    #[arg(long, default_value = "managed", value_parser = ["managed"])]
    custody: String,
    /// IP address and port on which to accept connections from agents
    #[arg(long, value_name = "IP:PORT", default_value_t = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT))]
    listen: SocketAddr,
    /// Address under which servers reach this machine [default: its host name and the port]
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Write the recovery kit to this new file instead of printing it
    #[arg(long, value_name = "FILE")]
    kit: Option<PathBuf>,
    /// File that opens the vault; created if it does not exist. Never inside the repository
    #[arg(long, value_name = "FILE")]
    credential: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    repository: String,
    state: String,
    kit: Option<String>,
}

/// Runs the command.
pub fn init(args: InitArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let state = absolute(&global.state).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
    let file = settings(&args, &state)?;
    let mut printed = None;
    let config = init::init(&state, &file, &SystemClock::new(), |kit| {
        let page = page(kit)?;
        match &args.kit {
            Some(path) => vault::write_private(path, page.as_bytes()).map_err(io::Error::other)?,
            None if out.is_json() => printed = Some(page),
            None => out.line(page.as_str()).map_err(io::Error::other)?,
        }
        Ok(())
    });
    let config = config.map_err(|error| Failure::of(class(&error), &error).hint(hint(&error)))?;
    let made = Made {
        repository: config.repository.display().to_string(),
        state: state.display().to_string(),
        kit: printed.as_ref().map(|page| page.to_string()),
    };
    if out.is_json() {
        let not_printed = |failure: Failure| {
            let problem = format!("the recovery kit was not printed: {failure}");
            Failure::new(failure.class, problem).hint("remove the new repository and its settings, then run init again")
        };
        out.value(&made, |made| made.repository.clone()).map_err(not_printed)?;
    }
    let kit = match &args.kit {
        Some(path) => format!("The recovery kit is in {}: print it and remove the file.", path.display()),
        None => "The recovery kit above was printed once and is kept nowhere: put it on paper.".to_owned(),
    };
    let settings = state.join(config::FILE_NAME);
    out.say(format_args!("{kit}\nThe repository is {}; settings: {}", made.repository, settings.display()));
    if let Some(drop_in) = unit::drop_in(&state, &config.repository) {
        let lines = drop_in.lines().map(|line| format!("    {line}\n")).collect::<String>();
        out.say(format_args!(
            "The shipped service unit may not write there. Run `systemctl edit lifeboat` and enter:\n{}",
            lines.trim_end()
        ));
    }
    out.say("Next: start the service (`systemctl enable --now lifeboat`, or `lifeboat serve`), run `lifeboat token create`,");
    out.say("and paste the token on a server.");
    Ok(Done::Whole)
}

fn settings(args: &InitArgs, state: &Path) -> Result<ConfigFile, Failure> {
    let whole = |path: &Path| absolute(path).map_err(|error| Failure::of(ErrorClass::Usage, &error));
    let address = match &args.address {
        Some(address) => address.clone(),
        None => format!("{}:{}", host_name(), args.listen.port()),
    };
    Ok(ConfigFile {
        repository: whole(&args.repository)?,
        credential: args.credential.as_deref().map_or_else(|| Ok(state.join("credential")), whole)?,
        listen: args.listen,
        address,
        socket: None,
        night: config::NIGHT_DEFAULT.to_owned(),
        time_zone: None,
        index_cache_mib: config::INDEX_CACHE_MIB_DEFAULT,
        backups_at_once: config::BACKUPS_AT_ONCE_DEFAULT,
    })
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The kit's text, with the square to scan.
fn page(kit: &RecoveryKit) -> io::Result<Zeroizing<String>> {
    let text = kit.expose_text().map_err(io::Error::other)?;
    let square = QrCode::new(kit.expose_square().as_bytes()).map_err(io::Error::other)?;
    let square = Zeroizing::new(square.render::<Dense1x2>().quiet_zone(true).build());
    // The square's lines are comments to whoever reads the page back.
    let mut page = Zeroizing::new(String::with_capacity(text.len() + 2 * square.len() + 64));
    page.push_str(&text);
    page.push_str("\n# The same to scan:\n");
    for line in square.lines() {
        page.push_str("# ");
        page.push_str(line);
        page.push('\n');
    }
    Ok(page)
}

fn class(error: &InitError) -> ErrorClass {
    match error {
        InitError::Config(_) => ErrorClass::Usage,
        InitError::Exists { .. }
        | InitError::Repository { .. }
        | InitError::NotEmpty { .. }
        | InitError::NoSettings { .. }
        | InitError::Interrupted { .. }
        | InitError::Vault(_) => ErrorClass::Refused,
        _ => ErrorClass::Internal,
    }
}

fn hint(error: &InitError) -> String {
    match error {
        InitError::Repository { .. } => super::LOST_COORDINATOR.to_owned(),
        InitError::NoSettings { .. } => {
            "write it again (repository, credential, listen, address; packaging/examples/lifeboat.toml shows the keys), \
             then start the service"
                .to_owned()
        }
        InitError::Store(StoreError::ReadOnly { .. }) => {
            "name a directory on a writable file system with --repository".to_owned()
        }
        InitError::Directory { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            super::AS_ROOT.to_owned()
        }
        InitError::Store(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
            super::AS_ROOT.to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::envelope::Identity;
    use lifeboat_format::id::{Digest, RepositoryId};

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        init: InitArgs,
    }

    #[test]
    fn the_shipped_unit_may_write_to_a_repository_that_nobody_named() {
        let state = Path::new(config::STATE_DEFAULT);
        let args = <Typed as clap::Parser>::parse_from(["init"]).init;
        let file = settings(&args, state).unwrap();
        assert_eq!(unit::drop_in(state, &file.repository), None);
        assert!(!file.repository.starts_with(state), "a copy of the state directory must not hold the repository too");
    }

    #[test]
    fn a_kit_reads_back_from_the_page_that_is_printed() {
        let kit = RecoveryKit {
            repository: RepositoryId::from_bytes([1; 16]),
            location: "/srv/lifeboat".into(),
            trust_file: Digest::from_bytes([2; 32]),
            identity: Identity::generate(),
        };
        let read = RecoveryKit::parse(&page(&kit).unwrap()).unwrap();
        assert_eq!(read.identity.recipient(), kit.identity.recipient());
        assert_eq!((read.repository, read.trust_file), (kit.repository, kit.trust_file));
    }
}
