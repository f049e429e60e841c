//! Snapshots as directories, looked at by ordinary programs.

use crate::world::{World, noise, refused, said};
use lifeboat_coordinator::cli::demo::compare::compare;
use lifeboat_coordinator::cli::demo::lab::Side;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A mount that ends with the test.
pub struct Mounted {
    child: Child,
    directory: PathBuf,
}

impl Mounted {
    pub fn at(world: &World, name: &str, address: &str) -> Self {
        Self::with(world, name, address, &[])
    }

    fn with(world: &World, name: &str, address: &str, options: &[&str]) -> Self {
        let directory = world.path(name);
        fs::create_dir(&directory).unwrap();
        let mut command = world.lab.lifeboat_command();
        let child =
            command.arg("mount").args(options).arg(address).arg(&directory).stderr(Stdio::inherit()).spawn().unwrap();
        let mounted = Self { child, directory };
        let begun = Instant::now();
        while fs::read_dir(&mounted.directory).unwrap().next().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it is not mounted");
            std::thread::sleep(Duration::from_millis(20));
        }
        mounted
    }

    /// Where the source of the world is in a snapshot.
    pub fn source(&self, world: &World, snapshot: &str) -> PathBuf {
        self.directory.join(snapshot).join(world.source().strip_prefix("/").unwrap())
    }

    /// Bytes that the process of the mount has read so far, from sockets above all.
    fn read_bytes(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// What Ctrl-C sends.
    fn interrupt(&self) {
        let sent = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Its memory at its peak, in KiB.
    fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.directory).output();
        let _ended = self.child.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

mod as_root {
    use super::*;
    use lifeboat_tests::torture;

    #[test]
    fn a_mounted_snapshot_is_what_was_backed_up_and_so_is_a_copy_of_it() {
        let world = World::new();
        torture::build(&world.source(), torture::Size { levels: 10, files: 3_000 });
        let output = world.backup();
        assert!(output.status.success(), "{}", said(&output));
        let mounted = Mounted::at(&world, "mount", "server");
        let there = mounted.source(&world, "latest");
        copy(&there, &world.path("copy"));
        copy(&world.source(), &world.path("copy of the source"));
        for (original, tree) in [(world.source(), there), (world.path("copy of the source"), world.path("copy"))] {
            let mut differences = compare(&original, &tree).unwrap().differences;
            // FUSE has no inode flags.
            differences.retain(|difference| difference.what != "flags");
            assert!(differences.is_empty(), "{}: {differences:?}", tree.display());
        }
        drop(mounted);
        ["source", "copy", "copy of the source"].iter().for_each(|name| torture::remove(&world.path(name)));
    }

    #[test]
    fn all_snapshots_are_directories_by_time_and_one_is_mounted_by_its_moment() {
        let world = World::new();
        world.write("file", b"one");
        let first = world.backed_up();
        std::thread::sleep(Duration::from_secs(1));
        world.write("file", b"two");
        world.backed_up();
        let all = Mounted::at(&world, "all", "server");
        let mut names: Vec<_> = fs::read_dir(&all.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names.pop().unwrap(), "latest");
        let listed = world.json(&["snapshots", "server", "--set", "data"]);
        assert_eq!(names.len(), listed.len(), "{names:?}");
        let newest = fs::read_link(all.directory.join("latest")).unwrap();
        assert_eq!(Some(newest.as_os_str()), names.last().map(|name| name.as_os_str()));
        let content =
            |mounted: &Mounted, name: &str| fs::read(mounted.source(&world, name).join("file")).unwrap_or_default();
        let with_one = names.iter().filter(|name| content(&all, name.to_str().unwrap()) == b"one");
        assert_eq!(with_one.count(), 1);
        assert_eq!(content(&all, "latest"), b"two");
        let one = Mounted::at(&world, "one", &format!("server@{first}"));
        assert_eq!(content(&one, "."), b"one");
        assert_eq!(
            fs::write(one.source(&world, ".").join("file"), "x").unwrap_err().raw_os_error(),
            Some(30),
            "read-only"
        );
        world.write("file", b"three");
        world.backed_up();
        let begun = Instant::now();
        while content(&all, "latest") != b"three" {
            assert!(begun.elapsed() < Duration::from_secs(30), "a new snapshot is not seen");
            fs::read_dir(&all.directory).unwrap().for_each(drop);
            std::thread::sleep(Duration::from_millis(500));
        }
        let run = |arguments: &[&str]| world.lab.try_lifeboat(arguments).unwrap();
        refused(&run(&["mount", "server:/etc", "/mnt"]), &["whole snapshots"]);
        refused(&run(&["mount", "server", world.source().to_str().unwrap()]), &["is not empty"]);
        refused(&run(&["mount", "server", "/no/such/place"]), &["cannot mount at /no/such/place"]);
        refused(&run(&["mount", "nobody", all.directory.to_str().unwrap()]), &["is not empty"]);
    }

    #[test]
    fn others_look_into_it_only_if_they_may_and_then_as_far_as_the_modes_of_the_files_allow() {
        let world = World::new();
        for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
            world.write(name, b"content");
            fs::set_permissions(world.source().join(name), Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).unwrap();
        world.backed_up();
        let allowed = Mounted::with(&world, "allowed", "server", &["--allow-other"]);
        let mounts = [(Mounted::at(&world, "mount", "server"), false), (allowed, true)];
        for (mounted, may) in mounts {
            for (name, is_open) in [("open", true), ("closed", false)] {
                let file = mounted.source(&world, "latest").join(name);
                let mut nobody = Command::new("setpriv");
                nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"]).arg(&file);
                assert_eq!(nobody.output().unwrap().stdout == b"content", may && is_open, "{may} {name}");
                assert_eq!(fs::read(file).unwrap(), b"content");
            }
        }
    }

    #[test]
    fn reads_here_and_there_fetch_what_they_need_and_a_file_is_read_ahead() {
        let world = World::new();
        let content = noise(1, 200 << 20);
        world.write("large", &content);
        world.backed_up();
        let mounted = Mounted::at(&world, "mount", "server@latest");
        let file = fs::File::open(mounted.source(&world, ".").join("large")).unwrap();
        let before = mounted.read_bytes();
        let mut piece = [0; 4_096];
        for place in [150 << 20, 10 << 20, 199 << 20, 77 << 20] {
            file.read_exact_at(&mut piece, place).unwrap();
            assert_eq!(piece[..], content[place as usize..][..4_096]);
        }
        let fetched = mounted.read_bytes() - before;
        assert!(fetched < 8 << 20, "{fetched} bytes for four pages");
        let all = fs::read(mounted.source(&world, ".").join("large")).unwrap();
        assert!(all == content);
        let fetched = mounted.read_bytes() - before;
        assert!(fetched < 220 << 20, "{fetched} bytes for 200 MiB: some came twice");
        let peak = mounted.peak_kib();
        assert!(peak < 256 << 10, "{peak} KiB");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_the_others_are_read() {
        let world = World::new();
        world.write("damaged", &noise(1, 3 << 20));
        world.write("other", b"other");
        world.backed_up();
        let packs = walkdir::WalkDir::new(world.path("repository/packs")).into_iter().map(Result::unwrap);
        let packs: Vec<_> = packs.filter(|entry| entry.file_type().is_file()).collect();
        let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap().path();
        let mut content = fs::read(largest).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(largest, content).unwrap();
        let mounted = Mounted::at(&world, "mount", "server");
        let there = mounted.source(&world, "latest");
        assert_eq!(fs::read(there.join("damaged")).unwrap_err().raw_os_error(), Some(5));
        assert_eq!(fs::read(there.join("other")).unwrap(), b"other");
        let mut start = [0; 100];
        fs::File::open(there.join("damaged")).unwrap().read_exact_at(&mut start, 0).unwrap();
        assert_eq!(start[..], noise(1, 100)[..], "what is not damaged of it can be read");
    }

    #[test]
    fn a_mount_that_was_in_use_at_the_first_ctrl_c_is_ended_by_a_later_one() {
        let world = World::new();
        world.write("file", b"content");
        world.backed_up();
        let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
        for leave in [true, false] {
            let name = format!("mount-{leave}");
            let mut mounted = Mounted::at(&world, &name, "server");
            let file = fs::File::open(mounted.source(&world, "latest").join("file")).unwrap();
            mounted.interrupt();
            let waited = Instant::now();
            assert!(table().contains(&name), "it is in use");
            let file = (!leave).then_some(file);
            // When the first signal was obeyed is not known; with the file closed, one more is enough.
            while table().contains(&name) {
                assert!(waited.elapsed() < Duration::from_secs(20), "it stays mounted");
                std::thread::sleep(Duration::from_millis(200));
                mounted.interrupt();
            }
            drop(file);
            assert!(matches!(mounted.child.wait().unwrap().code(), Some(0 | 130)));
        }
    }

    /// A service that stops, or a terminal that is closed: nobody presses Ctrl-C a second time.
    #[test]
    fn a_mount_that_is_in_use_is_detached_when_its_terminal_or_service_ends() {
        let world = World::new();
        world.write("file", b"content");
        world.backed_up();
        for signal in ["-TERM", "-HUP"] {
            let name = format!("mount{signal}");
            let mut mounted = Mounted::at(&world, &name, "server");
            let file = fs::File::open(mounted.source(&world, "latest").join("file")).unwrap();
            assert!(Command::new("kill").args([signal, &mounted.child.id().to_string()]).status().unwrap().success());
            let waited = Instant::now();
            while fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&name) {
                assert!(waited.elapsed() < Duration::from_secs(20), "it stays mounted");
                std::thread::sleep(Duration::from_millis(50));
            }
            let mut content = [0; 7];
            file.read_exact_at(&mut content, 0).unwrap();
            assert_eq!(&content, b"content", "what is open is served");
            drop(file);
            assert_eq!(mounted.child.wait().unwrap().code(), Some(0));
        }
    }

    /// The kernel asks; nobody may hang because a coordinator does.
    #[test]
    fn a_lost_coordinator_is_an_error_within_a_minute_and_what_comes_back_is_used() {
        let world = World::new();
        for file in 0..3 {
            world.write(&format!("file-{file}"), &noise(file, 1 << 20));
        }
        world.backed_up();
        let mounted = Mounted::at(&world, "mount", "server");
        let read = |file: u64| fs::read(mounted.source(&world, "latest").join(format!("file-{file}")));
        assert_eq!(read(0).unwrap(), noise(0, 1 << 20));
        let pid = world.lab.pid(Side::Coordinator).unwrap().to_string();
        let send = |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        send("-STOP");
        let begun = Instant::now();
        let stopped = read(1);
        let waited = begun.elapsed();
        send("-CONT");
        assert_eq!(stopped.unwrap_err().raw_os_error(), Some(5));
        assert!(waited < Duration::from_secs(60), "{waited:?}");
        // Who did not answer is left in peace for some seconds.
        let begun = Instant::now();
        while read(1).is_err() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(500));
        }
        assert_eq!(read(1).unwrap(), noise(1, 1 << 20));
        world.lab.kill(Side::Coordinator);
        assert_eq!(read(2).unwrap_err().raw_os_error(), Some(5));
        world.lab.serve().unwrap();
        assert_eq!(read(2).unwrap(), noise(2, 1 << 20), "with a new grant");
    }
}
