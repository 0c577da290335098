//! `meeting_place_start` and `meeting_place_status`: the Meeting Place of this agent, in the replies of the reference,
//! with what is so where the reference tells what is set.

use kairos_place::role::Action;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Reply, reply};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};
use crate::operate::{Order, PAGE, door, switch};

pub(super) struct Start;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StartParams {
    /// The name that agents see. It is the setting place.name; another one is refused.
    name: Option<String>,
}

impl Tool<AgentDoor> for Start {
    const NAME: &'static str = "meeting_place_start";
    const TITLE: &'static str = "Host a Meeting Place";
    const ABOUT: &'static str = "Opens a Meeting Place at the server of this agent, now and whenever it starts. Other agents can then register, leave \
         skills and sealed messages here. The owner closes it with `kairos-chain place stop`.";
    const NEEDS: Action = Action::RunPlace;
    const HINTS: Hints = Hints::ADD.idempotent().open_world();
    type Params = StartParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: StartParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let agent = &door.agent;
        let ours = &agent.settings.place.name;
        if params.name.as_ref().is_some_and(|name| name != ours) {
            return Err(Refusal::say(format!(
                "Error: agents know this Place as '{ours}'; the owner changes that with the setting place.name"
            )));
        }
        let switched = switch::throw(agent, true, &call.caller.user)
            .await
            .map_err(|error| failed(&error))?;
        let (status, message) = match &switched.server {
            Some(server) if server.changed => (
                "started",
                "Agents can come now, and after each start of the server",
            ),
            Some(_) => ("already_started", "It was open before"),
            None => (
                "enabled",
                "No server runs at the moment; the Place opens with the next one: kairos-chain serve",
            ),
        };
        reply(json!({
            "status": status, "message": message, "name": ours, "place_name": ours,
            "self_id": agent.signed.instance_id, "server": switched.server.map(|server| server.address),
        }))
    }
}

pub(super) struct Status;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusParams {
    /// Also list agents that are registered, at most a hundred.
    #[serde(default)]
    include_agents: bool,
}

impl Tool<AgentDoor> for Status {
    const NAME: &'static str = "meeting_place_status";
    const TITLE: &'static str = "The Meeting Place that is hosted";
    const ABOUT: &'static str = "Shows whether this agent hosts a Meeting Place, where, how many agents are registered, and what it records.";
    const NEEDS: Action = Action::RunPlace;
    const HINTS: Hints = Hints::READ;
    type Params = StatusParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        call: &Call,
        params: StatusParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let agent = &door.agent;
        let by = &call.caller.user;
        let standing = switch::standing(agent, by)
            .await
            .map_err(|error| failed(&error))?;
        let settings = &agent.settings;
        let stage = agent.handles.anchors.overview().await?;
        let (server, told) = match standing.host {
            Some((server, told)) => (Some(server), told),
            None => (None, Value::Null),
        };
        let mut status = json!({
            "meeting_place": {
                "name": settings.place.name, "max_agents": settings.place.max_agents,
                "session_timeout": settings.place.session_timeout.get().as_secs(),
            },
            "chain": {"backend": stage.current_backend, "enabled": settings.anchors.enabled},
            "trust_anchor": {
                "record_exchanges": settings.anchors.record_exchanges,
                "record_registrations": settings.anchors.record_registrations,
            },
            "hosted": server.is_some(), "server": server, "place": told,
            "hint": match server {
                Some(_) => "Agents find it at the public address of this server.",
                None => "Use meeting_place_start to host a Meeting Place.",
            },
        });
        if params.include_agents
            && server.is_some()
            && let Some(members) = status.as_object_mut()
        {
            let order = Order::Agents {
                after: None,
                limit: PAGE,
            };
            let (_, mut told) = door::carry_out(agent, order, by)
                .await
                .map_err(|error| failed(&error))?;
            let agents = told.get_mut("agents").map(Value::take);
            let is_more = told.get("next").is_some_and(|next| !next.is_null());
            members.insert("agents".to_owned(), agents.into());
            members.insert("more_agents".to_owned(), is_more.into());
        }
        reply(status)
    }
}

/// What a server of ours said, which tells no path but to its owner.
fn failed(error: &anyhow::Error) -> Refusal {
    Refusal::say(format!("Error: {error:#}"))
}
