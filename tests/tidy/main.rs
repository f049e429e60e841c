//! Laws of the house, as tests over the checkout.
//!
//! A law is a pure function from the files of a [`checkout::Checkout`] to the faults that it finds, each one line that
//! says where and what to do. Beside it stand two tests: that this checkout keeps the law, and that a small breach of it
//! is found, because a law that cannot fail guards nothing. What the compiler or clippy can see is left to them.

mod arrows;
mod checkout;
mod crates;
mod documents;
mod examples;
mod invariants;
mod modules;
mod mutants;
mod sources;
