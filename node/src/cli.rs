//! The command line: one file per command, each of which asks the rest of the program and writes the answer.

pub mod config;
pub mod exit;
pub mod init;
pub mod out;
