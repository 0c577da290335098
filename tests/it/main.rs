//! End-to-end tests.
#![cfg(test)]

mod docs;
mod fixtures;
mod policy;
mod transcripts;
