//! `lifeboat repository stats | verify | rebuild-index`: the repository itself.

use super::output::{Output, counted, hex, size};
use super::reading::blocking;
use super::{Done, Global, admin};
use crate::serve;
use clap::{Args, Subcommand};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Show the size of the repository and what it holds
    Stats,
    /// Read and check every object
    Verify(VerifyArgs),
    /// Rebuild the index from the repository; the service must be stopped
    RebuildIndex,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Check only this pack
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pack: String,
}

impl RepositoryCommand {
    pub async fn run(self, global: &Global, out: &mut Output) -> Result<Done, Failure> {
        match self {
            Self::Stats => stats(&mut admin::connect(&global.config()?).await?, out).await,
            Self::Verify(args) => verify(args, &mut admin::connect(&global.config()?).await?, out).await,
            Self::RebuildIndex => rebuild_index(global, out).await,
        }
    }
}

#[derive(Serialize)]
struct Stats {
    repository: String,
    custody: String,
    hosts: u64,
    snapshots: u64,
    packs: u64,
    pack_bytes: u64,
    other_bytes: u64,
    chunks: u64,
    nodes: u64,
    content_bytes: u64,
    journal_batches: u64,
}

async fn stats(admin: &mut admin::Admin, out: &mut Output) -> Result<Done, Failure> {
    let told = admin.repository_stats(v1::RepositoryStatsRequest {}).await?.into_inner();
    let stats = Stats {
        repository: told.repository,
        custody: told.custody,
        hosts: told.hosts,
        snapshots: told.snapshots,
        packs: told.packs,
        pack_bytes: told.pack_bytes,
        other_bytes: told.other_bytes,
        chunks: told.chunks,
        nodes: told.nodes,
        content_bytes: told.content_bytes,
        journal_batches: told.journal_batches,
    };
    out.value(&stats, |stats| {
        let stored = stats.pack_bytes.saturating_add(stats.other_bytes);
        format!(
            "repository       {}\ncustody          {}\nhosts            {}\nsnapshots        {}, {} before deduplication\n\
             stored           {} in {} packs, {} in other objects\nchunks, nodes    {}, {}\njournal batches  {}\n\
             deduplication    {:.1}×",
            stats.repository,
            stats.custody,
            stats.hosts,
            stats.snapshots,
            size(stats.content_bytes),
            size(stats.pack_bytes),
            stats.packs,
            size(stats.other_bytes),
            stats.chunks,
            stats.nodes,
            stats.journal_batches,
            stats.content_bytes as f64 / stored.max(1) as f64,
        )
    })?;
    Ok(Done::Whole)
}

#[derive(Serialize)]
struct Damage {
    object: String,
    what: String,
    snapshots: Vec<String>,
    snapshot_count: u64,
    harmless: bool,
    healed: bool,
}

async fn verify(args: VerifyArgs, admin: &mut admin::Admin, out: &mut Output) -> Result<Done, Failure> {
    let mut events = admin.verify(v1::VerifyRequest { pack: args.pack }).await?.into_inner();
    let bar = out.progress("verify", None);
    let (mut damages, mut harmless, mut healed, mut last) = (0u64, 0u64, 0u64, v1::VerifyEvent::default());
    while let Some(mut event) = events.message().await? {
        bar.set_position(event.checked_bytes);
        bar.set_message(format!("{} of {} objects", event.checked_objects, event.total_objects));
        damages += event.damages.iter().filter(|damage| !damage.harmless).count() as u64;
        harmless += event.damages.iter().filter(|damage| damage.harmless && !damage.healed).count() as u64;
        healed += event.damages.iter().filter(|damage| damage.healed).count() as u64;
        for damage in std::mem::take(&mut event.damages) {
            let snapshots = damage.snapshots.iter().map(|id| hex(id)).collect();
            let v1::Damage { object, what, snapshot_count, harmless, healed, .. } = damage;
            let damage = Damage { object, what, snapshots, snapshot_count, harmless, healed };
            bar.suspend(|| out.outcome(&damage, people))?;
        }
        last = event;
    }
    bar.finish_and_clear();
    if !last.done {
        return Err(Failure::new(ErrorClass::Internal, "the check ended before its end; look into the service's log"));
    }
    if damages > 0 {
        let failure = format!("{} damaged", counted(damages, "object is", "objects are"));
        return Err(Failure::new(ErrorClass::Damaged, failure).hint(
            "bring the objects back from a copy of the repository, or run the backups of these hosts: what is still on \
             them is sent again; then verify again",
        ));
    }
    let checked = format!("{} objects, {}", last.checked_objects, size(last.checked_bytes));
    let damaged = counted(harmless, "is damaged", "are damaged");
    let whole = counted(healed, "was healed", "were healed");
    match (harmless, healed) {
        (0, 0) => out.say(format_args!("{checked}: all good")),
        (0, _) => out.say(format_args!("{checked}: {whole}, and every snapshot can be restored")),
        (_, 0) => out.say(format_args!("{checked}: {damaged}, and every snapshot can be restored")),
        _ => out.say(format_args!("{checked}: {damaged}, {whole}, and every snapshot can be restored")),
    }
    // Nothing is lost, and yet somebody should look at the disk.
    Ok(if healed > 0 { Done::WithLosses } else { Done::Whole })
}

fn people(damage: &Damage) -> String {
    let named = damage.snapshots.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = match damage.snapshot_count.saturating_sub(NAMED_MAX as u64) {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    let needed = match (damage.harmless, damage.snapshot_count) {
        _ if damage.healed => String::new(),
        (true, _) => "; every snapshot can be restored without it".to_owned(),
        (false, 0) => String::new(),
        (false, 1) => format!("; 1 snapshot needs it: {named}"),
        (false, count) => format!("; {count} snapshots need it: {named}{more}"),
    };
    format!("{}: {}{needed}", damage.object, damage.what)
}

/// Snapshots that a line names; `lifeboat snapshots` shows all that are damaged.
const NAMED_MAX: usize = 20;

#[derive(Serialize)]
struct Rebuilt {
    packs: u64,
    rows: u64,
}

/// Opens the repository itself, so nobody may serve it meanwhile.
async fn rebuild_index(global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let config = global.config()?;
    let bar = out.progress("rebuild", None);
    let told = bar.clone();
    let rebuilt = blocking(move || {
        serve::rebuild_index(&config, &mut |progress| {
            told.set_message(format!(
                "{} of {} packs, {} rows",
                progress.packs_done, progress.packs_total, progress.rows
            ));
        })
    });
    let progress = rebuilt.await?;
    bar.finish_and_clear();
    let rebuilt = Rebuilt { packs: progress.packs_done, rows: progress.rows };
    out.outcome(&rebuilt, |rebuilt| format!("index rebuilt: {} rows from {} packs", rebuilt.rows, rebuilt.packs))?;
    Ok(Done::Whole)
}
