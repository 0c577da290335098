//! Conversations with other agents.

pub mod client;
