//! The commented examples in `packaging/examples` are what the programs read.

use crate::checkout::Checkout;
use lifeboat_agent::policy::Policy;
use lifeboat_coordinator::config::{ConfigFile, STATE_DEFAULT};
use std::path::Path;

#[test]
fn the_example_settings_are_some_and_a_misspelt_key_in_them_is_not() {
    let checkout = Checkout::here();
    let text = checkout.text("packaging/examples/lifeboat.toml").expect("the example is there");
    // The keys that are left to their defaults stand in comments without a space.
    let text: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|key| key.starts_with(char::is_alphabetic)).unwrap_or(line).to_owned() + "\n"
        })
        .collect();
    let file: ConfigFile = toml::from_str(&text).expect("the coordinator understands the example");
    assert!(file.socket.is_some() && file.time_zone.is_some());
    file.check(Path::new(STATE_DEFAULT), Path::new("lifeboat.toml")).expect("its values are good");
    assert!(toml::from_str::<ConfigFile>(&text.replace("night", "nihgt")).is_err());
}

#[test]
fn the_example_policy_is_one_and_a_misspelt_key_in_it_is_not() {
    let checkout = Checkout::here();
    let text = checkout.text("packaging/examples/policy.toml").expect("the example is there");
    let policy: Policy = text.parse().expect("the agent understands the example");
    assert_eq!(policy.sources.len(), 3);
    assert!(text.replace("skip-network", "skip-net").parse::<Policy>().is_err());
}
