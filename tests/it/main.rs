//! End-to-end tests.
#![cfg(test)]

mod bad_input;
mod cli;
mod crashes;
mod exchange;
mod existing_directory;
mod hostile_packages;
mod hostile_peers;
mod persona;
mod serving;
