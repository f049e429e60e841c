//! From an address to the tree that it means: which snapshot, a grant for it, a reader of what was granted.
//!
//! The operator's key signs an order; the coordinator opens the snapshot for a key that is made here for this one
//! command and forgotten with it. What is read after that is checked here, record by record.

mod ahead;

use super::admin::{self, Admin};
use super::entry::EntryRow;
use super::output::{Output, ago, counted, from_ns, hex, moment, zone, zone_name};
use super::{Done, Global, elsewhere, symlink};
use crate::address::{self, Address, AddressError, Candidate, When};
use crate::config::Config;
use crate::vault;
use ahead::{Ahead, Granted};
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use lifeboat_agent::restore::fetch::{FetchError, GrantReader, NodeReader};
use lifeboat_agent::restore::{Reason, has_below, incomplete_list, unknown_absence};
use lifeboat_agent::walk::Shown;
use lifeboat_format::envelope::{Identity, Recipient};
use lifeboat_format::grant::{GrantOrder, SignedOrder};
use lifeboat_format::id::{RepositoryId, SnapshotId};
use lifeboat_format::journal::event::GrantTarget;
use lifeboat_format::sign::SigningKey;
use lifeboat_format::tree::{Entry, EntryKind, TreeReader, is_within};
use lifeboat_proto::convert::array;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1::{self, Outcome};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;
use tokio::runtime::Handle;

/// Gaps of a snapshot that are named before a restore of it.
const GAPS_SAID_FIRST: usize = 5;

/// How files are named on the command line.
#[derive(Debug, Clone, Args)]
pub struct AddressArgs {
    /// Files of a server, such as mail-1:/etc@yesterday
    #[arg(value_name = "HOST[:PATH][@WHEN]")]
    address: OsString,
    /// Point in time or snapshot. With --at, an @ in the path is an ordinary character
    #[arg(long, value_name = "WHEN", allow_hyphen_values = true)]
    at: Option<When>,
    /// Source set, if the server has several
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    set: String,
}

/// A tree that can be read.
pub struct Opened {
    /// The repository.
    pub repository: RepositoryId,
    /// Reads it.
    pub reader: GrantReader,
    /// The path that was asked for, as the tree has it.
    pub path: Vec<u8>,
    /// The snapshot that it is.
    pub snapshot: v1::SnapshotInfo,
    /// What the backup could not read, escaped.
    pub gaps: Vec<String>,
    /// What is to be said of the path.
    pub note: Option<String>,
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

    /// Whether what it means depends on a time zone.
    pub fn is_local(&self) -> Result<bool, Failure> {
        Ok(self.address()?.when.is_local())
    }

    /// Whether a moment was typed, be it the newest.
    pub fn names_moment(&self) -> bool {
        let is_typed = |text: &str| text.rsplit_once('@').is_some_and(|(_, when)| when.parse::<When>().is_ok());
        self.at.is_some() || self.address.to_str().is_some_and(is_typed)
    }

    /// The source set that was typed; nothing for all.
    pub fn source_set(&self) -> &str {
        &self.set
    }

    /// The snapshots among which it chooses.
    pub async fn snapshots(&self, global: &Global) -> Result<Snapshots, Failure> {
        Snapshots::of(&self.address()?.host, &self.set, global).await
    }

    /// Finds the snapshot and has it opened. `purpose` is for the journal.
    pub async fn open(&self, purpose: &str, life: SignedDuration, global: &Global) -> Result<Opened, Failure> {
        self.open_all(None, &[], purpose, life, global).await
    }

    /// The same, perhaps at another moment than the one that was typed. The path must be there, and so must `more` paths.
    pub async fn open_all(
        &self,
        when: Option<When>,
        more: &[Vec<u8>],
        purpose: &str,
        life: SignedDuration,
        global: &Global,
    ) -> Result<Opened, Failure> {
        let mut address = self.address()?;
        if let Some(when) = when {
            address.when = when;
        }
        let mut snapshots = self.snapshots(global).await?;
        let opened = snapshots.open_holding(&address, more, purpose, life).await?;
        elsewhere::check(opened, more, &mut snapshots).await
    }

    /// What was typed.
    pub fn asked(&self) -> String {
        let mut asked = Shown(self.address.as_bytes()).to_string();
        if let Some(at) = &self.at {
            asked.push_str(&format!(" --at {at}"));
        }
        if !self.set.is_empty() {
            asked.push_str(&format!(" --set {}", self.set));
        }
        asked
    }
}

/// The snapshots of one host, or of all, each of which can be opened.
pub struct Snapshots {
    config: Config,
    admin: Admin,
    repository: RepositoryId,
    ahead: Ahead,
    warned: bool,
    /// What there is, newest first.
    pub list: Vec<v1::SnapshotInfo>,
}

impl Snapshots {
    /// Those of a host and a source set; of all where a name is empty.
    pub async fn of(host: &str, source_set: &str, global: &Global) -> Result<Self, Failure> {
        let config = global.config()?;
        let mut admin = admin::connect(&config).await?;
        let list = admin::list_snapshots(&mut admin, host, source_set).await?;
        let repository = RepositoryId::from_bytes(array("repository", &list.repository)?);
        Ok(Self { config, admin, repository, ahead: Ahead::default(), warned: false, list: list.snapshots })
    }

    /// All these will be opened, in this order: their grants are made together.
    pub fn expect_all(&mut self, snapshots: Vec<v1::SnapshotInfo>) {
        self.ahead = Ahead::all(snapshots);
    }

    /// Any of these may be opened, the first ones more likely: some grants are made ahead.
    pub fn expect_some(&mut self, snapshots: Vec<v1::SnapshotInfo>) {
        self.ahead = Ahead::perhaps(snapshots);
    }

    /// What there is now.
    pub async fn read_again(&mut self, host: &str, source_set: &str) -> Result<Vec<v1::SnapshotInfo>, Failure> {
        self.list = admin::list_snapshots(&mut self.admin, host, source_set).await?.snapshots;
        Ok(self.list.clone())
    }

    /// The one of a host that is meant.
    pub fn choose(&self, host: &str, when: &When) -> Result<&v1::SnapshotInfo, Failure> {
        choose(host, when, &self.list)
    }

    /// Has the one opened that an address means.
    pub async fn open_at(&mut self, address: &Address, purpose: &str, life: SignedDuration) -> Result<Opened, Failure> {
        let snapshot = self.choose(&address.host, &address.when)?.clone();
        self.open_in(&snapshot, address, purpose, life).await
    }

    /// Has one of them opened, to read the path of an address in it: with its backslashes taken literally, where the tree
    /// has only that path.
    pub async fn open_in(
        &mut self,
        snapshot: &v1::SnapshotInfo,
        address: &Address,
        purpose: &str,
        life: SignedDuration,
    ) -> Result<Opened, Failure> {
        let mut opened = self.open(snapshot, &address.path, purpose, life).await?;
        let Some(literal) = address.literal.clone() else { return Ok(opened) };
        blocking(move || {
            let is_only_literal = matches!(opened.tree().lookup(&opened.path), Ok(None))
                && matches!(opened.tree().lookup(&literal), Ok(Some(_)));
            if is_only_literal {
                opened.path = literal;
            }
            Ok(opened)
        })
        .await
    }

    /// The same; of several source sets the only one that holds the path, and `more` paths.
    pub async fn open_holding(
        &mut self,
        address: &Address,
        more: &[Vec<u8>],
        purpose: &str,
        life: SignedDuration,
    ) -> Result<Opened, Failure> {
        let ambiguous = match self.choose(&address.host, &address.when) {
            Err(failure) if failure.class == ErrorClass::NotFound => failure,
            _ => return self.open_at(address, purpose, life).await,
        };
        let sets: BTreeSet<String> = self.list.iter().map(|snapshot| snapshot.source_set.clone()).collect();
        let chosen = sets.iter().filter_map(|set| {
            let of_set = |snapshot: &&v1::SnapshotInfo| snapshot.source_set == *set;
            let list: Vec<_> = self.list.iter().filter(of_set).cloned().collect();
            choose(&address.host, &address.when, &list).ok().cloned()
        });
        let chosen: Vec<v1::SnapshotInfo> = chosen.collect();
        self.expect_all(chosen.clone());
        let (mut holding, mut searched, mut unopened) = (Vec::new(), Vec::new(), None);
        for snapshot in chosen {
            searched.push(snapshot.source_set.clone());
            let opened = match self.open_in(&snapshot, address, purpose, life).await {
                Err(failure) if costs_one_snapshot(&failure) => {
                    let set = snapshot.source_set;
                    eprintln!("snapshot {} of set {set} cannot be searched: {failure}", hex(&snapshot.snapshot));
                    unopened = unopened.or(Some(failure));
                    continue;
                }
                opened => opened?,
            };
            let paths = [vec![opened.path.clone()], more.to_vec()].concat();
            let (opened, holds) = blocking(move || {
                // What is damaged there may be the path: to be found out where it is read.
                let holds = paths.iter().all(|path| opened.has(path).unwrap_or(true));
                Ok((opened, holds))
            })
            .await?;
            if holds {
                holding.push(opened);
            }
        }
        if let (true, Some(failure)) = (holding.is_empty(), unopened) {
            return Err(failure);
        }
        if holding.len() > 1 || searched.len() < 2 {
            let sets: Vec<_> = holding.iter().map(|opened| opened.snapshot.source_set.as_str()).collect();
            let hint = format!("each of these holds /{}: {}", address::shown(&address.path), sets.join(", "));
            return Err(if sets.is_empty() { ambiguous } else { ambiguous.hint(hint) });
        }
        holding.pop().ok_or_else(|| {
            let (path, sets) = (address::shown(&address.path), searched.join(", "));
            let what = format!("no source set of {} holds /{path} at {}: {sets}", address.host, address.when);
            Failure::new(ErrorClass::NotFound, what).hint(
                "--set NAME looks into one of them and names the nearest path there; `lifeboat find` searches all",
            )
        })
    }

    /// Has one of them opened, to read `path` in it.
    pub async fn open(
        &mut self,
        snapshot: &v1::SnapshotInfo,
        path: &[u8],
        purpose: &str,
        life: SignedDuration,
    ) -> Result<Opened, Failure> {
        let granted = match self.ahead.take(snapshot.number, Instant::now()) {
            Some(granted) => granted,
            None => {
                self.grant(snapshot, purpose, life).await?;
                let none = || Failure::new(ErrorClass::Internal, "the coordinator did not answer every order");
                self.ahead.take(snapshot.number, Instant::now()).ok_or_else(none)?
            }
        };
        let Granted { reply, identity, .. } = granted;
        let v1::GrantReply { grant, snapshot, gaps, history_diverged, .. } = reply?;
        if history_diverged && !std::mem::replace(&mut self.warned, true) {
            eprintln!(
                "warning: a host knows a later state of this repository, which was restored from an older copy; newer \
                 snapshots may exist elsewhere (see `lifeboat host list`)"
            );
        }
        let channel = admin::channel(&self.config.socket).await?;
        let runtime = Handle::current();
        let reader = blocking(move || Ok(GrantReader::open(channel, runtime, &grant, &identity)?)).await?;
        let (repository, path) = (self.repository, path.to_vec());
        Ok(Opened { repository, reader, path, snapshot: snapshot.unwrap_or_default(), gaps, note: None })
    }

    /// Has a snapshot granted, and those that will be opened after it.
    async fn grant(&mut self, snapshot: &v1::SnapshotInfo, purpose: &str, life: SignedDuration) -> Result<(), Failure> {
        let identity = Identity::generate();
        let wanted = self.ahead.wanted(snapshot);
        let (issued, asked) = (Timestamp::now(), Instant::now());
        let order = |snapshot: &v1::SnapshotInfo| {
            let (target, recipient, directory) = (GrantTarget::LocalClient, identity.recipient(), "local");
            let wanted = Wanted { snapshot, target, recipient, directory, purpose, issued, life };
            Ok(wanted.sign(self.repository, &self.config)?.0.to_bytes().into())
        };
        let orders = wanted.iter().map(order).collect::<Result<_, Failure>>()?;
        let mut replies = self.admin.grant(v1::GrantCommand { orders }).await?.into_inner();
        for snapshot in wanted {
            let Some(mut reply) = replies.message().await? else { break };
            let reply = reply.failure.take().map_or(Ok(reply), |failure| Err(failure.into()));
            self.ahead.keep(snapshot.number, Granted { reply, identity: identity.clone(), asked, life });
        }
        Ok(())
    }
}

/// Whether a snapshot that cannot be opened or read costs only itself: whoever looks at many goes on with the others.
pub fn costs_one_snapshot(failure: &Failure) -> bool {
    matches!(failure.class, ErrorClass::Damaged | ErrorClass::NotFound | ErrorClass::Internal)
}

/// The one of `list`, all of `host`, that is meant.
pub fn choose<'a>(host: &str, when: &When, list: &'a [v1::SnapshotInfo]) -> Result<&'a v1::SnapshotInfo, Failure> {
    let candidates = list.iter().map(candidate).collect::<Result<Vec<_>, _>>()?;
    let chosen = address::choose(host, when, &candidates, &zone(), Timestamp::now());
    let chosen = chosen.map_err(|error| Failure::of(ErrorClass::NotFound, &error))?.number;
    let gone = || Failure::new(ErrorClass::Internal, "the chosen snapshot is not in the list");
    list.iter().find(|snapshot| snapshot.number == chosen).ok_or_else(gone)
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

/// An order that is to be signed.
pub struct Wanted<'a> {
    /// The snapshot to open.
    pub snapshot: &'a v1::SnapshotInfo,
    /// For whom.
    pub target: GrantTarget,
    /// Their key.
    pub recipient: Recipient,
    /// Where they may write.
    pub directory: &'a str,
    /// Why.
    pub purpose: &'a str,
    /// From when on.
    pub issued: Timestamp,
    /// How long it is good.
    pub life: SignedDuration,
}

impl Wanted<'_> {
    /// Signs it with the operator's key, which comes back with it.
    pub fn sign(self, repository: RepositoryId, config: &Config) -> Result<(SignedOrder, SigningKey), Failure> {
        let nanoseconds = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| Failure::new(ErrorClass::Internal, error.to_string()))?;
        let order = GrantOrder {
            repository,
            snapshot: SnapshotId::from_bytes(array("snapshot", &self.snapshot.snapshot)?),
            target: self.target,
            recipient: self.recipient,
            directory: self.directory.to_owned(),
            purpose: self.purpose.to_owned(),
            issued_ns: nanoseconds(self.issued),
            expires_ns: nanoseconds(self.issued.saturating_add(self.life).unwrap_or(self.issued)),
            nonce,
        };
        let operator =
            vault::read_operator(&config.operator_key()).map_err(|error| Failure::of(ErrorClass::Refused, &error))?;
        let signed = SignedOrder::sign(&order, &[&operator]).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
        Ok((signed, operator))
    }
}

impl Opened {
    /// Reads entries of the tree.
    pub fn tree(&self) -> TreeReader<NodeReader> {
        TreeReader::new(self.reader.nodes(), self.reader.root())
    }

    /// Whether the tree has a path, or something below it. Blocks.
    pub fn has(&self, path: &[u8]) -> Result<bool, FetchError> {
        let mut tree = self.tree();
        // Of the root it is known, even if the part of the tree that holds it is lost.
        Ok(path.is_empty() || tree.lookup(path)?.is_some() || has_below(&mut tree, path)?)
    }

    /// What is to be said of a path whose last part is a link. Blocks.
    pub fn link_note(&self) -> Option<String> {
        let mut tree = self.tree();
        // Nothing more than a note is lost with it.
        let through = symlink::follow(&self.path, |path| tree.lookup(path)).ok().flatten()?;
        Some(format!("{through}, and the link itself is meant here; {}", through.hint(&self.snapshot.host_name)))
    }

    /// The entry that was asked for. Blocks.
    pub fn entry(&self) -> Result<Entry, Failure> {
        self.entry_at(&self.path)
    }

    /// The entry at a path. Blocks.
    pub fn entry_at(&self, path: &[u8]) -> Result<Entry, Failure> {
        match self.tree().lookup(path)? {
            Some(entry) => Ok(entry),
            None => Err(elsewhere::nearest(self, path)?),
        }
    }

    /// The entry itself, or for a further name of a file that file under this name. Blocks.
    pub fn file_of(&self, entry: Entry) -> Result<Entry, Failure> {
        let EntryKind::HardLink { to } = &entry.kind else { return Ok(entry) };
        let absent = || {
            let what = format!("the file that /{} is a name of is not in the snapshot", address::shown(&entry.path));
            Failure::new(ErrorClass::Damaged, what)
        };
        let first = self.tree().lookup(to)?.ok_or_else(absent)?;
        Ok(Entry { path: entry.path, ..first })
    }

    /// An entry as lists show it: a hard link with the attributes of its file. Blocks.
    pub fn row(&self, entry: &Entry) -> EntryRow {
        match self.file_of(entry.clone()) {
            Ok(file) if matches!(entry.kind, EntryKind::HardLink { .. }) => EntryRow::of_link(entry, &file),
            // Of a file that is damaged, the name is still known.
            _ => EntryRow::new(entry),
        }
    }

    /// Why a path that the tree does not have may have been there all the same. Blocks.
    pub fn unknown_absence(&self, path: &[u8]) -> Result<Option<Reason>, FetchError> {
        unknown_absence(&mut self.tree(), self.reader.coverage(), path)
    }

    /// Why what is listed of a directory may not be all.
    pub fn incomplete_list(&self, entry: &Entry) -> Option<Reason> {
        match entry.kind {
            EntryKind::Directory(completeness) => incomplete_list(self.reader.coverage(), &entry.path, completeness),
            _ => None,
        }
    }

    /// Gives `take` what is at and below a path, in order. Parts of the tree that cannot be read are said. Blocks.
    pub fn each(
        &self,
        path: &[u8],
        out: &mut Output,
        mut take: impl FnMut(Entry, &mut Output) -> Result<(), Failure>,
    ) -> Result<Done, Failure> {
        let (mut tree, mut done) = (self.tree(), Done::Whole);
        tree.seek(path);
        while let Some(entry) = tree.next() {
            match entry {
                Ok(entry) if !is_within(&entry.path, path) => break,
                Ok(entry) => take(entry, out)?,
                Err(why @ (FetchError::Lost { .. } | FetchError::Format(_))) => {
                    let Some(last) = tree.pass_over_broken() else { return Err(why.into()) };
                    done = Done::WithLosses;
                    out.say(format_args!("the part up to /{} cannot be read: {why}", address::shown(&last)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// The first digits of the snapshot's id.
    pub fn short_id(&self) -> String {
        short_id(&self.snapshot)
    }

    /// Says which snapshot it is, from when, how old, how whole, and which zone the times are in.
    pub fn say_which(&self, before: &str, out: &Output) {
        let v1::SnapshotInfo { host_name, source_set, gap_count, .. } = &self.snapshot;
        let committed = from_ns(self.snapshot.committed_ns);
        let age = committed.map(|time| ago(time, Timestamp::now())).unwrap_or_default();
        let state = match (self.snapshot.suspect, gap_count) {
            (true, _) => "suspect".to_owned(),
            (false, 0) => "complete".to_owned(),
            (false, gaps) => format!("with {}", counted(*gaps, "gap", "gaps")),
        };
        out.say(format_args!(
            "{before}snapshot {} of {host_name}, set {source_set}, from {} ({age}), {state}; times are in {}",
            self.short_id(),
            moment(committed),
            zone_name(),
        ));
        self.note.iter().for_each(|note| out.say(note));
    }

    /// Names the first of what the backup did not have; the rest comes with the report at the end.
    pub fn say_gaps(&self, out: &Output) {
        let first = &self.gaps[..self.gaps.len().min(GAPS_SAID_FIRST)];
        first.iter().for_each(|gap| out.say(format_args!("  a gap: {gap}")));
        let more = self.snapshot.gap_count.saturating_sub(first.len() as u64);
        if more > 0 {
            out.say(format_args!("  and {} more", counted(more, "gap", "gaps")));
        }
    }
}

/// The first digits of a snapshot's id.
pub fn short_id(snapshot: &v1::SnapshotInfo) -> String {
    hex(&snapshot.snapshot).chars().take(12).collect()
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
