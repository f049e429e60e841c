//! More snapshots than a test can make by backups: their records are written into the journal directly.

use lifeboat_coordinator::config::Config;
use lifeboat_coordinator::serve;
use lifeboat_format::id::SnapshotId;
use lifeboat_format::journal::event::SnapshotCommitted;
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use lifeboat_format::key::ContentHash;
use lifeboat_format::manifest::{Clear, Manifest, SealedPart};
use lifeboat_format::sign::SigningKey;
use std::fs;
use std::path::Path;

/// Records in one batch.
const BATCH: usize = 2000;

/// Adds snapshots to the source set of the newest one, with its tree and with manifests that state its counts. They can be
/// listed, not restored. Nobody may serve the repository of this state directory meanwhile.
pub fn add_snapshots(state: &Path, count: usize, suspect: Option<&str>) {
    let config = Config::load(state).unwrap();
    let opened = serve::open(&config, false, &mut |_| ()).unwrap();
    let coordinator = opened.coordinator();
    let (mut last, host) = coordinator.catalog(|catalog| {
        let (_, newest) = catalog.snapshots().next_back().unwrap();
        (newest.id, newest.host)
    });
    let place = |id: &SnapshotId| {
        let name = id.to_string();
        config.repository.join("manifests").join(&name[..2]).join(name)
    };
    let mut clear = Manifest::parse(&fs::read(place(&last)).unwrap()).unwrap().clear().clone();
    let part = SealedPart::new(ContentHash::from_bytes([1; 32]), [clear.root.scope], []);
    let key = SigningKey::from_seed(&[1; 32]);
    let mut add = || {
        clear = Clear { sequence: clear.sequence + 1, previous: Some(last), ..clear.clone() };
        let (manifest, _) = Manifest::seal(&clear, &part, &key).unwrap();
        last = manifest.id();
        fs::create_dir_all(place(&last).parent().unwrap()).unwrap();
        fs::write(place(&last), manifest.as_bytes()).unwrap();
        let committed = SnapshotCommitted::of(last, &clear, suspect.map(str::to_owned));
        Act {
            time_ns: clear.ended_ns + clear.sequence as i64,
            principal: Principal::Host(host),
            verb: "backup".into(),
            object: String::new(),
            decision: Decision::Done,
            event: Event::SnapshotCommitted(committed),
        }
    };
    for first in (0..count).step_by(BATCH) {
        coordinator.record((first..count.min(first + BATCH)).map(|_| add()).collect()).unwrap();
    }
}
