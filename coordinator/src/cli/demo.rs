//! `lifeboat demo`: the whole story on one machine, through the same doors as everybody: then its figures.
//!
//! A coordinator and an agent are started as processes of their own; the agent enrols with a token, backs a real tree up,
//! twice; the second time nothing has changed; the tree is restored and every byte and attribute compared. The lab is
//! removed at the end, unless it is to be kept for others to look at.

pub mod compare;
pub mod lab;

use super::Done;
use compare::{Comparison, compare, compare_as_ordinary_user};
use lab::{Lab, LabError, Programs, Side, Usage};
use lifeboat_proto::status::{ErrorClass, Failure};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Try it on this machine: back up twice, restore, compare, show timings
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Directory to back up
    #[arg(default_value = "/usr/share")]
    source: PathBuf,
    /// Keep the repository and the restored files in this directory, which must be new or empty
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The demo did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A part of the system failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The source or the place to work in cannot be used.
    #[error("{problem}: {}", path.display())]
    Place {
        /// What is wrong.
        problem: &'static str,
        /// With what.
        path: PathBuf,
    },
    /// What came back is not what went in.
    #[error("the restored tree differs from the source in {count} places")]
    Differs {
        /// In how many.
        count: usize,
    },
    /// Something on disk failed.
    #[error("cannot {doing}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What one step took.
struct Step {
    what: &'static str,
    took: Duration,
    agent: Usage,
    coordinator: Usage,
}

/// Runs the command. It ends well only if the restored tree equals the source.
pub fn demo(args: &DemoArgs) -> Result<Done, Failure> {
    tell(args).map_err(|error| Failure::of(ErrorClass::Internal, &error))
}

fn tell(args: &DemoArgs) -> Result<Done, DemoError> {
    let source = fs::canonicalize(&args.source)
        .map_err(|_| DemoError::Place { problem: "there is no such tree to back up", path: args.source.clone() })?;
    let place = Place::make(args.keep.as_deref())?;
    let programs = Programs::find().map_err(|source| DemoError::Io { doing: "find the agent", source })?;

    println!("Lifeboat demo: {} goes to a new repository and comes back.\n", source.display());
    say("a coordinator with a new repository");
    let lab = Lab::create(place.path(), programs)?;
    lab.serve()?;
    say("an agent, enrolled with a one-time token");
    lab.enrol("demo", &[&source])?;
    lab.run_agent()?;

    let mut steps = Vec::new();
    for what in ["first backup", "second backup, nothing changed"] {
        say(what);
        steps.push(measured(what, &lab, |lab| lab.lifeboat(&["backup", "demo:data", "--wait"]).map(drop))?);
    }
    say("restore to a new directory");
    let restored = place.path().join("restored");
    let (address, target) = (format!("demo:{}", source.display()), restored.to_string_lossy().into_owned());
    steps.push(measured("restore", &lab, |lab| lab.lifeboat(&["restore", &address, "--to", &target]).map(drop))?);
    say("comparison of every byte and attribute\n");
    let compare = if is_root() { compare } else { compare_as_ordinary_user };
    let comparison =
        compare(&source, &restored).map_err(|source| DemoError::Io { doing: "compare the restored tree", source })?;

    report(&lab, &source, &steps, &comparison)?;
    what_next(&place);
    match comparison.differences.len() {
        0 => Ok(Done::Whole),
        count => Err(DemoError::Differs { count }),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn say(what: &str) {
    println!("  · {what}");
}

fn measured(what: &'static str, lab: &Lab, work: impl FnOnce(&Lab) -> Result<(), LabError>) -> Result<Step, LabError> {
    let before = usage(lab);
    let started = Instant::now();
    work(lab)?;
    let took = started.elapsed();
    let after = usage(lab);
    let since = |after: Usage, before: Usage| Usage { cpu: after.cpu.saturating_sub(before.cpu), ..after };
    Ok(Step { what, took, agent: since(after.0, before.0), coordinator: since(after.1, before.1) })
}

fn usage(lab: &Lab) -> (Usage, Usage) {
    (lab.usage(Side::Agent), lab.usage(Side::Coordinator))
}

fn report(lab: &Lab, source: &Path, steps: &[Step], comparison: &Comparison) -> Result<(), DemoError> {
    let stored = directory_bytes(&lab.repository())
        .map_err(|source| DemoError::Io { doing: "measure the repository", source })?;
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header(["", "time", "rate", "agent: CPU", "memory", "coordinator: CPU", "memory"]);
    for step in steps {
        let rate = comparison.content_bytes as f64 / step.took.as_secs_f64() / 1e6;
        table.add_row([
            step.what.to_owned(),
            format!("{:.2} s", step.took.as_secs_f64()),
            format!("{rate:.0} MB/s"),
            format!("{:.2} s", step.agent.cpu.as_secs_f64()),
            mib(step.agent.peak_bytes),
            format!("{:.2} s", step.coordinator.cpu.as_secs_f64()),
            mib(step.coordinator.peak_bytes),
        ]);
    }
    println!("{table}\n");
    println!(
        "{} entries, {} of content in {}; the repository has {} ({:.0} %).",
        comparison.entries,
        mib(comparison.content_bytes),
        source.display(),
        mib(stored),
        100.0 * stored as f64 / comparison.content_bytes.max(1) as f64,
    );
    match comparison.differences.len() {
        0 if is_root() => println!("The restored tree is equal to the source: every byte and attribute was compared."),
        0 => println!(
            "The restored tree is equal to the source in all that you may read and set: owners, setuid and setgid, and \
             {} that only root may read, were left out.",
            comparison.unreadable
        ),
        count => {
            println!("{count} differences between the source and the restored tree:");
            comparison.differences.iter().take(20).for_each(|difference| println!("  {difference}"));
        }
    }
    Ok(())
}

fn what_next(place: &Place) {
    println!("\nNext: `lifeboat init` makes a coordinator of your own, `lifeboat serve` runs it, and");
    println!("`lifeboat token create` gives the line to paste on the first server. README.md has the ten minutes.");
    if let Place::Kept(path) = place {
        println!("Kept: {}/repository and {}/restored", path.display(), path.display());
    }
}

/// Where the demo works.
enum Place {
    Kept(PathBuf),
    Passing(tempfile::TempDir),
}

impl Place {
    fn make(keep: Option<&Path>) -> Result<Self, DemoError> {
        let Some(path) = keep else {
            let directory = tempfile::Builder::new().prefix("lifeboat-demo-").tempdir();
            return directory
                .map(Self::Passing)
                .map_err(|source| DemoError::Io { doing: "make a temporary directory", source });
        };
        fs::create_dir_all(path).map_err(|source| DemoError::Io { doing: "make the directory to keep", source })?;
        let is_empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
        if !is_empty {
            return Err(DemoError::Place { problem: "the directory to keep is not empty", path: path.to_owned() });
        }
        let path =
            fs::canonicalize(path).map_err(|source| DemoError::Io { doing: "find the directory to keep", source })?;
        Ok(Self::Kept(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Passing(directory) => directory.path(),
        }
    }
}

/// How many bytes the files below a directory have, added up.
pub fn directory_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in walkdir::WalkDir::new(directory) {
        let entry = entry?;
        if entry.file_type().is_file() {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
