//! The pure core of kairos-chain: what is said, signed, hashed and packed, and how each is checked.
//!
//! Nothing in this crate opens a file, a socket or a clock. Time is an argument ([`time::Clock`]), bytes come
//! and go through `std::io` traits the caller supplies, and every value a stranger can send is parsed into a
//! type before it is used.
#![warn(missing_docs)]

pub mod anchor;
pub mod backup;
pub mod block;
pub mod crypto;
pub mod dsl;
pub mod federation;
pub mod gate;
pub mod hash;
pub mod id;
pub mod instructions;
pub mod json;
pub mod ledger;
pub mod manifest;
pub mod package;
pub mod provenance;
pub mod record;
pub mod relay;
pub mod resource;
pub mod search;
pub mod skill;
pub mod skill_set;
pub mod state;
pub mod time;
pub mod tlog;
pub mod version;
pub mod wire;
mod wire_time;
