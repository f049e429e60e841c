//! `make bench`: how fast, how large, how much memory, beside what others do with the same data in the same run.
//!
//! Data sets are made from a seed or taken from this machine; repositories lie on a memory file system; the page cache
//! is warm; both sides of a comparison run in turn, several times, and medians are printed with their range. Times,
//! CPU seconds and peak memory come from the kernel, never from our own counters.
//!
//! `make bench ARGS="NAME…"` runs the named benchmarks, `make bench` all: `memory`, `unchanged`, `system`, `texts`,
//! `hosts`, `million`, `changed`, `fleet`, `readers`, `lists`, `start`. `changed` and `start` use the disk for temporary
//! files, up to 30 GB; `start` drops the page cache, for which it must be root.

mod data;
mod figures;
mod fleet;
mod measure;
mod peers;
mod start;
mod stories;

use std::path::PathBuf;
use std::process::ExitCode;

/// Where the data sets and repositories lie: the memory file system that every Linux has.
const WORKPLACE: &str = "/dev/shm";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [flag, command @ ..] = arguments.as_slice()
        && flag == measure::FLAG
    {
        return ended(measure::run(command));
    }
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let unknown: Vec<_> = wanted.iter().filter(|name| !stories::ALL.iter().any(|story| story.name == **name)).collect();
    if !unknown.is_empty() {
        let names = stories::ALL.map(|story| story.name).join(", ");
        eprintln!("error: there is no benchmark called {unknown:?}; there are {names}");
        return ExitCode::from(2);
    }
    ended(run(&wanted).map(|()| ExitCode::SUCCESS))
}

fn ended(result: Result<ExitCode, peers::Failure>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(wanted: &[String]) -> Result<(), peers::Failure> {
    let place = tempfile::Builder::new().prefix("lifeboat-bench-").tempdir_in(WORKPLACE)?;
    figures::about_this_machine();
    for story in stories::ALL {
        if wanted.is_empty() || wanted.iter().any(|name| name == story.name) {
            println!("\n## {}: {}\n", story.name, story.about);
            let directory: PathBuf = place.path().join(story.name);
            std::fs::create_dir(&directory)?;
            (story.tell)(&directory)?;
            // The next story needs the memory.
            std::fs::remove_dir_all(&directory)?;
        }
    }
    Ok(())
}
