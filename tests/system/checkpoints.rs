//! A coordinator that starts from a checkpoint of its journal (INV-75), and what systemd hears while it starts.

use crate::harm::{Damage, inflict};
use crate::world::{World, refused, said};
use lifeboat_coordinator::cli::demo::lab::Side;
use lifeboat_coordinator::config::Config;
use lifeboat_coordinator::serve;
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use lifeboat_tests::second_reader;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn act() -> Act {
    let (verb, object) = ("test".to_owned(), "repository".to_owned());
    let (principal, decision) = (Principal::LocalRoot, Decision::Done);
    Act { time_ns: 1, principal, verb, object, decision, event: Event::Nothing }
}

/// Adds batches and two checkpoints to the journal; the coordinator is stopped.
fn write_checkpoints(world: &World) {
    let config = Config::load(Path::new(&world.lab.path("coordinator"))).unwrap();
    let opened = serve::open(&config, false, &mut |_| ()).unwrap();
    for _ in 0..2 {
        opened.coordinator().record(vec![act()]).unwrap();
        opened.coordinator().write_checkpoint().unwrap();
    }
}

/// A repository with a snapshot and two checkpoints after it; the coordinator is stopped.
fn stopped() -> (World, String) {
    let world = World::new();
    world.write("file", b"content");
    let snapshot = world.backed_up();
    world.lab.stop(Side::Coordinator).unwrap();
    write_checkpoints(&world);
    (world, snapshot)
}

fn listed(world: &World) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(world.lab.repository().join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn verify(world: &World) -> Output {
    world.lab.try_lifeboat(&["repository", "verify"]).unwrap()
}

fn all_is_good(world: &World, what: &str) {
    let text = said(&verify(world));
    assert!(text.contains("all good"), "{what}: {text}");
}

fn restores_and_backs_up(world: &World, snapshot: &str, what: &str) {
    world.assert_restores(snapshot, &world.source(), "restored");
    let backup = world.backup();
    assert!(backup.status.success(), "{what}: {}", said(&backup));
}

#[test]
fn inv_75_a_start_needs_no_batch_before_the_checkpoint_and_verify_misses_it() {
    let (world, snapshot) = stopped();
    let batch = |copies: &str| world.lab.repository().join(format!("{copies}journal/{:020}", 2));
    let good = fs::read(batch("")).unwrap();
    ["", "copies/"].iter().for_each(|copies| fs::remove_file(batch(copies)).unwrap());
    world.lab.serve().unwrap();
    restores_and_backs_up(&world, &snapshot, "without batch 2");
    refused(&verify(&world), &["journal/00000000000000000002: it is missing"]);
    fs::write(batch(""), good).unwrap();
    assert_eq!(verify(&world).status.code(), Some(3), "the second copy is written again");
    all_is_good(&world, "with it");
    let kit = PathBuf::from(world.lab.path("recovery-kit"));
    let read = second_reader::run(&world.lab.repository(), &kit, &["--snapshot", &snapshot, "--list"]);
    assert!(read.status.success(), "the second reader passes over checkpoints: {}", said(&read));
}

#[test]
fn inv_75_a_bad_checkpoint_stops_nothing_is_named_and_is_replaced() {
    for damage in [Damage::Bit, Damage::Cut, Damage::Deleted, Damage::Exchanged, Damage::Unreadable] {
        let (world, snapshot) = stopped();
        let what = format!("{damage:?}");
        let [older, newest] = &listed(&world)[..] else { panic!("two checkpoints") };
        inflict(damage, newest, older);
        world.lab.serve().unwrap_or_else(|error| panic!("{what}: {error}"));
        restores_and_backs_up(&world, &snapshot, &what);
        let name = format!("checkpoints/{}", newest.file_name().unwrap().to_str().unwrap());
        let found = verify(&world);
        let text = said(&found);
        assert!(text.contains(&format!("{name}: ")) && !text.contains("all good"), "{what}: {text}");
        if damage == Damage::Unreadable {
            assert!(text.contains("every snapshot can be restored"), "{what}: {text}");
            fs::remove_dir_all(newest).unwrap();
        } else {
            assert_eq!(found.status.code(), Some(3), "{what}: {text}");
            assert!(text.contains("a new checkpoint takes its place"), "{what}: {text}");
        }
        all_is_good(&world, &what);
        world.lab.stop(Side::Coordinator).unwrap();
        world.lab.serve().unwrap();
        restores_and_backs_up(&world, &snapshot, &what);
        all_is_good(&world, &what);
    }
}

/// Makes each read of a batch take a while, as on a disk that is far too slow.
const SLOW_JOURNAL: &str = "#define _GNU_SOURCE\n\
    #include <dlfcn.h>\n#include <stdio.h>\n#include <string.h>\n#include <unistd.h>\n\
    ssize_t pread64(int fd, void *to, size_t count, off64_t offset) {\n\
        char link[64], path[4096] = {0};\n\
        snprintf(link, sizeof link, \"/proc/self/fd/%d\", fd);\n\
        if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, \"/journal/\")) usleep(400000);\n\
        ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, \"pread64\");\n\
        return real(fd, to, count, offset);\n\
    }\n";

#[test]
fn a_long_start_asks_systemd_for_time_again_and_again_and_obeys_a_stop() {
    let world = World::new();
    world.lab.stop(Side::Coordinator).unwrap();
    let config = Config::load(Path::new(&world.lab.path("coordinator"))).unwrap();
    let opened = serve::open(&config, false, &mut |_| ()).unwrap();
    for _ in 0..100 {
        opened.coordinator().record(vec![act()]).unwrap();
    }
    drop(opened);
    let (code, library) = (world.path("slow.c"), world.path("slow.so"));
    fs::write(&code, SLOW_JOURNAL).unwrap();
    let mut compiler = Command::new("cc");
    assert!(compiler.args(["-shared", "-fPIC", "-o"]).args([&library, &code]).status().unwrap().success());
    let socket = world.path("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut command = world.lab.lifeboat_command();
    command.arg("serve").env("LD_PRELOAD", &library).env("NOTIFY_SOCKET", &socket).stdout(Stdio::null());
    let mut serving = command.stderr(Stdio::null()).spawn().unwrap();
    let heard = || {
        let mut message = [0; 1000];
        let length = systemd.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let [first, second] = [heard(), heard()];
    for message in [&first, &second] {
        assert!(message.contains("EXTEND_TIMEOUT_USEC=120000000") && !message.contains("READY"), "{message}");
    }
    assert!(second.contains("STATUS=opening: reading journal batch "), "{second}");
    let asked = Instant::now();
    let pid = serving.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(serving.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(heard().contains("STOPPING=1"));
    world.lab.serve_with(&[("NOTIFY_SOCKET", &socket)]).unwrap();
    let stages: Vec<String> = std::iter::repeat_with(heard).take(2).collect();
    assert!(stages[0].contains("EXTEND_TIMEOUT_USEC") && stages[1].contains("READY=1"), "{stages:?}");
}
