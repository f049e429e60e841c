//! `lifeboat journal accept`: after the repository was restored from an older copy, continue with it.

use super::output::Output;
use super::reading::blocking;
use super::{Done, Global, admin};
use clap::{Args, Subcommand};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::io::{self, BufRead, IsTerminal};

/// Heads that one call accepts.
const ACCEPTED_AT_ONCE: usize = 10_000;

#[derive(Debug, Subcommand)]
pub enum JournalCommand {
    /// Continue with this repository although hosts know a later state of it
    ///
    /// Hosts keep the newest journal head that they saw. If the repository was restored from an older copy, or was
    /// changed by another coordinator, that head is not an ancestor of its journal, and restores onto servers are
    /// refused. This command lists these heads and, after confirmation, records that this journal is the one that
    /// counts. Snapshots made after the copy was taken are not in it. Restores on this machine never need it.
    #[command(after_help = "Example: lifeboat journal accept")]
    Accept(AcceptArgs),
}

#[derive(Debug, Args)]
pub struct AcceptArgs {
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

impl JournalCommand {
    pub async fn run(self, global: &Global, out: &mut Output) -> Result<Done, Failure> {
        let Self::Accept(args) = self;
        let mut admin = admin::connect(&global.config()?).await?;
        let pages = admin::all(admin.list_divergences(v1::ListDivergencesRequest {}).await?.into_inner()).await?;
        let last = pages.first().map_or(0, |first| first.last_batch);
        let divergences: Vec<_> = pages.into_iter().flat_map(|page| page.divergences).collect();
        if divergences.is_empty() {
            out.say("No host holds a journal head that is not an ancestor of this journal; nothing to accept.");
            return Ok(Done::Whole);
        }
        for v1::Divergence { host, batch, .. } in &divergences {
            out.line(format_args!(
                "{host} holds the head of journal batch {batch}; the journal here ends at batch {last}"
            ))?;
        }
        if !args.yes {
            blocking(confirm).await?;
        }
        for divergences in divergences.chunks(ACCEPTED_AT_ONCE) {
            admin.accept_history(v1::AcceptHistoryRequest { divergences: divergences.to_vec() }).await?;
        }
        out.say("This journal is accepted: restores onto servers are possible again.");
        Ok(Done::Whole)
    }
}

fn confirm() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        let problem = "accepting a history needs confirmation";
        return Err(Failure::new(ErrorClass::Usage, problem).hint("add --yes in a script"));
    }
    eprintln!("Snapshots made after the copy was taken are not in this repository. Continue with it? [y/N]");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::new(ErrorClass::Refused, "nothing was accepted")),
    }
}
