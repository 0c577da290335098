//! `place_join`, `place_leave` and `place_list`: life at Meeting Places; what is done there is below.

pub(super) mod board;
pub(super) mod mail;

use std::fmt::Write as _;
use std::sync::Arc;

use kairos_actors::meeting::client::PeerUrl;
use kairos_place::role::Action;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nothing;
use super::peer::{CheckData, checks, checks_table};
use super::text::table;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// The Place that is meant: the one that is named, else the only one that is joined.
async fn choose(door: &AgentDoor, named: Option<PeerUrl>) -> Result<PeerUrl, Refusal> {
    if let Some(url) = named {
        return Ok(url);
    }
    let places = door.agent.handles.membership.list().await?;
    match places.as_slice() {
        [only] => Ok(only.url.clone()),
        [] => Err(Refusal::say(
            "Error: no Place is joined; join one with place_join",
        )),
        several => {
            let urls: Vec<_> = several.iter().map(|place| place.url.to_string()).collect();
            Err(Refusal::say(format!(
                "Error: several Places are joined; say place with one of: {}",
                urls.join(", ")
            )))
        }
    }
}

pub(super) struct Join;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UrlParams {
    /// Where the Place is, such as `https://place.example`.
    #[schemars(with = "String")]
    url: PeerUrl,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Joined {
    /// Where it is.
    url: String,
    /// What it calls itself.
    name: String,
    /// Whether it was not joined before.
    first: bool,
    /// Whether it knows that we hold our key.
    proven: bool,
    /// Whether it relays sealed messages.
    relays: bool,
    /// What was checked.
    checks: Vec<CheckData>,
}

impl Tool<AgentDoor> for Join {
    const NAME: &'static str = "place_join";
    const TITLE: &'static str = "Join a Meeting Place";
    const ABOUT: &'static str = "Joins a Meeting Place: registers this agent there. Agents at a Place leave skills and sealed messages for each other.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::ADD.idempotent().open_world();
    type Params = UrlParams;
    type Output = Joined;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: UrlParams,
    ) -> Result<Answer<Joined>, Refusal> {
        call.progress(0, Some(1), "registering").await;
        let joined = door
            .agent
            .handles
            .membership
            .join(params.url, Arc::new(|_| {}))
            .await?;
        call.progress(1, Some(1), "registered").await;
        let data = Joined {
            url: joined.place.url.to_string(),
            name: joined.place.name.clone(),
            first: joined.first,
            proven: joined.proven,
            relays: joined.place.has_relay,
            checks: checks(&joined.checks),
        };
        let mut text = format!(
            "Joined '{}' at {}\n\n{}",
            data.name,
            data.url,
            checks_table(&data.checks)
        );
        if let Some(why) = &joined.untended {
            let _ = write!(
                text,
                "\nNot everything is in place there, and is tried again: {why}"
            );
        }
        Ok(Answer::new(text, data))
    }
}

pub(super) struct Leave;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Left {
    /// Where it is.
    url: String,
    /// Why the Place was not told, if it was not.
    untold: Option<String>,
}

impl Tool<AgentDoor> for Leave {
    const NAME: &'static str = "place_leave";
    const TITLE: &'static str = "Leave a Meeting Place";
    const ABOUT: &'static str =
        "Takes this agent off a Meeting Place. What it left there goes with it.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::CHANGE.open_world();
    type Params = UrlParams;
    type Output = Left;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: UrlParams,
    ) -> Result<Answer<Left>, Refusal> {
        let left = door
            .agent
            .handles
            .membership
            .leave(params.url, false)
            .await?;
        let data = Left {
            url: left.place.url.to_string(),
            untold: left.untold,
        };
        Ok(Answer::new(format!("Left {}", data.url), data))
    }
}

pub(super) struct List;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Places {
    /// The Places that are joined.
    places: Vec<PlaceData>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct PlaceData {
    /// Where it is.
    url: String,
    /// What it calls itself.
    name: String,
    /// When it was joined.
    joined_at: String,
    /// Whether it relays sealed messages.
    relays: bool,
    /// Skills this agent left there.
    deposits: Vec<String>,
}

impl Tool<AgentDoor> for List {
    const NAME: &'static str = "place_list";
    const TITLE: &'static str = "Joined Meeting Places";
    const ABOUT: &'static str =
        "Lists the Meeting Places this agent has joined, and what it left there.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::READ;
    type Params = Nothing;
    type Output = Places;

    async fn call(door: &AgentDoor, _call: &Call, _: Nothing) -> Result<Answer<Places>, Refusal> {
        let joined = door.agent.handles.membership.list().await?;
        let places: Vec<_> = joined
            .iter()
            .map(|place| PlaceData {
                url: place.url.to_string(),
                name: place.name.clone(),
                joined_at: place.joined_at.wire(),
                relays: place.has_relay,
                deposits: place.deposits.keys().cloned().collect(),
            })
            .collect();
        if places.is_empty() {
            return Ok(Answer::new(
                "No Place is joined. Join one with place_join.",
                Places { places },
            ));
        }
        let rows = places.iter().map(|place| {
            [
                place.url.clone(),
                place.name.clone(),
                place.deposits.join(", "),
            ]
        });
        Ok(Answer::new(
            table(["URL", "Name", "We left there"], rows),
            Places { places },
        ))
    }
}
