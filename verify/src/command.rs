//! The command line: what to check, and against what.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kairos_protocol::crypto::PublicKey;
use kairos_protocol::id::AgentId;
use kairos_protocol::package::{PackageLimits, SkillSetPackage, unpack};
use kairos_protocol::tlog::checkpoint::SignedCheckpoint;
use kairos_protocol::tlog::fork::{FORK_MAX, ForkProof};
use kairos_protocol::tlog::hash_text;
use kairos_protocol::tlog::inclusion::{InclusionProof, PROOF_TEXT_MAX};
use kairos_protocol::tlog::note::{NOTE_MAX, VerifierKey};
use serde_json::json;
use thiserror::Error;

use crate::ledger;
use crate::report::{Report, harmless};

/// Most warnings that are told one by one.
const WARNINGS_SHOWN: usize = 10;
/// What a database of SQLite begins with.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";
/// What stands for standard input.
const STDIN: &str = "-";

/// Check what a kairos-chain node says, without trusting it
#[derive(Debug, Parser)]
#[command(
    name = "kairos-verify",
    version,
    after_help = "FILE may be - for standard input.\n\
        Exit codes: 0 it holds, 1 it does not hold, 2 it could not be checked."
)]
struct Cli {
    /// Print the result as JSON, for programs
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check every block of a ledger file (blockchain.json), whatever its length
    Ledger {
        /// The ledger
        file: PathBuf,
        /// Check also that it continues this checkpoint
        #[arg(long, value_name = "FILE", requires = "key")]
        checkpoint: Option<PathBuf>,
        /// Public key of the log, for the checkpoint
        #[arg(long, value_name = "VKEY", requires = "checkpoint")]
        key: Option<VerifierKey>,
    },
    /// Check that a checkpoint is signed by a log, and by witnesses
    Checkpoint {
        /// The checkpoint
        file: PathBuf,
        /// Public key of the log
        #[arg(long, value_name = "VKEY")]
        key: VerifierKey,
        /// Public key of a witness that must have cosigned; may be given several times
        #[arg(long, value_name = "VKEY")]
        witness: Vec<VerifierKey>,
    },
    /// Check that a block is in a ledger
    Proof {
        /// The proof
        file: PathBuf,
        /// Public key of the log; without it, the key that the proof states is used and shown
        #[arg(long, value_name = "VKEY")]
        key: Option<VerifierKey>,
        /// Public key of a witness that must have cosigned; may be given several times
        #[arg(long, value_name = "VKEY")]
        witness: Vec<VerifierKey>,
        /// Fingerprint of the key of the agent whose log it must be; without it, anybody can have stated the key
        #[arg(long, value_name = "FINGERPRINT")]
        agent_key: Option<String>,
    },
    /// Check a SkillSet package: archive, hashes, signatures, and that nothing in it executes
    Package {
        /// The package, as JSON
        file: PathBuf,
    },
    /// Check evidence that an agent showed two histories; valid means that it did
    Fork {
        /// The evidence
        file: PathBuf,
        /// Fingerprint of the key of the agent that it must be about; without it, anybody can have made it
        #[arg(long, value_name = "FINGERPRINT")]
        agent_key: Option<String>,
    },
}

/// Why nothing could be checked.
#[derive(Debug, Error)]
enum Unchecked {
    /// A ledger in the other form.
    #[error(
        "{} is an SQLite database, which is not read here; pass its ledger on: kairos-chain chain export --stream json | \
         kairos-verify ledger -",
        .0.display()
    )]
    Sqlite(PathBuf),
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The result cannot be told.
    #[error("cannot write the result: {0}")]
    Write(#[from] io::Error),
}

/// Parses the arguments of the process and runs what they ask for.
pub(crate) fn run() -> ExitCode {
    let cli = Cli::parse();
    match check(cli.command).and_then(|report| Ok(report.tell(cli.json)?)) {
        Ok(code) => code,
        Err(error) => {
            let told = harmless(&error.to_string());
            // Where even that cannot be told, the exit code remains.
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {told}\n"));
            ExitCode::from(2)
        }
    }
}

fn check(command: Command) -> Result<Report, Unchecked> {
    match command {
        Command::Ledger {
            file,
            checkpoint,
            key,
        } => {
            let against = match checkpoint.zip(key) {
                Some((path, key)) => Some((read(&path, NOTE_MAX)?, key)),
                None => None,
            };
            check_ledger(&file, against)
        }
        Command::Checkpoint { file, key, witness } => {
            let text = read(&file, NOTE_MAX)?;
            Ok(checkpoint(&text, &key, &witness).map_or_else(Report::bad, |(_, report)| report))
        }
        Command::Proof {
            file,
            key,
            witness,
            agent_key,
        } => {
            let text = read(&file, PROOF_TEXT_MAX)?;
            let proof = proof(&text, key.as_ref(), &witness, agent_key.as_deref());
            Ok(proof.unwrap_or_else(Report::bad))
        }
        Command::Package { file } => {
            let limits = PackageLimits::default();
            let max = usize::try_from(SkillSetPackage::json_max(&limits)).unwrap_or(usize::MAX);
            let bytes = read(&file, max)?;
            Ok(package(&bytes, &limits).unwrap_or_else(Report::bad))
        }
        Command::Fork { file, agent_key } => {
            let bytes = read(&file, FORK_MAX)?;
            Ok(fork(&bytes, agent_key.as_deref()).unwrap_or_else(Report::bad))
        }
    }
}

fn open(path: &Path) -> Result<Box<dyn Read>, Unchecked> {
    if path.as_os_str() == STDIN {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    let path = path.to_owned();
    let file = opened.map_err(|source| Unchecked::Read { path, source })?;
    Ok(Box::new(file))
}

/// Reads at most one byte more than `max`: what is longer is refused by whoever parses it.
fn read(path: &Path, max: usize) -> Result<Vec<u8>, Unchecked> {
    let mut bytes = Vec::new();
    let read = open(path)?.take(max as u64 + 1).read_to_end(&mut bytes);
    let path = path.to_owned();
    read.map_err(|source| Unchecked::Read { path, source })?;
    Ok(bytes)
}

/// Opens a ledger file. One of SQLite would only be told to be no list of blocks.
fn open_ledger(path: &Path) -> Result<impl Read, Unchecked> {
    let mut file = open(path)?;
    let mut begin = Vec::new();
    let read = (&mut file)
        .take(SQLITE_MAGIC.len() as u64)
        .read_to_end(&mut begin);
    let path = path.to_owned();
    match read {
        Err(source) => Err(Unchecked::Read { path, source }),
        Ok(_) if begin == SQLITE_MAGIC => Err(Unchecked::Sqlite(path)),
        Ok(_) => Ok(io::Cursor::new(begin).chain(file)),
    }
}

/// What does not hold, in words.
type Refusal = String;

fn refused(error: impl std::fmt::Display) -> Refusal {
    error.to_string()
}

fn text(bytes: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes).map_err(|_| "not a text in UTF-8".to_owned())
}

fn check_ledger(file: &Path, against: Option<(Vec<u8>, VerifierKey)>) -> Result<Report, Unchecked> {
    let signed = against.map(|(note, key)| checkpoint(&note, &key, &[]));
    let signed = match signed.transpose() {
        Ok(signed) => signed.map(|(signed, _)| signed.head()),
        Err(problem) => return Ok(Report::bad(problem)),
    };
    let checked = ledger::check(open_ledger(file)?, signed.map(|signed| signed.size));
    let found = &checked.report;
    let continues = signed.is_none_or(|signed| checked.at == Some(signed));
    let mut report = match &found.problem {
        Some(problem) => Report::bad(problem),
        None if !found.is_valid() => Report::bad(format_args!("the ledger is {}", found.state)),
        None if !continues => Report::bad("the ledger does not continue the checkpoint"),
        None => Report::good(),
    };
    report = report
        .fact("blocks", found.length)
        .fact("tip", found.tip.map(|tip| tip.hash.to_hex()))
        .fact("root", hash_text(&checked.head.root));
    if let Some(signed) = signed {
        report = report.fact("checkpoint_size", signed.size);
    }
    for warning in found.warnings.iter().take(WARNINGS_SHOWN) {
        report = report.note(warning.to_string());
    }
    let more = found.warning_count.saturating_sub(WARNINGS_SHOWN as u64);
    Ok(match more {
        0 => report,
        more => report.note(format!("{more} more warnings")),
    })
}

fn checkpoint(
    note: &[u8],
    key: &VerifierKey,
    witnesses: &[VerifierKey],
) -> Result<(SignedCheckpoint, Report), Refusal> {
    let signed: SignedCheckpoint = text(note)?.parse().map_err(refused)?;
    signed.verify(key).map_err(refused)?;
    let report = Report::good()
        .fact("log", signed.checkpoint().origin.as_str())
        .fact("blocks", signed.head().size)
        .fact("root", hash_text(&signed.head().root));
    let report = cosigned(report, &signed, witnesses)?;
    Ok((signed, report))
}

fn cosigned(
    report: Report,
    signed: &SignedCheckpoint,
    witnesses: &[VerifierKey],
) -> Result<Report, Refusal> {
    let mut seen = Vec::new();
    for witness in witnesses {
        let name = witness.name();
        match signed.witnessed(witness).map_err(refused)? {
            Some(at) => seen.push(json!({"witness": name, "at": at.wire()})),
            None => return Err(format!("not cosigned by `{name}`")),
        }
    }
    Ok(match seen.is_empty() {
        true => report,
        false => report.fact("cosigned", seen),
    })
}

fn proof(
    bytes: &[u8],
    key: Option<&VerifierKey>,
    witnesses: &[VerifierKey],
    agent_key: Option<&str>,
) -> Result<Report, Refusal> {
    let proof: InclusionProof = text(bytes)?.parse().map_err(refused)?;
    let proven = proof.verify(key).map_err(refused)?;
    let mut report = Report::good()
        .fact("block", proven.index)
        .fact("block_hash", proven.block_hash.to_hex())
        .fact("log", proof.checkpoint().checkpoint().origin.as_str())
        .fact("blocks", proof.checkpoint().head().size);
    if let Some(block) = &proven.block {
        report = report
            .fact("timestamp", block.timestamp())
            .fact("data", block.data());
    }
    match &proven.statement {
        Some(statement) => {
            report = whose(
                report,
                &statement.instance_id,
                &[&statement.identity_key],
                agent_key,
            )?;
            report = report.fact("log_key", statement.log_key.to_string());
            if key.is_none() && agent_key.is_none() {
                report = report.note("the log's key was taken from the proof");
            }
        }
        None if agent_key.is_some() => return Err("it does not state whose log it is".to_owned()),
        None => {}
    }
    cosigned(report, proof.checkpoint(), witnesses)
}

/// Tells whose log it is, by `keys` as they are stated in what is checked. They may be anybody's unless one of them is
/// that with the fingerprint `known`.
fn whose(
    report: Report,
    agent: &AgentId,
    keys: &[&PublicKey],
    known: Option<&str>,
) -> Result<Report, Refusal> {
    let own = keys.iter().any(|key| key.agent_id() == *agent);
    let stated: Vec<String> = keys.iter().map(|key| key.fingerprint()).collect();
    let last = stated.last().cloned().unwrap_or_default();
    let report = report
        .fact("agent", agent.as_str())
        .fact("agent_key", last.as_str())
        .fact("id_from_key", own);
    match known {
        None => Ok(report.note(
            "the agent's key is only the one that is named inside, which may be anybody's; compare it with the one you \
             know: --agent-key FINGERPRINT",
        )),
        Some(known) if stated.iter().any(|key| key.eq_ignore_ascii_case(known)) => Ok(report),
        Some(known) => Err(format!("it is about the agent with the key {last}, not {known}")),
    }
}

fn package(bytes: &[u8], limits: &PackageLimits) -> Result<Report, Refusal> {
    let package = SkillSetPackage::from_json(bytes, limits).map_err(refused)?;
    let archive = package.archive().map_err(refused)?;
    let contents = unpack(archive.as_slice(), &package.name, limits, |_, _, _| Ok(()));
    let contents = contents.map_err(refused)?;
    let hash = package.check(&contents).map_err(refused)?;
    let mut report = Report::good()
        .fact("name", package.name.as_str())
        .fact("version", contents.metadata.version.as_str())
        .fact("content_hash", hash.to_hex())
        .fact("files", contents.file_list());
    match &package.manifest {
        None => report = report.note("nobody signed a manifest of its files"),
        Some(manifest) => {
            let packer = &manifest.manifest().packer;
            report = report
                .fact("packer", packer.instance_id.as_str())
                .fact("packer_key", packer.public_key.fingerprint());
        }
    }
    match package.provenance.as_ref().and_then(|p| p.author()) {
        None => report = report.note("it does not say who authored it"),
        Some(author) => {
            report = report
                .fact("author", author.instance_id.as_str())
                .fact("author_key", author.public_key.fingerprint());
        }
    }
    Ok(report)
}

fn fork(bytes: &[u8], agent_key: Option<&str>) -> Result<Report, Refusal> {
    let fork = ForkProof::from_json(bytes).and_then(|proof| proof.verify());
    let fork = fork.map_err(refused)?;
    let report = whose(
        Report::good(),
        &fork.agent,
        &fork.keys.each_ref(),
        agent_key,
    )?;
    Ok(report
        .fact("first_blocks", fork.first.size)
        .fact("first_root", hash_text(&fork.first.root))
        .fact("second_blocks", fork.second.size)
        .fact("second_root", hash_text(&fork.second.root))
        .note("the agent with this key signed two histories that cannot both be true"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
