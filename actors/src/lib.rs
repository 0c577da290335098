//! The running parts of kairos-chain: one actor per subsystem, each behind a bounded, typed handle.
#![warn(missing_docs)]

pub mod bounded_addr;
pub mod chain;
pub mod knowledge;
pub mod meeting;
pub mod peer_manager;
pub mod quarantine;
pub mod skill_set;
mod staging;
