//! From an address to the tree that it means: which snapshot, a grant for it, a reader of what was granted.
//!
//! The operator's key signs an order; the coordinator opens the snapshot for a key that is made here for this one
//! command and forgotten with it. What is read after that is checked here, record by record.

use super::Global;
use super::admin::{self, Admin};
use super::output::{from_ns, hex};
use crate::address::{self, Address, AddressError, Candidate, When};
use crate::config::Config;
use crate::vault;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use lifeboat_agent::restore::fetch::{GrantReader, NodeReader};
use lifeboat_format::envelope::Identity;
use lifeboat_format::grant::{GrantOrder, SignedOrder};
use lifeboat_format::id::{RepositoryId, SnapshotId};
use lifeboat_format::journal::event::GrantTarget;
use lifeboat_format::tree::{Entry, TreeReader};
use lifeboat_proto::convert::array;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{self, Outcome};
use std::ffi::OsString;
use tokio::runtime::Handle;

/// How files are named on the command line.
#[derive(Debug, Args)]
pub struct AddressArgs {
    /// Which files, of which server, when: mail-1:/etc@yesterday
    #[arg(value_name = "HOST:PATH[@WHEN]")]
    address: OsString,
    /// The moment or snapshot; then nothing behind an @ in the address is taken for one
    #[arg(long, value_name = "WHEN")]
    at: Option<When>,
    /// The source set, where the server has several
    #[arg(long, value_name = "NAME", default_value = "")]
    set: String,
}

/// A tree that can be read.
pub struct Opened {
    /// Reads it.
    pub reader: GrantReader,
    /// What was asked for.
    pub address: Address,
    /// The snapshot that it is.
    pub snapshot: v1::SnapshotInfo,
    /// What the backup could not read, escaped.
    pub gaps: Vec<String>,
}

/// How long a grant for a short look is good, and one for a restore.
pub const LOOK: SignedDuration = SignedDuration::from_hours(1);
/// A restore of terabytes takes its time.
pub const RESTORE: SignedDuration = SignedDuration::from_hours(7 * 24 - 1);

impl AddressArgs {
    /// What was typed, read.
    pub fn address(&self) -> Result<Address, Failure> {
        Address::parse(&self.address, self.at.clone())
            .map_err(|error: AddressError| Failure::of(ErrorClass::Usage, &error))
    }

    /// Finds the snapshot and has it opened. `purpose` is for the journal.
    pub async fn open(&self, purpose: &str, life: SignedDuration, global: &Global) -> Result<Opened, Failure> {
        self.open_at(None, purpose, life, global).await
    }

    /// The same, at another moment than the one that was typed.
    pub async fn open_at(
        &self,
        when: Option<When>,
        purpose: &str,
        life: SignedDuration,
        global: &Global,
    ) -> Result<Opened, Failure> {
        let config = global.config()?;
        let mut admin = admin::connect(&config).await?;
        let mut address = self.address()?;
        if let Some(when) = when {
            address.when = when;
        }
        open(address, &self.set, purpose, life, &config, &mut admin).await
    }

    /// What was typed.
    pub fn asked(&self) -> String {
        let mut asked = self.address.to_string_lossy().into_owned();
        if let Some(at) = &self.at {
            asked.push_str(&format!(" --at {at}"));
        }
        if !self.set.is_empty() {
            asked.push_str(&format!(" --set {}", self.set));
        }
        asked
    }
}

/// Finds the snapshot that an address means and has it opened.
pub async fn open(
    address: Address,
    source_set: &str,
    purpose: &str,
    life: SignedDuration,
    config: &Config,
    admin: &mut Admin,
) -> Result<Opened, Failure> {
    let list = admin::list_snapshots(admin, &address.host, source_set).await?;
    let repository = RepositoryId::from_bytes(array("repository", &list.repository)?);
    let candidates = list.snapshots.iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
    let chosen = address::choose(&address.host, &address.when, &candidates, &config.time_zone, Timestamp::now());
    let chosen = chosen.map_err(|error| Failure::of(ErrorClass::NotFound, &error))?;
    let snapshot = chosen.id.parse().map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    let identity = Identity::generate();
    let order = order(repository, snapshot, &identity, purpose, life)?;
    let operator =
        vault::read_operator(&config.operator_key()).map_err(|error| Failure::of(ErrorClass::Refused, &error))?;
    let signed = SignedOrder::sign(&order, &[&operator]).map_err(|error| Failure::of(ErrorClass::Internal, &error))?;
    let granted = admin.grant(v1::GrantCommand { order: signed.to_bytes().into() }).await?.into_inner();
    let channel = admin::channel(&config.socket).await?;
    let runtime = Handle::current();
    let grant = granted.grant;
    let reader = blocking(move || Ok(GrantReader::open(channel, runtime, &grant, &identity)?)).await?;
    let snapshot = granted.snapshot.unwrap_or_default();
    Ok(Opened { reader, address, snapshot, gaps: granted.gaps })
}

fn candidate(snapshot: &v1::SnapshotInfo) -> Result<Candidate, Failure> {
    let undated = || Failure::new(ErrorClass::Internal, "a snapshot has no time of commit");
    Ok(Candidate {
        id: hex(&snapshot.snapshot),
        number: snapshot.number,
        committed: from_ns(snapshot.committed_ns).ok_or_else(undated)?,
        source_set: snapshot.source_set.clone(),
        regular: !snapshot.suspect && snapshot.outcome() != Outcome::Checkpoint,
    })
}

fn order(
    repository: RepositoryId,
    snapshot: SnapshotId,
    identity: &Identity,
    purpose: &str,
    life: SignedDuration,
) -> Result<GrantOrder, Failure> {
    let now = Timestamp::now();
    let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| Failure::new(ErrorClass::Internal, error.to_string()))?;
    Ok(GrantOrder {
        repository,
        snapshot,
        target: GrantTarget::LocalClient,
        recipient: identity.recipient(),
        directory: "local".to_owned(),
        purpose: purpose.to_owned(),
        issued_ns: nanoseconds(now),
        expires_ns: nanoseconds(now.saturating_add(life).unwrap_or(now)),
        nonce,
    })
}

impl Opened {
    /// Reads entries of the tree.
    pub fn tree(&self) -> TreeReader<NodeReader> {
        TreeReader::new(self.reader.nodes(), self.reader.root())
    }

    /// The entry that the address names. Blocks.
    pub fn entry(&self) -> Result<Entry, Failure> {
        self.entry_at(&self.address.path)
    }

    /// The entry at a path. Blocks.
    pub fn entry_at(&self, path: &[u8]) -> Result<Entry, Failure> {
        let found = self.tree().lookup(path)?;
        found.ok_or_else(|| {
            let shown = lifeboat_agent::walk::Shown(path);
            let what = format!("there is no /{shown} in snapshot {}", self.short_id());
            Failure::new(ErrorClass::NotFound, what).hint("`lifeboat ls` shows what there is")
        })
    }

    /// The first digits of the snapshot's id.
    pub fn short_id(&self) -> String {
        hex(&self.snapshot.snapshot).chars().take(12).collect()
    }
}

/// Runs what reads, writes or waits, beside the runtime.
pub async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Failure> + Send + 'static,
) -> Result<R, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::of(ErrorClass::Internal, &error)),
    }
}
