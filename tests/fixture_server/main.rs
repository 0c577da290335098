//! `mcp-fixture`: a node whose MCP door serves what the official conformance suite calls, in place of an agent's tools.
//!
//! Everything in front of the door is the node's own: transport, sessions, tokens, checks of `Host` and `Origin`,
//! limits, negotiation. It is started as `kairos-chain serve` is, on a data directory that `kairos-chain init` made.
#![expect(
    clippy::print_stderr,
    reason = "it says where it listens as the node does, and why it cannot"
)]

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use kairos_node::agent::Agent;
use kairos_node::config;
use kairos_node::data_dir::{DataDir, Surroundings};
use kairos_node::node::{Node, Operation};

mod content;
mod door;
mod rounds;
mod tools;

use door::FixtureDoor;

/// What `kairos-chain serve` takes, as far as tests use it.
#[derive(Default)]
struct Args {
    data_dir: Option<DataDir>,
    port: u16,
    settings: Vec<(String, String)>,
}

impl Args {
    fn parse(mut given: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut args = Self::default();
        while let Some(arg) = given.next() {
            let mut value = || given.next().with_context(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "serve" => {}
                "--data-dir" => {
                    let path = value()?;
                    let resolved = DataDir::resolve(Some(path.as_ref()), &Surroundings::default());
                    args.data_dir = Some(resolved);
                }
                "--port" => args.port = value()?.parse().context("--port takes a number")?,
                "--set" => {
                    let setting = value()?;
                    let (key, value) = setting.split_once('=').context("--set takes KEY=VALUE")?;
                    args.settings.push((key.to_owned(), value.to_owned()));
                }
                other => bail!("unknown argument {other}"),
            }
        }
        Ok(args)
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mcp-fixture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args = Args::parse(std::env::args().skip(1))?;
    let data_dir = args
        .data_dir
        .context("--data-dir names a directory that `kairos-chain init` made")?;
    let settings = config::load(data_dir.path(), std::iter::empty(), &args.settings)?.settings;
    let listener = TcpListener::bind(("127.0.0.1", args.port))?;
    let address = listener.local_addr()?;
    actix::System::new().block_on(async {
        let agent = Agent::open(data_dir, settings).await?;
        let node = Node::start_with(agent, listener, Operation::default(), |_agent, _room| {
            FixtureDoor::new()
        })?;
        eprintln!("Listening on http://{address}");
        node.join().await;
        Ok(())
    })
}
