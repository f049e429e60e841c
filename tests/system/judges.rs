//! Whether what came back is equal, by judges that share no code with the product: rsync, and the second reader in Python.

mod as_root {
    use crate::world::{World, said};
    use lifeboat_coordinator::cli::demo::compare::compare;
    use lifeboat_coordinator::cli::demo::lab::Programs;
    use lifeboat_tests::mounted::Mounted;
    use lifeboat_tests::second_reader;
    use lifeboat_tests::torture::{self, Size};
    use rustix::fs::{CWD, FileType, IFlags, Mode, XattrFlags, ioctl_setflags, lsetxattr, makedev, mknodat};
    use std::collections::BTreeSet;
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::Path;
    use std::process::{Command, Output};

    /// What rsync can handle: no path is longer than the kernel's PATH_MAX.
    const SIZE: Size = Size { levels: 300, files: 300 };

    #[test]
    fn a_restored_tree_is_equal_by_every_judge() {
        every_judge_finds_the_same_below(&std::env::temp_dir());
    }

    #[test]
    fn a_restored_tree_is_equal_by_every_judge_on_ext4() {
        every_judge_finds_the_same_on("ext4");
    }

    #[test]
    fn a_restored_tree_is_equal_by_every_judge_on_xfs() {
        every_judge_finds_the_same_on("xfs");
    }

    #[test]
    fn a_restored_tree_is_equal_by_every_judge_on_btrfs() {
        every_judge_finds_the_same_on("btrfs");
    }

    fn every_judge_finds_the_same_on(kind: &str) {
        match Mounted::new(kind) {
            Some(mounted) => every_judge_finds_the_same_below(&mounted.top()),
            None => println!("left out: every judge on {kind}, which needs mkfs.{kind} and a loop device"),
        }
    }

    fn every_judge_finds_the_same_below(place: &Path) {
        let world = World::below(place);
        torture::build(&world.source(), SIZE);
        world.backed_up();
        let restored = world.path("restored");
        let output = world.lab.try_lifeboat(&["restore", &address(&world), "--to", text(&restored)]).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let differences = compare(&world.source(), &restored).unwrap().differences;
        assert!(differences.is_empty(), "{differences:?}");
        assert_eq!(rsync_differences(&world.source(), &restored), "");
        let compared = second_reader_compares(&world, &restored);
        assert!(compared.status.success(), "{}", said(&compared));
        torture::remove(&world.source());
        torture::remove(&restored);
    }

    /// INV-4: no vault, no index, no state; only the repository and the kit, elsewhere, and a program that is not ours.
    #[test]
    fn inv_04_repository_and_recovery_kit_alone_give_everything_back() {
        let world = World::new();
        torture::build(&world.source(), SIZE);
        world.backed_up();
        let elsewhere = tempfile::tempdir().unwrap();
        for name in ["repository", "recovery-kit"] {
            let copied = Command::new("cp").arg("-a").arg(world.path(name)).arg(elsewhere.path()).status().unwrap();
            assert!(copied.success());
        }
        let source = elsewhere.path().join("source");
        fs::rename(world.source(), &source).unwrap();
        let path = world.source();
        drop(world);
        let restored = elsewhere.path().join("restored");
        let arguments = ["--host", "1", "--path", text(&path), "--restore", text(&restored)];
        let [repository, kit] = ["repository", "recovery-kit"].map(|name| elsewhere.path().join(name));
        let output = second_reader::run(&repository, &kit, &arguments);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(rsync_differences(&source, &restored), "");
        torture::remove(&source);
        torture::remove(&restored);
    }

    /// INV-16: who has no privilege (root without any capability: the local socket is for root) gets exit code 3, and the
    /// losses named are just what the second reader finds to differ.
    #[test]
    fn inv_16_a_restore_without_privileges_names_all_that_differs() {
        let world = World::new();
        lose_much(&world);
        world.backed_up();
        let restored = world.path("restored");
        let mut restore = Command::new("setpriv");
        restore.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(Programs::find().unwrap().lifeboat);
        restore.args(["restore", &address(&world), "--to", text(&restored), "--json"]);
        let output = restore.env("LIFEBOAT_STATE", world.path("coordinator")).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let losses = report["losses"].as_array().unwrap().iter().map(|loss| loss.as_str().unwrap().to_owned());
        let losses: Vec<String> = losses.collect();
        let compared = String::from_utf8(second_reader_compares(&world, &restored).stderr).unwrap();
        let lost = paths(losses.iter().filter_map(|loss| loss.strip_prefix('/')));
        let differs = paths(compared.lines().filter_map(|line| line.strip_prefix("differs: ")));
        assert_eq!(lost, differs, "{losses:#?}\n{compared}");
        let ways = ["owner", "group", "mode", "inode flags", "extended attribute", "not restored: cannot make it"];
        ways.iter().for_each(|way| assert!(losses.iter().any(|loss| loss.contains(way)), "{way}: {losses:#?}"));
        torture::remove(&world.source());
    }

    /// One file for each way to lose something, and one that is kept whole.
    fn lose_much(world: &World) {
        let names = ["kept", "owner", "group", "setuid", "capable", "immutable", "directory/inside"];
        names.iter().for_each(|name| world.write(name, b"content"));
        let source = world.source();
        chown(source.join("owner"), Some(12_345), None).unwrap();
        chown(source.join("group"), None, Some(12_345)).unwrap();
        chown(source.join("directory"), Some(1), Some(1)).unwrap();
        chown(source.join("setuid"), Some(1), None).unwrap();
        fs::set_permissions(source.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
        let set = |name: &str, xattr, value| lsetxattr(source.join(name), xattr, value, XattrFlags::empty()).unwrap();
        set("capable", "trusted.for-root", b"value");
        set("kept", "user.for-all", b"value");
        let device = (FileType::CharacterDevice, Mode::from_raw_mode(0o600));
        mknodat(CWD, source.join("device"), device.0, device.1, makedev(1, 3)).unwrap();
        ioctl_setflags(File::open(source.join("immutable")).unwrap(), IFlags::IMMUTABLE).unwrap();
    }

    /// The paths in lines of `path: what`.
    fn paths<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
        lines.filter_map(|line| Some(line.split_once(": ")?.0.to_owned())).collect()
    }

    fn second_reader_compares(world: &World, restored: &Path) -> Output {
        let (kit, source) = (world.path("recovery-kit"), world.source());
        let arguments = ["--host", "1", "--path", text(&source), "--compare", text(restored)];
        second_reader::run(&world.lab.repository(), &kit, &arguments)
    }

    /// What rsync would change, a line each, times to the nanosecond. A file of a tebibyte is left to the others: rsync
    /// reads holes byte by byte.
    fn rsync_differences(source: &Path, restored: &Path) -> String {
        let mut rsync = Command::new("rsync");
        rsync.args(["-naHAX", "--checksum", "--itemize-changes", "--numeric-ids", "--modify-window=-1", "--delete"]);
        rsync.args(["--exclude=/holes/far", &format!("{}/", text(source)), &format!("{}/", text(restored))]);
        let output = rsync.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn address(world: &World) -> String {
        world.address()
    }

    fn text(path: &Path) -> &str {
        path.to_str().unwrap()
    }
}
