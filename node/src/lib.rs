//! The kairos-chain binary as a library: command line, configuration, HTTP.

pub mod cli;
pub mod config;
pub mod data_dir;
