//! The command line: one struct a command, one file a command, one call.
//!
//! Commands talk to a running coordinator over its local socket; only `init`, `serve` and `repository rebuild-index` open
//! the repository. Exit codes: 0 done, 3 done with losses or gaps, 1 failed, 2 not understood; 141 if the reader of the
//! output closed the pipe before its end.

mod admin;
mod backup;
mod cat;
pub mod demo;
mod diff;
mod dump;
mod duration;
mod elsewhere;
mod entry;
mod find;
mod host;
mod init;
mod job;
mod journal;
mod ls;
mod mount;
pub mod output;
mod reading;
mod repository;
mod restore;
mod serve;
mod snapshots;
mod symlink;
mod token;
mod versions;
mod waiting;

use crate::config::{self, Config, ConfigError};
use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand};
use lifeboat_proto::status::{ErrorClass, Failure};
use output::Output;
use reading::blocking;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit code of a list that nobody reads to its end, as shells have it: 128 and the number of SIGPIPE.
const READER_GONE: u8 = 141;

/// Back up Linux servers to a repository, and restore them
#[derive(Debug, Parser)]
#[command(name = "lifeboat", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory with the coordinator's settings and keys; also set by LIFEBOAT_STATE
    #[arg(long, global = true, value_name = "DIR", default_value_os_t = state_default())]
    state: PathBuf,
    /// Print one JSON value per line
    #[arg(long, global = true)]
    json: bool,
}

/// Not by clap's `env`: every usage line would then show the option as if it were required.
fn state_default() -> PathBuf {
    std::env::var_os("LIFEBOAT_STATE").map_or_else(|| config::STATE_DEFAULT.into(), PathBuf::from)
}

impl Global {
    /// The settings that `init` wrote.
    fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.state).map_err(|error| match &error {
            ConfigError::NotThere { .. } => {
                let new = "`lifeboat init` sets up a new coordinator, `--state DIR` names another directory";
                Failure::of(ErrorClass::NotFound, &error).hint(format!("{new}; {LOST_COORDINATOR}"))
            }
            ConfigError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Failure::of(ErrorClass::Refused, &error).hint(AS_ROOT)
            }
            _ => Failure::of(ErrorClass::Usage, &error),
        })
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    /// Create tokens that let servers enrol
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show each server's last and next backup
    #[command(subcommand)]
    Host(host::HostCommand),
    Backup(backup::BackupArgs),
    /// List, follow or cancel backups and restores
    #[command(subcommand)]
    Job(job::JobCommand),
    Snapshots(snapshots::SnapshotsArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Find(find::FindArgs),
    Versions(versions::VersionsArgs),
    Diff(diff::DiffArgs),
    Dump(dump::DumpArgs),
    Restore(restore::RestoreArgs),
    Mount(mount::MountArgs),
    /// Continue after the repository was restored from an older copy
    #[command(subcommand)]
    Journal(journal::JournalCommand),
    /// Check the repository and its size
    #[command(subcommand)]
    Repository(repository::RepositoryCommand),
    /// Print a completion script for a shell
    #[command(after_help = "Example: lifeboat completions bash > /etc/bash_completion.d/lifeboat")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of a command
    #[command(after_help = "Example: lifeboat man token create | man -l -")]
    Man {
        /// The command, such as `restore` or `token create`; all of `lifeboat` if none is given
        command: Vec<String>,
    },
}

/// What to do with a repository whose coordinator is gone.
const LOST_COORDINATOR: &str = "if its coordinator was lost, do not make a new one: put a copy of its state directory \
    (/var/lib/lifeboat) back and start the service, or restore with the recovery kit and lifeboat_reader.py, as the \
    section \"When the coordinator is lost\" in docs/operations.md describes";
/// What to do without permission.
const AS_ROOT: &str = "run it as root: sudo lifeboat …";

/// The exit code of a command that Ctrl-C ends at once, as shells have it: 128 and the number of the signal.
const INTERRUPTED: i32 = 130;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Everything.
    Whole,
    /// All but what was named.
    WithLosses,
}

/// Reads the command line, or ends the process with help or an error.
pub fn parse() -> Cli {
    Cli::try_parse().unwrap_or_else(|mut error| {
        let name = match error.get(ContextKind::InvalidSubcommand) {
            Some(ContextValue::String(name)) => name.clone(),
            _ => String::new(),
        };
        let Some(instead) = instead_of(&name) else { error.exit() };
        // What is spelt alike is not what was meant.
        error.remove(ContextKind::SuggestedSubcommand);
        // If nobody reads it, the exit code says it.
        let _ = error.print();
        eprintln!("hint: {instead}");
        std::process::exit(error.exit_code())
    })
}

/// Where to find what other backup programs name like this.
fn instead_of(name: &str) -> Option<&'static str> {
    Some(match name {
        "verify" | "check" | "scrub" => "`lifeboat repository verify` reads and checks every object",
        "stats" => "`lifeboat repository stats` shows the size of the repository",
        "status" | "hosts" => "`lifeboat host list` shows each server's last and next backup",
        "prune" | "forget" | "delete" | "gc" | "compact" => "nothing is deleted yet: there is no retention",
        "unlock" | "break-lock" => "no lock remains: it is released when the process that holds it ends",
        "user" | "users" => "only root of this machine may use `lifeboat`; `lifeboat host list` lists the servers",
        "key" | "keys" | "kit" => "`lifeboat init` creates the keys and prints the recovery kit once",
        "enrol" | "enroll" | "policy" | "sources" => "this is a command of the agent: `lifeboat-agent` on the server",
        "log" | "logs" => "`journalctl -u lifeboat` shows the log of the service",
        _ => return None,
    })
}

/// Runs one command and says how it ended.
pub fn run(cli: Cli) -> ExitCode {
    lifeboat_agent::descriptors::raise_limit();
    let mut out = Output::new(cli.global.json);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&out, &Failure::of(ErrorClass::Internal, &error)),
    };
    let lists_all = cli.command.lists_all();
    let ended = runtime.block_on(cli.command.run(&cli.global, &mut out));
    // A thread that still reads from a network file system must not hold the exit up.
    runtime.shutdown_background();
    match ended {
        Ok(Done::Whole) if lists_all && admin::is_warned() => ExitCode::from(3),
        Ok(Done::Whole) => ExitCode::SUCCESS,
        Ok(Done::WithLosses) => ExitCode::from(3),
        Err(failure) if output::is_reader_gone(&failure) => ExitCode::from(READER_GONE),
        Err(failure) => failed(&out, &failure),
    }
}

fn failed(out: &Output, failure: &Failure) -> ExitCode {
    out.say(format_args!("{}error: {failure}", lifeboat_agent::log::error_prefix()));
    if !failure.hint.is_empty() {
        out.say(format_args!("hint: {}", failure.hint));
    }
    ExitCode::from(failure.class.exit_code())
}

impl Command {
    /// Whether the command lists or searches all hosts or snapshots: on a damaged journal, some may be missing.
    fn lists_all(&self) -> bool {
        matches!(self, Self::Host(_) | Self::Snapshots(_) | Self::Find(_) | Self::Versions(_))
    }

    async fn run(self, global: &Global, out: &mut Output) -> Result<Done, Failure> {
        match self {
            Self::Init(args) => init::init(args, global, out),
            Self::Serve(args) => serve::serve(args, global).await,
            Self::Demo(args) => blocking(move || demo::demo(&args)).await,
            Self::Token(command) => command.run(global, out).await,
            Self::Host(command) => command.run(global, out).await,
            Self::Backup(args) => backup::backup(args, global, out).await,
            Self::Job(command) => command.run(global, out).await,
            Self::Snapshots(args) => snapshots::snapshots(args, global, out).await,
            Self::Ls(args) => ls::ls(args, global, out).await,
            Self::Cat(args) => cat::cat(args, global, out).await,
            Self::Find(args) => find::find(args, global, out).await,
            Self::Versions(args) => versions::versions(args, global, out).await,
            Self::Diff(args) => diff::diff(args, global, out).await,
            Self::Dump(args) => dump::dump(args, global, out).await,
            Self::Mount(args) => mount::mount(args, global, out).await,
            Self::Restore(args) => restore::restore(args, global, out).await,
            Self::Journal(command) => command.run(global, out).await,
            Self::Repository(command) => command.run(global, out).await,
            Self::Completions { shell } => print(&completions(shell)),
            Self::Man { command } => print(&manual(&command)?),
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lifeboat", &mut script);
    script
}

/// The page of the command that these names lead to.
fn manual(names: &[String]) -> Result<Vec<u8>, Failure> {
    let mut root = Cli::command();
    // Gives each command its whole name, and the options that all have.
    root.build();
    let mut command = &root;
    for name in names {
        let missing = || {
            let failure = Failure::new(ErrorClass::Usage, format!("lifeboat has no command {:?}", names.join(" ")));
            failure.hint("`lifeboat --help` lists the commands")
        };
        command = command.find_subcommand(name).ok_or_else(missing)?;
    }
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    Ok(page)
}

fn print(text: &[u8]) -> Result<Done, Failure> {
    io::stdout().write_all(text).map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    Ok(Done::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_and_manual_know_the_commands() {
        let script = String::from_utf8(completions(clap_complete::Shell::Bash)).unwrap();
        let page = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            manual(&names).map(|page| String::from_utf8(page).unwrap())
        };
        for command in ["init", "restore", "repository"] {
            assert!(script.contains(command) && page(&[]).unwrap().contains(command), "{command}");
        }
        let create = page(&["token", "create"]).unwrap();
        assert!(create.contains("lifeboat\\-token\\-create") && create.contains("expires"), "{create}");
        assert_eq!(page(&["token", "destroy"]).unwrap_err().class.exit_code(), 2);
    }

    /// All commands, at any depth.
    fn commands(command: &clap::Command) -> Vec<clap::Command> {
        let below = command.get_subcommands().flat_map(commands);
        [command.clone()].into_iter().chain(below).collect()
    }

    #[test]
    fn every_command_and_option_is_explained_and_no_default_is_empty() {
        let mut root = Cli::command();
        root.build();
        for mut command in commands(&root) {
            let help = command.render_long_help().to_string();
            assert!(!help.contains("[default: ]") && !help.contains("default: \"\""), "{help}");
            assert!(command.get_about().is_some(), "{help}");
            let unexplained = command.get_arguments().find(|argument| argument.get_help().is_none());
            assert!(unexplained.is_none(), "{unexplained:?} in {help}");
        }
    }

    #[test]
    fn a_command_that_is_not_understood_ends_with_2() {
        let error = Cli::try_parse_from(["lifeboat", "prune"]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
