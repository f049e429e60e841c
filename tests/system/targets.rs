//! Targets that are in the way: each ends in a clear message and a state that the same command finishes.

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
