//! `quarantine`, `approve`, `reject`: what was acquired waits here until a person decides.
//!
//! `approve` and `reject` take the ids of proposals as well; see [`super::approvals`].

use std::io::{BufRead as _, IsTerminal as _};
use std::str::FromStr;

use clap::Subcommand;
use kairos_actors::meeting::{Approval, Approved};
use kairos_actors::quarantine::{Held, HeldKind, HoldId};
use kairos_place::proposal::ProposalId;
use kairos_protocol::id::SkillName;
use serde_json::{Value, json};

use super::exit::Exit;
use super::meet::show_checks;
use super::out::{Cell, Out, Tone};
use super::{Session, Usage, approvals};

/// What to do.
#[derive(Debug, clap::Args)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    command: Option<QuarantineCommand>,
}

#[derive(Debug, Subcommand)]
enum QuarantineCommand {
    /// List what waits
    List,
    /// Show the evidence about one item
    Show {
        /// Its id
        id: HoldId,
        /// Also print the text of a skill
        #[arg(long)]
        content: bool,
    },
}

/// What waits for a decision, by the form of its id.
#[derive(Debug, Clone)]
enum WaitingId {
    Held(HoldId),
    Proposed(ProposalId),
}

impl FromStr for WaitingId {
    type Err = Usage;

    fn from_str(text: &str) -> Result<Self, Usage> {
        let held = text.parse().map(Self::Held).ok();
        held.or_else(|| text.parse().map(Self::Proposed).ok())
            .ok_or_else(|| {
                Usage("an id in quarantine has 12 hex digits, that of a proposal `p` and 12 hex digits".into())
            })
    }
}

/// What to approve.
#[derive(Debug, clap::Args)]
pub struct ApproveArgs {
    /// Its id, as shown by `quarantine list` or `approvals list`
    id: WaitingId,
    /// Do it without asking; needed where nobody can be asked
    #[arg(long, short = 'y')]
    yes: bool,
    /// Approve only exactly what `quarantine show` or `approvals show` showed: its seal
    #[arg(long, value_name = "SEAL")]
    seal: Option<kairos_protocol::hash::ContentHash>,
    /// Install a skill under another name
    #[arg(long = "as", value_name = "NAME")]
    name: Option<SkillName>,
    /// Replace what is installed under the same name
    #[arg(long)]
    replace: bool,
    /// Offer a skill to other agents in turn; a SkillSet is offered once it is enabled
    #[arg(long)]
    share: bool,
}

/// What to reject.
#[derive(Debug, clap::Args)]
pub struct RejectArgs {
    /// Its id, as shown by `quarantine list` or `approvals list`
    id: WaitingId,
}

/// Runs `quarantine`.
pub fn run(args: QuarantineArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let quarantine = &agent.handles.quarantine;
        match args.command {
            None | Some(QuarantineCommand::List) => {
                let listing = quarantine.list().await?;
                if out.wants_json() {
                    let held: Vec<_> = listing.held.iter().map(held_json).collect();
                    let broken: Vec<_> = listing
                        .broken
                        .iter()
                        .map(|b| json!({"id": b.id.as_str(), "reason": b.reason}))
                        .collect();
                    out.json(&json!({"waiting": held, "broken": broken}))?;
                    return Ok(Exit::Done);
                }
                if listing.held.is_empty() && listing.broken.is_empty() {
                    out.line("Nothing waits for a decision.")?;
                    return Ok(Exit::Done);
                }
                let rows = listing.held.iter().map(|held| {
                    let evidence = &held.evidence;
                    let findings = match evidence.findings.len() {
                        0 => Cell::from("none"),
                        count => Cell::toned(Tone::Careful, count),
                    };
                    [
                        Cell::from(&held.id),
                        Cell::from(evidence.kind.as_str()),
                        Cell::from(&evidence.name),
                        Cell::from(&evidence.from),
                        findings,
                        Cell::from(evidence.acquired_at),
                    ]
                });
                out.table(["ID", "KIND", "NAME", "FROM", "FINDINGS", "ACQUIRED"], rows)?;
                for broken in &listing.broken {
                    out.note(format_args!(
                        "{} is unreadable: {}",
                        broken.id, broken.reason
                    ))?;
                }
                out.note("Decide with:  kairos-chain approve ID   or   kairos-chain reject ID")?;
            }
            Some(QuarantineCommand::Show { id, content }) => {
                let (held, payload) = quarantine.show(id).await?;
                if out.wants_json() {
                    out.json(&held_json(&held))?;
                    return Ok(Exit::Done);
                }
                show(&held, &mut out)?;
                if content && held.evidence.kind == HeldKind::Skill {
                    out.line("")?;
                    out.line(String::from_utf8_lossy(&payload))?;
                }
            }
        }
        Ok(Exit::Done)
    })
}

/// Runs `approve`: shows the evidence, asks, installs exactly what was shown.
pub fn approve(args: ApproveArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let id = match args.id {
        WaitingId::Held(id) => id,
        WaitingId::Proposed(_) if args.name.is_some() || args.replace || args.share => {
            let text = "a proposal is carried out as it is: --as, --replace and --share are for the quarantine";
            return Err(Usage(text.into()).into());
        }
        WaitingId::Proposed(id) => return approvals::approve(id, args.yes, args.seal, session),
    };
    session.with_agent(|agent, mut out| async move {
        let (held, _) = agent.handles.quarantine.show(id.clone()).await?;
        if !args.yes {
            if out.wants_json() {
                out.note("With --json nobody is asked. Look with `quarantine show`, approve with --yes --seal SEAL.")?;
                return Ok(Exit::Failed);
            }
            show(&held, &mut out)?;
            let question = format!("Install {} '{}'?", held.evidence.kind.as_str(), held.evidence.name);
            if !confirmed(&question, "Left in the quarantine.", &mut out)? {
                return Ok(Exit::Failed);
            }
        }
        let approval = Approval {
            id,
            seal: args.seal.unwrap_or(held.seal),
            name: args.name,
            replace: args.replace,
            share: args.share,
        };
        let approved = agent.handles.meeting.approve(approval).await?;
        installed(&approved, &held, &mut out)
    })
}

/// Asks whoever is at the keyboard. Where nobody is, that is said, and it counts as no.
pub fn confirmed(question: &str, otherwise: &str, out: &mut Out) -> std::io::Result<bool> {
    if !std::io::stdin().is_terminal() {
        out.note("Nobody can be asked here. Approve with --yes.")?;
        return Ok(false);
    }
    out.note(format_args!("{question} (y/N)"))?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let agreed = matches!(answer.trim(), "y" | "Y" | "yes");
    if !agreed {
        out.note(otherwise)?;
    }
    Ok(agreed)
}

/// Tells what an approval did.
pub fn installed(approved: &Approved, held: &Held, out: &mut Out) -> anyhow::Result<Exit> {
    if out.wants_json() {
        out.json(&json!({
            "approved": held.id.as_str(), "kind": approved.kind, "name": approved.name,
            "content_hash": approved.content_hash, "path": approved.path,
        }))?;
        return Ok(Exit::Done);
    }
    let kind = approved.kind;
    out.line(format_args!(
        "Installed {} '{}'",
        kind.title(),
        approved.name
    ))?;
    out.line(format_args!("Path: {}", approved.path))?;
    out.line(format_args!("Content hash: {}", approved.content_hash))?;
    if kind == HeldKind::SkillSet {
        out.note(format_args!(
            "Enable it with:  kairos-chain skillset enable {}",
            approved.name
        ))?;
    }
    Ok(Exit::Done)
}

/// Runs `reject`.
pub fn reject(args: RejectArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let id = match args.id {
        WaitingId::Held(id) => id,
        WaitingId::Proposed(id) => return approvals::reject(id, session),
    };
    session.with_agent(|agent, mut out| async move {
        agent.handles.quarantine.discard(id.clone()).await?;
        if out.wants_json() {
            out.json(&json!({"rejected": id.as_str()}))?;
        } else {
            out.line(format_args!("Discarded '{id}'"))?;
        }
        Ok(Exit::Done)
    })
}

/// The evidence about one item, for a person.
pub fn show(held: &Held, out: &mut Out) -> std::io::Result<()> {
    let evidence = &held.evidence;
    let version = evidence
        .version
        .as_deref()
        .map(|v| format!(" v{v}"))
        .unwrap_or_default();
    let name = out.paint(Tone::Strong, &evidence.name);
    out.line(format_args!("{} '{name}'{version}", evidence.kind.title()))?;
    out.line(format_args!(
        "  From: {} at {}",
        evidence.from, evidence.url
    ))?;
    out.line(format_args!(
        "  Sender's key: {} ({})",
        evidence.key_fingerprint,
        evidence.session.as_str()
    ))?;
    out.line(format_args!("  Content hash: {}", evidence.content_hash))?;
    out.line(format_args!(
        "  Size: {} bytes, acquired {}",
        held.size, evidence.acquired_at
    ))?;
    if let Some(carried) = &evidence.carried {
        let places = carried.passage.stations().iter();
        let places: Vec<&str> = places.map(|at| at.place_id.as_str()).collect();
        out.line(format_args!(
            "  Left at: {} by {} at {}",
            places.first().copied().unwrap_or_default(),
            carried.facts.depositor,
            carried.facts.deposited_at
        ))?;
        out.line(format_args!("  Path: {} -> us", places.join(" -> ")))?;
    }
    out.line(format_args!("  Seal: {}", held.seal))?;
    out.line("")?;
    show_checks(&evidence.checks, out)?;
    out.line("")?;
    if evidence.findings.is_empty() {
        return out.line("Nothing in the text looks suspicious to the heuristics.");
    }
    let rows = evidence.findings.iter().map(|f| {
        [
            Cell::toned(Tone::Careful, f.kind),
            Cell::from(f.line),
            Cell::from(&f.excerpt),
        ]
    });
    out.table(["READ THIS FIRST", "LINE", "TEXT"], rows)
}

/// The same about an item that just came, and how it goes on.
pub fn waits(held: &Held, out: &mut Out) -> std::io::Result<()> {
    let id = &held.id;
    show(held, out)?;
    out.note("")?;
    out.note(format_args!("It waits in the quarantine as {id}."))?;
    out.note(format_args!("Install it with:  kairos-chain approve {id}"))?;
    out.note(format_args!("Discard it with:  kairos-chain reject {id}"))
}

/// An item for programs.
pub fn held_json(held: &Held) -> Value {
    json!({"id": held.id.as_str(), "seal": held.seal, "size": held.size, "evidence": held.evidence})
}
