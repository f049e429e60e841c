//! Runs a program of the local policy: no shell, a clean environment, a time limit, its messages in the log.
//!
//! Which program is for the policy alone. The program has a process group of its own, which is ended when the program
//! takes too long or the agent is asked to stop. A program that ends in time may leave others running, such as a service
//! that a hook starts: they live on, and how the program itself ended is what counts.
//!
//! Standard output that is kept goes through the agent into a file, so that a full disk is noticed even when the program
//! does not notice it. It is complete only when every process that holds it has closed it.

use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// All that a program finds in its environment.
const ENVIRONMENT: [(&str, &str); 2] =
    [("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")];
/// How much of the beginning and of the end of its messages is shown.
const MESSAGE_BYTES: usize = 4096;
/// How much of one line an error quotes.
const LINE_CHARS: usize = 300;
/// How often we look whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a program that is asked to end has for it.
const TERMINATE_TIME: Duration = Duration::from_secs(5);
/// How long its output may take to end after it has.
const OUTPUT_TIME: Duration = Duration::from_secs(10);

/// What becomes of standard output.
#[derive(Debug)]
pub enum Output {
    /// It is thrown away. What inherits it is not waited for.
    Discarded,
    /// It is written to this file, to its end.
    Kept(File),
}

/// Within what a program runs.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// How long it may take.
    pub time: Duration,
    /// Set when it is to end early.
    pub stop: &'a AtomicBool,
    /// A directory on disk for its messages while it runs.
    pub scratch: &'a Path,
}

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
    #[error("{program} ended with {status}{}", quoted(messages))]
    Failed {
        /// Its path.
        program: String,
        /// How.
        status: ExitStatus,
        /// What it wrote to standard error: the beginning and the end.
        messages: String,
    },
    /// It was ended because it took too long.
    #[error("{program} took longer than {} minutes and was ended", limit.as_secs() / 60)]
    Late {
        /// Its path.
        program: String,
        /// How long it was allowed to take.
        limit: Duration,
    },
    /// It was ended because the agent was asked to stop.
    #[error("{program} was ended because the backup was asked to stop")]
    Stopped {
        /// Its path.
        program: String,
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

/// The first line and the last: the cause mostly stands in one of them.
fn quoted(messages: &str) -> String {
    let mut lines = messages.lines().map(str::trim).filter(|line| !line.is_empty());
    let short = |line: &str| line.chars().take(LINE_CHARS).collect::<String>();
    match (lines.next(), lines.next_back()) {
        (None, _) => String::new(),
        (Some(first), None) => format!(": {}", short(first)),
        (Some(first), Some(last)) => format!(": {} … {}", short(first), short(last)),
    }
}

/// How a program ended.
enum Ended {
    Itself(ExitStatus),
    Late,
    Stopped,
}

/// Runs `words`: a program by its absolute path, and its arguments.
pub fn run(words: &[String], output: Output, bounds: &Bounds<'_>) -> Result<(), ProgramError> {
    let program = words.first().cloned().unwrap_or_default();
    let cannot_start = |source| ProgramError::Start { program: program.clone(), source };
    let messages = tempfile::tempfile_in(bounds.scratch).map_err(cannot_start)?;
    let mut child = Command::new(&program)
        .args(words.get(1..).unwrap_or_default())
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(match output {
            Output::Discarded => Stdio::null(),
            Output::Kept(_) => Stdio::piped(),
        })
        .stderr(messages.try_clone().map_err(cannot_start)?)
        .process_group(0)
        .spawn()
        .map_err(cannot_start)?;
    let copied = match output {
        Output::Discarded => None,
        Output::Kept(file) => Some(copy_output(&mut child, file)),
    };
    let failed = |source| ProgramError::Output { program: program.clone(), source };
    let status = match wait(&mut child, bounds).map_err(failed)? {
        Ended::Itself(status) => status,
        Ended::Late => return Err(ProgramError::Late { program, limit: bounds.time }),
        Ended::Stopped => return Err(ProgramError::Stopped { program }),
    };
    let messages = beginning_and_end(&messages).unwrap_or_default();
    tracing::info!(program, %status, messages = messages.trim(), "a program of the policy ended");
    if !status.success() {
        return Err(ProgramError::Failed { program, status, messages });
    }
    match copied.map(|copied| copied.recv_timeout(OUTPUT_TIME)) {
        None => Ok(()),
        Some(Ok(copied)) => copied.map_err(failed),
        Some(Err(_)) => {
            let why = "a process that it started still has its standard output open, so the output may be incomplete";
            Err(failed(io::Error::new(io::ErrorKind::TimedOut, why)))
        }
    }
}

/// Copies standard output on a thread of its own, and reports when it has ended.
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

/// Waits for its end, and sees to it within the bounds.
fn wait(child: &mut Child, bounds: &Bounds<'_>) -> io::Result<Ended> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::Itself(status));
        }
        let ended = match (bounds.stop.load(Ordering::Relaxed), started.elapsed() >= bounds.time) {
            (true, _) => Ended::Stopped,
            (false, true) => Ended::Late,
            (false, false) => {
                thread::sleep(LOOK_EVERY);
                continue;
            }
        };
        return end_group(child).map(|()| ended);
    }
}

/// Ends a program with its process group: asks first, then makes sure. The program is waited for last, so that its number
/// cannot stand for another group meanwhile.
fn end_group(child: &mut Child) -> io::Result<()> {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return child.kill() };
    // Whoever of the group is gone already needs no signal.
    let _ = kill_process_group(group, Signal::TERM);
    let asked = Instant::now();
    while asked.elapsed() < TERMINATE_TIME && !has_ended(child)? {
        thread::sleep(LOOK_EVERY);
    }
    let _ = kill_process_group(group, Signal::KILL);
    child.wait().map(|_| ())
}

/// Whether a child has ended, without taking its number from it.
fn has_ended(child: &Child) -> io::Result<bool> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let Some(child) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return Ok(true) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    Ok(waitid(WaitId::Pid(child), options)?.is_some())
}

/// Messages that are too long are shown without their middle.
fn beginning_and_end(messages: &File) -> io::Result<String> {
    let bytes = messages.metadata()?.len() as usize;
    let part = |from: usize, to: usize| {
        let mut text = vec![0; to - from];
        messages.read_exact_at(&mut text, from as u64)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&text).into_owned())
    };
    if bytes <= 2 * MESSAGE_BYTES {
        return part(0, bytes);
    }
    Ok(format!("{}\n…\n{}", part(0, MESSAGE_BYTES)?, part(bytes - MESSAGE_BYTES, bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::test_kill_process;
    use std::fs;

    const LONG: Duration = Duration::from_secs(20);

    fn bounded(script: &str, kept: bool, time: Duration, stop: &AtomicBool) -> (Result<(), ProgramError>, String) {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let file = File::create(&path).unwrap();
        let output = if kept { Output::Kept(file) } else { Output::Discarded };
        let result = run(&words, output, &Bounds { time, stop, scratch: scratch.path() });
        (result, fs::read_to_string(path).unwrap())
    }

    fn shell(script: &str, time: Duration) -> (Result<(), ProgramError>, String) {
        bounded(script, true, time, &AtomicBool::new(false))
    }

    #[test]
    fn a_program_finds_a_clean_environment_and_its_output_is_kept() {
        let (result, output) = shell("env; pwd", LONG);
        result.unwrap();
        assert!(!output.contains("CARGO"), "{output}");
        assert!(output.contains("LANG=C.UTF-8") && output.ends_with("/\n"), "{output}");
    }

    #[test]
    fn a_program_that_fails_is_quoted_with_its_first_line_and_its_last() {
        let script = "echo half; echo no such table >&2; seq 5000 >&2; echo is the server running? >&2; exit 3";
        let error = shell(script, LONG).0.unwrap_err().to_string();
        assert!(error.ends_with("exit status: 3: no such table … is the server running?"), "{error}");
        let error = shell("echo alone >&2; exit 3", LONG).0.unwrap_err().to_string();
        assert!(error.ends_with("exit status: 3: alone"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_that_it_started() {
        // On a busy machine a program may not have started within the time that it is given: then it is given more.
        let output = (0..10).find_map(|doubled| {
            let (result, output) = shell("sleep 1000 & echo $!; sleep 1000", Duration::from_millis(200 << doubled));
            assert!(matches!(result, Err(ProgramError::Late { .. })));
            output.ends_with('\n').then_some(output)
        });
        wait_for_end(&output.unwrap());
    }

    #[test]
    fn a_program_is_ended_when_the_agent_is_asked_to_stop() {
        let (result, output) = bounded("sleep 1000 & echo $!; wait", true, LONG, &AtomicBool::new(true));
        assert!(matches!(result, Err(ProgramError::Stopped { .. })));
        if output.ends_with('\n') {
            wait_for_end(&output);
        }
    }

    /// Waits until the process with this number is gone, which would live for much longer if nothing ended it.
    fn wait_for_end(number: &str) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while lives(number) {
            assert!(Instant::now() < deadline, "it lives");
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Whether the process with this number, that of an orphan, lives.
    fn lives(number: &str) -> bool {
        let process = Pid::from_raw(number.trim().parse().unwrap()).unwrap();
        let state = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
        test_kill_process(process).is_ok() && !state.contains(") Z ")
    }

    #[test]
    fn what_a_hook_leaves_running_lives_and_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let number = directory.path().join("number");
        for start in ["sleep 61 & echo $!", "setsid sleep 61 & echo $!"] {
            let started = Instant::now();
            let script = format!("{start} > {}", number.display());
            bounded(&script, false, LONG, &AtomicBool::new(false)).0.unwrap();
            assert!(started.elapsed() < OUTPUT_TIME, "its output was waited for");
            let number = fs::read_to_string(&number).unwrap();
            assert!(lives(&number), "{start}");
            rustix::process::kill_process(Pid::from_raw(number.trim().parse().unwrap()).unwrap(), Signal::KILL)
                .unwrap();
        }
    }

    #[test]
    fn output_counts_only_when_all_who_write_it_have_ended() {
        let (result, output) = shell("(sleep 1; echo end) & echo begin", LONG);
        result.unwrap();
        assert_eq!(output, "begin\nend\n", "what was started in the background writes too");
    }
}
