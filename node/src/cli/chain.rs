//! `chain`: the ledger, what is in it, whether it is intact, and how to show that to others.

use std::path::PathBuf;

use clap::Subcommand;
use kairos_protocol::tlog::note::VerifierKey;

use super::Session;
use super::exit::Exit;
use files::Target;

mod files;
mod ledger;
mod proofs;
mod transfer;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct ChainArgs {
    #[command(subcommand)]
    command: ChainCommand,
}

#[derive(Debug, Subcommand)]
enum ChainCommand {
    /// Show what there is: blocks, checkpoints, keys
    Status,
    /// Check every block, and that the ledger continues the last checkpoint we signed
    Verify,
    /// Show the newest blocks
    History {
        /// How many
        #[arg(long, default_value_t = 10)]
        limit: usize,
    },
    /// Record texts as one block
    Record {
        /// What to record; each text is an entry
        #[arg(required = true)]
        text: Vec<String>,
    },
    /// Prove that a block is in the ledger, for anyone to check
    Prove {
        /// The block's index
        index: u64,
        /// Prove the block's hash without showing what is in it
        #[arg(long)]
        hash_only: bool,
        /// Prove it under the last checkpoint that others cosigned
        #[arg(long)]
        cosigned: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Check a proof, ours or another agent's; asks nobody
    VerifyProof {
        /// The proof, or - for standard input
        file: PathBuf,
        /// Public key of the log
        #[arg(long, value_name = "VKEY")]
        key: Option<VerifierKey>,
    },
    /// Sign what the ledger is now, for others to keep
    Checkpoint {
        /// Show how it continues the ledger of so many blocks, for a witness that has seen those
        #[arg(long, value_name = "SIZE")]
        from: Option<u64>,
        #[command(flatten)]
        target: Target,
    },
    /// Cosign another agent's checkpoint, if it continues what we have seen of its ledger
    Cosign {
        /// The checkpoint, or what `chain checkpoint --from` printed; - for standard input
        file: PathBuf,
        /// Public key of the log, if we have not met its agent
        #[arg(long, value_name = "VKEY")]
        key: Option<VerifierKey>,
        /// Print only our signature line
        #[arg(long)]
        line: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Take what other agents cosigned
    AddCosignature {
        /// Our checkpoint with their signatures, or the signatures alone; - for standard input
        file: PathBuf,
        /// Public key of a witness that we have not met; may be given several times
        #[arg(long, value_name = "VKEY")]
        key: Vec<VerifierKey>,
    },
    Export(transfer::ExportArgs),
    Import(transfer::ImportArgs),
    Migrate(transfer::MigrateArgs),
}

/// Runs `chain`. `verify` and `verify-proof` exit with 1 if something is not right.
pub fn run(args: ChainArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let command = match args.command {
        // These move whole files, while no actor works on them.
        ChainCommand::Export(args) => return transfer::export(&args, session),
        ChainCommand::Import(args) => return transfer::import(&args, session),
        ChainCommand::Migrate(args) => return transfer::migrate(&args, session),
        other => other,
    };
    session.with_agent(|agent, mut out| async move {
        let (agent, out) = (&*agent, &mut out);
        match command {
            ChainCommand::Export(_) | ChainCommand::Import(_) | ChainCommand::Migrate(_) => {
                Ok(Exit::Invalid)
            }
            ChainCommand::Status => ledger::status(agent, out).await,
            ChainCommand::Verify => ledger::verify(agent, out).await,
            ChainCommand::History { limit } => ledger::history(agent, limit, out).await,
            ChainCommand::Record { text } => ledger::record(agent, text, out).await,
            ChainCommand::Prove {
                index,
                hash_only,
                cosigned,
                target,
            } => proofs::prove(agent, index, (hash_only, cosigned), &target, out).await,
            ChainCommand::VerifyProof { file, key } => {
                proofs::verify_proof(agent, &file, key, out).await
            }
            ChainCommand::Checkpoint { from, target } => {
                proofs::checkpoint(agent, from, &target, out).await
            }
            ChainCommand::Cosign {
                file,
                key,
                line,
                target,
            } => proofs::cosign(agent, &file, key, line, &target, out).await,
            ChainCommand::AddCosignature { file, key } => {
                proofs::add_cosignature(agent, &file, key, out).await
            }
        }
    })
}
