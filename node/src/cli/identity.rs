//! `identity`: who this agent is, and a new key for it.

use clap::Subcommand;
use kairos_protocol::time::Clock as _;
use serde_json::json;

use super::Session;
use super::exit::Exit;
use crate::clock::SystemClock;
use crate::identity;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct IdentityArgs {
    #[command(subcommand)]
    command: Option<IdentityCommand>,
}

#[derive(Debug, Subcommand)]
enum IdentityCommand {
    /// Show the id and the key
    Show,
    /// Make a new key that the old one signs over; agents that know the old key follow
    Rotate,
}

/// Runs `identity`.
pub fn run(args: &IdentityArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let keys = session.data_dir().existing()?.keys();
    let rotates = matches!(args.command, Some(IdentityCommand::Rotate));
    let loaded = match rotates {
        true => identity::rotate(&keys, SystemClock.now())?,
        false => identity::load_or_create(&keys)?,
    };
    let key = loaded.keypair.public();
    let out = &mut session.out;
    if out.wants_json() {
        out.json(&json!({
            "id": loaded.instance_id, "key_fingerprint": key.fingerprint(), "public_key": key.to_pem(),
            "rotations": loaded.rotations,
        }))?;
        return Ok(Exit::Done);
    }
    if rotates {
        out.line(format_args!("Agent {} has a new key", loaded.instance_id))?;
    } else {
        out.line(format_args!("Agent {}", loaded.instance_id))?;
    }
    out.line(format_args!("  Key: {}", key.fingerprint()))?;
    for rotation in &loaded.rotations {
        out.line(format_args!(
            "  Before {}: {}",
            rotation.at,
            rotation.old_key.fingerprint()
        ))?;
    }
    if rotates {
        out.note("A running server takes it when it is started again.")?;
        out.note("Agents running KairosChain 2.2 or 3.75 see an unknown key; tell their owners.")?;
    }
    Ok(Exit::Done)
}
