//! The running parts of kairos-chain: one actor per subsystem, each behind a bounded, typed handle.
#![warn(missing_docs)]

pub mod bounded_addr;
pub mod chain;
pub mod skill_set;
