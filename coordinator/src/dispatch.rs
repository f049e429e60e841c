//! Gives each host its jobs: when the schedule says so, or when a person does.

pub mod board;
