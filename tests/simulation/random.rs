//! Histories by chance: two or three hosts whose files change, backups, and everything that may go wrong, one after the
//! other. After each event all that was acknowledged must restore (see `model`).
//!
//! A seed decides all of it but one thing: which of the packs that a commit asks for is put first. A failure prints
//! its seed and what had happened. `LIFEBOAT_SEEDS=17..18` repeats one, `LIFEBOAT_SEEDS=0..50000` tries many.

use crate::dice::Dice;
use crate::host::{Host, How};
use crate::lab::{Lab, LeftIndex};
use crate::source::Source;
use crate::uplink::Trouble;
use lifeboat_coordinator::clock::Clock;
use lifeboat_coordinator::repository::Coordinator;
use lifeboat_coordinator::store::faulty::Fault;
use lifeboat_coordinator::store::{ByteRange, ObjectKind, ObjectName, Store};
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const SEEDS: Range<u64> = 0..100;
const EVENTS: usize = 25;
const PACK_HEADER_BYTES: usize = 16;
const DAY: Duration = Duration::from_secs(86_400);
const YEAR_NS: i64 = 365 * 86_400 * 1_000_000_000;

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Files of a host change.
    Change,
    /// A backup, which succeeds.
    Backup,
    /// A backup that leaves checkpoints.
    BackupInLegs,
    /// A backup with threads, as in an agent.
    BackupOnThreads,
    /// A backup, at a write of which the coordinator dies; what the next start finds.
    CoordinatorCrash(LeftIndex),
    /// A backup, at a write of which the store fails; the coordinator goes on.
    StoreFault(Fault),
    /// A backup, at a write of which the store did what it was told, says otherwise, and cannot be read for a while.
    UnknownOutcome,
    /// A backup, at a call of which the agent dies.
    AgentDies,
    /// A backup, at a call of which the agent dies, though the coordinator does what it was asked.
    AnswerIsLost,
    /// A backup, in the middle of which the coordinator is restarted.
    RestartUnderBackup,
    /// A backup, in the middle of which a host backs up, perhaps the same one.
    Interleaved,
    /// The coordinator is restarted.
    Restart(LeftIndex),
    /// The coordinator dies while it starts.
    CrashAtStart,
    /// A checkpoint of the journal is written.
    JournalCheckpoint,
    /// The same, at a write of which the coordinator dies.
    CrashAtJournalCheckpoint,
    /// The newest checkpoint of the journal has a changed byte, and the coordinator is restarted.
    JournalCheckpointRot,
    /// A pack has a changed byte, and verify finds it.
    BitRot,
    /// An agent's local tree is gone.
    LocalTreeLost,
    /// An agent's local tree has a changed byte, or ends early.
    LocalTreeDamaged,
    /// An agent's local tree is the one of an earlier day.
    LocalTreeOld,
    /// The clock is set to another year.
    ClockJump,
}

/// As often as they stand here.
const ALL: [Event; 38] = [
    Event::Change,
    Event::Change,
    Event::Change,
    Event::Change,
    Event::Change,
    Event::Change,
    Event::Backup,
    Event::Backup,
    Event::Backup,
    Event::BackupInLegs,
    Event::BackupOnThreads,
    Event::CoordinatorCrash(LeftIndex::Kept),
    Event::CoordinatorCrash(LeftIndex::Kept),
    Event::CoordinatorCrash(LeftIndex::Lost),
    Event::CoordinatorCrash(LeftIndex::Old),
    Event::StoreFault(Fault::Fails),
    Event::StoreFault(Fault::DoneButSaysFailed),
    Event::StoreFault(Fault::Full),
    Event::UnknownOutcome,
    Event::AgentDies,
    Event::AnswerIsLost,
    Event::RestartUnderBackup,
    Event::Interleaved,
    Event::Interleaved,
    Event::Restart(LeftIndex::Kept),
    Event::Restart(LeftIndex::Lost),
    Event::Restart(LeftIndex::Old),
    Event::CrashAtStart,
    Event::JournalCheckpoint,
    Event::JournalCheckpoint,
    Event::JournalCheckpoint,
    Event::CrashAtJournalCheckpoint,
    Event::JournalCheckpointRot,
    Event::BitRot,
    Event::LocalTreeLost,
    Event::LocalTreeDamaged,
    Event::LocalTreeOld,
    Event::ClockJump,
];

struct Story {
    seed: u64,
    dice: Dice,
    lab: Lab,
    hosts: Vec<(Host, Source)>,
    told: Vec<String>,
}

impl Story {
    fn begin(seed: u64) -> Self {
        let dice = Dice::new(seed);
        let lab = Lab::new(&format!("seed-{seed}"), *dice.one_of(&[60_000, 300_000, 4 << 20]));
        let hosts = (1..=2 + dice.below(2) as u32).map(|id| {
            let host = lab.host(id);
            let mut source = Source::new(&host.source, seed * 10 + u64::from(id), lab.clock().clone());
            source.fill(*dice.one_of(&[10, 40, 250]));
            (host, source)
        });
        let hosts = hosts.collect();
        Self { seed, dice, lab, hosts, told: Vec::new() }
    }

    fn run(mut self) {
        for _ in 0..EVENTS {
            let event = *self.dice.one_of(&ALL);
            let at = self.dice.below(self.hosts.len());
            self.told.push(format!("{event:?} on host {}", at + 1));
            self.happen(event, at);
            self.lab.check();
            self.lab.clock().advance(DAY * self.dice.below(3) as u32);
        }
        self.told.push("the end".into());
        self.lab.restart();
        self.hosts.iter().for_each(|(host, _)| drop(self.lab.backup(host)));
        self.lab.check();
    }

    fn happen(&mut self, event: Event, at: usize) {
        let host = self.hosts[at].0.clone();
        let call = self.dice.below(12);
        let trouble = |trouble| How { trouble: Some((call, trouble)), ..How::default() };
        match event {
            Event::Change => self.hosts[at].1.change(1 + self.dice.below(8)),
            Event::Backup => drop(self.lab.backup(&host)),
            Event::BackupInLegs => self.try_backup(&host, &How { checkpoint_bytes: Some(100_000), ..How::default() }),
            Event::BackupOnThreads => self.try_backup(&host, &How { processors: 2, ..How::default() }),
            Event::CoordinatorCrash(index) => {
                self.lab.store().fault(self.dice.below(12), Fault::Crash);
                self.try_backup(&host, &How::default());
                self.start_again(index);
            }
            Event::StoreFault(fault) => {
                self.lab.store().fault(self.dice.below(12), fault);
                self.try_backup(&host, &How::default());
                self.lab.store().forget_faults();
            }
            Event::UnknownOutcome => {
                let write = self.dice.below(12);
                self.lab.store().fault(write, Fault::DoneButSaysFailed);
                self.lab.store().fail_reads_after_puts(write + 1);
                self.try_backup(&host, &How::default());
                self.lab.store().forget_faults();
            }
            Event::AgentDies => self.try_backup(&host, &trouble(Trouble::AgentDies)),
            Event::AnswerIsLost => self.try_backup(&host, &trouble(Trouble::AnswerIsLost)),
            Event::RestartUnderBackup => self.try_backup(&host, &trouble(Trouble::Restart)),
            Event::Interleaved => {
                let other = self.dice.one_of(&self.hosts).0.clone();
                self.try_backup(&host, &trouble(Trouble::BacksUp(other)));
            }
            Event::Restart(index) => self.start_again(index),
            Event::CrashAtStart => {
                self.lab.stop();
                self.lab.store().fault(0, Fault::Crash);
                assert!(self.lab.start(LeftIndex::Kept).is_err());
                self.start_again(LeftIndex::Kept);
            }
            Event::JournalCheckpoint => self.lab.coordinator(Coordinator::write_checkpoint).unwrap(),
            Event::CrashAtJournalCheckpoint => {
                self.lab.store().fault(self.dice.below(5), Fault::Crash);
                let _may_fail = self.lab.coordinator(Coordinator::write_checkpoint);
                self.start_again(LeftIndex::Kept);
            }
            Event::JournalCheckpointRot => {
                self.damage_checkpoint();
                self.start_again(LeftIndex::Kept);
            }
            Event::BitRot => self.damage_pack(),
            Event::LocalTreeLost => drop(fs::remove_file(host.local_tree())),
            Event::LocalTreeDamaged => self.damage_local_tree(&host),
            Event::LocalTreeOld => {
                let old = host.local_tree().with_extension("old");
                let _none_yet = fs::copy(&old, host.local_tree());
                let _none_yet = fs::copy(host.local_tree(), &old);
            }
            Event::ClockJump => {
                let years = self.dice.below(40) as i64 - 20;
                self.lab.clock().jump_to((self.lab.clock().now_ns() + years * YEAR_NS).max(YEAR_NS));
            }
        }
    }

    /// A backup that may fail.
    fn try_backup(&self, host: &Host, how: &How) {
        let _may_fail = self.lab.try_backup(host, how);
    }

    fn start_again(&self, index: LeftIndex) {
        self.lab.stop();
        self.lab.start(index).unwrap();
    }

    /// One that the journal knows, in its first half, where records are.
    fn damage_pack(&self) {
        let packs = self.lab.coordinator(|coordinator| coordinator.catalog(|catalog| catalog.packs()));
        if !packs.is_empty() {
            let pack = ObjectName::pack(self.dice.one_of(&packs).0);
            let bytes = self.lab.objects().size(&pack).unwrap() as usize;
            self.lab.damage(&pack, PACK_HEADER_BYTES + self.dice.below(bytes / 2 - PACK_HEADER_BYTES));
        }
    }

    fn damage_checkpoint(&self) {
        let objects = self.lab.objects();
        if let Some(newest) = objects.list(ObjectKind::Checkpoint).unwrap().pop() {
            let mut bytes = objects.get(&newest, ByteRange::Whole).unwrap().to_vec();
            let at = self.dice.below(bytes.len());
            bytes[at] ^= 1;
            objects.damage(&newest, Some(bytes.into()));
        }
    }

    fn damage_local_tree(&self, host: &Host) {
        let Ok(mut tree) = fs::read(host.local_tree()) else { return };
        let place = self.dice.below(tree.len());
        match self.dice.below(2) {
            0 => tree.truncate(place),
            _ => tree[place] ^= 1 << self.dice.below(8),
        }
        fs::write(host.local_tree(), tree).unwrap();
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if thread::panicking() {
            let again = self.seed..self.seed + 1;
            eprintln!("LIFEBOAT_SEEDS={again:?} does it again. What happened:\n  {}", self.told.join("\n  "));
        }
    }
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("LIFEBOAT_SEEDS") else { return SEEDS };
    let range = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    range.unwrap_or_else(|| panic!("LIFEBOAT_SEEDS={text:?}: needs two numbers, such as 0..1000"))
}

#[test]
fn inv_01_what_was_acknowledged_restores_whatever_happens_afterwards() {
    let seeds = seeds();
    let next = AtomicU64::new(seeds.start);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| seeds.contains(seed)) {
                    Story::begin(seed).run();
                }
            });
        }
    });
}
