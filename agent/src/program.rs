//! Runs a program of the local policy: no shell, a clean environment, a time limit, its talk in the log.
//!
//! Which program is for the policy alone. Its standard output goes through us into a file, so that a disk that is full
//! is noticed even when the program does not notice it. The program has a process group of its own; when it has ended
//! or has run out of time, whatever is left of the group is ended too.

use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// All that a program finds in its environment.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
/// How much of what it said last is shown.
const SAID_BYTES: u64 = 4096;
/// How often we look whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long its output may take to end after it has.
const OUTPUT_TIME: Duration = Duration::from_secs(10);

/// A program that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// Its path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended badly.
    #[error("{program} ended with {status}{}", last_words(said))]
    Failed {
        /// Its path.
        program: String,
        /// How.
        status: ExitStatus,
        /// What it said last.
        said: String,
    },
    /// It was ended because it took too long.
    #[error("{program} took longer than {} minutes and was ended", limit.as_secs() / 60)]
    Late {
        /// Its path.
        program: String,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// Its output could not be kept.
    #[error("cannot keep the output of {program}")]
    Output {
        /// Its path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

fn last_words(said: &str) -> String {
    let line = said.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.map(|line| format!(": {line}")).unwrap_or_default()
}

/// Runs `words` (a program by its absolute path, and its arguments) for at most `limit`; what it writes to standard
/// output goes into `output`. `scratch` is a directory for what it says meanwhile.
pub fn run(words: &[String], limit: Duration, output: File, scratch: &Path) -> Result<(), ProgramError> {
    let program = words.first().cloned().unwrap_or_default();
    let cannot_start = |source| ProgramError::Start { program: program.clone(), source };
    let mut said = tempfile::tempfile_in(scratch).map_err(cannot_start)?;
    let mut child = Command::new(&program)
        .args(words.get(1..).unwrap_or_default())
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(said.try_clone().map_err(cannot_start)?)
        .process_group(0)
        .spawn()
        .map_err(cannot_start)?;
    let copied = copy_output(&mut child, output);
    let ended = wait(&mut child, limit);
    end_group(&child);
    let failed = |source| ProgramError::Output { program: program.clone(), source };
    let Some(status) = ended.map_err(failed)? else {
        return Err(ProgramError::Late { program, limit });
    };
    let said = tail(&mut said).unwrap_or_default();
    tracing::info!(program, %status, said = said.trim(), "a program of the policy ended");
    if !status.success() {
        return Err(ProgramError::Failed { program, status, said });
    }
    match copied.recv_timeout(OUTPUT_TIME) {
        Ok(copied) => copied.map_err(failed),
        Err(_) => Err(failed(io::Error::new(io::ErrorKind::TimedOut, "something it started still holds it open"))),
    }
}

/// Copies standard output on a thread of its own, and tells when it has ended.
fn copy_output(child: &mut Child, mut output: File) -> mpsc::Receiver<io::Result<()>> {
    let (done, copied) = mpsc::sync_channel(1);
    if let Some(mut stdout) = child.stdout.take() {
        thread::spawn(move || {
            let result = io::copy(&mut stdout, &mut output).and_then(|_| output.flush());
            // After a time-out nobody listens any more.
            let _ = done.send(result);
        });
    }
    copied
}

/// Waits for its end; none if it takes longer than `limit`.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if started.elapsed() >= limit => {
                child.kill()?;
                return child.wait().map(|_| None);
            }
            None => thread::sleep(LOOK_EVERY),
        }
    }
}

fn end_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Mostly there is nobody left, which is what we want.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn tail(said: &mut File) -> io::Result<String> {
    let bytes = said.seek(SeekFrom::End(0))?;
    said.seek(SeekFrom::Start(bytes.saturating_sub(SAID_BYTES)))?;
    let mut text = Vec::new();
    said.take(SAID_BYTES).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: Duration) -> (Result<(), ProgramError>, String) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let result = run(&words, limit, File::create(&path).unwrap(), scratch.path());
        (result, std::fs::read_to_string(path).unwrap())
    }

    #[test]
    fn a_program_finds_a_clean_environment_and_its_output_is_kept() {
        let (result, output) = shell("env; pwd", Duration::from_secs(20));
        result.unwrap();
        assert!(!output.contains("CARGO"), "{output}");
        assert!(output.contains("LANG=C.UTF-8") && output.ends_with("/\n"), "{output}");
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let (result, _) = shell("echo half; echo no such table >&2; exit 3", Duration::from_secs(20));
        assert!(result.unwrap_err().to_string().ends_with("exit status: 3: no such table"));
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
        let started = Instant::now();
        let (result, _) = shell("sleep 60 & sleep 60", Duration::from_millis(200));
        assert!(matches!(result, Err(ProgramError::Late { .. })));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
