//! `mcp`: language models use this agent.

use std::path::PathBuf;

use clap::Subcommand;
use kairos_place::token::UserName;
use tokio_util::sync::CancellationToken;

use super::Session;
use super::exit::Exit;
use super::token::LOCAL;
use crate::mcp::call::Caller;
use crate::mcp::server::Server;
use crate::mcp::{AgentDoor, stdio};
use crate::node::stop_signal;
use crate::room::Room;

mod client;
mod doctor;
mod install;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct McpArgs {
    #[command(subcommand)]
    command: McpCommand,
}

#[derive(Debug, Subcommand)]
enum McpCommand {
    /// Serve one program over standard input and output, until the input ends
    Serve,
    /// Tell another program of this agent, in its settings
    Install(install::WhichArgs),
    /// Take this agent out of another program's settings
    Uninstall(install::WhichArgs),
    /// Start the server as another program would, and say what came of it
    Doctor(DoctorArgs),
}

/// Whose settings are tried.
#[derive(Debug, clap::Args)]
struct DoctorArgs {
    /// As the settings of this program start it; else as `install` would have them
    #[arg(long)]
    client: Option<client::Client>,
    /// Its settings file, if it is not where the program keeps it for its user
    #[arg(long, value_name = "FILE", requires = "client")]
    file: Option<PathBuf>,
    /// The name of the server there
    #[arg(long, value_name = "NAME", default_value = "kairos-chain")]
    name: String,
}

/// Runs `mcp`.
pub fn run(args: McpArgs, session: &mut Session) -> anyhow::Result<Exit> {
    match args.command {
        McpCommand::Serve => serve(session),
        McpCommand::Install(which) => install::install(&which, session),
        McpCommand::Uninstall(which) => install::uninstall(&which, session),
        McpCommand::Doctor(DoctorArgs { client, file, name }) => {
            let which = client.map(|client| install::WhichArgs { client, file, name });
            doctor::run(which.as_ref(), session)
        }
    }
}

/// Serves whoever started this process, over standard input and output. A missing data directory is made.
pub fn serve(session: &mut Session) -> anyhow::Result<Exit> {
    session.initialize()?;
    session.with_agent(|agent, _out| async move {
        let caller = Caller {
            user: LOCAL.parse::<UserName>()?,
            role: agent.settings.mcp.stdio_role,
        };
        let stop = CancellationToken::new();
        let ends = stop.clone();
        let signals = actix::spawn(async move {
            stop_signal().await;
            ends.cancel();
        });
        let reserve = agent.settings.limits.disk_reserve.get();
        let room = Room::new(agent.data_dir.path(), reserve);
        let door = AgentDoor::new(agent, room.clone())?;
        let watch = actix::spawn(room.watch());
        let (input, output) = rmcp::transport::stdio_pipes();
        stdio::serve(Server::of(door, caller), input, output, stop).await;
        watch.abort();
        signals.abort();
        Ok(Exit::Done)
    })
}
