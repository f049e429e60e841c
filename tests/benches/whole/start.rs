//! The start of a coordinator whose journal is long, on the machine's disk, with nothing of it in memory.

use crate::data;
use crate::figures::{mib, row, seconds};
use crate::peers::{Failure, Lifeboat};
use lifeboat_coordinator::cli::demo::lab::{Lab, Side, Usage};
use lifeboat_coordinator::config::Config;
use lifeboat_coordinator::vault::{Vault, read_identity};
use lifeboat_format::id::{Digest, SnapshotId, SnapshotNumber};
use lifeboat_format::journal::event::{GrantTarget, GrantedSnapshot, SnapshotCommitted};
use lifeboat_format::journal::{Act, Batch, Chain, Decision, Event, Principal};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const BATCHES: u64 = 500_000;
/// Batches after the newest checkpoint: one more, and the next would be due.
const AFTER_CHECKPOINT: u64 = 995;
/// What a start without a checkpoint may take.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Cold starts on a journal of [`BATCHES`] batches, as backups and restores leave them, with and without a checkpoint.
pub fn start(_: &Path) -> Result<(), Failure> {
    // Syncs and seeks are what is measured: not in memory.
    let place = tempfile::Builder::new().prefix("lifeboat-bench-").tempdir()?;
    let source = place.path().join("source");
    data::many_files(&source, 10, 10)?;
    let lifeboat = Lifeboat::start(&place.path().join("lab"), &source)?;
    lifeboat.backup()?;
    let lab = &lifeboat.lab;
    for side in [Side::Agent, Side::Coordinator] {
        lab.stop(side)?;
    }
    let mut journal = Writer::open(lab)?;
    while journal.chain.len() < BATCHES {
        journal.add()?;
    }
    let checkpoints = lab.repository().join("checkpoints");
    let first = Started::of(lab, false)?;
    row(&format!("{BATCHES} batches: a start that reads all of them, also into the index, s"), first.seconds(), "");
    wait_until(|| Ok(fs::read_to_string(lab.path("start.log"))?.contains("a journal checkpoint was written")))?;
    row("  after that and a checkpoint, peak MiB", first.peak()?, "");
    first.stop()?;
    let bytes: u64 =
        fs::read_dir(&checkpoints)?.map(|entry| Ok(entry?.metadata()?.len())).sum::<Result<_, std::io::Error>>()?;
    row("  the checkpoint, MiB", format!("{:.1}", mib(bytes)), "");
    measured(lab, "  cold start, checkpoint just written", "at most 10")?;
    let mut journal = Writer::open(lab)?;
    (0..AFTER_CHECKPOINT).try_for_each(|_| journal.add())?;
    measured(lab, &format!("  cold start, {AFTER_CHECKPOINT} batches after the checkpoint"), "at most 10")?;
    fs::remove_dir_all(&checkpoints)?;
    measured(lab, "  cold start, no checkpoint", "")?;
    Ok(())
}

fn measured(lab: &Lab, what: &str, asked: &str) -> Result<(), Failure> {
    let started = Started::of(lab, true)?;
    row(&format!("{what}, s"), started.seconds(), asked);
    row(&format!("{what}, peak MiB"), started.peak()?, "at most 384");
    started.stop()
}

fn wait_until(mut is_so: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > PATIENCE {
            return Err("it does not come".into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A coordinator that has said that it is ready.
struct Started {
    child: std::process::Child,
    took: Duration,
}

impl Started {
    fn of(lab: &Lab, cold: bool) -> Result<Self, Failure> {
        let socket = PathBuf::from(lab.path("notify"));
        let _none_yet = fs::remove_file(&socket);
        let systemd = UnixDatagram::bind(&socket)?;
        systemd.set_read_timeout(Some(PATIENCE))?;
        if cold {
            rustix::fs::sync();
            fs::write("/proc/sys/vm/drop_caches", "3")?;
        }
        let log = fs::File::create(lab.path("start.log"))?;
        let begun = Instant::now();
        let mut command = lab.lifeboat_command();
        command.arg("serve").env("NOTIFY_SOCKET", &socket).stdout(Stdio::null()).stderr(log);
        let child = command.spawn()?;
        let mut message = [0; 1000];
        loop {
            let length = systemd.recv(&mut message)?;
            if message[..length].starts_with(b"READY=1") {
                return Ok(Self { child, took: begun.elapsed() });
            }
        }
    }

    fn seconds(&self) -> String {
        format!("{:.1}", seconds(self.took))
    }

    fn peak(&self) -> Result<String, Failure> {
        Ok(format!("{:.1}", mib(Usage::of(self.child.id())?.peak_bytes)))
    }

    fn stop(mut self) -> Result<(), Failure> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        match self.child.wait()?.success() {
            true => Ok(()),
            false => Err("the coordinator did not end well".into()),
        }
    }
}

/// Writes batches as the coordinator does, without waiting for the disk. The coordinator is stopped.
struct Writer {
    chain: Chain,
    log_key: lifeboat_format::sign::SigningKey,
    last: SnapshotCommitted,
    number: SnapshotNumber,
    grants: u64,
    journal: [PathBuf; 2],
}

impl Writer {
    fn open(lab: &Lab) -> Result<Self, Failure> {
        let config = Config::load(Path::new(&lab.path("coordinator")))?;
        let vault = Vault::open(&config.vault(), &read_identity(&config.credential)?)?;
        let journal = ["journal", "copies/journal"].map(|directory| config.repository.join(directory));
        let mut chain = Chain::start(vault.repository, vault.log_key.verifying_key());
        let (mut last, mut grants) = (None, 0);
        while let Ok(bytes) = fs::read(journal[0].join(format!("{:020}", chain.next_number()))) {
            let batch = Batch::parse(&bytes)?;
            chain.append(batch.signed_head())?;
            for record in batch.records() {
                match &record.act.event {
                    Event::SnapshotCommitted(committed) => last = Some((committed.clone(), record.sequence)),
                    Event::GrantsMade { first, snapshots, .. } => grants = first + snapshots.len() as u64 - 1,
                    _ => {}
                }
            }
        }
        let (last, number) = last.ok_or("there is no snapshot")?;
        Ok(Self { chain, log_key: vault.log_key.clone(), last, number: SnapshotNumber::new(number), grants, journal })
    }

    /// Of five batches four commit a snapshot with the tree of the one before, and one makes a grant.
    fn add(&mut self) -> Result<(), Failure> {
        let number = self.chain.next_number();
        let event = match number % 5 {
            0 => {
                self.grants += 1;
                let granted = GrantedSnapshot { snapshot: self.number, order: Digest::of(&number.to_le_bytes()) };
                let (first, snapshots) = (self.grants, vec![granted]);
                Event::GrantsMade { first, snapshots, target: GrantTarget::LocalClient, expires_ns: 1 }
            }
            _ => {
                self.last.sequence += 1;
                self.last.snapshot = SnapshotId::from_bytes(*Digest::of(&number.to_le_bytes()).as_bytes());
                self.number = SnapshotNumber::new(self.chain.next_sequence());
                Event::SnapshotCommitted(self.last.clone())
            }
        };
        let mut next = self.chain.next_batch(self.chain.incarnation());
        next.push(Act {
            time_ns: 1_790_000_000_000_000_000 + number as i64,
            principal: Principal::Host(self.last.host),
            verb: "backup".into(),
            object: "bench:data".into(),
            decision: Decision::Done,
            event,
        })?;
        let batch = next.sign(&self.log_key)?;
        self.chain.append(batch.signed_head())?;
        for directory in &self.journal {
            fs::write(directory.join(format!("{number:020}")), batch.to_bytes())?;
        }
        Ok(())
    }
}
