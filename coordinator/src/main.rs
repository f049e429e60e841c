//! `lifeboat`: the coordinator and its command line.

use clap::Parser;
use lifeboat_coordinator::cli::{self, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
