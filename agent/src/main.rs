//! `lifeboat-agent`: parses its arguments and runs one command. Everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lifeboat_agent::cli::main()
}
