//! `lifeboat token create`: one line that makes a server a host.

use super::duration::duration;
use super::output::{Output, from_ns, moment};
use super::{Done, Global, admin};
use clap::{Args, Subcommand};
use lifeboat_proto::limits::TOKEN_SECONDS_MAX;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use serde::Serialize;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token: one line to paste on a server
    #[command(after_help = "Example: lifeboat token create --expires 2days --uses 20 --name 'web-*'")]
    Create(CreateArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Site label for servers enrolled with it, such as emea/berlin
    #[arg(long, default_value = "", hide_default_value = true)]
    site: String,
    /// Pattern that the names of these servers must match, such as web-*
    #[arg(long, value_name = "GLOB", default_value = "", hide_default_value = true)]
    name: String,
    /// How long it is valid: 30min, 1h30m, 2days; at most 1week
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    expires: Duration,
    /// How many servers may enrol with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// Host whose place the server takes, by name or number: the server gets its name, number and snapshots, and the old
    /// machine is refused from then on
    #[arg(long, value_name = "HOST", default_value = "", hide_default_value = true, conflicts_with_all = ["site", "name", "uses"])]
    replace: String,
}

#[derive(Serialize)]
struct Made {
    token: String,
    expires: Option<String>,
}

impl TokenCommand {
    pub async fn run(self, global: &Global, out: &mut Output) -> Result<Done, Failure> {
        match self {
            Self::Create(args) => create(args, global, out).await,
        }
    }
}

async fn create(args: CreateArgs, global: &Global, out: &mut Output) -> Result<Done, Failure> {
    let config = global.config()?;
    let expires_seconds = args.expires.as_secs();
    if !(1..=TOKEN_SECONDS_MAX).contains(&expires_seconds) {
        let failure = Failure::new(ErrorClass::Usage, "a token is valid for at least one second and at most a week");
        return Err(failure.hint("give --expires 1week or less; `--uses N` enrols several servers with one token"));
    }
    let CreateArgs { site, name: name_pattern, uses, replace, .. } = args;
    let name_option =
        if replace.is_empty() || replace.parse::<u32>().is_ok() { String::new() } else { format!(" --name {replace}") };
    let request = v1::CreateTokenRequest { site, name_pattern, expires_seconds, uses, replace };
    let made = admin::connect(&config).await?.create_token(request).await?.into_inner();
    let expires = from_ns(made.expires_ns);
    let made = Made { token: made.token, expires: expires.map(|time| time.to_string()) };
    out.value(&made, |made| made.token.clone())?;
    if !out.is_json() {
        let until = moment(expires);
        out.say(format_args!(
            "Valid until {until}. Paste it on the server: lifeboat-agent enrol --service{name_option}"
        ));
    }
    Ok(Done::Whole)
}
