//! `approvals`, and what `approve` and `reject` do with them: changes that wait for a person.

use clap::Subcommand;
use kairos_actors::approvals::{
    ApprovalError, ApprovalHandle, Carried, Decide, Shown, State, to_json,
};
use kairos_place::proposal::{Person, ProposalId, SetState};
use kairos_place::role::Role;
use kairos_protocol::hash::ContentHash;
use serde_json::json;

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::skills::difference::changes;
use super::token::LOCAL;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct ApprovalsArgs {
    #[command(subcommand)]
    command: Option<ApprovalsCommand>,
}

#[derive(Debug, Subcommand)]
enum ApprovalsCommand {
    /// List what waits
    List {
        /// Also what was decided
        #[arg(long)]
        all: bool,
    },
    /// Show what a proposal would change
    Show {
        /// Its id
        id: ProposalId,
        /// Print the whole new text instead of the difference
        #[arg(long)]
        content: bool,
    },
}

/// Whoever is at the keyboard: they can write every file, so they are the owner.
pub fn local() -> anyhow::Result<Person> {
    Ok(Person {
        user: LOCAL.parse()?,
        role: Role::Owner,
        door: "cli".to_owned(),
    })
}

/// Runs `approvals`.
pub fn run(args: ApprovalsArgs, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let approvals = &agent.handles.approvals;
        match args.command {
            None => list(approvals, false, &mut out).await,
            Some(ApprovalsCommand::List { all }) => list(approvals, all, &mut out).await,
            Some(ApprovalsCommand::Show { id, content }) => {
                let shown = approvals.show(id).await?;
                if out.wants_json() {
                    out.json(&shown.to_json())?;
                } else {
                    show(&shown, content, &mut out)?;
                }
                Ok(Exit::Done)
            }
        }
    })
}

async fn list(approvals: &ApprovalHandle, all: bool, out: &mut Out) -> anyhow::Result<Exit> {
    let mut overview = approvals.list(None).await?;
    overview
        .proposals
        .retain(|(_, state)| all || !matches!(state, State::Decided(_)));
    if out.wants_json() {
        let proposals: Vec<_> = overview
            .proposals
            .iter()
            .map(|(w, s)| to_json(w, s))
            .collect();
        let broken = overview.broken.iter();
        let broken: Vec<_> = broken
            .map(|b| json!({"id": b.id, "reason": b.reason}))
            .collect();
        out.json(&json!({"proposals": proposals, "broken": broken}))?;
        return Ok(Exit::Done);
    }
    if overview.proposals.is_empty() && overview.broken.is_empty() {
        out.line("Nothing waits for a decision.")?;
        return Ok(Exit::Done);
    }
    let rows = overview.proposals.iter().map(|(waiting, state)| {
        let proposal = &waiting.proposal;
        [
            Cell::from(&waiting.id),
            Cell::toned(tone(state), state.word()),
            Cell::from(proposal.change.kind()),
            Cell::from(proposal.change.subject()),
            Cell::from(&proposal.by.user),
            Cell::from(proposal.proposed_at),
            Cell::from(proposal.expires_at),
        ]
    });
    out.table(
        ["ID", "STATE", "CHANGE", "OF", "BY", "PROPOSED", "EXPIRES"],
        rows,
    )?;
    for (waiting, state) in &overview.proposals {
        if let State::Unfinished { decision, reason } = state {
            let reason = reason.as_deref().unwrap_or("not tried yet");
            out.note(format_args!(
                "{} was {}, and that is not settled: {reason}",
                waiting.id,
                decision.word()
            ))?;
        }
    }
    for broken in &overview.broken {
        out.note(format_args!(
            "{} is unreadable: {}",
            broken.id, broken.reason
        ))?;
    }
    out.note("Look with `kairos-chain approvals show ID`, then `approve ID` or `reject ID`.")?;
    Ok(Exit::Done)
}

fn tone(state: &State) -> Tone {
    match state {
        State::Open => Tone::Good,
        State::Unlooked | State::Expired | State::Void(_) | State::Unfinished { .. } => {
            Tone::Careful
        }
        State::Decided(_) => Tone::Quiet,
    }
}

/// All that a person needs to decide.
fn show(shown: &Shown, content: bool, out: &mut Out) -> std::io::Result<()> {
    let waiting = &shown.waiting;
    let proposal = &waiting.proposal;
    let subject = out.paint(Tone::Strong, proposal.change.subject());
    out.line(format_args!("{} '{subject}'", proposal.change.kind()))?;
    let state = out.paint(tone(&shown.state), shown.state.word());
    match &shown.state {
        State::Void(what) => {
            out.line(format_args!("  State: {state}, `{what}` has changed since"))?
        }
        State::Decided(decision) => out.line(format_args!(
            "  State: {state} by {} at {}",
            decision.by.user, decision.at
        ))?,
        State::Unfinished { decision, reason } => {
            let reason = reason.as_deref().unwrap_or("not tried yet");
            out.line(format_args!(
                "  State: {state}, {} by {} at {}: {reason}",
                decision.word(),
                decision.by.user,
                decision.at
            ))?;
        }
        State::Open | State::Unlooked | State::Expired => {
            out.line(format_args!("  State: {state}"))?
        }
    }
    let by = &proposal.by;
    out.line(format_args!(
        "  Proposed by: {} ({}, {}) at {}, until {}",
        by.user, by.role, by.door, proposal.proposed_at, proposal.expires_at
    ))?;
    if let Some(reason) = &proposal.reason {
        out.line(format_args!(
            "  Reason: {}",
            out.paint(Tone::Strong, reason)
        ))?;
    }
    for file in &proposal.files {
        let hash =
            |hash: &Option<ContentHash>| hash.map_or("nothing".to_owned(), |hash| hash.to_hex());
        out.line(format_args!(
            "  File: {}",
            out.paint(Tone::Strong, &file.path)
        ))?;
        out.line(format_args!("    from {}", hash(&file.before)))?;
        out.line(format_args!("      to {}", hash(&file.after)))?;
    }
    if let Some(set) = &proposal.skillset {
        out.line(format_args!("  From: {}", set_text(set.before.as_ref())))?;
        out.line(format_args!("    To: {}", set_text(set.after.as_ref())))?;
    }
    out.line(format_args!("  Seal: {}", waiting.seal))?;
    if !shown.findings.is_empty() {
        out.line("")?;
        let rows = shown.findings.iter().map(|f| {
            [
                Cell::toned(Tone::Careful, f.kind),
                Cell::from(f.line),
                Cell::from(&f.excerpt),
            ]
        });
        out.table(["READ THIS FIRST", "LINE", "TEXT"], rows)?;
    }
    if content {
        let text = waiting.content.as_deref().unwrap_or_default();
        out.line("")?;
        return out.line(String::from_utf8_lossy(text));
    }
    if let Some(law) = &shown.law {
        out.line("")?;
        changes(law, out)?;
    }
    if let Some(diff) = &shown.diff {
        out.line("")?;
        for line in diff.text.lines() {
            let tone = match line.chars().next() {
                Some('+') => Tone::Good,
                Some('-') => Tone::Bad,
                _ => Tone::Quiet,
            };
            // Painted, so that nothing in the line can color it otherwise.
            out.line(out.paint(tone, line.replace('\t', "    ")))?;
        }
        if diff.left_out > 0 {
            let left = format!(
                "… {} bytes more; all of the new text: --content",
                diff.left_out
            );
            out.line(out.paint(Tone::Careful, left))?;
        }
    }
    Ok(())
}

fn set_text(set: Option<&SetState>) -> String {
    set.map_or("not installed".to_owned(), |set| {
        let on = if set.enabled { "on" } else { "off" };
        format!(
            "v{} [{}] {on}, content {}",
            set.version, set.layer, set.content_hash
        )
    })
}

/// Approves a proposal: shows it, asks, carries out exactly what was shown.
pub fn approve(
    id: ProposalId,
    yes: bool,
    seal: Option<ContentHash>,
    session: &mut Session,
) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let approvals = &agent.handles.approvals;
        let shown = approvals.show(id.clone()).await?;
        // What cannot be approved any more is refused below, with the reason.
        if !yes && shown.state == State::Open {
            if out.wants_json() {
                out.note("With --json nobody is asked. Look with `approvals show`, approve with --yes --seal SEAL.")?;
                return Ok(Exit::Failed);
            }
            show(&shown, false, &mut out)?;
            if !super::quarantine::confirmed("Carry this out?", "Left as it was.", &mut out)? {
                return Ok(Exit::Failed);
            }
        }
        let decide = Decide {
            id,
            seal: seal.unwrap_or(shown.waiting.seal),
            approve: true,
            by: local()?,
        };
        told(&approvals.decide(decide).await?, &shown.waiting.id, &mut out)
    })
}

/// Rejects a proposal, readable or not.
pub fn reject(id: ProposalId, session: &mut Session) -> anyhow::Result<Exit> {
    session.with_agent(|agent, mut out| async move {
        let approvals = &agent.handles.approvals;
        let seal = match approvals.show(id.clone()).await {
            Ok(shown) => shown.waiting.seal,
            Err(ApprovalError::Damaged { .. }) => {
                approvals.discard(id.clone(), local()?).await?;
                match out.wants_json() {
                    true => out.json(&json!({"rejected": id}))?,
                    false => out.line(format_args!("Discarded '{id}'"))?,
                }
                return Ok(Exit::Done);
            }
            Err(error) => return Err(error.into()),
        };
        let decide = Decide {
            id: id.clone(),
            seal,
            approve: false,
            by: local()?,
        };
        told(&approvals.decide(decide).await?, &id, &mut out)
    })
}

fn told(carried: &Carried, id: &ProposalId, out: &mut Out) -> anyhow::Result<Exit> {
    let (proposal, decision) = (&carried.proposal, &carried.decision);
    if out.wants_json() {
        out.json(&json!({
            "id": id, "decided": decision.decided, "change": proposal.change.kind(),
            "subject": proposal.change.subject(), "stage": decision.stage,
        }))?;
        return Ok(Exit::Done);
    }
    let word = match decision.word() {
        "approved" => "Carried out",
        _ => "Rejected",
    };
    out.line(format_args!(
        "{word}: {} '{}'",
        proposal.change.kind(),
        proposal.change.subject()
    ))?;
    if let kairos_actors::approvals::Stage::Done { block: Some(block) } = decision.stage {
        out.line(format_args!("Recorded in block {block}"))?;
    }
    Ok(Exit::Done)
}
