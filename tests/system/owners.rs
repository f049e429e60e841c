//! Whose files they are after a restore, where names have other numbers or nobody.

use crate::world::{World, said};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::process::{Command, Output};

/// What `/etc/passwd` and `/etc/group` hold; a user, as a group, is called `daemon` if it has a number here.
struct Names {
    daemon: Option<u32>,
}

/// Restores in a mount namespace, in which users and groups are others.
fn restore_among(world: &World, names: &Names, target: &Path, options: &[&str]) -> Output {
    let lifeboat = world.lab.lifeboat_command();
    let address = world.address();
    let arguments = [&["restore", &address, "--to", target.to_str().unwrap()], options].concat();
    run_among(world, names, lifeboat.get_program().as_ref(), &arguments)
}

/// Runs a program in a mount namespace, in which users and groups are others.
fn run_among(world: &World, names: &Names, program: &Path, arguments: &[&str]) -> Output {
    let [users, groups] = ["users", "groups"].map(|name| world.path(name));
    let others = [("root", 0), ("keeper", 4444)].into_iter().chain(names.daemon.map(|number| ("daemon", number)));
    let (mut passwd, mut group) = (String::new(), String::new());
    for (name, number) in others {
        passwd.push_str(&format!("{name}:x:{number}:{number}::/:/bin/sh\n"));
        group.push_str(&format!("{name}:x:{number}:\n"));
    }
    fs::write(&users, passwd).unwrap();
    fs::write(&groups, group).unwrap();
    let mut command = Command::new("unshare");
    let script = r#"mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@""#;
    command.args(["--mount", "sh", "-c", script, "sh"]).args([&users, &groups]).arg(program).args(arguments);
    command.envs(world.settings()).output().unwrap()
}

mod as_root {
    use super::*;
    use lifeboat_coordinator::cli::demo::lab::Side;

    /// The number of a user was given to another one between two backups.
    #[test]
    fn the_name_of_an_owner_is_the_one_that_the_number_had_at_the_backup() {
        let world = World::new();
        world.write("file", b"content");
        chown(world.source().join("file"), Some(1234), Some(1234)).unwrap();
        world.lab.stop(Side::Agent).unwrap();
        let agent = Path::new(world.lab.lifeboat_command().get_program()).with_file_name("lifeboat-agent");
        let (earlier, now) = (Names { daemon: Some(1234) }, Names { daemon: Some(77) });
        for names in [&earlier, &earlier, &now] {
            let output = run_among(&world, names, &agent, &["backup"]);
            assert!(output.status.success(), "{}", said(&output));
        }
        let target = world.path("target");
        let output = restore_among(&world, &now, &target, &[]);
        assert!(output.status.success(), "{}", said(&output));
        let metadata = fs::metadata(target.join("file")).unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 1234), "it is not daemon's any more");
    }

    #[test]
    fn of_a_system_with_users_of_its_own_owners_go_by_number() {
        let world = World::new();
        for name in ["etc/passwd", "home/file", "etc/other"] {
            world.write(name, b"content");
            chown(world.source().join(name), Some(1), Some(1)).unwrap();
        }
        world.backed_up();
        let names = Names { daemon: Some(77) };
        let owner = |path: &Path| fs::metadata(path).unwrap().uid();
        let target = world.path("whole");
        let output = restore_among(&world, &names, &target, &[]);
        assert!(output.status.success() && said(&output).contains("owners go by number"), "{}", said(&output));
        assert_eq!([owner(&target.join("etc/passwd")), owner(&target.join("home/file"))], [1, 1]);
        let without = world.path("without");
        let output = restore_among(&world, &names, &without, &["--exclude", "passwd"]);
        assert!(output.status.success() && !said(&output).contains("by number"), "{}", said(&output));
        assert_eq!(owner(&without.join("home/file")), 77);
        let mapped = world.path("mapped");
        let output = restore_among(&world, &names, &mapped, &["--owner-map", "daemon=4321"]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!(owner(&mapped.join("home/file")), 4321, "who is given another one gets it");
        let root = world.path("root");
        let lifeboat = world.lab.lifeboat_command();
        let arguments = ["restore", "server:/", "--to", root.to_str().unwrap(), "--exclude", "passwd"];
        let output = run_among(&world, &names, lifeboat.get_program().as_ref(), &arguments);
        assert!(output.status.success() && said(&output).contains("owners go by number"), "{}", said(&output));
        let source = root.join(world.source().strip_prefix("/").unwrap());
        assert_eq!(owner(&source.join("home/file")), 1);
    }

    #[test]
    fn owners_go_by_name_by_number_or_to_whom_they_are_given_and_who_is_unknown_is_named() {
        let world = World::new();
        world.write("file", b"content");
        // Both are called daemon, wherever Debian's base-passwd is.
        chown(world.source().join("file"), Some(1), Some(1)).unwrap();
        world.backed_up();
        let (elsewhere, nowhere) = (Names { daemon: Some(77) }, Names { daemon: None });
        let given = ["--owner-map", "daemon=keeper", "--group-map", "1=4445"];
        let cases = [
            (&elsewhere, &[][..], 0, (77, 77)),
            (&elsewhere, &["--numeric-ids"], 0, (1, 1)),
            (&elsewhere, &given, 0, (4444, 4445)),
            (&nowhere, &[], 3, (1, 1)),
            (&nowhere, &["--numeric-ids"], 0, (1, 1)),
            (&nowhere, &given, 0, (4444, 4445)),
        ];
        for (number, (names, options, code, owner)) in cases.into_iter().enumerate() {
            let target = world.path(&format!("target{number}"));
            let output = restore_among(&world, names, &target, options);
            let text = said(&output);
            assert_eq!(output.status.code(), Some(code), "{options:?}: {text}");
            let metadata = fs::metadata(target.join("file")).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), owner, "{options:?}: {text}");
            for (what, option) in [("user", "--owner-map"), ("group", "--group-map")] {
                let line = format!("there is no {what} daemon here, so it belongs to number 1; {option} daemon=NEW");
                assert_eq!(text.contains(&line), code == 3, "{options:?}: {line:?} in {text}");
            }
        }
        let target = world.path("refused");
        let output = restore_among(&world, &nowhere, &target, &["--owner-map", "root=daemon"]);
        assert!(!output.status.success() && !target.exists(), "{}", said(&output));
        assert!(said(&output).contains("there is no user \"daemon\" here"), "{}", said(&output));
    }
}
