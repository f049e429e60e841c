//! `lifeboat token create`: one line that makes a server a host.

use super::output::{Output, from_ns, moment};
use super::{Done, Global, admin};
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token: one line to paste on a server
    Create(CreateArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Where its servers belong, such as emea/berlin
    #[arg(long, default_value = "")]
    site: String,
    /// What their names must match, such as web-*
    #[arg(long, value_name = "GLOB", default_value = "")]
    name: String,
    /// How long it is good: 30min, 1h, 2days; at most a week
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires: SignedDuration,
    /// How many servers may come with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
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
    let expires_seconds = u64::try_from(args.expires.as_secs()).ok().filter(|seconds| *seconds > 0);
    let expires_seconds = expires_seconds.ok_or_else(|| Failure::new(ErrorClass::Usage, "--expires has passed"))?;
    let request = v1::CreateTokenRequest { site: args.site, name_pattern: args.name, expires_seconds, uses: args.uses };
    let made = admin::connect(&config).await?.create_token(request).await?.into_inner();
    let expires = from_ns(made.expires_ns);
    let made = Made { token: made.token, expires: expires.map(|time| time.to_string()) };
    out.value(&made, |made| made.token.clone())?;
    if !out.is_json() {
        let until = moment(expires);
        out.say(format_args!("Good until {until}. Paste it on the server: lifeboat-agent enrol --service"));
    }
    Ok(Done::Whole)
}
