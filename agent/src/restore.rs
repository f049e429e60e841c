//! Gives files back: fetches one granted tree and writes it below a target directory.

pub mod fetch;
