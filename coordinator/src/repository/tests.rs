//! The core as a whole, over a repository in memory: runs, commits, crashes, losses. `lab` does the work, the others
//! make the claims.

mod checkpoints;
mod commits;
mod copies;
mod damage;
mod facts;
mod faults;
mod group;
mod index;
mod lab;
mod log_keys;
mod losses;
mod matrix;
mod node_copies;
mod power;
mod promises;
mod restarts;
mod salvage;
