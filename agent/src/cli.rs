//! The command line of the agent. A command is a struct, its doc comment, and one call; a command a file.
//!
//! Data goes to standard output, talk to standard error. Exit codes: 0 complete, 3 complete with gaps, 1 failed,
//! 2 wrong usage.

mod backup;
mod enrol;
mod output;
mod policy;
mod run;
mod signals;
mod sources;
mod status;

use crate::error::AgentError;
use crate::host::Places;
use clap::{Args, CommandFactory, Parser, Subcommand};
use lifeboat_proto::status::ErrorClass;
use output::Output;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Back up this server to a Lifeboat coordinator
#[derive(Parser)]
#[command(name = "lifeboat-agent", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command knows. The defaults are not by clap's `env`: every usage line would then show the options as if they
/// were required.
#[derive(Args)]
struct Global {
    /// Directory with the agent's keys and state; also set by LIFEBOAT_AGENT_STATE
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = Places::usual().state)]
    state: PathBuf,
    /// Directory of policy.toml and the trust file; also set by LIFEBOAT_AGENT_CONFIG
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = Places::usual().config)]
    config: PathBuf,
    /// Print one JSON value per line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    Enrol(enrol::EnrolArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Sources(sources::SourcesArgs),
    Backup(backup::BackupArgs),
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example: lifeboat-agent completions bash > /etc/bash_completion.d/lifeboat-agent")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of a command
    #[command(after_help = "Example: lifeboat-agent man policy check | man -l -")]
    Man {
        /// The command, such as `enrol` or `policy check`; all of `lifeboat-agent` if none is given
        command: Vec<String>,
    },
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Complete.
    Complete,
    /// Complete, with named gaps.
    Gaps,
}

impl From<Done> for ExitCode {
    fn from(done: Done) -> Self {
        match done {
            Done::Complete => Self::SUCCESS,
            Done::Gaps => Self::from(3),
        }
    }
}

/// Runs the command that the arguments name, prints the error if there is one, and says how to exit.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    crate::descriptors::raise_limit();
    // The service logs what it does; a command prints its result, and logs errors only.
    crate::log::start(if matches!(cli.command, Command::Run(_)) { "info" } else { "error" });
    let places = Places { state: cli.global.state, config: cli.global.config };
    match dispatch(cli.command, &places, &Output::new(cli.global.json)) {
        Ok(done) => done.into(),
        Err(error) => {
            let prefix = crate::log::error_prefix();
            eprintln!("{prefix}{}", error.report());
            ExitCode::from(error.class.exit_code())
        }
    }
}

fn dispatch(command: Command, places: &Places, out: &Output) -> Result<Done, AgentError> {
    match command {
        Command::Enrol(args) => enrol::enrol(args, places, out),
        Command::Run(args) => run::run(args, places),
        Command::Status(args) => status::status(args, places, out),
        Command::Sources(args) => sources::sources(args, places, out),
        Command::Backup(args) => backup::backup(args, places, out),
        Command::Policy(command) => policy::policy(command, places, out),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "lifeboat-agent", &mut io::stdout());
            Ok(Done::Complete)
        }
        Command::Man { command } => manual(&command, &mut io::stdout()),
    }
}

/// Prints the page of the command that these names lead to.
fn manual(names: &[String], to: &mut dyn io::Write) -> Result<Done, AgentError> {
    let mut root = Cli::command();
    // Gives each command its whole name, and the options that all have.
    root.build();
    let mut command = &root;
    for name in names {
        let missing = || {
            AgentError::new(ErrorClass::Usage, format!("lifeboat-agent has no command {:?}", names.join(" ")))
                .hint("`lifeboat-agent --help` lists the commands")
        };
        command = command.find_subcommand(name).ok_or_else(missing)?;
    }
    let page = clap_mangen::Man::new(command.clone()).render(to);
    page.map(|()| Done::Complete)
        .map_err(|error| AgentError::because(ErrorClass::Internal, "cannot print the manual page", error))
}

/// The runtime for the network. Its threads do no work of the pipeline.
fn runtime() -> Result<Runtime, AgentError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| AgentError::because(ErrorClass::Internal, "cannot start the network's threads", error))
}

/// Runs until its end, and does not wait for threads that do not end.
fn block_on<T>(work: impl Future<Output = Result<T, AgentError>>) -> Result<T, AgentError> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_option_fits_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let page = |names: &[&str]| {
            let (mut page, names) = (Vec::new(), names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
            manual(&names, &mut page).map(|_| String::from_utf8(page).unwrap())
        };
        assert!(page(&["policy", "check"]).unwrap().contains("lifeboat\\-agent\\-policy\\-check"));
        assert_eq!(page(&["policy", "destroy"]).unwrap_err().class.exit_code(), 2);
    }

    #[test]
    fn directories_may_stand_after_the_command() {
        let cli = Cli::try_parse_from(["lifeboat-agent", "status", "--state", "/s", "--json"]).unwrap();
        assert_eq!((cli.global.state, cli.global.json), (PathBuf::from("/s"), true));
    }
}
