//! End-to-end tests.
#![cfg(test)]

mod docs;
mod policy;
mod transcripts;
