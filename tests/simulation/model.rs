//! What must hold, as simply as it can be said: each snapshot is the source as it was when its backup began, and what
//! was acknowledged is there, whole unless bit rot took a part of it.

use crate::host::Host;
use crate::lab::Lab;
use crate::picture::Picture;
use lifeboat_coordinator::catalog::Snapshot;
use lifeboat_coordinator::repository::{Coordinator, Damage};
use lifeboat_coordinator::store::ObjectName;
use lifeboat_format::id::{HostId, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::{SignedHead, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// What agents have seen and been told.
#[derive(Default)]
pub struct Model {
    /// The source as it was when a run began that was to make this snapshot of this host. The last such run counts: of
    /// those before it, none has committed.
    begun: BTreeMap<(HostId, u64), (PathBuf, Arc<Picture>)>,
    acknowledged: Vec<SnapshotId>,
    /// What was restored and compared.
    restored: BTreeSet<SnapshotId>,
    /// Objects that bit rot has changed, and the snapshots that verify then named: they may be lost in part.
    damaged: BTreeSet<ObjectName>,
    excused: BTreeSet<SnapshotNumber>,
    /// The newest signed head that any of them was shown.
    head: Option<SignedHead>,
}

impl Model {
    /// A run has begun; its manifest will carry this sequence.
    pub fn begun(&mut self, host: &Host, sequence: u64, picture: &Arc<Picture>, head: SignedHead) {
        self.begun.insert((host.id, sequence), (host.source.clone(), Arc::clone(picture)));
        self.head = Some(head);
    }

    /// An agent has heard that its snapshot stands.
    pub fn acknowledged(&mut self, snapshot: SnapshotId, head: SignedHead) {
        self.acknowledged.push(snapshot);
        self.head = Some(head);
    }

    /// Verify has found what bit rot did. What is acknowledged from now on must be whole again.
    pub fn damaged(&mut self, damage: Damage) {
        self.damaged.insert(damage.object);
        self.excused.extend(damage.snapshots);
    }

    /// Restores every snapshot that there is and compares it; one that was compared before must open as a whole. And no
    /// object may be damaged that was not damaged on purpose.
    pub fn check(&mut self, lab: &Lab, coordinator: &Coordinator) {
        if let Some(head) = &self.head {
            assert_eq!(coordinator.standing(head).unwrap(), Standing::Known, "a head that an agent was shown");
        }
        // A fault may leave the second copy of a batch out: that costs nothing, and is made good.
        let found = coordinator.verify(None, &mut |_| {}).unwrap();
        for found in found.into_iter().filter(|found| !found.is_healed) {
            assert!(self.damaged.contains(&found.object), "{found:?}");
        }
        let snapshots: Vec<(SnapshotNumber, Snapshot)> = coordinator
            .catalog(|catalog| catalog.snapshots().map(|(number, snapshot)| (number, snapshot.clone())).collect());
        for acknowledged in &self.acknowledged {
            let stands = snapshots.iter().any(|(_, snapshot)| snapshot.id == *acknowledged);
            assert!(stands, "{acknowledged:?} was acknowledged, and is gone");
        }
        for (_, snapshot) in snapshots.into_iter().filter(|(number, _)| !self.excused.contains(number)) {
            let name = format!("snapshot {} of host {}", snapshot.sequence, snapshot.host);
            if !self.restored.insert(snapshot.id) {
                lab.open_all(coordinator, &snapshot).unwrap_or_else(|why| panic!("{name}: {why}"));
                continue;
            }
            let (source, was) = &self.begun[&(snapshot.host, snapshot.sequence)];
            let restored = lab.restore(coordinator, &snapshot, source).unwrap_or_else(|why| panic!("{name}: {why}"));
            match snapshot.is_checkpoint() {
                true => was.assert_holds(&restored, &name),
                false => was.assert_same(&restored, &name),
            }
        }
    }
}
