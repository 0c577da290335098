//! `why`: how an entry of knowledge or a SkillSet came about, as far as the record tells.

use std::fmt::Write as _;

use kairos_actors::knowledge::signed_provenance;
use kairos_place::role::Action;
use kairos_protocol::block::Block;
use kairos_protocol::block::entry::{Decided, Entry};
use kairos_protocol::provenance::Provenance;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::text::{start, table};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Blocks read at a time.
const CHUNK: u64 = 500;
/// Most blocks looked at, the newest.
const LOOKED_MAX: u64 = 100_000;
/// Most events told.
const EVENTS_MAX: usize = 200;

pub(super) struct Why;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The name of an entry of knowledge or of a SkillSet.
    name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Story {
    /// `knowledge` or `skillset`.
    kind: &'static str,
    /// Its name.
    name: String,
    /// `own`, or `acquired` from another agent.
    tier: &'static str,
    /// The agent it came from; null if it was made here.
    received_from: Option<String>,
    /// Who signed for it: its author first, then through whose hands it went.
    hands: Vec<Hand>,
    /// What the ledger tells of it, the newest first.
    events: Vec<Event>,
    /// Whether older blocks were not looked at.
    incomplete: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Hand {
    /// `authored` or `handed on`.
    role: &'static str,
    /// The agent.
    agent_id: String,
    /// The fingerprint of the key it signed with.
    key_fingerprint: String,
    /// When, as it says.
    at: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Event {
    /// The block that tells of it.
    block: u64,
    /// When.
    at: String,
    /// What happened.
    what: String,
    /// Who decided, where somebody did.
    by: Option<String>,
    /// Why.
    reason: Option<String>,
    /// The hash afterwards, in hex.
    content_hash: Option<String>,
}

impl Tool<AgentDoor> for Why {
    const NAME: &'static str = "why";
    const TITLE: &'static str = "How something came about";
    const ABOUT: &'static str = "Tells how an entry of knowledge or a SkillSet came about: who wrote it, from where it was acquired, who approved it, and \
         what changed since, each with its block in the ledger.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = Params;
    type Output = Story;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: Params,
    ) -> Result<Answer<Story>, Refusal> {
        let handles = &door.agent.handles;
        let name = params.name;
        let (kind, from, provenance) = match handles.skill_sets.info(name.clone()).await {
            Ok(info) => {
                let from = info
                    .origin
                    .as_ref()
                    .map(|origin| origin.received_from.to_string());
                (
                    "skillset",
                    from,
                    info.origin.and_then(|origin| origin.provenance),
                )
            }
            Err(_) => {
                let sidecar = handles
                    .knowledge
                    .provenance(&name)
                    .await?
                    .unwrap_or_default();
                let from = sidecar
                    .get("received_from")
                    .and_then(Value::as_str)
                    .map(str::to_owned);
                ("knowledge", from, signed_provenance(&sidecar))
            }
        };
        let (events, incomplete) = events(door, kind, &name).await?;
        let hops = provenance
            .as_ref()
            .map(Provenance::hops)
            .unwrap_or_default();
        let hands = hops.iter().enumerate().map(|(n, hop)| Hand {
            role: if n == 0 { "authored" } else { "handed on" },
            agent_id: hop.instance_id.to_string(),
            key_fingerprint: hop.public_key.fingerprint(),
            at: hop.at.wire(),
        });
        let story = Story {
            kind,
            tier: if from.is_some() { "acquired" } else { "own" },
            received_from: from,
            hands: hands.collect(),
            events,
            incomplete,
            name,
        };
        Ok(Answer::new(told(&story), story))
    }
}

fn told(story: &Story) -> String {
    let mut text = match &story.received_from {
        None => format!("The {} '{}' was made here.\n", story.kind, story.name),
        Some(from) => format!("The {} '{}' came from {from}.\n", story.kind, story.name),
    };
    match (story.hands.is_empty(), &story.received_from) {
        (false, _) => {
            let rows = story.hands.iter().map(|hand| {
                [
                    hand.role.to_owned(),
                    hand.agent_id.clone(),
                    hand.key_fingerprint.clone(),
                    hand.at.clone(),
                ]
            });
            let _ = write!(text, "\n{}", table(["Role", "Agent", "Key", "When"], rows));
        }
        (true, Some(_)) => text.push_str("Nobody signed where it came from before that.\n"),
        (true, None) => {}
    }
    match story.events.is_empty() {
        true => text.push_str("\nThe ledger tells nothing of it: it was put there past the ledger, by an editor or a template."),
        false => {
            let rows = story.events.iter().map(|event| {
                let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
                let hash = start(&or_none(&event.content_hash), 16);
                [event.block.to_string(), event.at.clone(), event.what.clone(), or_none(&event.by), or_none(&event.reason), hash]
            });
            let head = ["Block", "When", "What", "By", "Reason", "Hash"];
            let _ = write!(text, "\n{}", table(head, rows));
        }
    }
    if story.incomplete {
        text.push_str("\nOlder blocks were not looked at.");
    }
    text
}

async fn events(door: &AgentDoor, kind: &str, name: &str) -> Result<(Vec<Event>, bool), Refusal> {
    let chain = &door.agent.handles.chain;
    let mut end = chain
        .tip()
        .await?
        .map_or(0, |tip| tip.index.saturating_add(1));
    let least = end.saturating_sub(LOOKED_MAX);
    let mut found = Vec::new();
    while end > least && found.len() < EVENTS_MAX {
        let first = end.saturating_sub(CHUNK).max(least);
        let count = usize::try_from(end - first).unwrap_or(usize::MAX);
        for block in chain.blocks(first, count).await?.iter().rev() {
            let told = block
                .data()
                .iter()
                .rev()
                .filter_map(|entry| event(block, &Entry::read(entry).ok()?, kind, name));
            found.extend(told);
        }
        end = first;
    }
    let incomplete = end > 0 || found.len() > EVENTS_MAX;
    found.truncate(EVENTS_MAX);
    Ok((found, incomplete))
}

/// The word that a ledger has for something.
fn word<T: Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// What an entry of the ledger tells about `name`, if it does.
fn event(block: &Block, entry: &Entry, kind: &str, name: &str) -> Option<Event> {
    let event = |what: String| Event {
        block: block.index(),
        at: block.instant().wire(),
        what,
        by: None,
        reason: None,
        content_hash: None,
    };
    match entry {
        Entry::KnowledgeUpdate(update) if kind == "knowledge" && update.knowledge_id == name => {
            Some(Event {
                reason: Some(update.reason.clone()),
                content_hash: update.next_hash.map(|hash| hash.to_hex()),
                ..event(word(&update.action))
            })
        }
        Entry::SkillProvenance(arrived)
            if kind == "knowledge"
                && arrived
                    .stored_path
                    .starts_with(&format!("knowledge/{name}/")) =>
        {
            Some(Event {
                by: Some(arrived.received_from.clone()),
                content_hash: Some(arrived.content_hash.to_hex()),
                ..event("arrived from another agent".to_owned())
            })
        }
        Entry::SkillSetEvent(of) if kind == "skillset" && of.skillset_name == name => Some(Event {
            reason: of.reason.clone(),
            content_hash: Some(of.content_hash.to_hex()),
            ..event(word(&of.action))
        }),
        Entry::SkillSetProvenance(arrived)
            if kind == "skillset" && arrived.skillset_name == name =>
        {
            Some(Event {
                by: Some(arrived.received_from.clone()),
                content_hash: Some(arrived.content_hash.to_hex()),
                ..event("arrived from another agent".to_owned())
            })
        }
        Entry::ApprovalDecision(decision) if decision.subject == name => Some(Event {
            by: Some(decision.decided_by.clone()),
            reason: decision.reason.clone(),
            ..event(match decision.decision {
                Decided::Approved => format!("approved: {}", decision.change),
                Decided::Rejected => format!("rejected: {}", decision.change),
                Decided::Void => format!("void: {}", decision.change),
            })
        }),
        _ => None,
    }
}
