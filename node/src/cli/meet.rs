//! `meet`: introduce ourselves to an agent, verify it, and look at what it offers.

use anyhow::bail;
use kairos_actors::check::{Checks, Outcome};
use kairos_actors::meeting::MeetingError;
use kairos_actors::meeting::encounter::Encounter;
use serde_json::{Value, json};

use super::Session;
use super::exit::Exit;
use super::out::{Cell, Out, Tone};
use super::p2p::node::Whom;

/// Whom to meet.
#[derive(Debug, clap::Args)]
pub struct MeetArgs {
    /// Where the agent is, such as http://192.0.2.7:8080 or the address of its libp2p node; or its id, which is then
    /// looked for
    #[arg(value_name = "WHOM")]
    whom: Whom,
}

/// Runs `meet`. Exit code 1 if a check failed.
pub fn run(args: &MeetArgs, session: &mut Session) -> anyhow::Result<Exit> {
    let whom = args.whom.clone();
    session.with_node(|agent, node, mut out| async move {
        let url = node.resolve(&agent, &whom).await?;
        match agent.handles.meeting.meet(url).await {
            Ok(met) => {
                if let Whom::Agent(id) = &whom
                    && *id != met.peer.id
                {
                    bail!("the agent at {} is {}, not {id}", met.url, met.peer.id);
                }
                if out.wants_json() {
                    out.json(&encounter_json(&met))?;
                } else {
                    show(&met, &mut out)?;
                }
                Ok(Exit::Done)
            }
            Err(error) => refused(error, &mut out),
        }
    })
}

/// Shows the checks of a conversation that ended badly, and passes other errors on.
pub fn refused(error: MeetingError, out: &mut Out) -> anyhow::Result<Exit> {
    let MeetingError::Refused {
        check,
        detail,
        checks,
    } = &error
    else {
        return Err(error.into());
    };
    if out.wants_json() {
        out.json(&json!({"refused": check, "detail": detail, "checks": checks}))?;
        return Ok(Exit::Failed);
    }
    show_checks(checks, out)?;
    let word = out.paint_note(Tone::Bad, "refused:");
    out.note(format_args!("{word} {error}"))?;
    out.note("Nothing was kept.")?;
    Ok(Exit::Failed)
}

/// The checks as a table, one line each.
pub fn show_checks(checks: &Checks, out: &mut Out) -> std::io::Result<()> {
    let rows = checks.0.iter().map(|check| {
        let (tone, word) = match check.outcome {
            Outcome::Passed => (Tone::Good, "passed"),
            Outcome::Failed => (Tone::Bad, "FAILED"),
            Outcome::Unknown => (Tone::Careful, "unknown"),
        };
        // The rest of a long detail is told with the refusal.
        let detail = check.detail.lines().next().unwrap_or_default();
        [
            Cell::from(&check.name),
            Cell::toned(tone, word),
            Cell::from(detail),
        ]
    });
    out.table(["CHECK", "RESULT", "DETAIL"], rows)
}

/// An encounter for programs.
pub fn encounter_json(met: &Encounter) -> Value {
    json!({
        "agent": {
            "id": met.peer.id, "name": met.peer.name, "description": met.description, "scope": met.scope,
            "url": met.url.to_string(), "key_fingerprint": met.peer.key.fingerprint(),
            "trust": met.peer.trust, "key_possession": met.proved, "first_seen": met.peer.first_seen.wire(),
        },
        "our_session": met.our_strength,
        "checks": met.checks,
        "skills": met.skills,
        "skillsets": met.skill_sets,
    })
}

fn show(met: &Encounter, out: &mut Out) -> std::io::Result<()> {
    let peer = &met.peer;
    let name = out.paint(Tone::Strong, &peer.name);
    out.line(format_args!("{name}  {}", peer.id))?;
    if !met.description.is_empty() {
        out.line(format_args!("  {} ({})", met.description, met.scope))?;
    }
    out.line(format_args!(
        "  key {}  {}",
        peer.key.fingerprint(),
        peer.trust.as_str()
    ))?;
    out.line("")?;
    show_checks(&met.checks, out)?;
    out.line("")?;
    if met.skills.is_empty() {
        out.line("It offers no skills.")?;
    } else {
        let rows = met.skills.iter().map(|s| {
            [
                Cell::from(&s.id),
                Cell::from(&s.name),
                Cell::from(&s.summary),
            ]
        });
        out.table(["SKILL", "NAME", "SUMMARY"], rows)?;
    }
    out.line("")?;
    if met.skill_sets.is_empty() {
        out.line("It offers no SkillSets.")?;
    } else {
        let rows = met.skill_sets.iter().map(|s| {
            [
                Cell::from(&s.name),
                Cell::from(&s.version),
                Cell::from(&s.layer),
                Cell::from(&s.description),
            ]
        });
        out.table(["SKILLSET", "VERSION", "LAYER", "DESCRIPTION"], rows)?;
    }
    if let Some(skill) = met.skills.first() {
        out.note("")?;
        out.note(format_args!(
            "Acquire with:  kairos-chain skill acquire {} {}",
            met.url, skill.id
        ))?;
    }
    Ok(())
}
