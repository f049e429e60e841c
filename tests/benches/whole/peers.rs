//! Runs Lifeboat, and what it is compared with: restic, tar and zstd, cp.

use crate::measure::{Took, measured};
use lifeboat_coordinator::cli::demo::directory_bytes;
use lifeboat_coordinator::cli::demo::lab::{Lab, Programs, Side, Usage};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What can go wrong in a benchmark: nothing that it could mend.
pub type Failure = Box<dyn Error>;

/// A lab with one host, `bench`, and its set `data`.
pub struct Lifeboat {
    /// The lab.
    pub lab: Lab,
    source: PathBuf,
    set: String,
}

/// What one backup took.
#[derive(Debug, Clone, Copy)]
pub struct BackupTook {
    /// From the command to its end.
    pub wall: Duration,
    /// CPU of the agent.
    pub agent: Duration,
    /// CPU of the coordinator.
    pub coordinator: Duration,
}

impl Lifeboat {
    /// A new repository and an agent, running, for `source`.
    pub fn start(directory: &Path, source: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(directory)?;
        let lab = Lab::create(directory, Programs::find()?)?;
        lab.serve()?;
        lab.enrol("bench", &[source])?;
        lab.run_agent()?;
        Ok(Self { lab, source: source.to_owned(), set: "data".to_owned() })
    }

    /// One backup.
    pub fn backup(&self) -> Result<BackupTook, Failure> {
        let (agent, coordinator) = self.usage();
        let started = Instant::now();
        let output = self.lab.try_lifeboat(&["backup", &format!("bench:{}", self.set), "--wait"])?;
        let wall = started.elapsed();
        // 3: complete with gaps, as when a file of the running system changes under us.
        if !matches!(output.status.code(), Some(0 | 3)) {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let (agent_after, coordinator_after) = self.usage();
        Ok(BackupTook {
            wall,
            agent: agent_after.cpu - agent.cpu,
            coordinator: coordinator_after.cpu - coordinator.cpu,
        })
    }

    /// From now on the set is another one, `set`, of which the agent remembers nothing, as on another server.
    pub fn use_set(&mut self, set: &str) -> Result<(), Failure> {
        self.set = set.to_owned();
        self.lab.set_sources(&format!("{set} = [{:?}]", self.source.to_string_lossy()))?;
        self.lab.stop(Side::Agent)?;
        Ok(self.lab.run_agent()?)
    }

    /// Restores the whole source to a new directory. What it took is the command's; the coordinator's part is in
    /// [`Lifeboat::usage`].
    pub fn restore(&self, target: &Path) -> Result<Took, Failure> {
        let mut command = self.lab.lifeboat_command();
        command.arg("restore").arg(format!("bench:{}", self.source.display())).arg("--to").arg(target);
        measured(&command, &[0, 3])
    }

    /// How long a restore of the whole source would take, as a dry run says, in seconds.
    pub fn stated(&self, target: &Path) -> Result<f64, Failure> {
        let address = format!("bench:{}", self.source.display());
        let target = target.to_string_lossy();
        let output = self.lab.lifeboat(&["restore", &address, "--to", &target, "--dry-run", "--json"])?;
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        Ok(told["seconds"].as_f64().ok_or("a dry run states no time")?)
    }

    /// One command of `lifeboat`.
    pub fn call(&self, arguments: &[&str]) -> Result<Took, Failure> {
        self.call_into(arguments, Path::new("/dev/null"))
    }

    /// The same, with its output in a file.
    pub fn call_into(&self, arguments: &[&str], file: &Path) -> Result<Took, Failure> {
        let mut command = self.lab.lifeboat_command();
        let mut shell = Command::new("sh");
        shell.args(["-c", "out=$1; shift; exec \"$@\" > \"$out\"", "sh"]).arg(file);
        shell.arg(command.args(arguments).get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        measured(&shell, &[0, 3])
    }

    /// The first digits of the newest snapshot's id.
    pub fn newest(&self) -> Result<String, Failure> {
        let output = self.lab.lifeboat(&["snapshots", "bench", "--set", &self.set, "--json"])?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let newest: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        Ok(newest["snapshot"].as_str().ok_or("there is no snapshot")?[..12].to_owned())
    }

    /// What the kernel counted for agent and coordinator.
    pub fn usage(&self) -> (Usage, Usage) {
        (self.lab.usage(Side::Agent), self.lab.usage(Side::Coordinator))
    }

    /// The size of the repository in bytes.
    pub fn repository_bytes(&self) -> Result<u64, Failure> {
        Ok(directory_bytes(&self.lab.repository())?)
    }
}

/// restic with a local repository, as Debian ships it.
pub struct Restic {
    repository: PathBuf,
}

impl Restic {
    /// A new repository.
    pub fn start(repository: &Path) -> Result<Self, Failure> {
        let restic = Self { repository: repository.to_owned() };
        restic.call(&["init", "--repository-version", "2"])?;
        Ok(restic)
    }

    /// One backup.
    pub fn backup(&self, source: &Path) -> Result<Took, Failure> {
        self.call(&["backup", &source.to_string_lossy()])
    }

    /// Restores the newest snapshot.
    pub fn restore(&self, target: &Path) -> Result<Took, Failure> {
        self.call(&["restore", "latest", "--target", &target.to_string_lossy()])
    }

    /// The size of the repository in bytes.
    pub fn repository_bytes(&self) -> Result<u64, Failure> {
        Ok(directory_bytes(&self.repository)?)
    }

    fn call(&self, arguments: &[&str]) -> Result<Took, Failure> {
        let mut command = Command::new("restic");
        let cache = self.repository.with_extension("cache");
        command.arg("--quiet").arg("--cache-dir").arg(cache).args(arguments);
        command.env("RESTIC_REPOSITORY", &self.repository).env("RESTIC_PASSWORD", "bench");
        measured(&command, &[0, 3])
    }
}

/// `tar | zstd -3 -T2`, thrown away: how fast a system tree can be read and compressed at all.
pub fn tar_zstd(source: &Path) -> Result<Took, Failure> {
    let mut command = Command::new("sh");
    command.args(["-c", "tar -C \"$0\" -cf - . | zstd -q -3 -T2 > /dev/null"]).arg(source);
    measured(&command, &[0])
}

/// `cp -a`: how fast a system tree can be written at all.
pub fn cp_a(source: &Path, target: &Path) -> Result<Took, Failure> {
    let mut command = Command::new("cp");
    command.arg("-a").arg(source).arg(target);
    measured(&command, &[0])
}
