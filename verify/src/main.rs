//! `kairos-verify`: checks a ledger, a checkpoint, a proof, a package or evidence of a fork.
//!
//! It knows nothing of the node: no configuration, no data directory, no network. What it is given it reads as a
//! stream or within a bound, and what it says it has computed itself.

use std::process::ExitCode;

mod command;
mod ledger;
mod report;

fn main() -> ExitCode {
    command::run()
}
