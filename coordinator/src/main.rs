//! `lifeboat`: the coordinator and its command line.

use lifeboat_coordinator::cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(cli::parse())
}
