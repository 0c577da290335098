//! `skillset`: install, enable, package, and acquire from other agents. The words on standard output are the
//! reference's, for programs that read them.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use kairos_actors::meeting::Wanted;
use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::skill_set::{Listed, Options, Origin, Outcome as Done, SkillSetError};
use kairos_protocol::package::SkillSetPackage;
use kairos_protocol::skill_set::Layer;
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::{Out, Tone};
use super::skill::acquire;
use crate::agent::Agent;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct SkillsetArgs {
    #[command(subcommand)]
    command: SkillsetCommand,
}

#[derive(Debug, Subcommand)]
enum SkillsetCommand {
    /// List installed SkillSets
    List,
    /// Show one SkillSet
    Info {
        /// Its name
        name: String,
    },
    /// Install a SkillSet from a directory
    Install {
        /// The directory that holds skillset.json
        path: PathBuf,
        /// Replace an installed one; its top-level config files stay
        #[arg(long)]
        force: bool,
        /// Install it on this layer instead of its own
        #[arg(long, value_name = "L0|L1|L2")]
        layer: Option<Layer>,
    },
    /// Switch a SkillSet on
    Enable {
        /// Its name
        name: String,
    },
    /// Switch a SkillSet off
    Disable {
        /// Its name
        name: String,
    },
    /// Remove a SkillSet
    Remove {
        /// Its name
        name: String,
    },
    /// Print a knowledge-only SkillSet as a package
    Package {
        /// Its name
        name: String,
    },
    /// Install a package from a file or standard input: what `package` printed, or an agent's whole reply
    InstallArchive {
        /// The file; `-` is standard input
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Install it on this layer instead of its own
        #[arg(long, value_name = "L0|L1|L2")]
        layer: Option<Layer>,
        /// Replace an installed one
        #[arg(long)]
        force: bool,
    },
    /// Fetch a SkillSet of another agent into the quarantine
    Acquire {
        /// Where the agent is
        url: PeerUrl,
        /// The name of the SkillSet
        name: String,
    },
}

/// Runs `skillset`.
pub fn run(args: SkillsetArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let result = command(args.command, &agent, &mut out).await;
        // The reference tells refusals for safety's sake apart by this word.
        match result {
            Err(error) => match error.downcast_ref::<SkillSetError>() {
                Some(refusal) if refusal.is_security() => {
                    out.note(format_args!("Security error: {refusal}"))?;
                    Ok(Exit::Failed)
                }
                Some(SkillSetError::NotExchangeable(refusal)) => {
                    let word = out.paint_note(Tone::Bad, "Error:");
                    out.note(format_args!(
                        "{word} Only knowledge-only SkillSets can be packaged for exchange"
                    ))?;
                    for offence in refusal.offences() {
                        out.note(format_args!("- {offence}"))?;
                    }
                    if refusal.more() > 0 {
                        out.note(format_args!("- and {} more", refusal.more()))?;
                    }
                    Ok(Exit::Failed)
                }
                Some(SkillSetError::AlreadyInstalled { .. }) => {
                    let word = out.paint_note(Tone::Bad, "error:");
                    out.note(format_args!("{word} {error}"))?;
                    out.note("Replace it with --force.")?;
                    Ok(Exit::Failed)
                }
                _ => Err(error),
            },
            done => done,
        }
    })
}

async fn command(command: SkillsetCommand, agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let sets = &agent.handles.skill_sets;
    match command {
        SkillsetCommand::List => list(agent, out).await,
        SkillsetCommand::Info { name } => info(agent, name, out).await,
        SkillsetCommand::Install { path, force, layer } => {
            let done = sets
                .install(
                    path,
                    Options {
                        force,
                        layer,
                        ..Options::default()
                    },
                )
                .await?;
            tell_installed(&done, agent, "", out)
        }
        SkillsetCommand::InstallArchive { file, layer, force } => {
            let package = read_package(&file, agent)?;
            let options = Options {
                force,
                layer,
                ..Options::default()
            };
            let done = sets
                .install_archive(package, Origin::Local, options)
                .await?;
            tell_installed(&done, agent, " from archive", out)
        }
        SkillsetCommand::Enable { name } => tell(&sets.enable(name).await?, "Enabled", out),
        SkillsetCommand::Disable { name } => tell(&sets.disable(name).await?, "Disabled", out),
        SkillsetCommand::Remove { name } => tell(&sets.remove(name).await?, "Removed", out),
        SkillsetCommand::Package { name } => {
            let package = sets.package(name).await?;
            out.json(&package.to_json()?)?;
            Ok(Exit::Done)
        }
        SkillsetCommand::Acquire { url, name } => {
            acquire(agent, url, Wanted::SkillSet(name), out).await
        }
    }
}

async fn list(agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let catalogue = agent
        .handles
        .skill_sets
        .fresh(std::time::Duration::ZERO)
        .await?;
    if out.wants_json() {
        let broken: Vec<_> = catalogue
            .broken
            .iter()
            .map(|b| json!({"directory": b.directory, "reason": b.reason}))
            .collect();
        let sets: Vec<_> = catalogue.sets.iter().map(|l| listed_json(l)).collect();
        out.json(&json!({"skillsets": sets, "broken": broken}))?;
        return Ok(Exit::Done);
    }
    if catalogue.sets.is_empty() {
        out.line("No SkillSets installed.")?;
        out.line("Install with: kairos-chain skillset install <path>")?;
    } else {
        out.line("Installed SkillSets:")?;
        out.line("")?;
    }
    for listed in &catalogue.sets {
        let (set, metadata) = (&listed.set, &listed.set.metadata);
        let state = if set.enabled { "enabled" } else { "disabled" };
        out.line(format_args!(
            "  {} v{} [{}] ({state})",
            metadata.name, metadata.version, set.layer
        ))?;
        if !metadata.description.is_empty() {
            out.line(format_args!("    {}", metadata.description))?;
        }
        let deps: Vec<_> = metadata
            .depends_on
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        out.line(format_args!(
            "    Tools: {}, Deps: {}",
            metadata.tool_classes.len(),
            deps.join(", ")
        ))?;
        out.line("")?;
    }
    for broken in &catalogue.broken {
        out.note(format_args!(
            "skillsets/{} is broken: {}",
            broken.directory, broken.reason
        ))?;
    }
    Ok(Exit::Done)
}

async fn info(agent: &Agent, name: String, out: &mut Out) -> anyhow::Result<Exit> {
    let info = match agent.handles.skill_sets.info(name.clone()).await {
        Err(SkillSetError::NotFound(_)) => {
            out.note(format_args!("SkillSet '{name}' not found."))?;
            return Ok(Exit::Failed);
        }
        other => other?,
    };
    let listed = &info.listed;
    let (set, metadata) = (&listed.set, &listed.set.metadata);
    if out.wants_json() {
        let mut value = listed_json(listed);
        if let (Some(members), Some(origin)) = (value.as_object_mut(), &info.origin) {
            members.insert("received_from".to_owned(), json!(origin.received_from));
        }
        out.json(&value)?;
        return Ok(Exit::Done);
    }
    let deps: Vec<_> = metadata
        .depends_on
        .iter()
        .map(|d| d.name.as_str())
        .collect();
    let deps = if deps.is_empty() {
        "none".to_owned()
    } else {
        deps.join(", ")
    };
    out.line(format_args!(
        "SkillSet: {} v{}",
        metadata.name, metadata.version
    ))?;
    out.line(format_args!("  Description: {}", metadata.description))?;
    out.line(format_args!("  Author: {}", metadata.author))?;
    out.line(format_args!("  Layer: {}", set.layer))?;
    out.line(format_args!("  Enabled: {}", set.enabled))?;
    out.line(format_args!("  Dependencies: {deps}"))?;
    out.line(format_args!("  Provides: {}", metadata.provides.join(", ")))?;
    out.line(format_args!(
        "  Tools: {}",
        metadata.tool_classes.join(", ")
    ))?;
    out.line(format_args!("  Path: {}", set.path.display()))?;
    if let Some(origin) = &info.origin {
        out.note(format_args!(
            "Received from {} on {}",
            origin.received_from, origin.received_at
        ))?;
    }
    if let Some(refusal) = &listed.refusal {
        out.note(format_args!("Not exchanged with other agents: {refusal}"))?;
    }
    Ok(Exit::Done)
}

fn listed_json(listed: &Listed) -> Value {
    let (set, metadata) = (&listed.set, &listed.set.metadata);
    json!({
        "name": metadata.name, "version": metadata.version, "layer": set.layer, "enabled": set.enabled,
        "description": metadata.description, "author": metadata.author,
        "depends_on": metadata.depends_on.iter()
            .map(|d| json!({"name": d.name, "version": d.version})).collect::<Vec<_>>(),
        "provides": metadata.provides, "tool_classes": metadata.tool_classes,
        "path": set.path, "content_hash": listed.content_hash, "file_list": listed.file_list,
        "exchangeable": listed.is_exchangeable(), "refusal": listed.refusal,
    })
}

/// Reads a package from a file or standard input, as far as a package may be long.
fn read_package(file: &Path, agent: &Agent) -> anyhow::Result<SkillSetPackage> {
    let limits = agent.package_limits();
    let max = SkillSetPackage::json_max(&limits);
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(max + 1)
            .read_to_end(&mut bytes)?;
    } else {
        let opened = fs_err::File::open(file).context("cannot read the package")?;
        opened.take(max + 1).read_to_end(&mut bytes)?;
    }
    Ok(SkillSetPackage::from_json(&bytes, &limits)?)
}

fn tell_installed(done: &Done, agent: &Agent, from: &str, out: &mut Out) -> anyhow::Result<Exit> {
    let set = &done.set;
    if out.wants_json() {
        return tell_json(done, out);
    }
    let metadata = &set.metadata;
    out.line(format_args!(
        "Installed SkillSet '{}' v{} [{}]{from}",
        metadata.name, metadata.version, set.layer
    ))?;
    out.line(format_args!(
        "Path: {}",
        agent
            .data_dir
            .skillsets()
            .join(metadata.name.as_str())
            .display()
    ))?;
    if let (Some(hash), false) = (&done.content_hash, from.is_empty()) {
        out.line(format_args!("Content hash: {hash}"))?;
    }
    if let Some(unmet) = &done.unmet {
        out.note(format_args!("It is switched off: {unmet}"))?;
    }
    Ok(Exit::Done)
}

fn tell(done: &Done, verb: &str, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        return tell_json(done, out);
    }
    out.line(format_args!("{verb} SkillSet '{}'", done.set.metadata.name))?;
    Ok(Exit::Done)
}

fn tell_json(done: &Done, out: &mut Out) -> anyhow::Result<Exit> {
    let set = &done.set;
    out.json(&json!({
        "success": true, "name": set.metadata.name, "version": set.metadata.version, "layer": set.layer,
        "enabled": set.enabled, "path": set.path, "content_hash": done.content_hash,
        "unmet": done.unmet,
    }))?;
    Ok(Exit::Done)
}
