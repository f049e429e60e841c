//! Many hosts and many readers at once: what the coordinator takes, and whether anybody is turned away.

use crate::data;
use crate::figures::{mib, row, seconds};
use crate::peers::{Failure, Lifeboat};
use lifeboat_coordinator::cli::demo::lab::{Lab, Programs, Side};
use lifeboat_tests::many;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// How many servers send at once, and how much each.
const AGENTS: usize = 60;
const AGENT_BYTES: u64 = 24 << 20;
/// How many restores run at once beside the dump.
const RESTORES: usize = 300;
const DUMP_BYTES: u64 = 1 << 30;
/// How many snapshots are listed.
const SNAPSHOTS: usize = 120_000;

/// What makes each sync of a file last four seconds, as on a disk that is busy with others.
const SLOW_SYNC: &str = "#include <unistd.h>\n\
    int fsync(int fd) { sleep(4); return 0; }\n\
    int fdatasync(int fd) { sleep(4); return 0; }\n";

/// Sixty agents send at once to a coordinator whose disk syncs slowly.
pub fn fleet(place: &Path) -> Result<(), Failure> {
    let programs = Programs::find()?;
    let lab = Lab::create(place, programs.clone())?;
    lab.serve()?;
    let agents: Vec<_> = (0..AGENTS).map(|number| place.join(format!("agent-{number}"))).collect();
    for (number, directory) in agents.iter().enumerate() {
        enrol(&lab, &programs, directory, number)?;
    }
    lab.stop(Side::Coordinator)?;
    let (code, library) = (place.join("slow-sync.c"), place.join("slow-sync.so"));
    fs::write(&code, SLOW_SYNC)?;
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &code]).status()?;
    if !compiled.success() {
        return Err("the library that slows syncs down cannot be compiled".into());
    }
    lab.serve_with(&[("LD_PRELOAD", &library)])?;
    let started = Instant::now();
    let log = |number: usize| place.join(format!("agent-{number}.log"));
    let start = |(number, directory): (usize, &PathBuf)| {
        agent(&programs, &directory.join("state"))
            .args(["backup", "data"])
            .stderr(fs::File::create(log(number))?)
            .spawn()
    };
    let running = agents.iter().enumerate().map(start).collect::<Result<Vec<Child>, _>>()?;
    for (number, mut agent) in running.into_iter().enumerate() {
        let status = agent.wait()?;
        if !status.success() {
            let said = fs::read_to_string(log(number))?;
            return Err(format!("agent {number} ended with {status}: {said}").into());
        }
    }
    row(
        &format!("{AGENTS} agents, syncs of 4 s: all backed up after, s"),
        format!("{:.0}", seconds(started.elapsed())),
        "",
    );
    row("  coordinator, peak MiB", format!("{:.1}", mib(lab.usage(Side::Coordinator).peak_bytes)), "at most 384");
    Ok(())
}

fn agent(programs: &Programs, directory: &Path) -> Command {
    let mut command = Command::new(&programs.agent);
    command.env("LIFEBOAT_AGENT_STATE", directory).env("LIFEBOAT_AGENT_CONFIG", directory);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A host of its own, with a file that compresses with nothing.
fn enrol(lab: &Lab, programs: &Programs, directory: &Path, number: usize) -> Result<(), Failure> {
    let source = directory.join("source");
    fs::create_dir_all(&source)?;
    data::large_file(&source.join("file"), AGENT_BYTES, 1 + number as u64)?;
    let token = directory.join("token");
    fs::write(&token, lab.lifeboat(&["token", "create"])?.stdout)?;
    let name = format!("host-{number}");
    let state = directory.join("state");
    let enrolled = agent(programs, &state).args(["enrol", "--name", &name, "--token-file"]).arg(&token).output()?;
    if !enrolled.status.success() {
        return Err(String::from_utf8_lossy(&enrolled.stderr).into_owned().into());
    }
    let policy = format!("[limits]\nprocessors = 1\n[sources.data]\npaths = [{:?}]\n", source.to_string_lossy());
    Ok(fs::write(state.join("policy.toml"), policy)?)
}

/// Three hundred small restores at once while a long dump runs.
pub fn readers(place: &Path) -> Result<(), Failure> {
    let source = place.join("source");
    data::many_files(&source, RESTORES as u64, 1000)?;
    data::large_file(&source.join("large"), DUMP_BYTES, 17)?;
    let lifeboat = Lifeboat::start(&place.join("lab"), &source)?;
    lifeboat.backup()?;
    let address = |path: &str| format!("bench:{}{path}", source.display());
    let mut dump = lifeboat.lab.lifeboat_command();
    let mut dump = dump.args(["dump", &address(""), "--format", "tar"]).stdout(Stdio::piped()).spawn()?;
    let mut archive = dump.stdout.take().ok_or("the dump has no output")?;
    let started = Instant::now();
    let start = |number: usize| {
        let file = address(&format!("/d00000/file-{number:07}.txt"));
        let mut command = lifeboat.lab.lifeboat_command();
        command.args(["restore", &file, "--to"]).arg(place.join(format!("restored-{number}")));
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let restores = (0..RESTORES).map(start).collect::<Result<Vec<Child>, _>>()?;
    let mut failed = 0;
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    for mut restore in restores {
        // The dump goes on slowly, so that it outlasts the restores.
        taken += archive.read(&mut buffer)?;
        failed += u64::from(!restore.wait()?.success());
    }
    let all = started.elapsed();
    while let bytes @ 1.. = archive.read(&mut buffer)? {
        taken += bytes;
    }
    let is_whole = dump.wait()?.success() && taken as u64 > DUMP_BYTES;
    row(&format!("{RESTORES} restores at once beside a dump, s"), format!("{:.1}", seconds(all)), "");
    row("  restores that failed", failed, "0");
    row("  the dump is whole", is_whole, "true");
    row("  coordinator, peak MiB", format!("{:.1}", mib(lifeboat.usage().1.peak_bytes)), "at most 384");
    Ok(())
}

/// Lists of a repository with many snapshots.
pub fn lists(place: &Path) -> Result<(), Failure> {
    let source = place.join("source");
    data::many_files(&source, 10, 10)?;
    let lifeboat = Lifeboat::start(&place.join("lab"), &source)?;
    lifeboat.backup()?;
    let lab = &lifeboat.lab;
    for side in [Side::Agent, Side::Coordinator] {
        lab.stop(side)?;
    }
    many::add_snapshots(Path::new(&lab.path("coordinator")), SNAPSHOTS, None);
    lab.serve()?;
    let list = |what: &str, arguments: &[&str], goal| {
        let started = Instant::now();
        lab.lifeboat(arguments)?;
        row(what, format!("{:.2}", seconds(started.elapsed())), goal);
        Ok::<_, Failure>(())
    };
    list(&format!("{SNAPSHOTS} snapshots: the first list reads their manifests, s"), &["snapshots"], "")?;
    list("  each later one, s", &["snapshots"], "at most 5")?;
    list("  as JSON, s", &["snapshots", "--json"], "at most 5")?;
    list("  host list, s", &["host", "list"], "at most 1")?;
    list("  repository stats, s", &["repository", "stats"], "at most 5")?;
    row("  coordinator, peak MiB", format!("{:.1}", mib(lab.usage(Side::Coordinator).peak_bytes)), "at most 384");
    Ok(())
}
