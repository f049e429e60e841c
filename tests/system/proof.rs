//! An enrolment ends with a backup that was read back; and what a host may have proven, and what not.

use crate::world::{World, noise, said};
use lifeboat_agent::connection::backup_client;
use lifeboat_agent::host::{Host, Places};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::fs;
use std::path::Path;
use walkdir::WalkDir;

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Asks for a proof as the host whose state lies there would.
fn prove(state: &Path, snapshot: &str) -> Result<v1::ProveResponse, Failure> {
    let host = Host::open(&Places { state: state.to_owned(), config: state.to_owned() }).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let channel = host.dialer().unwrap().connect().await.unwrap();
        let request = v1::ProveRequest { snapshot: bytes_of(snapshot).into() };
        backup_client(channel).prove(request).await.map(|answer| answer.into_inner()).map_err(Failure::from)
    })
}

/// Enrols another host, with state and configuration in a directory of its own.
fn enrol(world: &World, name: &str) -> String {
    let (token, state) = (world.lab.path("another-token"), world.lab.path(name));
    fs::write(&token, world.lab.lifeboat(&["token", "create"]).unwrap().stdout).unwrap();
    let arguments = ["--state", &state, "--config", &state, "enrol", "--token-file", &token, "--name", name];
    let output = world.lab.try_agent(&arguments).unwrap();
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

#[test]
fn an_enrolment_ends_with_a_backup_that_was_read_back_and_opened() {
    let world = World::new();
    let text = enrol(&world, "second");
    assert!(text.contains("proven: ") && text.contains("were read back and opened"), "{text}");
    let snapshots = world.json(&["snapshots", "second"]);
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    assert_eq!(snapshots[0]["outcome"], "checkpoint", "it is no backup of the whole set");
    assert!(snapshots[0]["content_bytes"].as_u64().unwrap() > 1000, "the policy and the trust file: {snapshots:?}");
}

#[test]
fn a_host_proves_its_own_small_snapshots_and_damage_shows() {
    let world = World::new();
    world.write("file", b"content");
    world.write("larger", &noise(1, 300_000));
    let small = world.backed_up();
    let own = world.path("agent");
    let proof = prove(&own, &small).unwrap();
    assert!(proof.entries >= 3 && proof.content_bytes == 300_007, "{proof:?}");
    enrol(&world, "second");
    let foreign = prove(&world.path("second"), &small).unwrap_err();
    assert_eq!(foreign.class, ErrorClass::NotFound, "{foreign}");
    (0..1100).for_each(|at| world.write(&format!("many/{at}"), b""));
    let large = prove(&own, &world.backed_up()).unwrap_err();
    assert!(large.class == ErrorClass::Refused && large.message.contains("entries"), "{large}");
    for pack in WalkDir::new(world.lab.repository().join("packs")).into_iter().map(Result::unwrap) {
        if pack.file_type().is_file() {
            let mut bytes = fs::read(pack.path()).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(pack.path(), bytes).unwrap();
        }
    }
    let damaged = prove(&own, &small).unwrap_err();
    assert_eq!(damaged.class, ErrorClass::Damaged, "{damaged}");
}
