//! Targets that are in the way: each ends in a clear message and a state that the same command finishes.

use crate::world::{World, said, summary_of};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

#[test]
fn a_target_whose_name_is_not_utf8_is_restored_into_and_known_again() {
    let world = World::new();
    world.write("file", b"content");
    world.backed_up();
    let address = world.address();
    for name in [&b"t\xff"[..], b"t\xfe"] {
        let target = world.directory.path().join(OsStr::from_bytes(name));
        for round in ["new", "the same again"] {
            let mut command = world.lab.lifeboat_command();
            let output = command.args(["restore", &address, "--to"]).arg(&target).output().unwrap();
            assert!(output.status.success(), "{round}: {}", said(&output));
            assert_eq!(fs::read(target.join("file")).unwrap(), b"content", "{round}");
        }
    }
}

#[test]
fn one_file_goes_into_the_directory_under_its_own_name_and_its_path_is_printed() {
    let world = World::new();
    world.write("etc/file.conf", b"content");
    world.backed_up();
    let (address, to) = (format!("{}/etc/file.conf", world.address()), world.path("new-name"));
    let restored = to.join("file.conf");
    for dry_run in [true, false] {
        let flags: &[&str] = if dry_run { &["--dry-run"] } else { &[] };
        let arguments = [&["restore", &address, "--to", to.to_str().unwrap()], flags].concat();
        let output = world.lab.try_lifeboat(&arguments).unwrap();
        let line = format!("the path of the file in the target is {}", restored.display());
        assert!(output.status.success() && said(&output).contains(&line), "{}", said(&output));
        assert_eq!(restored.exists(), !dry_run);
    }
    assert_eq!(fs::read(restored).unwrap(), b"content");
}

/// As README does it: the repository lies below what is restored, and perhaps in the snapshot too. So may the places of an
/// agent on the same machine.
#[test]
fn what_belongs_to_lifeboat_below_a_target_stays_and_is_named() {
    let world = World::new();
    for name in ["file", "repository/packs/planted", "coordinator/lifeboat.toml", "agent/policy.toml"] {
        world.write(name, b"of the snapshot");
    }
    world.backed_up();
    let (address, top) = (world.address(), world.directory.path());
    let settings = ["coordinator/lifeboat.toml", "agent/policy.toml"].map(|file| fs::read(world.path(file)).unwrap());
    fs::write(world.path("mine"), "mine").unwrap();
    let to = top.to_str().unwrap();
    let arguments = ["restore", &address, "--to", to, "--overwrite", "always", "--json"];
    let plan = summary_of(&world.lab.try_lifeboat(&[&arguments[..], &["--dry-run"]].concat()).unwrap());
    let output = world.lab.try_lifeboat(&arguments).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let done = summary_of(&output);
    assert_eq!(fs::read(world.path("file")).unwrap(), b"of the snapshot");
    assert_eq!(fs::read(world.path("coordinator/lifeboat.toml")).unwrap(), settings[0]);
    assert_eq!(fs::read(world.path("agent/policy.toml")).unwrap(), settings[1]);
    assert!(!world.path("repository/packs/planted").exists());
    for told in [&plan, &done] {
        assert_eq!(told["protected"], serde_json::json!(["/agent", "/coordinator", "/repository"]), "{told}");
        assert_eq!(told["kept"], 7, "what the snapshot has below them: {told}");
    }
    let people = world.lab.try_lifeboat(&arguments[..6]).unwrap();
    assert!(said(&people).contains("/repository: it belongs to Lifeboat on this machine"), "{}", said(&people));
}

/// As root, because only root mounts, and protects files.
mod as_root {
    use crate::disks::as_root::Disk;
    use crate::world::{World, noise, said, summary_of};
    use lifeboat_tests::mounted::Mounted;
    use std::fs;
    use std::io::{Read, Seek, Write};
    use std::process::{Command, Output};

    fn mirror(world: &World, to: &str) -> Output {
        let address = world.address();
        let arguments = ["restore", &address, "--to", to, "--overwrite", "always", "--delete", "--yes", "--json"];
        world.lab.try_lifeboat(&arguments).unwrap()
    }

    fn losses(output: &Output) -> String {
        summary_of(output)["losses"].to_string()
    }

    fn world() -> World {
        let world = World::new();
        for name in ["first", "protected/file", "last"] {
            world.write(name, name.as_bytes());
        }
        world.backed_up();
        world
    }

    #[test]
    fn what_is_immutable_is_named_and_stays_until_it_is_not() {
        let world = world();
        let target = world.path("target");
        fs::create_dir_all(target.join("protected")).unwrap();
        let file = target.join("protected/file");
        fs::write(&file, "protected").unwrap();
        let protect = |how: &str, path| assert!(Command::new("chattr").arg(how).arg(path).status().unwrap().success());
        protect("+i", &file);
        let refused = mirror(&world, target.to_str().unwrap());
        let content = fs::read(&file).unwrap();
        protect("-i", &file);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(losses(&refused).contains("chattr -ia"), "{}", losses(&refused));
        assert_eq!(content, b"protected");
        assert_eq!(fs::read(target.join("last")).unwrap(), b"last", "it does not stop the others");
        let again = mirror(&world, target.to_str().unwrap());
        assert!(again.status.success(), "{}", said(&again));
        assert_eq!(fs::read(&file).unwrap(), b"protected/file");
    }

    #[test]
    fn what_is_mounted_in_a_target_is_not_deleted() {
        let world = world();
        let target = world.path("target");
        let mounted = target.join("middle/mounted");
        fs::create_dir_all(&mounted).unwrap();
        fs::write(target.join("middle/stray"), "").unwrap();
        let disk = Disk::at(&mounted, 1);
        fs::write(mounted.join("of somebody"), "precious").unwrap();
        let refused = mirror(&world, target.to_str().unwrap());
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(losses(&refused).contains("a file system is mounted there"), "{}", losses(&refused));
        assert_eq!(fs::read(mounted.join("of somebody")).unwrap(), b"precious");
        assert!(!target.join("middle/stray").exists());
        drop(disk);
        let again = mirror(&world, target.to_str().unwrap());
        assert!(again.status.success(), "{}", said(&again));
        assert!(!target.join("middle").exists());
    }

    #[test]
    fn a_program_that_runs_and_a_file_that_is_open_go_on_with_what_they_have() {
        let world = World::new();
        world.write("log", b"as it was");
        world.write("program", &fs::read("/bin/true").unwrap());
        world.backed_up();
        let target = world.path("target");
        fs::create_dir(&target).unwrap();
        fs::copy("/bin/sleep", target.join("program")).unwrap();
        fs::write(target.join("log"), "as it is").unwrap();
        let mut open = fs::OpenOptions::new().read(true).append(true).open(target.join("log")).unwrap();
        let mut running = Command::new(target.join("program")).arg("60").spawn().unwrap();
        let output = mirror(&world, target.to_str().unwrap());
        assert!(output.status.success(), "{}", said(&output));
        assert!(running.try_wait().unwrap().is_none(), "it runs on");
        running.kill().unwrap();
        running.wait().unwrap();
        open.write_all(b", and goes on").unwrap();
        open.rewind().unwrap();
        let mut had = String::new();
        open.read_to_string(&mut had).unwrap();
        assert_eq!(had, "as it is, and goes on");
        assert_eq!(fs::read(target.join("log")).unwrap(), b"as it was");
        assert_eq!(fs::read(target.join("program")).unwrap(), fs::read("/bin/true").unwrap());
    }

    /// On exFAT, which has no owners, modes, or links besides.
    #[test]
    fn where_capital_and_small_letters_are_the_same_the_second_name_is_named_and_the_first_stays() {
        let Some(disk) = Mounted::new("exfat") else {
            println!(
                "left out: names that differ in case alone, which need mkfs.exfat, mount.exfat-fuse and a loop device"
            );
            return;
        };
        let world = World::new();
        for name in ["Directory/file", "README", "directory/other", "readme", "unlike"] {
            world.write(name, name.as_bytes());
        }
        world.write("large", &noise(1, 9 << 20));
        world.backed_up();
        let (address, target) = (world.address(), disk.top().join("restored"));
        let to = target.to_str().unwrap();
        for more in [&[][..], &["--overwrite", "always"], &["--overwrite", "never"]] {
            let arguments = [&["restore", &address, "--to", to, "--json"], more].concat();
            let output = world.lab.try_lifeboat(&arguments).unwrap();
            assert_eq!(output.status.code(), Some(3), "{}", said(&output));
            let summary = summary_of(&output);
            let losses = losses(&output);
            assert_eq!(summary["failed_entries"], 3, "{more:?}: {losses}");
            for name in ["/directory: ", "/directory/other: ", "/readme: "] {
                assert!(losses.contains(name), "{more:?}: {name} in {losses}");
            }
            assert!(losses.contains("capital and small letters"), "{losses}");
            let mut names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            assert_eq!(names, ["Directory", "README", "large", "unlike"], "{more:?}");
            for name in ["Directory/file", "README", "unlike"] {
                assert_eq!(fs::read(target.join(name)).unwrap(), name.as_bytes(), "{more:?}");
            }
            assert_eq!(fs::read(target.join("large")).unwrap(), noise(1, 9 << 20));
        }
    }

    /// As root, because only root mounts.
    #[test]
    fn what_is_restored_below_a_mount_point_is_there_too() {
        let world = world();
        let target = world.path("target");
        fs::create_dir_all(target.join("protected")).unwrap();
        let _disk = Disk::at(&target.join("protected"), 1);
        let address = world.address();
        let trace = world.path("trace");
        let lifeboat = world.lab.lifeboat_command();
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-e", "trace=syncfs", "-o"]).arg(&trace).arg(lifeboat.get_program());
        command.args(["restore", &address, "--to", target.to_str().unwrap(), "--overwrite", "always"]);
        let Ok(output) = command.envs(world.settings()).output() else {
            println!("left out: which file systems are synced, which needs strace");
            return;
        };
        assert!(output.status.success(), "{}", said(&output));
        let traced = fs::read_to_string(&trace).unwrap();
        for synced in [&target, &target.join("protected")] {
            assert!(traced.contains(&format!("<{}>)", synced.display())), "{synced:?}: {traced}");
        }
    }

    #[test]
    fn a_target_that_is_read_only_is_said_so() {
        let world = world();
        let small = world.path("small");
        fs::create_dir_all(&small).unwrap();
        let _disk = Disk::at(&small, 1);
        let remount = |how: &str| {
            let mount = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&small).status().unwrap();
            assert!(mount.success());
        };
        remount("ro");
        let target = small.join("target");
        let refused = mirror(&world, target.to_str().unwrap());
        remount("rw");
        crate::world::refused(&refused, &["Read-only file system", "target"]);
        let again = mirror(&world, target.to_str().unwrap());
        assert!(again.status.success(), "{}", said(&again));
    }
}
