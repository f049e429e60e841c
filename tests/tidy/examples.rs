//! The commented examples in `packaging/examples` are what the programs read.

use crate::checkout::Checkout;
use lifeboat_agent::policy::Policy;

#[test]
fn the_example_policy_is_one_and_a_misspelt_key_in_it_is_not() {
    let checkout = Checkout::here();
    let text = checkout.text("packaging/examples/policy.toml").expect("the example is there");
    let policy: Policy = text.parse().expect("the agent understands the example");
    assert_eq!(policy.sources.len(), 3);
    assert!(text.replace("skip-network", "skip-net").parse::<Policy>().is_err());
}
