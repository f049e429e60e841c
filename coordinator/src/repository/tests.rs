//! The core as a whole, over a repository in memory: runs, commits, crashes, losses. `lab` does the work, the others
//! make the claims.

mod commits;
mod faults;
mod lab;
mod losses;
mod power;
mod promises;
mod restarts;
