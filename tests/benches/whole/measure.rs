//! What one command took, as the kernel counts it: time, processor seconds, peak memory.
//!
//! The kernel gives the peak of children only as one number for all that ever ended, so each command runs below a
//! process of its own: this program again, called with [`FLAG`].

use crate::peers::Failure;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::ffi::OsString;
use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Makes this program run one command and write down what it used.
pub const FLAG: &str = "--measure";

/// What a command took.
#[derive(Debug, Clone, Copy)]
pub struct Took {
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time, its children's included.
    pub cpu: Duration,
    /// The most memory that it, or one of its children, ever had resident.
    pub peak_bytes: u64,
}

/// Runs a command to its end; an exit code that is not among `good` is a failure.
pub fn measured(command: &Command, good: &[i32]) -> Result<Took, Failure> {
    let usage = tempfile::NamedTempFile::new()?;
    let mut outer = Command::new(std::env::current_exe()?);
    outer.arg(FLAG).arg(usage.path()).arg(command.get_program()).args(command.get_args());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let started = Instant::now();
    let output = outer.output()?;
    let wall = started.elapsed();
    if !output.status.code().is_some_and(|code| good.contains(&code)) {
        return Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = fs::read_to_string(usage.path())?;
    let (milliseconds, kib) = text.split_once(' ').ok_or("a measured command left no figures")?;
    Ok(Took { wall, cpu: Duration::from_millis(milliseconds.parse()?), peak_bytes: kib.parse::<u64>()? << 10 })
}

/// The inner side: `FILE PROGRAM ARGUMENTS…`. Exits as the program did.
pub fn run(arguments: &[OsString]) -> Result<ExitCode, Failure> {
    let [file, program, arguments @ ..] = arguments else { return Err("nothing to measure".into()) };
    let status = Command::new(program).args(arguments).status()?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = usage.user_time() + usage.system_time();
    fs::write(file, format!("{} {}", cpu.num_milliseconds(), usage.max_rss()))?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
