//! `skill` and `provenance`: our own skills, and those of other agents.

use std::path::PathBuf;

use clap::Subcommand;
use kairos_actors::knowledge::{Import, signed_provenance};
use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::meeting::{MeetingError, Wanted};
use kairos_protocol::provenance::Provenance;
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::meet::{encounter_json, refused};
use super::out::{Cell, Out, Tone};
use super::quarantine::{held_json, waits};
use crate::agent::Agent;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct SkillArgs {
    #[command(subcommand)]
    command: SkillCommand,
}

#[derive(Debug, Subcommand)]
enum SkillCommand {
    /// List our own skills, or those that another agent offers
    List {
        /// Where the other agent is
        url: Option<PeerUrl>,
    },
    /// Print the text of a skill of another agent, without keeping it
    Get {
        /// Where the agent is
        url: PeerUrl,
        /// The id or name of the skill
        skill: String,
    },
    /// Fetch a skill of another agent into the quarantine
    Acquire {
        /// Where the agent is
        url: PeerUrl,
        /// The id or name of the skill
        skill: String,
    },
    /// Offer one of our skills to other agents
    Share {
        /// Its id or name
        skill: String,
    },
    /// Stop offering one of our skills
    Unshare {
        /// Its id or name
        skill: String,
    },
    /// Take in an Agent Skill: a directory with a SKILL.md
    Import {
        /// The directory
        dir: PathBuf,
        /// Offer its text to other agents, if nothing in it can execute
        #[arg(long)]
        public: bool,
        /// Replace a skill of the same name
        #[arg(long)]
        replace: bool,
    },
    /// Write one of our skills as an Agent Skill directory
    Export {
        /// Its name
        skill: String,
        /// The directory to write it into
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
}

/// Of what to show the provenance.
#[derive(Debug, clap::Args)]
pub struct ProvenanceArgs {
    /// The name of a skill or SkillSet
    name: String,
}

/// Runs `skill`.
pub fn run(args: SkillArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let knowledge = &agent.handles.knowledge;
        match args.command {
            SkillCommand::List { url: None } => own(&agent, &mut out).await,
            SkillCommand::List { url: Some(url) } => match agent.handles.meeting.meet(url).await {
                Ok(met) if out.wants_json() => {
                    out.json(&met.skills)?;
                    Ok(Exit::Done)
                }
                Ok(met) => {
                    let rows = met.skills.iter();
                    let rows = rows.map(|s| [Cell::from(&s.id), Cell::from(&s.name), Cell::from(&s.summary)]);
                    out.table(["ID", "NAME", "SUMMARY"], rows)?;
                    Ok(Exit::Done)
                }
                Err(error) => refused(error, &mut out),
            },
            SkillCommand::Get { url, skill } => match agent.handles.meeting.peek(url, skill).await {
                Ok((met, fetched)) => {
                    let text = String::from_utf8_lossy(&fetched.payload).into_owned();
                    if out.wants_json() {
                        out.json(&json!({
                            "name": fetched.name, "content": text, "content_hash": fetched.content_hash,
                            "checks": fetched.checks, "findings": fetched.findings, "agent": met.peer.id,
                        }))?;
                    } else {
                        out.line(text.trim_end_matches('\n'))?;
                        for finding in &fetched.findings {
                            let word = out.paint_note(Tone::Careful, finding.kind);
                            out.note(format_args!("line {}: {word}", finding.line))?;
                        }
                    }
                    Ok(Exit::Done)
                }
                Err(error) => refused(error, &mut out),
            },
            SkillCommand::Acquire { url, skill } => {
                acquire(&agent, url, Wanted::Skill(skill), &mut out).await
            }
            SkillCommand::Share { skill } => {
                knowledge.set_share(skill.clone(), true).await?;
                told(&mut out, "shared", format_args!("Offering '{skill}' to other agents"), &skill)
            }
            SkillCommand::Unshare { skill } => {
                knowledge.set_share(skill.clone(), false).await?;
                told(&mut out, "unshared", format_args!("No longer offering '{skill}'"), &skill)
            }
            SkillCommand::Import { dir, public, replace } => {
                let import = Import { directory: dir, public, replace };
                let imported = knowledge.import(import).await?;
                if out.wants_json() {
                    out.json(&json!({
                        "imported": imported.stored.name, "path": imported.stored.path, "shared": imported.shared,
                        "scripts": imported.scripts,
                    }))?;
                    return Ok(Exit::Done);
                }
                out.line(format_args!("Imported skill '{}'", imported.stored.name))?;
                out.line(format_args!("Path: {}", imported.stored.path))?;
                if !imported.scripts.is_empty() {
                    let note = out.paint_note(Tone::Careful, "Not offered to other agents, it can execute:");
                    out.note(note)?;
                    for script in &imported.scripts {
                        out.note(format_args!("  {script}"))?;
                    }
                }
                Ok(Exit::Done)
            }
            SkillCommand::Export { skill, dir } => {
                let path = knowledge.export(&skill, &dir).await?;
                told(&mut out, "exported", format_args!("Exported '{skill}' to {}", path.display()), &path)
            }
        }
    })
}

fn told(
    out: &mut Out,
    member: &str,
    sentence: impl std::fmt::Display,
    value: &impl serde::Serialize,
) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({ member: value }))?;
    } else {
        out.line(sentence)?;
    }
    Ok(Exit::Done)
}

async fn own(agent: &Agent, out: &mut Out) -> anyhow::Result<Exit> {
    let catalogue = agent
        .handles
        .knowledge
        .fresh(std::time::Duration::ZERO)
        .await;
    if out.wants_json() {
        let skills: Vec<_> = catalogue
            .all()
            .iter()
            .map(|s| json!({"entry": s.entry(), "public": s.public, "path": s.path}))
            .collect();
        let unfit: Vec<_> = catalogue
            .unfit()
            .iter()
            .map(|u| json!({"path": u.path, "reason": u.reason}))
            .collect();
        out.json(&json!({"skills": skills, "not_offered": unfit}))?;
        return Ok(Exit::Done);
    }
    if catalogue.all().is_empty() {
        out.line("No skills. Put Markdown files below knowledge/, or import an Agent Skill.")?;
    } else {
        let rows = catalogue.all().iter().map(|skill| {
            let public = match skill.public {
                true => Cell::toned(Tone::Good, "public"),
                false => Cell::from("private"),
            };
            [
                Cell::from(&skill.id),
                Cell::from(&skill.name),
                public,
                Cell::from(&skill.summary),
            ]
        });
        out.table(["ID", "NAME", "OFFERED", "SUMMARY"], rows)?;
    }
    for unfit in catalogue.unfit() {
        out.note(format_args!(
            "{} is not offered: {}",
            unfit.path, unfit.reason
        ))?;
    }
    Ok(Exit::Done)
}

/// Fetches something into the quarantine and shows the evidence, or what was installed where it did not have to wait.
pub async fn acquire(
    agent: &Agent,
    url: PeerUrl,
    wanted: Wanted,
    out: &mut Out,
) -> anyhow::Result<Exit> {
    let what = match &wanted {
        Wanted::Skill(name) | Wanted::SkillSet(name) => name.clone(),
    };
    let (bar, progress) = super::progress::transfer(&what);
    let fetched = agent.handles.meeting.acquire(url, wanted, progress).await;
    bar.finish_and_clear();
    let (met, fetched) = match fetched {
        Ok(fetched) => fetched,
        Err(error @ MeetingError::Refused { .. }) => return refused(error, out),
        Err(error) => return Err(error.into()),
    };
    let held = &fetched.held;
    if let Some(approved) = &fetched.installed {
        return super::quarantine::installed(approved, held, out);
    }
    if out.wants_json() {
        out.json(&json!({"quarantined": held_json(held), "agent": encounter_json(&met)}))?;
        return Ok(Exit::Done);
    }
    waits(held, out)?;
    Ok(Exit::Done)
}

/// Runs `provenance`.
pub fn provenance(args: ProvenanceArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let name = args.name;
        let skill_set = agent.handles.skill_sets.info(name.clone()).await;
        let (kind, received_from, provenance) = match skill_set {
            Ok(info) => {
                let origin = info.origin;
                let from = origin.as_ref().map(|o| o.received_from.to_string());
                ("SkillSet", from, origin.and_then(|o| o.provenance))
            }
            Err(_) => {
                let sidecar = agent.handles.knowledge.provenance(&name).await?.unwrap_or_default();
                let from = sidecar.get("received_from").and_then(Value::as_str).map(str::to_owned);
                ("skill", from, signed_provenance(&sidecar))
            }
        };
        let hops = provenance.as_ref().map(Provenance::hops).unwrap_or_default();
        if out.wants_json() {
            out.json(&json!({
                "kind": kind, "name": name, "received_from": received_from, "provenance": provenance,
            }))?;
            return Ok(Exit::Done);
        }
        match &received_from {
            None => out.line(format_args!("The {kind} '{name}' was made here."))?,
            Some(from) => out.line(format_args!("The {kind} '{name}' came from {from}."))?,
        }
        let rows = hops.iter().enumerate().map(|(n, hop)| {
            let role = if n == 0 { "authored" } else { "handed on" };
            [Cell::from(role), Cell::from(&hop.instance_id), Cell::from(hop.public_key.fingerprint()), Cell::from(hop.at)]
        });
        if received_from.is_some() && hops.is_empty() {
            out.line("Nobody signed where it came from before that.")?;
        } else if !hops.is_empty() {
            out.table(["ROLE", "AGENT", "KEY", "WHEN"], rows)?;
        }
        Ok(Exit::Done)
    })
}
