//! Harness of the end-to-end tests: the real binary, in directories of its own, on free ports.
//!
//! - [`Call`] runs one command to its end; [`Ended`] is what came of it.
//! - [`TestNode`] runs `kairos-chain serve` until it is dropped, and shows its log where the test fails.
//! - [`Process`] is what the system says of one.
//! - [`TestPeer`] is a stranger with a key, who introduces itself to a node.
//! - [`Request`] and [`Reply`] are HTTP as anyone may speak it; [`Stranger`] is a server that keeps to no rules.
//! - [`Home`] is a directory that goes away with the test; [`Hosts`] are hosts with networks of their own.
//! - [`Console`] runs the commands that a Markdown file shows.
//!
//! Whatever goes wrong here is a failed test, so these functions panic and say why instead of returning errors.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness that cannot do its work fails the test, and shows the log of its nodes"
)]

mod binary;
mod call;
mod console;
mod home;
mod hosts;
mod http;
mod node;
mod peer;
mod process;
mod stranger;
mod wait;

pub use self::binary::{binary, verifier};
pub use self::call::{Call, Ended, without_settings};
pub use self::console::Console;
pub use self::home::Home;
pub use self::hosts::Hosts;
pub use self::http::{Reply, Request, connect, finish};
pub use self::node::{Builder, TestNode};
pub use self::peer::TestPeer;
pub use self::process::Process;
pub use self::stranger::{Asked, Stranger};
pub use self::wait::eventually;
