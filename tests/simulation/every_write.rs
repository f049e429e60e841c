//! Two backups of a source that changes between them, with a fault at each write of the coordinator in turn (INV-1, 6).

use crate::host::{Host, How};
use crate::lab::{Lab, LeftIndex};
use crate::source::Source;
use lifeboat_coordinator::store::faulty::Fault;

/// Small, so that a backup puts several.
const PACK_BYTES: u64 = 100_000;

/// A lab, its host, and the source of that, filled.
fn begin(name: &str) -> (Lab, Host, Source) {
    let lab = Lab::new(name, PACK_BYTES);
    let host = lab.host(1);
    let mut source = Source::new(&host.source, 1, lab.clock().clone());
    source.fill(300);
    (lab, host, source)
}

/// Two backups, each of which may fail; the source changes between them.
fn two_backups(lab: &Lab, host: &Host, source: &mut Source, how: &How) {
    let _may_fail = lab.try_backup(host, how);
    source.change(4);
    let _may_fail = lab.try_backup(host, how);
}

/// How often two backups without a fault write.
fn count_writes(name: &str) -> usize {
    let (lab, host, mut source) = begin(name);
    let before = lab.store().calls().len();
    two_backups(&lab, &host, &mut source, &How::default());
    let writes = lab.store().calls().len() - before;
    assert!(writes > 15, "only {writes}: packs, and six of the two commits");
    writes
}

#[test]
fn inv_01_a_committed_snapshot_survives_a_crash_at_any_write() {
    for write in 0..count_writes("crash") {
        for index in [LeftIndex::Kept, LeftIndex::Lost, LeftIndex::Old] {
            println!("crash at write {write}, index {index:?}");
            let (lab, host, mut source) = begin("crash");
            lab.store().fault(write, Fault::Crash);
            two_backups(&lab, &host, &mut source, &How::default());
            lab.stop();
            lab.start(index).unwrap();
            lab.check();
            let (_, traffic) = lab.backup(&host);
            assert_eq!(traffic.chunks_sent_again, 0);
            if index == LeftIndex::Kept {
                assert_eq!(traffic.begun, 1, "what the agent takes for known is known");
            }
            lab.check();
        }
    }
}

/// Without a restart: the coordinator goes on, and so does the next backup.
#[test]
fn inv_06_a_write_that_fails_or_says_so_costs_no_more_than_its_backup() {
    for write in 0..count_writes("fault") {
        for (fault, processors) in [(Fault::Fails, 0), (Fault::DoneButSaysFailed, 2), (Fault::Full, 0)] {
            println!("{fault:?} at write {write}");
            let (lab, host, mut source) = begin("fault");
            let before = lab.store().calls().len();
            lab.store().fault(write, fault);
            two_backups(&lab, &host, &mut source, &How { processors, ..How::default() });
            lab.check();
            if lab.store().calls().len() <= before + write {
                continue; // Where a pack ends depends on threads: this history had a write less, and no fault.
            }
            let (_, traffic) = lab.backup(&host);
            assert_eq!((traffic.begun, traffic.chunks_sent_again), (1, 0));
            lab.check();
            lab.stop();
            lab.start(if write % 2 == 0 { LeftIndex::Lost } else { LeftIndex::Kept }).unwrap();
            lab.check();
        }
    }
}
