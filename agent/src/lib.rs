//! The agent, the edge of Lifeboat: walks files, seals and uploads them, opens and restores them.
//!
//! It holds the content keys; the coordinator never does. In reading order: `policy` is what this host allows, `state`
//! and `identity` who it is, `connection` how it reaches its coordinator; `backup` is one backup from top to bottom
//! and `uplink` what it asks of the coordinator; `walk` finds entries, `metadata` reads what is known of them;
//! `restore` writes them again. `patterns` says which paths a rule is about.

pub mod backup;
pub mod capabilities;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod connection;
pub mod daemon;
pub mod descriptors;
pub mod enrol;
pub mod error;
pub mod hooks;
pub mod host;
pub mod identity;
pub mod job;
pub mod local_tree;
pub mod log;
pub mod metadata;
pub mod patterns;
pub mod policy;
pub mod program;
pub mod restore;
pub mod state;
pub mod uplink;
pub mod walk;
