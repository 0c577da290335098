//! End-to-end tests.
#![cfg(test)]

mod approvals;
mod bad_input;
mod cli;
mod crashes;
mod deploy;
mod docs;
mod exchange;
mod existing_directory;
mod fixtures;
mod hostile_packages;
mod hostile_peers;
mod hostile_place;
mod life;
mod load;
mod mcp;
mod membership;
mod metrics;
mod operations;
mod persona;
mod place;
mod place_board;
mod place_callers;
mod place_defects;
mod place_doors;
mod place_many;
mod place_operator;
mod places;
mod policy;
mod proofs;
mod serving;
mod state;
mod tokens;
mod traces;
mod transcripts;
mod upgrades;
