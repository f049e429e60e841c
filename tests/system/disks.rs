//! Full disks, on either side: the message says which disk and what to do, and nothing that was acknowledged is lost.

pub mod as_root {
    use crate::world::{World, noise, refused, said};
    use lifeboat_coordinator::cli::demo::lab::Side;
    use lifeboat_tests::mounted::Mounted;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    const MIB: usize = 1 << 20;

    /// A small file system in memory; gone when dropped.
    pub struct Disk(PathBuf);

    impl Disk {
        /// Takes the place of a directory, with all that is in it.
        pub fn at(path: &Path, mib: usize) -> Self {
            let before = path.with_extension("before");
            fs::rename(path, &before).unwrap();
            fs::create_dir(path).unwrap();
            call(Command::new("mount").args(["-t", "tmpfs", "-o"]).arg(format!("size={mib}m")).arg("none").arg(path));
            let disk = Self(path.to_owned());
            call(Command::new("cp").arg("-a").arg(before.join(".")).arg(path));
            disk
        }

        fn grow(&self, mib: usize) {
            call(Command::new("mount").arg("-o").arg(format!("remount,size={mib}m")).arg(&self.0));
        }
    }

    impl Drop for Disk {
        fn drop(&mut self) {
            call(Command::new("umount").arg("--lazy").arg(&self.0));
        }
    }

    fn call(command: &mut Command) {
        assert!(command.status().unwrap().success(), "{command:?}");
    }

    /// A copy of the source as it is now.
    fn original(world: &World, name: &str) -> PathBuf {
        let copy = world.path(name);
        call(Command::new("cp").arg("-a").arg(world.source()).arg(&copy));
        copy
    }

    /// With a source of 4 MiB that is not backed up yet.
    fn with_a_repository_of_24_mib() -> (World, Disk) {
        let mut disk = None;
        let world = World::prepared(&std::env::temp_dir(), |directory| {
            fs::create_dir(directory.join("repository")).unwrap();
            disk = Some(Disk::at(&directory.join("repository"), 24));
        });
        world.write("first", &noise(1, 4 * MIB));
        (world, disk.unwrap())
    }

    #[test]
    fn a_full_repository_is_named_and_keeps_what_it_acknowledged() {
        let (world, disk) = with_a_repository_of_24_mib();
        let (before, first) = (world.backed_up(), original(&world, "first-state"));
        world.write("second", &noise(2, 40 * MIB));
        let output = world.backup();
        println!("{}", said(&output));
        let repository = world.lab.path("repository");
        refused(&output, &["no space left in the repository", &repository, "free space there or enlarge it"]);
        world.assert_restores(&before, &first, "while-full");
        disk.grow(96);
        let after = world.backed_up();
        world.assert_restores(&before, &first, "older");
        world.assert_restores(&after, &world.source(), "newer");
    }

    /// Takes what room there is on a disk, to the last byte.
    fn fill(path: &Path) {
        let mut file = fs::File::create(path).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    }

    #[test]
    fn inv_65_with_a_full_repository_everything_is_listed_and_restored() {
        let (world, disk) = with_a_repository_of_24_mib();
        let (before, first) = (world.backed_up(), original(&world, "first-state"));
        world.write("second", &noise(2, 40 * MIB));
        let lists_and_restores = |when: &str| {
            assert!(world.json(&["host", "list"]).iter().any(|row| row["source_set"] == "data"), "{when}");
            let snapshots = world.json(&["snapshots", "server"]);
            assert!(snapshots.iter().any(|listed| listed["snapshot"] == before.as_str()), "{when}: {snapshots:?}");
            assert_eq!(world.json(&["ls", &world.address()]).len(), 1, "{when}");
            (0..5).for_each(|time| world.assert_restores(&before, &first, &format!("{when}-{time}")));
        };
        refused(&world.backup(), &["no space left in the repository"]);
        lists_and_restores("full-of-backups");
        fill(&world.path("repository/stranger"));
        lists_and_restores("full-to-the-last-byte");
        refused(&world.backup(), &["no space left in the repository"]);
        world.lab.kill(Side::Coordinator);
        world.lab.serve().unwrap();
        lists_and_restores("full-after-a-start");
        fs::remove_file(world.path("repository/stranger")).unwrap();
        disk.grow(96);
        let after = world.backed_up();
        world.assert_restores(&after, &world.source(), "newer");
    }

    #[test]
    fn a_read_only_copy_lists_and_restores_and_is_as_before_once_it_is_writable() {
        let (world, disk) = with_a_repository_of_24_mib();
        let before = world.backed_up();
        let remount =
            |option: &str| call(Command::new("mount").arg("-o").arg(format!("remount,{option}")).arg(&disk.0));
        let restart = || {
            world.lab.kill(Side::Coordinator);
            world.lab.serve().unwrap();
        };
        world.lab.kill(Side::Coordinator);
        fs::remove_file(disk.0.join("lock")).unwrap();
        fs::remove_dir_all(disk.0.join("tmp")).unwrap();
        remount("ro");
        world.lab.serve().unwrap();
        for name in ["read-only", "again"] {
            world.assert_restores(&before, &world.source(), name);
        }
        assert_eq!(world.json(&["ls", &world.address()]).len(), 1);
        for refusal in
            [&["token", "create"][..], &["backup", "server:data"], &["restore", "server:/", "--on", "server"]]
        {
            refused(
                &world.lab.try_lifeboat(refusal).unwrap(),
                &["the repository is read-only", "make its file system"],
            );
        }
        remount("rw");
        restart();
        world.lab.kill(Side::Agent);
        world.lab.run_agent().unwrap();
        world.write("second", &noise(2, MIB));
        let after = world.backed_up();
        for time in ["running", "restarted"] {
            world.assert_restores(&after, &world.source(), time);
            world.lab.lifeboat(&["repository", "verify"]).unwrap();
            restart();
        }
    }

    #[test]
    fn a_path_that_only_the_service_unit_makes_read_only_is_an_error_with_the_missing_line() {
        let (world, disk) = with_a_repository_of_24_mib();
        world.lab.kill(Side::Coordinator);
        call(Command::new("mount").arg("--bind").arg(&disk.0).arg(&disk.0));
        let bound = Disk(disk.0.clone());
        call(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&bound.0));
        // As systemd starts it. The disk itself is writable.
        let mut service = world.lab.lifeboat_command();
        let output = service.arg("serve").env("INVOCATION_ID", "1").output().unwrap();
        let line = format!("[Service] ReadWritePaths={}", bound.0.display());
        refused(&output, &["is on a read-only file system", "systemctl edit lifeboat", &line]);
    }

    #[test]
    fn a_restore_to_a_full_disk_stops_and_goes_on_with_room() {
        let world = World::new();
        (0..8).for_each(|file| world.write(&format!("large-{file}"), &noise(file, 2 * MIB)));
        (0..50).for_each(|file| world.write(&format!("small-{file}"), &noise(file, 9000)));
        let snapshot = world.backed_up();
        fs::create_dir(world.path("small")).unwrap();
        let disk = Disk::at(&world.path("small"), 5);
        let (address, target) = (world.address(), world.lab.path("small/restored"));
        let restore = || world.lab.try_lifeboat(&["restore", &address, "--to", &target, "--no-space-check"]).unwrap();
        let output = restore();
        println!("{}", said(&output));
        refused(&output, &["No space left", "make room on the disk of", &target, "the same command goes on"]);
        assert_eq!(output.status.code(), Some(1));
        world.assert_restores(&snapshot, &world.source(), "elsewhere");
        disk.grow(40);
        let output = restore();
        assert!(output.status.success(), "{}", said(&output));
        let compared =
            lifeboat_coordinator::cli::demo::compare::compare(&world.source(), &world.path("small/restored"));
        assert_eq!(compared.unwrap().differences, []);
    }

    #[test]
    fn a_restore_to_a_disk_without_inodes_stops_and_goes_on_with_some() {
        let world = World::new();
        (0..400).for_each(|file| world.write(&format!("{}/{file}", file % 10), &noise(file, 100)));
        world.backed_up();
        fs::create_dir(world.path("small")).unwrap();
        let disk = Disk::at(&world.path("small"), 40);
        let mount = |option: &str| call(Command::new("mount").args(["-o", option]).arg(&disk.0));
        mount("remount,nr_inodes=150");
        let (address, target) = (world.address(), world.lab.path("small/restored"));
        let restore = |more: &[&str]| {
            world.lab.try_lifeboat(&[&["restore", &address, "--to", &target][..], more].concat()).unwrap()
        };
        refused(&restore(&[]), &["there is no room in", "inodes are needed"]);
        let output = restore(&["--no-space-check"]);
        refused(&output, &["No space left", "make room on the disk of", "the same command goes on"]);
        let begun = fs::read_dir(&target).unwrap().count();
        assert!(begun > 0, "it had begun");
        mount("remount,nr_inodes=1000");
        let output = restore(&["--no-space-check"]);
        assert!(output.status.success(), "{}", said(&output));
        let target = std::path::Path::new(&target);
        let compared = lifeboat_coordinator::cli::demo::compare::compare(&world.source(), target);
        assert_eq!(compared.unwrap().differences, []);
    }

    /// Btrfs has quotas that bind root too.
    #[test]
    fn a_restore_beyond_a_quota_stops_and_goes_on_with_more() {
        let Some(disk) = Mounted::new("btrfs") else {
            println!("left out: a quota, which needs mkfs.btrfs and a loop device");
            return;
        };
        let place = disk.top().join("limited");
        let btrfs = |arguments: &[&str]| call(Command::new("btrfs").args(arguments).arg(&place));
        call(Command::new("btrfs").args(["quota", "enable"]).arg(disk.top()));
        btrfs(&["subvolume", "create"]);
        btrfs(&["qgroup", "limit", "8M"]);
        let world = World::new();
        (0..20).for_each(|file| world.write(&format!("{file}"), &noise(file, MIB)));
        world.backed_up();
        let (address, target) = (world.address(), place.join("restored"));
        let restore = || world.lab.try_lifeboat(&["restore", &address, "--to", target.to_str().unwrap()]).unwrap();
        let output = restore();
        refused(&output, &["quota exceeded", "make room", "the same command goes on"]);
        btrfs(&["qgroup", "limit", "none"]);
        let output = restore();
        assert!(output.status.success(), "{}", said(&output));
        let compared = lifeboat_coordinator::cli::demo::compare::compare(&world.source(), &target);
        assert_eq!(compared.unwrap().differences, []);
    }

    #[test]
    fn a_full_disk_below_the_agents_state_is_named_and_backups_go_on_with_room() {
        let world = World::new();
        world.lab.kill(Side::Agent);
        let disk = Disk::at(&world.path("agent"), 2);
        world.lab.run_agent().unwrap();
        world.write("first", b"content");
        let (before, first) = (world.backed_up(), original(&world, "first-state"));
        for file in 0..6000 {
            world.write(&format!("directory/a-name-that-takes-some-room-in-the-tree-{file}"), b"");
        }
        let free = rustix::fs::statvfs(world.path("agent")).unwrap();
        fs::write(world.path("agent/filler"), noise(9, (free.f_bavail * free.f_frsize) as usize)).unwrap();
        let output = world.backup();
        println!("{}", said(&output));
        refused(&output, &["No space left", "agent/", "make room on that disk of this host"]);
        world.assert_restores(&before, &first, "while-full");
        fs::remove_file(world.path("agent/filler")).unwrap();
        disk.grow(64);
        let after = world.backed_up();
        world.assert_restores(&after, &world.source(), "newer");
    }
}
