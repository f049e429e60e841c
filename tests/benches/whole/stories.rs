//! The benchmarks, one a function.

use crate::data;
use crate::figures::{Median, ROUNDS, mib, ratio, row, seconds};
use crate::fleet;
use crate::measure::Took;
use crate::peers::{BackupTook, Failure, Lifeboat, Restic, cp_a, tar_zstd};
use crate::start;
use lifeboat_coordinator::cli::demo::lab::{Side, Usage};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// One benchmark.
pub struct Story {
    /// What to call it by.
    pub name: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// Runs it below an empty directory.
    pub tell: fn(&Path) -> Result<(), Failure>,
}

/// All benchmarks, in the order in which they run.
pub const ALL: [Story; 11] = [
    Story { name: "memory", about: "memory does not grow with the number of files", tell: memory },
    Story { name: "unchanged", about: "a second backup of a million unchanged files", tell: unchanged },
    Story { name: "system", about: "first backup and restore of /usr", tell: system },
    Story { name: "texts", about: "200,000 small texts, and 1.5 % of them changed", tell: texts },
    Story { name: "hosts", about: "five similar server roots", tell: hosts },
    Story { name: "million", about: "finding, mounting, dumping and restoring a million files", tell: million },
    Story { name: "changed", about: "a file of 8 GB of which 1 % was changed in place comes back", tell: changed },
    Story { name: "fleet", about: "sixty servers send at once to a disk whose syncs take 4 s", tell: fleet::fleet },
    Story { name: "readers", about: "three hundred restores at once beside a long dump", tell: fleet::readers },
    Story { name: "lists", about: "lists of 120,000 snapshots", tell: fleet::lists },
    Story { name: "start", about: "a cold start with 500,000 batches in the journal", tell: start::start },
];

fn memory(place: &Path) -> Result<(), Failure> {
    let shapes = [("100,000 files, 1,000 in each directory", 100_000, 1000)]
        .into_iter()
        .chain([("1,000,000 files, 1,000 in each directory", 1_000_000, 1000)])
        .chain([("1,000,000 files in one directory", 1_000_000, 1_000_000)]);
    for (at, (what, count, in_each)) in shapes.enumerate() {
        let source = place.join(format!("source-{at}"));
        data::many_files(&source, count, in_each)?;
        let lifeboat = Lifeboat::start(&place.join(format!("lab-{at}")), &source)?;
        let took = lifeboat.backup()?;
        let (agent, coordinator) = lifeboat.usage();
        println!("{what}: {:.1} s", seconds(took.wall));
        row("  agent, peak MiB", format!("{:.1}", mib(agent.peak_bytes)), "at most 128");
        row("  coordinator, peak MiB", format!("{:.1}", mib(coordinator.peak_bytes)), "at most 384");
        drop(lifeboat);
        fs::remove_dir_all(&source)?;
    }
    Ok(())
}

/// The source lies on the disk: on a memory file system the times of a file do not prove that it is unchanged.
fn unchanged(place: &Path) -> Result<(), Failure> {
    let on_disk = tempfile::Builder::new().prefix("lifeboat-bench-").tempdir()?;
    let source = on_disk.path().join("source");
    data::many_files(&source, 1_000_000, 1000)?;
    // A file that changed within 73 seconds before it is read is read once more.
    std::thread::sleep(Duration::from_secs(75));
    let lifeboat = Lifeboat::start(&place.join("lab"), &source)?;
    let first = lifeboat.backup()?;
    let again = lifeboat.backup()?;
    row("first backup, s", format!("{:.2}", seconds(first.wall)), "");
    row("second backup, s", format!("{:.2}", seconds(again.wall)), "");
    row("  CPU of agent, s", format!("{:.2}", seconds(again.agent)), "");
    row("  CPU of coordinator, s", format!("{:.2}", seconds(again.coordinator)), "");

    let pid = lifeboat.lab.pid(Side::Agent).ok_or("the agent is not running")?;
    let trace = place.join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=open,openat,openat2", "-o"])
        .arg(&trace)
        .args(["-p", &pid.to_string()])
        .stderr(Stdio::null())
        .spawn()?;
    std::thread::sleep(Duration::from_millis(500));
    let sent_before = loopback_bytes()?;
    lifeboat.backup()?;
    let sent = loopback_bytes()? - sent_before;
    kill_process(Pid::from_child(&strace), Signal::INT)?;
    strace.wait()?;
    let opens = fs::read_to_string(&trace)?;
    let opened_files = opens.lines().filter(|line| line.contains("file-") && !line.contains("ENOENT")).count();
    row("files of the source opened, seen by strace", opened_files, "0");
    row("bytes over loopback, both ways, with all headers", sent, "below 1,048,576 sent");
    Ok(())
}

/// What went over the loopback interface since the machine started.
fn loopback_bytes() -> Result<u64, Failure> {
    Ok(fs::read_to_string("/sys/class/net/lo/statistics/tx_bytes")?.trim().parse()?)
}

/// What each round of `system` gave, in turn, so that a machine that slows down slows all sides down.
#[derive(Default)]
struct Rounds {
    backups: Vec<BackupTook>,
    repositories: Vec<u64>,
    restores: Vec<Took>,
    stated: Vec<f64>,
    peaks: Vec<(u64, u64)>,
    restic_backups: Vec<Took>,
    restic_restores: Vec<Took>,
    tars: Vec<Took>,
    copies: Vec<Took>,
}

fn system(place: &Path) -> Result<(), Failure> {
    let source = Path::new("/usr");
    tar_zstd(source)?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        system_round(place, source, &mut rounds)?;
    }
    let wall = |took: &[Took]| took.iter().map(|took| seconds(took.wall)).collect::<Vec<_>>();
    let peak = |took: &[Took]| Median::of(took.iter().map(|took| mib(took.peak_bytes)));
    let cpu = |took: &[Took]| Median::of(took.iter().map(|took| seconds(took.cpu)));
    let ours: Vec<_> = rounds.backups.iter().map(|took| seconds(took.wall)).collect();
    row("backup, s", Median::of(ours.clone()), "");
    row("  CPU of agent, s", Median::of(rounds.backups.iter().map(|took| seconds(took.agent))), "");
    row("  CPU of coordinator, s", Median::of(rounds.backups.iter().map(|took| seconds(took.coordinator))), "");
    row("  agent, peak MiB", Median::of(rounds.peaks.iter().map(|peak| mib(peak.0))), "");
    row("  repository, MiB", Median::of(rounds.repositories.iter().map(|bytes| mib(*bytes))), "");
    row("backup by restic, s", Median::of(wall(&rounds.restic_backups)), "");
    row("  CPU, s", cpu(&rounds.restic_backups), "");
    row("  peak MiB", peak(&rounds.restic_backups), "");
    row("tar | zstd -3 -T2, s", Median::of(wall(&rounds.tars)), "");
    row("backup / restic", ratio(&ours, &wall(&rounds.restic_backups)), "at most 1");
    row("backup / (tar | zstd)", ratio(&ours, &wall(&rounds.tars)), "aim: 1.15");
    row("restore, s", Median::of(wall(&rounds.restores)), "");
    row("  CPU of the command, s", cpu(&rounds.restores), "");
    row("  the command, peak MiB", peak(&rounds.restores), "");
    let true_times = wall(&rounds.restores);
    row("  stated time / true time", ratio(&rounds.stated, &true_times), "0.7 to 1.3, from 20 s on");
    row("  coordinator, peak MiB, backup and restore", Median::of(rounds.peaks.iter().map(|peak| mib(peak.1))), "");
    row("restore by restic, s", Median::of(wall(&rounds.restic_restores)), "");
    row("  CPU, s", cpu(&rounds.restic_restores), "");
    row("  peak MiB", peak(&rounds.restic_restores), "");
    row("cp -a, s", Median::of(wall(&rounds.copies)), "");
    row("restore / restic", ratio(&wall(&rounds.restores), &wall(&rounds.restic_restores)), "at most 1");
    row("restore / cp -a", ratio(&wall(&rounds.restores), &wall(&rounds.copies)), "aim: 2");
    Ok(())
}

fn system_round(place: &Path, source: &Path, rounds: &mut Rounds) -> Result<(), Failure> {
    let (lab, repository, target) = (place.join("lab"), place.join("restic"), place.join("restored"));
    let lifeboat = Lifeboat::start(&lab, source)?;
    let restic = Restic::start(&repository)?;
    rounds.backups.push(lifeboat.backup()?);
    rounds.restic_backups.push(restic.backup(source)?);
    rounds.tars.push(tar_zstd(source)?);
    rounds.repositories.push(lifeboat.repository_bytes()?);
    let emptied = |took: Result<Took, Failure>| took.and_then(|took| Ok(fs::remove_dir_all(&target).map(|()| took)?));
    rounds.stated.push(lifeboat.stated(&target)?);
    rounds.restores.push(emptied(lifeboat.restore(&target))?);
    rounds.restic_restores.push(emptied(restic.restore(&target))?);
    rounds.copies.push(emptied(cp_a(source, &target))?);
    let (agent, coordinator) = lifeboat.usage();
    rounds.peaks.push((agent.peak_bytes, coordinator.peak_bytes));
    drop(lifeboat);
    for directory in [lab, repository, place.join("restic.cache")] {
        fs::remove_dir_all(directory)?;
    }
    Ok(())
}

fn texts(place: &Path) -> Result<(), Failure> {
    const COUNT: u64 = 200_000;
    let lines = data::lines_of_this_machine()?;
    let source = place.join("source");
    data::small_texts(&source, COUNT, &lines)?;
    let lifeboat = Lifeboat::start(&place.join("lab"), &source)?;
    let restic = Restic::start(&place.join("restic"))?;
    let took = lifeboat.backup()?;
    let restic_took = restic.backup(&source)?;
    let (ours, theirs) = (lifeboat.repository_bytes()?, restic.repository_bytes()?);
    row("first backup, s; restic, s", format!("{:.1}; {:.1}", seconds(took.wall), seconds(restic_took.wall)), "");
    row("repository, MiB; restic's", format!("{:.1}; {:.1}", mib(ours), mib(theirs)), "");
    row("repository / restic's", format!("{:.3}", ours as f64 / theirs as f64), "below 1");
    data::change_texts(&source, COUNT, 67, &lines)?;
    lifeboat.backup()?;
    restic.backup(&source)?;
    let grown = (lifeboat.repository_bytes()? - ours, restic.repository_bytes()? - theirs);
    row("growth after 1.5 % changed, MiB; restic's", format!("{:.1}; {:.1}", mib(grown.0), mib(grown.1)), "");
    row("growth / restic's", format!("{:.3}", grown.0 as f64 / grown.1 as f64), "at most 1");
    Ok(())
}

fn hosts(place: &Path) -> Result<(), Failure> {
    let base = place.join("base");
    fs::create_dir_all(base.join("usr"))?;
    for part in ["bin", "sbin", "share", "lib/python3", "lib/x86_64-linux-gnu"] {
        let from = Path::new("/usr").join(part);
        if let (true, Some(parent)) = (from.exists(), base.join("usr").join(part).parent()) {
            fs::create_dir_all(parent)?;
            cp_a(&from, parent)?;
        }
    }
    cp_a(Path::new("/etc"), &base)?;
    let roots: Vec<_> = (0..5).map(|server| place.join(format!("server-{server}"))).collect();
    for (server, root) in roots.iter().enumerate() {
        data::server_root(&base, root, server as u64)?;
    }
    // On its server each root lies at the same place. So it does here, in turn, for both.
    let root = place.join("root");
    fs::create_dir(&root)?;
    let mut lifeboat = Lifeboat::start(&place.join("lab"), &root)?;
    fs::remove_dir(&root)?;
    let restic = Restic::start(&place.join("restic"))?;
    for (server, directory) in roots.iter().enumerate() {
        fs::rename(directory, &root)?;
        lifeboat.use_set(&format!("server-{server}"))?;
        lifeboat.backup()?;
        restic.backup(&root)?;
        fs::rename(&root, directory)?;
    }
    let (ours, theirs) = (lifeboat.repository_bytes()?, restic.repository_bytes()?);
    row("repository, MiB; restic's", format!("{:.1}; {:.1}", mib(ours), mib(theirs)), "");
    row("repository / restic's", format!("{:.3}", ours as f64 / theirs as f64), "at most 1");
    Ok(())
}

fn million(place: &Path) -> Result<(), Failure> {
    const COUNT: u64 = 1_000_000;
    let source = place.join("source");
    data::many_files(&source, COUNT, 1000)?;
    let lifeboat = Lifeboat::start(&place.join("lab"), &source)?;
    lifeboat.backup()?;
    let first = lifeboat.newest()?;
    for at in (0..COUNT).step_by(10_000) {
        fs::write(source.join(format!("d{:05}/file-{at:07}.txt", at / 1000)), "changed")?;
    }
    lifeboat.backup()?;
    let at = |path: &str| format!("bench:{}{path}", source.display());
    let (file, directory) = (at("/d00500/file-0500123.txt"), at("/d00500"));
    let before = format!("{}@{first}", at(""));
    for (what, arguments, asked) in [
        ("one file, to standard output, s", vec!["cat", &file], "at most 0.3"),
        ("a directory, listed, s", vec!["ls", "-l", &directory], "at most 0.3"),
        ("what changed, 100 files, s", vec!["diff", &before, "latest"], "at most 1"),
        ("the versions of a file, s", vec!["versions", &file], ""),
        ("one name, searched in all, s", vec!["find", "file-0500123.txt", "bench"], ""),
    ] {
        let took = (0..5).map(|_| lifeboat.call(&arguments)).collect::<Result<Vec<_>, _>>()?;
        row(what, Median::of(took.iter().map(|took| seconds(took.wall))), asked);
    }
    let target = place.join("restored");
    let stated = lifeboat.stated(&target)?;
    let restored = lifeboat.restore(&target)?;
    let copied = cp_a(&source, &place.join("copied"))?;
    fs::remove_dir_all(place.join("copied"))?;
    row("restore, s; cp -a", format!("{:.1}; {:.1}", seconds(restored.wall), seconds(copied.wall)), "");
    row("  stated time / true time", format!("{:.2}", stated / seconds(restored.wall)), "0.7 to 1.3");
    row("  the command, peak MiB", format!("{:.1}", mib(restored.peak_bytes)), "at most 256");
    fs::remove_dir_all(target)?;
    for format in ["tar", "zip"] {
        let dumped = lifeboat.call_into(&["dump", &at(""), "--format", format], Path::new("/dev/null"))?;
        row(&format!("dump as {format}, s"), format!("{:.1}", seconds(dumped.wall)), "");
        row("  the command, peak MiB", format!("{:.1}", mib(dumped.peak_bytes)), "at most 256");
    }
    let mounted = place.join("mounted");
    fs::create_dir(&mounted)?;
    let mut command = lifeboat.lab.lifeboat_command();
    let mut child = command.args(["mount", "bench@latest"]).arg(&mounted).stderr(Stdio::null()).spawn()?;
    while fs::read_dir(&mounted)?.next().is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = Command::new("find").arg(&mounted).args(["-type", "f", "-newermt", "2000-01-01"]).output()?;
    let count = found.stdout.iter().filter(|byte| **byte == b'\n').count();
    if count as u64 != COUNT {
        return Err(format!("{count} files are in the mount").into());
    }
    let peak = Usage::of(child.id())?.peak_bytes;
    row("a mount, all attributes looked at, peak MiB", format!("{:.1}", mib(peak)), "at most 256");
    Command::new("umount").arg(&mounted).status()?;
    child.wait()?;
    Ok(())
}

/// On the disk, for three times 8 GB.
fn changed(_: &Path) -> Result<(), Failure> {
    const BYTES: u64 = 8_000_000_000;
    const PLACES: u64 = 80;
    let place = tempfile::Builder::new().prefix("lifeboat-bench-").tempdir()?;
    let source = place.path().join("source");
    fs::create_dir(&source)?;
    data::large_file(&source.join("database"), BYTES, 17)?;
    let lifeboat = Lifeboat::start(&place.path().join("lab"), &source)?;
    lifeboat.backup()?;
    let first = lifeboat.newest()?;
    let target = place.path().join("target");
    let stated = lifeboat.stated(&target)?;
    let restored = lifeboat.restore(&target)?;
    row("restore of all of it, s", format!("{:.1}", seconds(restored.wall)), "");
    row("  stated time / true time", format!("{:.2}", stated / seconds(restored.wall)), "0.7 to 1.3");
    let changed = data::change_places(&target.join("database"), PLACES, BYTES / PLACES, BYTES / 100 / PLACES)?;
    let address = format!("bench:{}@{first}", source.display());
    let shown = target.display().to_string();
    let arguments = ["restore", &address, "--to", &shown, "--overwrite", "always", "--json"];
    let output = lifeboat.lab.lifeboat(&arguments)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told: serde_json::Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
    let fetched = told["fetched_bytes"].as_u64().ok_or("the restore does not say what it fetched")?;
    row("changed, % of the file", format!("{:.3}", 100.0 * changed as f64 / BYTES as f64), "");
    row("fetched, % of the file", format!("{:.3}", 100.0 * fetched as f64 / BYTES as f64), "at most 2");
    let same = Command::new("cmp").arg(source.join("database")).arg(target.join("database")).status()?;
    if !same.success() {
        return Err("what was restored differs".into());
    }
    Ok(())
}
