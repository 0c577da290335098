//! The kairos-chain binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    kairos_node::cli::run().into()
}
