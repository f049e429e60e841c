//! A coordinator and an agent as processes of their own, below one directory: for the demo, the benchmarks, and the
//! tests that look at the system from outside.
//!
//! Only the command lines are used, as an operator would. Whatever is running when a lab is dropped is killed; the
//! directory stays with whoever made it.

use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What `/proc/PID/stat` counts in: USER_HZ is 100 on every Linux, whatever the kernel ticks with.
const MILLISECONDS_A_TICK: u64 = 10;
/// How long a daemon may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// Something in the lab did not go as it must.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A file or a process could not be made.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// A program said no.
    #[error("`{command}` ended with {status}:\n{stderr}")]
    Command {
        /// What was called.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        stderr: String,
    },
    /// A daemon did not come up.
    #[error("{side:?} did not answer within {} s; it said:\n{log}", START_PATIENCE.as_secs())]
    NotStarted {
        /// Which one.
        side: Side,
        /// The end of its log.
        log: String,
    },
}

/// Where the two programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `lifeboat`.
    pub lifeboat: PathBuf,
    /// `lifeboat-agent`.
    pub agent: PathBuf,
}

impl Programs {
    /// Those in the directory `LIFEBOAT_PROGRAMS`; else those beside the running program, or one directory above it, where
    /// tests and benchmarks run from.
    pub fn find() -> io::Result<Self> {
        let named = std::env::var_os("LIFEBOAT_PROGRAMS").map(PathBuf::from);
        let this = std::env::current_exe()?;
        let mut places = named.into_iter().chain(this.ancestors().skip(1).take(2).map(Path::to_owned));
        let directory = places.find(|directory| directory.join("lifeboat-agent").exists()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no lifeboat-agent beside {}", this.display()))
        })?;
        Ok(Self { lifeboat: directory.join("lifeboat"), agent: directory.join("lifeboat-agent") })
    }
}

/// A running process whose output goes to a file. Dropped, it is killed.
#[derive(Debug)]
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let skipped = text.lines().count().saturating_sub(40);
        text.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    fn stop(mut self) -> io::Result<std::process::ExitStatus> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        self.child.wait()
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// What the kernel counted for a process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// The most memory it ever had resident, in bytes.
    pub peak_bytes: u64,
}

impl Usage {
    /// Reads `/proc`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            after_name.split_ascii_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        Ok(Self { cpu: Duration::from_millis(ticks * MILLISECONDS_A_TICK), peak_bytes: peak.unwrap_or(0u64) * 1024 })
    }
}

/// One of the two that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `lifeboat serve`.
    Coordinator,
    /// `lifeboat-agent run`.
    Agent,
}

/// A coordinator and one agent, all below one directory.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    programs: Programs,
    coordinator: Mutex<Option<Daemon>>,
    agent: Mutex<Option<Daemon>>,
}

impl Lab {
    /// Makes a repository and its keys below `directory`, which must exist. Nothing runs yet.
    pub fn create(directory: &Path, programs: Programs) -> Result<Self, LabError> {
        let directory = directory.to_owned();
        let lab = Self { directory, programs, coordinator: Mutex::default(), agent: Mutex::default() };
        let address = free_address().map_err(doing("find a free port"))?;
        let (repository, credential) = (lab.path("repository"), lab.path("credential"));
        let kit = lab.path("recovery-kit");
        lab.lifeboat(&[
            "init",
            "--repository",
            &repository,
            "--listen",
            &address,
            "--address",
            &address,
            "--credential",
            &credential,
            "--kit",
            &kit,
        ])?;
        Ok(lab)
    }

    /// A path below the lab's directory.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).to_string_lossy().into_owned()
    }

    /// The directory of the repository.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// Starts the coordinator and waits until it answers.
    pub fn serve(&self) -> Result<(), LabError> {
        self.serve_with(&[])
    }

    /// Starts the coordinator with these variables in its environment, and waits until it answers.
    pub fn serve_with(&self, environment: &[(&str, &Path)]) -> Result<(), LabError> {
        let mut command = self.command(&self.programs.lifeboat);
        command.arg("serve").envs(environment.iter().copied());
        self.start(Side::Coordinator, command)?;
        self.wait_until(Side::Coordinator, |lab| lab.lifeboat(&["host", "list"]).is_ok())
    }

    /// Enrols this machine as a host with one source set named `data`.
    pub fn enrol(&self, name: &str, sources: &[&Path]) -> Result<(), LabError> {
        let token = self.lifeboat(&["token", "create"])?;
        let file = self.path("token");
        fs::write(&file, &token.stdout).map_err(doing("write the token to a file"))?;
        self.agent(&["enrol", "--token-file", &file, "--name", name])?;
        let quoted = |path: &&Path| format!("{:?}", path.to_string_lossy());
        let paths = sources.iter().map(quoted).collect::<Vec<_>>().join(", ");
        self.set_sources(&format!("data = [{paths}]"))
    }

    /// Replaces the source sets in the agent's policy: lines as they stand under `[sources]`.
    pub fn set_sources(&self, sets: &str) -> Result<(), LabError> {
        let policy = self.path("agent/policy.toml");
        let text = fs::read_to_string(&policy).map_err(doing("read the agent's policy"))?;
        fs::write(&policy, with_sources(&text, sets)).map_err(doing("write the agent's policy"))
    }

    /// Starts the agent and waits until the coordinator sees it.
    pub fn run_agent(&self) -> Result<(), LabError> {
        let mut command = self.command(&self.programs.agent);
        command.arg("run");
        self.start(Side::Agent, command)?;
        self.wait_for_agent()
    }

    /// Waits until the coordinator sees the agent.
    pub fn wait_for_agent(&self) -> Result<(), LabError> {
        self.wait_until(Side::Agent, |lab| {
            let hosts = lab.lifeboat(&["host", "list", "--json"]);
            hosts.is_ok_and(|hosts| String::from_utf8_lossy(&hosts.stdout).contains("\"connected\":true"))
        })
    }

    /// What the kernel counted for one side so far; nothing if it is not running.
    pub fn usage(&self, side: Side) -> Usage {
        self.daemon(side).as_ref().and_then(|daemon| Usage::of(daemon.pid()).ok()).unwrap_or_default()
    }

    /// The process number of one side, if it is running.
    pub fn pid(&self, side: Side) -> Option<u32> {
        self.daemon(side).as_ref().map(Daemon::pid)
    }

    /// Ends one side at once, as a crash would (SIGKILL).
    pub fn kill(&self, side: Side) {
        self.daemon(side).take();
    }

    /// Asks one side to end (SIGTERM) and waits; none if it was not running.
    pub fn stop(&self, side: Side) -> io::Result<Option<std::process::ExitStatus>> {
        self.daemon(side).take().map(Daemon::stop).transpose()
    }

    /// The end of what one side said.
    pub fn log(&self, side: Side) -> String {
        self.daemon(side).as_ref().map(Daemon::log).unwrap_or_default()
    }

    fn daemon(&self, side: Side) -> MutexGuard<'_, Option<Daemon>> {
        let daemon = match side {
            Side::Coordinator => &self.coordinator,
            Side::Agent => &self.agent,
        };
        daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `lifeboat` and expects it to end well: 0, or 3 for complete with gaps or losses.
    pub fn lifeboat(&self, arguments: &[&str]) -> Result<Output, LabError> {
        ended_well("lifeboat", arguments, self.try_lifeboat(arguments)?)
    }

    /// Calls `lifeboat-agent` and expects it to end well.
    pub fn agent(&self, arguments: &[&str]) -> Result<Output, LabError> {
        ended_well("lifeboat-agent", arguments, self.try_agent(arguments)?)
    }

    /// Calls `lifeboat`, however it ends.
    pub fn try_lifeboat(&self, arguments: &[&str]) -> Result<Output, LabError> {
        self.lifeboat_command().args(arguments).output().map_err(doing("start lifeboat"))
    }

    /// `lifeboat`, to be called with some arguments on this lab's coordinator.
    pub fn lifeboat_command(&self) -> Command {
        self.command(&self.programs.lifeboat)
    }

    /// Calls `lifeboat-agent`, however it ends.
    pub fn try_agent(&self, arguments: &[&str]) -> Result<Output, LabError> {
        self.command(&self.programs.agent).args(arguments).output().map_err(doing("start lifeboat-agent"))
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("LIFEBOAT_STATE", self.path("coordinator"));
        command.env("LIFEBOAT_AGENT_STATE", self.path("agent")).env("LIFEBOAT_AGENT_CONFIG", self.path("agent"));
        command.stdin(Stdio::null());
        command
    }

    fn start(&self, side: Side, mut command: Command) -> Result<(), LabError> {
        let log = self.directory.join(format!("{side:?}.log"));
        let file = File::options().create(true).append(true).open(&log).map_err(doing("make a log file"))?;
        let other = file.try_clone().map_err(doing("make a log file"))?;
        let child = command.stdout(other).stderr(file).spawn().map_err(doing(format!("start the {side:?}")))?;
        *self.daemon(side) = Some(Daemon { child, log });
        Ok(())
    }

    fn wait_until(&self, side: Side, ready: impl Fn(&Self) -> bool) -> Result<(), LabError> {
        let started = Instant::now();
        while !ready(self) {
            let ended = self.daemon(side).as_mut().is_none_or(Daemon::has_ended);
            if ended || started.elapsed() > START_PATIENCE {
                return Err(LabError::NotStarted { side, log: self.log(side) });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn ended_well(program: &str, arguments: &[&str], output: Output) -> Result<Output, LabError> {
    if matches!(output.status.code(), Some(0 | 3)) {
        return Ok(output);
    }
    Err(LabError::Command {
        command: format!("{program} {}", arguments.join(" ")),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The policy with other source sets: whatever stood under `[sources]` goes, comments too.
fn with_sources(policy: &str, sets: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in policy.lines() {
        if line.starts_with('[') {
            inside = line.starts_with("[sources");
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    format!("{kept}\n[sources]\n{sets}\n")
}

fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> LabError {
    let doing = doing.into();
    move |source| LabError::Io { doing, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_source_sets_of_a_policy_are_replaced() {
        let policy = "restore = \"staging\"\n[sources.system]\npaths = [\"/\"]\n[limits]\nprocessors = 2\n";
        let changed = with_sources(policy, "data = [\"/usr\"]");
        assert_eq!(changed, "restore = \"staging\"\n[limits]\nprocessors = 2\n\n[sources]\ndata = [\"/usr\"]\n");
    }

    #[test]
    fn the_kernel_tells_what_this_process_used() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.peak_bytes > 1 << 20, "{usage:?}");
    }
}
