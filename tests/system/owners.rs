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
    let [users, groups] = ["users", "groups"].map(|name| world.path(name));
    let others = [("root", 0), ("keeper", 4444)].into_iter().chain(names.daemon.map(|number| ("daemon", number)));
    let (mut passwd, mut group) = (String::new(), String::new());
    for (name, number) in others {
        passwd.push_str(&format!("{name}:x:{number}:{number}::/:/bin/sh\n"));
        group.push_str(&format!("{name}:x:{number}:\n"));
    }
    fs::write(&users, passwd).unwrap();
    fs::write(&groups, group).unwrap();
    let lifeboat = world.lab.lifeboat_command();
    let mut command = Command::new("unshare");
    let script = r#"mount --bind "$1" /etc/passwd && mount --bind "$2" /etc/group && shift 2 && exec "$@""#;
    command.args(["--mount", "sh", "-c", script, "sh"]).args([&users, &groups]).arg(lifeboat.get_program());
    command.args(["restore", &world.address(), "--to"]).arg(target).args(options);
    command.envs(world.settings()).output().unwrap()
}

mod as_root {
    use super::*;

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
