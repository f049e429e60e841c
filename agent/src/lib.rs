//! The agent, the edge of Lifeboat: walks files, seals and uploads them, opens and restores them.
//!
//! It holds the content keys; the coordinator never does. In reading order: `backup` is one backup from top to bottom
//! and `uplink` what it asks of the coordinator.

pub mod policy;
pub mod uplink;
