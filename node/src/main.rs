//! The kairos-chain binary.

fn main() {}
