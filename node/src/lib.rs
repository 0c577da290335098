//! The kairos-chain binary as a library: command line, configuration, HTTP.

pub mod config;
pub mod data_dir;
