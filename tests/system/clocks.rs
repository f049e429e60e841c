//! Clocks that are wrong by a day, a month, or for a while: what still works, what is said, and what is never lost.

/// As root, because only then the tests see to it that `faketime` is there.
mod as_root {
    use crate::world::{World, refused, said};
    use lifeboat_coordinator::cli::demo::lab::{Programs, Side};
    use std::fs;
    use std::ops::Deref;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    /// The programs, each behind a script that shows it the time of its side's clock.
    fn programs_with_clocks(directory: &Path) -> Programs {
        let loaded = Command::new("faketime").args(["-m", "-f", "+0s", "printenv", "LD_PRELOAD"]).output().unwrap();
        let library = String::from_utf8(loaded.stdout).unwrap();
        let wrap = |side: Side, program: &Path| {
            let (script, clock) = (directory.join(format!("{side:?}.sh")), clock_of(directory, side));
            let text = format!(
                "#!/bin/sh\nexport LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}'\n\
                 export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1\nexec '{}' \"$@\"\n",
                library.trim(),
                clock.display(),
                program.display(),
            );
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
            script
        };
        let programs = Programs::find().unwrap();
        Programs { lifeboat: wrap(Side::Coordinator, &programs.lifeboat), agent: wrap(Side::Agent, &programs.agent) }
    }

    fn clock_of(directory: &Path, side: Side) -> std::path::PathBuf {
        directory.join(format!("{side:?}.clock"))
    }

    /// Sets one side's clock so many days off, also under programs that run.
    fn set(directory: &Path, side: Side, days: i32) {
        let clock = clock_of(directory, side);
        let new = clock.with_extension("new");
        fs::write(&new, format!("{days:+}d\n")).unwrap();
        fs::rename(new, clock).unwrap();
    }

    /// A world with clocks. Its programs are asked to end, not killed: else `faketime` leaves its own behind.
    struct Clocked(World);

    impl Deref for Clocked {
        type Target = World;

        fn deref(&self) -> &World {
            &self.0
        }
    }

    impl Drop for Clocked {
        fn drop(&mut self) {
            for side in [Side::Agent, Side::Coordinator] {
                let _gone = self.lab.stop(side);
            }
        }
    }

    impl Clocked {
        /// The server's clock is so many days off from the beginning.
        fn new(agent_days: i32) -> Self {
            let directory = tempfile::tempdir().unwrap();
            set(directory.path(), Side::Coordinator, 0);
            set(directory.path(), Side::Agent, agent_days);
            let programs = programs_with_clocks(directory.path());
            Self(World::with(directory, programs))
        }

        fn set(&self, side: Side, days: i32) {
            set(self.directory.path(), side, days);
        }

        fn restart_coordinator(&self) {
            self.lab.stop(Side::Coordinator).unwrap();
            self.lab.serve().unwrap();
        }
    }

    fn journal_batches(world: &World) -> u64 {
        world.json(&["repository", "stats"])[0]["journal_batches"].as_u64().unwrap()
    }

    /// What `host list` says of the clock of the only host.
    fn clock_ahead(world: &World) -> i64 {
        world.json(&["host", "list"])[0]["clock_ahead_seconds"].as_i64().unwrap()
    }

    /// In the order of the list.
    fn snapshots(world: &World) -> Vec<String> {
        world.json(&["snapshots", "server"]).iter().map(|row| row["snapshot"].to_string()).collect()
    }

    fn wait_until(what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(40), "{what}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    #[test]
    fn a_server_whose_clock_is_a_day_off_is_backed_up_and_shown() {
        for (days, words) in [(-1, "clock 24 h behind"), (1, "clock 24 h ahead")] {
            let world = Clocked::new(days);
            world.write("file", b"content");
            let snapshot = world.backed_up();
            world.assert_restores(&snapshot, &world.source(), "restored");
            assert!((clock_ahead(&world) - i64::from(days) * 86_400).abs() < 60);
            let list = said(&world.lab.try_lifeboat(&["host", "list"]).unwrap());
            assert!(list.contains(words), "{list}");
            let shown = said(&world.lab.try_lifeboat(&["host", "show", "server"]).unwrap());
            assert!(shown.contains("set it right"), "{shown}");
        }
    }

    #[test]
    fn a_server_whose_clock_is_a_month_off_says_so_with_both_times_and_goes_on_once_it_is_right() {
        let world = Clocked::new(0);
        world.write("file", b"content");
        let before = world.backed_up();
        world.set(Side::Agent, -40);
        world.restart_coordinator();
        wait_until("the service says it too", || world.lab.log(Side::Agent).contains("begins at 20"));
        world.set(Side::Agent, 0);
        world.lab.wait_for_agent().unwrap();
        world.assert_restores(&before, &world.source(), "before");
        world.assert_restores(&world.backed_up(), &world.source(), "after");

        world.lab.stop(Side::Agent).unwrap();
        let token = world.path("token-2");
        fs::write(&token, world.lab.lifeboat(&["token", "create"]).unwrap().stdout).unwrap();
        let new = world.lab.path("new");
        let enrol = ["--state", &new, "--config", &new, "enrol", "--name", "second", "--token-file"];
        let enrol = || world.lab.try_agent(&[&enrol[..], &[token.to_str().unwrap()]].concat()).unwrap();
        for (days, verb) in [(-40, "begins at 20"), (40, "ended at 20")] {
            world.set(Side::Agent, days);
            let words = ["the certificate of 127.0.0.1", verb, "and this host's clock says 20", "timedatectl"];
            refused(&world.lab.try_agent(&["backup", "data"]).unwrap(), &words);
            refused(&enrol(), &words);
        }
        world.set(Side::Agent, 0);
        assert!(enrol().status.success(), "the token was not spent");
    }

    #[test]
    fn a_clock_that_makes_each_certificate_look_old_does_not_renew_without_end() {
        let world = Clocked::new(25);
        let before = journal_batches(&world);
        std::thread::sleep(Duration::from_secs(2));
        world.backed_up();
        assert!(journal_batches(&world) - before < 10, "a batch for each certificate");
    }

    /// Time goes by on both sides while the agent is off.
    #[test]
    fn inv_51_after_a_month_a_host_renews_by_itself_and_after_two_it_needs_a_token() {
        let world = Clocked::new(0);
        world.write("file", b"content");
        let first = world.backed_up();
        let pass_to = |days| {
            world.lab.stop(Side::Agent).unwrap();
            [Side::Coordinator, Side::Agent].into_iter().for_each(|side| world.set(side, days));
            world.restart_coordinator();
        };
        pass_to(40);
        let by_hand = world.lab.try_agent(&["backup", "data"]).unwrap();
        assert!(by_hand.status.success(), "{}", said(&by_hand));
        pass_to(80);
        world.lab.run_agent().unwrap();
        world.backed_up();
        // Both clocks were wrong; now they are right, and the certificate begins in the future.
        pass_to(0);
        world.lab.run_agent().unwrap();
        world.backed_up();
        pass_to(61);
        let refusal = world.lab.try_agent(&["backup", "data"]).unwrap();
        let words = ["certificate has expired; it ends at 20", "this host's clock says 20", "with a new token"];
        refused(&refusal, &words);
        world.assert_restores(&first, &world.source(), "first");
    }

    #[test]
    fn a_coordinator_whose_clock_was_set_back_orders_by_number_and_takes_up_its_nights_again() {
        let world = Clocked::new(0);
        world.write("file", b"one");
        let first = world.backed_up();
        let copy = world.path("copy");
        assert!(Command::new("cp").arg("-a").arg(world.source()).arg(&copy).status().unwrap().success());
        let before = snapshots(&world);
        world.write("file", b"two");
        world.set(Side::Coordinator, -1);
        let last = |key: &str| world.json(&["host", "list"])[0][key].as_str().unwrap().to_owned();
        let (due, stood) = (last("next"), last("last"));
        assert!(due < stood, "a turn is not put off until the clock is there again: {due} after {stood}");
        wait_until("a backup of a time that has not come yet is repeated, once", || last("last") < stood);
        let list = said(&world.lab.try_lifeboat(&["host", "list"]).unwrap());
        assert!(!list.contains("future") && list.contains(" s ago"), "{list}");
        let ids = snapshots(&world);
        assert_eq!(ids[1..], before[..], "newest first, whatever the clock says");
        world.assert_restores(&first, &copy, "first");
        let address = world.address();
        let latest = world.path("latest");
        world.lab.lifeboat(&["restore", &address, "--to", latest.to_str().unwrap()]).unwrap();
        assert_eq!(fs::read(latest.join("file")).unwrap(), b"two");
    }

    #[test]
    fn a_coordinator_whose_clock_is_ahead_for_a_while_is_understood_and_comes_back() {
        let world = Clocked::new(0);
        world.write("file", b"content");
        let first = world.backed_up();
        world.set(Side::Coordinator, 40);
        world.lab.stop(Side::Agent).unwrap();
        let back_up = || world.lab.try_agent(&["backup", "data"]).unwrap();
        wait_until("the coordinator's certificate follows its clock", || {
            let output = back_up();
            refused(&output, &["certificate", "clock says 20", "timedatectl"]);
            said(&output).contains("begins at 20")
        });
        world.set(Side::Coordinator, 0);
        wait_until("the agent is let in again", || back_up().status.success());
        world.assert_restores(&first, &world.source(), "first");
    }
}
