//! How the node compares with the least that could do the same work, measured in the same run.
//!
//! `cargo bench -p kairos-tests` runs all of it, `cargo bench -p kairos-tests -- http` one part of it. Absolute times
//! depend on the machine and on what else it does; ratios less so. Rounds of both sides alternate, and the median of
//! their ratios is shown. Nothing fails where an aim is missed: a busy machine misses some.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops where it cannot go on"
)]

mod bare;
mod dsl;
mod echo;
mod http;
mod ledger;
mod load;
mod mcp;
mod p2p;
mod package;
mod place;
mod process;
mod proofs;
mod search;
mod table;

use std::env;

use table::Row;

fn main() {
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [first, rest @ ..] = args.as_slice()
        && first == bare::ARGUMENT
    {
        bare::serve(rest);
        return;
    }
    if let [first, rest @ ..] = args.as_slice()
        && first == echo::ARGUMENT
    {
        echo::serve(rest);
        return;
    }
    let parts = [
        ("dsl", dsl::run as fn() -> Vec<Row>),
        ("http", http::run),
        ("ledger", ledger::run),
        ("mcp", mcp::run),
        ("p2p", p2p::run),
        ("package", package::run),
        ("place", place::run),
        ("place-relay", place::relay),
        ("place-many", place::many),
        ("process", process::run),
        ("search", search::run),
    ];
    let mut rows = Vec::new();
    for (name, run) in parts {
        if args.is_empty() || args.iter().any(|arg| arg == name) {
            println!("running {name} …");
            rows.extend(run());
        }
    }
    table::print(&rows);
}
