//! The agent under what its service unit allows: restores by order need more than backups, and only while they run.

mod as_root {
    use crate::world::{World, said};
    use lifeboat_coordinator::cli::demo::compare::compare;
    use lifeboat_coordinator::cli::demo::lab::{Programs, Side};
    use lifeboat_tests::mounted::Mounted;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    const UNIT: &str = include_str!("../../packaging/systemd/lifeboat-agent.service");
    const CHOWN_AND_DAC_OVERRIDE: u64 = 0b11;

    fn call(program: &str, arguments: &[&str], path: &Path) {
        assert!(Command::new(program).args(arguments).arg(path).status().unwrap().success(), "{program} {path:?}");
    }

    /// The agent, started as systemd would: with the unit's bounding set.
    fn bounded(agent: &Path, script: PathBuf) -> PathBuf {
        let line = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
        let set: Vec<String> =
            line.split(' ').map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_lowercase())).collect();
        let set = format!("-all,{}", set.join(","));
        fs::write(&script, format!("#!/bin/sh\nexec setpriv --bounding-set={set} '{}' \"$@\"\n", agent.display()))
            .unwrap();
        fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
        script
    }

    /// Everything that an ordinary process of root could not make without these capabilities.
    fn fill(source: &Path) {
        let file = |name: &str, mode: u32| {
            let path = source.join(name);
            fs::write(&path, name).unwrap();
            chown(&path, Some(1234), Some(4321)).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let home = source.join("home");
        fs::create_dir(&home).unwrap();
        file("home/plan", 0o600);
        file("set-id", 0o6755);
        chown(&home, Some(1234), Some(4321)).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o2700)).unwrap();
        call("setcap", &["cap_net_raw+ep"], &file("ping", 0o755));
        call("chattr", &["+i"], &file("immutable", 0o644));
        let device = source.join("null");
        let made = Command::new("mknod").arg(&device).args(["c", "1", "3"]).status().unwrap();
        assert!(made.success());
    }

    /// Capabilities in effect in any thread of the agent.
    fn in_effect(world: &World) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", world.lab.pid(Side::Agent).unwrap())).unwrap();
        tasks
            .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
            .map(|status| {
                let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
                u64::from_str_radix(&digits, 16).unwrap()
            })
            .fold(0, |all, set| all | set)
    }

    #[test]
    fn restores_by_order_set_owners_devices_and_attributes_and_backups_run_with_less() {
        let disk = Mounted::new("ext4").expect("an image can be mounted");
        let directory = tempfile::tempdir_in(disk.top()).unwrap();
        let Programs { lifeboat, agent } = Programs::find().unwrap();
        let agent = bounded(&agent, directory.path().join("agent-of-the-unit"));
        let world = World::with(directory, Programs { lifeboat, agent });
        fill(&world.source());
        world.backed_up();
        assert_eq!(in_effect(&world) & CHOWN_AND_DAC_OVERRIDE, 0, "a backup does not write as any user");

        let home = world.path("home");
        fs::create_dir(&home).unwrap();
        chown(&home, Some(1234), Some(1234)).unwrap();
        fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
        world.set_law(&format!("restore = [\"staging\", {home:?}]"));
        let (staged, in_place) = (world.path("agent/restore/all"), home.join("all"));
        for (into, there) in [("all", &staged), (in_place.to_str().unwrap(), &in_place)] {
            let restore = ["restore", &world.address(), "--on", "server", "--into", into, "--numeric-ids", "--wait"];
            let output = world.lab.try_lifeboat(&restore).unwrap();
            assert!(output.status.success(), "{}", said(&output));
            assert_eq!(compare(&world.source(), there).unwrap().differences, []);
            assert_eq!(in_effect(&world) & CHOWN_AND_DAC_OVERRIDE, 0, "laid down again");
        }
        for place in [&world.source(), &staged, &in_place] {
            call("chattr", &["-i"], &place.join("immutable"));
        }
    }
}
