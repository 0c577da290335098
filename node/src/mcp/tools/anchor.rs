//! `chain_migrate_status`, `chain_migrate_execute`, `philosophy_anchor` and `record_observation`: anchors of
//! HestiaChain, in the replies of the reference.

use kairos_place::role::Action;
use kairos_protocol::anchor::declaration::DeclarationMembers;
use kairos_protocol::anchor::observation::ObservationMembers;
use kairos_protocol::hash::ContentHash;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Nothing, Reply, reply};
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

pub(super) struct Status;

impl Tool<AgentDoor> for Status {
    const NAME: &'static str = "chain_migrate_status";
    const TITLE: &'static str = "Anchor stage";
    const ABOUT: &'static str = "Shows where anchors of HestiaChain are kept (its stage), how many there are, and which stage could follow.";
    const NEEDS: Action = Action::ReadLedger;
    const HINTS: Hints = Hints::READ;
    type Params = Nothing;
    type Output = Reply;

    async fn call(door: &AgentDoor, _call: &Call, _: Nothing) -> Result<Answer<Reply>, Refusal> {
        reply(serde_json::to_value(
            door.agent.handles.anchors.overview().await?,
        )?)
    }
}

pub(super) struct Execute;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecuteParams {
    /// The stage to go to; 1 is a private file.
    target_stage: i64,
    /// Only tell what would be copied.
    #[serde(default)]
    dry_run: bool,
    /// Where stage 1 keeps its file. It is the setting anchors.storage_path; another one is refused.
    storage_path: Option<String>,
}

impl Tool<AgentDoor> for Execute {
    const NAME: &'static str = "chain_migrate_execute";
    const TITLE: &'static str = "Copy anchors to the next stage";
    const ABOUT: &'static str = "Copies the anchors of HestiaChain to another stage and compares the copies. The source and the settings stay as they are.";
    const NEEDS: Action = Action::Import;
    const HINTS: Hints = Hints::ADD.idempotent();
    type Params = ExecuteParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ExecuteParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let ours = &door.agent.settings.anchors.storage_path;
        if params
            .storage_path
            .as_ref()
            .is_some_and(|path| path != ours)
        {
            return Err(Refusal::say(format!(
                "Error: anchors are kept in {ours}; the owner moves them with the setting anchors.storage_path"
            )));
        }
        let anchors = &door.agent.handles.anchors;
        if params.dry_run {
            return reply(serde_json::to_value(
                anchors.rehearse(params.target_stage).await?,
            )?);
        }
        let done = anchors.migrate(params.target_stage).await?;
        let whole = done.status == "completed";
        let told = serde_json::to_value(done)?;
        match whole {
            true => reply(told),
            false => Err(Refusal::say(serde_json::to_string_pretty(&told)?)),
        }
    }
}

pub(super) struct Declare;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeclareParams {
    /// exchange, interaction or fadeout.
    philosophy_type: String,
    /// The text that is declared; only its hash is recorded.
    content: String,
    /// Declarations of others it goes along with.
    #[serde(default)]
    compatible_with: Vec<String>,
    /// Its version.
    version: Option<String>,
}

impl Tool<AgentDoor> for Declare {
    const NAME: &'static str = "philosophy_anchor";
    const TITLE: &'static str = "Declare how we exchange";
    const ABOUT: &'static str = "Anchors a declaration of this agent about how it exchanges, interacts or fades. Its text stays private.";
    const NEEDS: Action = Action::Record;
    const HINTS: Hints = Hints::ADD;
    type Params = DeclareParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: DeclareParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let now = door.agent.clock.now();
        let agent_id = door.agent.signed.instance_id.to_string();
        let members = DeclarationMembers {
            agent_id: agent_id.clone(),
            philosophy_type: params.philosophy_type.clone(),
            philosophy_hash: ContentHash::of(&params.content).to_hex(),
            compatible_with: params.compatible_with.clone(),
            version: params.version,
            ..DeclarationMembers::default()
        };
        let declaration = members.check(now)?;
        let done = door
            .agent
            .handles
            .anchors
            .submit(declaration.anchor(now)?, false)
            .await?;
        if !done.is_kept() {
            let why = done.message.unwrap_or_default();
            return Err(Refusal::say(format!("Failed to anchor philosophy: {why}")));
        }
        reply(json!({
            "status": done.status, "declaration_id": declaration.declaration_id(), "anchor_hash": done.anchor_hash,
            "philosophy_type": params.philosophy_type, "philosophy_hash": declaration.philosophy_hash(),
            "compatible_with": params.compatible_with, "version": declaration.version(), "agent_id": agent_id,
            "note": "The content stays private; only its hash is recorded.",
        }))
    }
}

pub(super) struct Observe;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ObserveParams {
    /// The agent that was observed.
    observed_id: String,
    /// initiated, completed, faded or observed.
    observation_type: String,
    /// What happened; only its hash is recorded.
    interaction_data: String,
    /// How this agent reads it.
    #[serde(default)]
    interpretation: Map<String, Value>,
}

impl Tool<AgentDoor> for Observe {
    const NAME: &'static str = "record_observation";
    const TITLE: &'static str = "Record an observation";
    const ABOUT: &'static str = "Anchors what this agent observed of another. What happened stays private; its hash and the reading are recorded.";
    const NEEDS: Action = Action::Record;
    const HINTS: Hints = Hints::ADD;
    type Params = ObserveParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ObserveParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let now = door.agent.clock.now();
        let observer_id = door.agent.signed.instance_id.to_string();
        let members = ObservationMembers {
            observer_id: observer_id.clone(),
            observed_id: params.observed_id.clone(),
            observation_type: params.observation_type.clone(),
            interaction_hash: ContentHash::of(&params.interaction_data).to_hex(),
            interpretation: params.interpretation,
            ..ObservationMembers::default()
        };
        let observation = members.check(now)?;
        let done = door
            .agent
            .handles
            .anchors
            .submit(observation.anchor(now)?, false)
            .await?;
        if !done.is_kept() {
            let why = done.message.unwrap_or_default();
            return Err(Refusal::say(format!("Failed to record observation: {why}")));
        }
        reply(json!({
            "status": done.status, "observation_id": observation.observation_id(), "anchor_hash": done.anchor_hash,
            "observation_type": params.observation_type, "observer_id": observer_id, "observed_id": params.observed_id,
            "interaction_hash": observation.interaction_hash(), "self_observation": observation.is_of_self(),
            "fadeout": params.observation_type == "faded",
            "note": "The interaction stays private; only its hash is recorded.",
        }))
    }
}
