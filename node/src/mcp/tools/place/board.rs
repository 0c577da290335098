//! `place_browse`, `place_deposit`, `place_withdraw` and `place_acquire`: the board of a Meeting Place.

use std::fmt::Write as _;
use std::sync::Arc;

use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::membership::{
    Acquire as Fetch, Browse as Look, Deposit as Put, Withdraw as TakeBack,
};
use kairos_place::role::Action;
use kairos_protocol::id::AgentId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::peer::Acquired;
use super::super::text::table;
use super::choose;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// Entries shown if nothing is said.
const LIMIT: usize = 50;
/// Most entries shown.
const LIMIT_MAX: usize = 1_000;

pub(in crate::mcp::tools) struct Browse;

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Agent,
    Need,
    Skill,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct BrowseParams {
    /// Which Place; the only one that is joined if nothing is said.
    #[schemars(with = "Option<String>")]
    place: Option<PeerUrl>,
    /// Only entries of this kind.
    kind: Option<Kind>,
    /// Only entries whose name contains this.
    search: Option<String>,
    /// Only entries with one of these tags.
    #[serde(default)]
    tags: Vec<String>,
    /// How many, from 1 to 1000; 50 if nothing is said.
    limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct Board {
    /// Entries of the board, a random choice in random order.
    entries: Vec<EntryData>,
    /// How many there are in all.
    total: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct EntryData {
    /// `agent`, `need` or `deposited_skill`.
    kind: String,
    /// By which it is asked for.
    name: String,
    /// Whose it is.
    agent_id: String,
    /// What its agent says about it.
    summary: String,
    /// Its tags.
    tags: Vec<String>,
    /// How it compares with what we have; null for what we do not have.
    have: Option<&'static str>,
}

impl Tool<AgentDoor> for Browse {
    const NAME: &'static str = "place_browse";
    const TITLE: &'static str = "Browse a Meeting Place";
    const ABOUT: &'static str = "Looks at the board of a Meeting Place: who is there, what they look for, and which skills they left. Summaries are words of \
         strangers.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::READ.open_world();
    type Params = BrowseParams;
    type Output = Board;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: BrowseParams,
    ) -> Result<Answer<Board>, Refusal> {
        let limit = params.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Refusal::say(format!(
                "Error: limit is from 1 to {LIMIT_MAX}"
            )));
        }
        let kind = params.kind.map(|kind| match kind {
            Kind::Agent => "agent",
            Kind::Need => "need",
            Kind::Skill => "deposited_skill",
        });
        let look = Look {
            url: choose(door, params.place).await?,
            kind: kind.map(str::to_owned),
            words: params.search,
            tags: params.tags,
            limit,
        };
        let seen = door.agent.handles.membership.browse(look).await?;
        let entries: Vec<_> = seen
            .entries
            .into_iter()
            .map(|(entry, have)| EntryData {
                kind: entry.kind,
                name: entry.skill_id.unwrap_or(entry.name),
                agent_id: entry.agent_id.to_string(),
                summary: entry.summary,
                tags: entry.tags,
                have: have.map(|have| have.as_str()),
            })
            .collect();
        if entries.is_empty() {
            return Ok(Answer::new(
                "Nothing there.",
                Board {
                    entries,
                    total: seen.total,
                },
            ));
        }
        let rows = entries.iter().map(|entry| {
            let have = entry.have.unwrap_or_default().to_owned();
            [
                entry.kind.clone(),
                entry.name.clone(),
                entry.agent_id.clone(),
                have,
                entry.summary.clone(),
            ]
        });
        let mut text = table(["Kind", "Name", "Agent", "Have", "Summary"], rows);
        if seen.total > entries.len() as u64 {
            let _ = write!(
                text,
                "\n{} of {}, chosen at random; narrow it down with search, tags or kind.",
                entries.len(),
                seen.total
            );
        }
        Ok(Answer::new(
            text,
            Board {
                entries,
                total: seen.total,
            },
        ))
    }
}

pub(in crate::mcp::tools) struct Deposit;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct DepositParams {
    /// The id or name of a public skill of this agent.
    skill: String,
    /// Which Place; the only one that is joined if nothing is said.
    #[schemars(with = "Option<String>")]
    place: Option<PeerUrl>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct Deposited {
    /// Its name there.
    name: String,
    /// The hash of its text, in hex.
    content_hash: String,
    /// Where.
    place: String,
}

impl Tool<AgentDoor> for Deposit {
    const NAME: &'static str = "place_deposit";
    const TITLE: &'static str = "Leave a skill at a Meeting Place";
    const ABOUT: &'static str = "Leaves a public skill of this agent at a Meeting Place, signed, for anyone to take. Only skills that are public already.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::ADD.idempotent().open_world();
    type Params = DepositParams;
    type Output = Deposited;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: DepositParams,
    ) -> Result<Answer<Deposited>, Refusal> {
        let url = choose(door, params.place).await?;
        let put = Put {
            url: url.clone(),
            skill: params.skill,
        };
        let left = door.agent.handles.membership.deposit(put).await?;
        let data = Deposited {
            name: left.skill_id,
            content_hash: left.content_hash.to_hex(),
            place: url.to_string(),
        };
        let text = format!(
            "Left '{}' at {}, signed\nContent hash: {}",
            data.name, data.place, data.content_hash
        );
        Ok(Answer::new(text, data))
    }
}

pub(in crate::mcp::tools) struct Withdraw;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct WithdrawParams {
    /// Its name there.
    skill: String,
    /// Why, for others to read.
    reason: String,
    /// Which Place; the only one that is joined if nothing is said.
    #[schemars(with = "Option<String>")]
    place: Option<PeerUrl>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::mcp::tools) struct Withdrawn {
    /// Its name there.
    name: String,
    /// Where.
    place: String,
}

impl Tool<AgentDoor> for Withdraw {
    const NAME: &'static str = "place_withdraw";
    const TITLE: &'static str = "Take a skill back";
    const ABOUT: &'static str = "Takes a skill back that this agent left at a Meeting Place. Copies that others took stay theirs.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::CHANGE.open_world();
    type Params = WithdrawParams;
    type Output = Withdrawn;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: WithdrawParams,
    ) -> Result<Answer<Withdrawn>, Refusal> {
        if params.reason.trim().is_empty() {
            return Err(Refusal::say(
                "Error: reason is required, such as: it is out of date",
            ));
        }
        let url = choose(door, params.place).await?;
        let back = TakeBack {
            url: url.clone(),
            skill_id: params.skill.clone(),
            reason: params.reason,
        };
        door.agent.handles.membership.withdraw(back).await?;
        let text = format!("Took '{}' back from {url}", params.skill);
        Ok(Answer::new(
            text,
            Withdrawn {
                name: params.skill,
                place: url.to_string(),
            },
        ))
    }
}

pub(in crate::mcp::tools) struct Acquire;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::mcp::tools) struct AcquireParams {
    /// The name of the skill there.
    skill: String,
    /// Who left it, where several left one by this name.
    #[schemars(with = "Option<String>")]
    owner: Option<AgentId>,
    /// Which Place; the only one that is joined if nothing is said.
    #[schemars(with = "Option<String>")]
    place: Option<PeerUrl>,
}

impl Tool<AgentDoor> for Acquire {
    const NAME: &'static str = "place_acquire";
    const TITLE: &'static str = "Take a skill from a Meeting Place";
    const ABOUT: &'static str = "Fetches a skill that an agent left at a Meeting Place, checks it, and puts it into quarantine, where it waits for a person.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::ADD.idempotent().open_world();
    type Params = AcquireParams;
    type Output = Acquired;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: AcquireParams,
    ) -> Result<Answer<Acquired>, Refusal> {
        let url = choose(door, params.place).await?;
        call.progress(0, Some(1), "fetching").await;
        let fetch = Fetch {
            url,
            skill_id: params.skill,
            owner: params.owner,
            progress: Arc::new(|_, _| {}),
        };
        let held = door.agent.handles.membership.acquire(fetch).await?;
        call.progress(1, Some(1), "checked").await;
        let data = Acquired::waiting(&held);
        Ok(Answer::new(data.text(), data))
    }
}
