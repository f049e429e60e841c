//! Restores that are interrupted at any moment: the same command finishes them, and fetches little twice.

use crate::world::{World, noise, refused, said};
use lifeboat_coordinator::cli::demo::compare::compare;
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// What is under way when a restore is killed may be fetched again.
const TWICE_MAX: u64 = 64 << 20;

/// How much, and how often. More is tried by the two variables that CONTRIBUTING.md names.
fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// One file of half of it, some of a third together, and many small ones, as they come: at least so much in all.
fn fill(world: &World, mebibytes: usize) {
    let large = mebibytes * MIB / 2;
    let mut content = Vec::with_capacity(large);
    while content.len() < large {
        content.extend(noise(content.len() as u64, MIB));
    }
    world.write("a-large", &content);
    for at in 0..mebibytes * 36 / 1000 {
        world.write(&format!("middle/{at}"), &noise(7_000 + at as u64, 10 * MIB));
    }
    for at in 0..mebibytes * 20 {
        world.write(&format!("small/{}/{at}", at % 50), &noise(90_000 + at as u64, 100 + at * 7 % 15_000));
    }
    fs::hard_link(world.source().join("a-large"), world.source().join("small/link")).unwrap();
    fs::hard_link(world.source().join("small/1/1"), world.source().join("small/2/link")).unwrap();
}

fn begin(world: &World, target: &Path) -> Child {
    start(world, &["--to", target.to_str().unwrap()])
}

fn start(world: &World, arguments: &[&str]) -> Child {
    let address = world.address();
    let mut command = world.lab.lifeboat_command();
    command.args(["restore", &address]).args(arguments);
    let told = fs::File::create(world.path("told")).unwrap();
    command.stdout(Stdio::null()).stderr(told).spawn().unwrap()
}

/// Bytes that the coordinator has written so far, as the kernel counts them: what it sends, above all.
fn sent(world: &World) -> u64 {
    let pid = world.lab.pid(Side::Coordinator).unwrap();
    let counts = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    counts.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

/// Nothing but the tree, which is what it was.
fn assert_whole(world: &World, target: &Path) {
    let differences = compare(&world.source(), target).unwrap().differences;
    assert!(differences.is_empty(), "{}", differences.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
}

/// Who writes: the command itself, or a server by order.
#[derive(Debug, Clone, Copy)]
enum By {
    Command,
    Agent,
}

impl By {
    fn begin(self, world: &World, name: &str) -> Child {
        match self {
            Self::Command => begin(world, &self.target(world, name)),
            Self::Agent => start(world, &["--on", "server", "--into", name, "--wait"]),
        }
    }

    fn target(self, world: &World, name: &str) -> PathBuf {
        match self {
            Self::Command => world.path(name),
            Self::Agent => world.path("agent/restore").join(name),
        }
    }

    /// How long a restore takes that nobody interrupts, and how many bytes the coordinator sends for it.
    fn measure(self, world: &World) -> (Duration, u64) {
        let (before, started) = (sent(world), Instant::now());
        assert!(self.begin(world, "whole").wait().unwrap().success());
        let measured = (started.elapsed(), sent(world) - before);
        fs::remove_dir_all(self.target(world, "whole")).unwrap();
        measured
    }
}

/// A restore here and one on a server in turn; of the first the command is killed or the coordinator, of the second the
/// agent or the coordinator.
#[test]
fn inv_16_a_restore_that_is_killed_at_any_moment_is_finished_by_the_same_command() {
    let (kills, mebibytes) = (size("LIFEBOAT_KILLS", 20), size("LIFEBOAT_RESTORE_MIB", 200));
    let world = World::new();
    fill(&world, mebibytes);
    world.backed_up();
    let measured = [By::Command, By::Agent].map(|by| (by, by.measure(&world)));
    let (mut killed, mut finished, mut twice) = (0, 0, 0);
    while killed < kills {
        let (by, (takes, costs)) = measured[finished % 2];
        let target = by.target(&world, "target");
        let (mut this_costs, mut this_kills) = (0, 0);
        let mut is_done = false;
        while !is_done {
            let mut counted = sent(&world);
            let (mut restore, before) = (by.begin(&world, "target"), killed);
            let ended = loop {
                if killed == kills {
                    break restore.wait().unwrap();
                }
                // Uneven moments, never the same twice, at most somewhat longer than the whole takes; or took: a
                // machine that has less to do by now must not be waited for at the same moment again and again.
                let seed = (killed + 1000 * finished) as u64;
                thread::sleep(takes.mul_f64(f64::from(noise(seed, 1)[0]) / 250.0));
                if let Some(ended) = restore.try_wait().unwrap() {
                    break ended;
                }
                killed += 1;
                this_kills += 1;
                match by {
                    _ if killed % 3 == 0 => {
                        this_costs += sent(&world) - counted;
                        world.lab.kill(Side::Coordinator);
                        world.lab.serve().unwrap();
                        counted = sent(&world);
                        break restore.wait().unwrap();
                    }
                    By::Command => {
                        restore.kill().unwrap();
                        break restore.wait().unwrap();
                    }
                    // The job goes on with the next agent, and so does the command that waits for it.
                    By::Agent => {
                        world.lab.kill(Side::Agent);
                        world.lab.run_agent().unwrap();
                    }
                }
            };
            this_costs += sent(&world) - counted;
            is_done = ended.success();
            let told = fs::read_to_string(world.path("told")).unwrap();
            assert!(is_done || killed > before, "{by:?}, and nobody killed anything: {ended}: {told}");
        }
        assert_whole(&world, &target);
        fs::remove_dir_all(&target).unwrap();
        let again = this_costs.saturating_sub(costs);
        // What a kernel counts is never twice the same.
        assert!(again <= TWICE_MAX * this_kills + MIB as u64, "{by:?}: {again} bytes twice in {this_kills} kills");
        (finished, twice) = (finished + 1, twice + again);
    }
    println!("{killed} kills, {finished} restores of {measured:?}; {twice} bytes were sent twice");
}

#[test]
fn an_unfinished_restore_goes_on_with_its_snapshot_and_is_in_the_way_of_others() {
    let world = World::new();
    world.write("large", &noise(1, 64 * MIB));
    world.write("small", b"as it was");
    world.backed_up();
    let target = world.path("target");
    let mut restore = begin(&world, &target);
    while !target.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(30));
    let pid = rustix::process::Pid::from_child(&restore);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!restore.wait().unwrap().success());
    let told = fs::read_to_string(world.path("told")).unwrap();
    assert!(told.contains("stopped before its end") && told.contains("the same restore goes on"), "{told}");
    let original = world.path("original");
    fs::rename(world.source(), &original).unwrap();
    fs::create_dir(world.source()).unwrap();
    world.write("large", &noise(2, 64 * MIB));
    world.write("small", b"as it is now");
    world.backed_up();
    let call = |arguments: &[&str]| world.lab.try_lifeboat(arguments).unwrap();
    let (address, to) = (world.address(), target.to_str().unwrap());
    refused(&call(&["restore", &format!("{address}/small"), "--to", to]), &["was not finished", "--overwrite"]);
    let output = call(&["restore", &address, "--to", to]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("going on with snapshot"), "{}", said(&output));
    assert_eq!(fs::read(target.join("small")).unwrap(), b"as it was");
    assert_eq!(fs::read(target.join("large")).unwrap(), noise(1, 64 * MIB));
    assert_eq!(fs::read_dir(&target).unwrap().count(), 2, "no temporary file is left");
    for more in [&[][..], &["--dry-run"]] {
        refused(&call(&[&["restore", &address, "--to", to], more].concat()), &["is not empty", "--overwrite"]);
    }
}

#[test]
fn a_second_interrupt_does_not_wait_for_a_coordinator_that_is_silent() {
    let world = World::new();
    world.write("large", &noise(1, 64 * MIB));
    world.backed_up();
    let target = world.path("target");
    let mut restore = begin(&world, &target);
    while !target.exists() {
        thread::sleep(Duration::from_millis(1));
    }
    let pid_of = |raw| rustix::process::Pid::from_raw(raw).unwrap();
    let coordinator = pid_of(world.lab.pid(Side::Coordinator).unwrap() as i32);
    let command = rustix::process::Pid::from_child(&restore);
    let send = |pid, signal| rustix::process::kill_process(pid, signal).unwrap();
    send(coordinator, rustix::process::Signal::STOP);
    send(command, rustix::process::Signal::INT);
    thread::sleep(Duration::from_millis(300));
    let first = restore.try_wait().unwrap();
    if first.is_none() {
        send(command, rustix::process::Signal::INT);
    }
    let ended = restore.wait().unwrap();
    send(coordinator, rustix::process::Signal::CONT);
    assert_eq!((first, ended.code()), (None, Some(130)), "{}", fs::read_to_string(world.path("told")).unwrap());
    assert!(begin(&world, &target).wait().unwrap().success());
    assert_whole(&world, &target);
}

#[test]
fn inv_16_a_restore_whose_end_nobody_saw_is_told_again_if_all_of_it_is_there() {
    let world = World::new();
    world.write("file", b"as it was");
    world.write("directory/large", &noise(1, 4 * MIB));
    world.backed_up();
    let address = world.address();
    let here = world.path("target");
    for (target, more) in [
        (here.clone(), &["--to", here.to_str().unwrap()][..]),
        (world.path("agent/restore/there"), &["--on", "server", "--into", "there", "--wait"]),
    ] {
        let restore = || world.lab.try_lifeboat(&[&["restore", &address], more].concat()).unwrap();
        let restored = || {
            let output = restore();
            assert!(output.status.success(), "{more:?}: {}", said(&output));
            assert_whole(&world, &target);
            said(&output)
        };
        restored();
        let changed = || fs::metadata(target.join("file")).unwrap().ctime_nsec();
        let before = changed();
        assert!(restored().contains("restored 3 entries"), "{more:?}");
        assert_eq!(changed(), before, "{more:?}: nothing was touched");
        fs::write(target.join("file"), "work of today").unwrap();
        refused(&restore(), &["holds this restore", "1 entry is not as then", "--overwrite"]);
        assert_eq!(fs::read(target.join("file")).unwrap(), b"work of today");
        for name in ["file", "directory/large"] {
            fs::remove_file(target.join(name)).unwrap();
        }
        fs::remove_dir(target.join("directory")).unwrap();
        restored();
    }
    world.write("file", b"newer");
    world.backed_up();
    let again = world.lab.try_lifeboat(&["restore", &address, "--to", here.to_str().unwrap()]).unwrap();
    refused(&again, &["is not empty", "--overwrite"]);
}

#[test]
fn two_restores_into_one_directory_do_not_meet() {
    let world = World::new();
    world.write("large", &noise(1, 128 * MIB));
    world.backed_up();
    let target = world.path("target");
    let mut first = begin(&world, &target);
    while !fs::read_dir(&target).is_ok_and(|mut names| names.next().is_some()) {
        thread::sleep(Duration::from_millis(1));
    }
    let address = world.address();
    let second = ["restore", &address, "--to", target.to_str().unwrap()];
    refused(&world.lab.try_lifeboat(&second).unwrap(), &["another restore is writing into"]);
    assert!(first.wait().unwrap().success());
    assert_whole(&world, &target);
}

#[test]
fn a_target_that_lies_in_a_place_of_lifeboat_is_refused() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let address = world.address();
    for target in ["repository", "repository/packs", "coordinator/restored", "agent", "agent/restored"] {
        let to = world.path(target);
        let output =
            world.lab.try_lifeboat(&["restore", &address, "--to", to.to_str().unwrap(), "--overwrite", "always"]);
        refused(&output.unwrap(), &["belongs to Lifeboat on this machine", "name another directory"]);
    }
}

/// As root, because only root gives files to others.
mod as_root {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::time::SystemTime;

    /// A power cut may leave of a file its size and time without its content, and of a directory all but a name.
    #[test]
    fn inv_16_what_a_restore_gave_to_others_is_checked_when_it_goes_on() {
        const ANOTHER: u32 = 1234;
        let world = World::new();
        let set_time = |path: &Path, time| fs::File::open(path).unwrap().set_modified(time).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        world.write("blocked/file", b"content");
        world.write("entered/file", b"content");
        world.write("of-another/file", b"content");
        world.write("of-another/lost", b"content");
        let directory = world.source().join("of-another");
        for path in [directory.join("file"), directory.join("lost"), directory.clone()] {
            chown(&path, Some(ANOTHER), Some(ANOTHER)).unwrap();
            set_time(&path, long_ago);
        }
        world.backed_up();
        for mode in ["always", "if-changed", "if-newer", "never"] {
            let target = world.path(mode);
            // Nothing can be made in it, so the restore does not come to its end.
            let blocked = target.join("blocked");
            fs::create_dir_all(&blocked).unwrap();
            let change_flags = |change| {
                assert!(Command::new("chattr").args([change, blocked.to_str().unwrap()]).status().unwrap().success());
            };
            change_flags("+i");
            let restore = || {
                let address = world.address();
                let to = target.to_str().unwrap();
                world.lab.try_lifeboat(&["restore", &address, "--to", to, "--overwrite", mode]).unwrap()
            };
            assert_eq!(restore().status.code(), Some(3), "{mode}");
            let restored = target.join("of-another");
            fs::write(restored.join("file"), b"\0\0\0\0\0\0\0").unwrap();
            set_time(&restored.join("file"), long_ago);
            fs::remove_file(restored.join("lost")).unwrap();
            set_time(&restored, long_ago);
            // One that went on from there, and was interrupted in its turn, had just begun to write into this one.
            fs::set_permissions(target.join("entered"), fs::Permissions::from_mode(0o1755)).unwrap();
            fs::remove_file(target.join("entered/file")).unwrap();
            change_flags("-i");
            let output = restore();
            assert!(output.status.success(), "{mode}: {}", said(&output));
            for directory in ["entered", "of-another"] {
                let differences =
                    compare(&world.source().join(directory), &target.join(directory)).unwrap().differences;
                let named: Vec<_> = differences.iter().map(ToString::to_string).collect();
                assert!(named.is_empty(), "{mode}: {directory}: {named:?}");
            }
        }
    }
}
