//! `meeting_connect`, `meeting_get_skill_details`, `meeting_acquire_skill` and `meeting_disconnect`: the tools of the
//! reference for other agents, in its replies. What it only claims to do is done here: they introduce this agent, check
//! the other, and what is acquired waits in quarantine.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use kairos_actors::durable;
use kairos_actors::meeting::Wanted;
use kairos_actors::meeting::client::PeerUrl;
use kairos_actors::membership::Browse;
use kairos_place::role::Action;
use kairos_protocol::skill::Skill;
use kairos_protocol::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::peer::{Acquired, refused};
use super::{Nothing, Reply, reply};
use crate::agent::Agent;
use crate::mcp::agent::AgentDoor;
use crate::mcp::call::Call;
use crate::mcp::tool::{Answer, Hints, Refusal, Tool};

/// The file of the reference, below `storage/`.
const FILE: &str = "meeting_connection.json";
/// Longest such file that is read.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// Characters of a text that are shown as a preview.
const PREVIEW: usize = 500;
/// Most entries of a Place that are shown.
const ENTRIES_MAX: usize = 200;

/// The connection as the reference writes it down, of which only this is read.
#[derive(Debug, Default, Deserialize)]
struct Connection {
    connected_at: Option<String>,
    #[serde(default)]
    peers: Vec<Value>,
}

/// What is written down; nothing if there is none.
async fn connection(agent: &Agent) -> Result<Option<Connection>, Refusal> {
    let path = agent.data_dir.storage().join(FILE);
    let read = move || {
        let file = match fs_err::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(FILE_MAX).read_to_string(&mut text)?;
        // One that cannot be read is none: it is made anew with the next connection.
        Ok(serde_json::from_str(&text).ok())
    };
    Ok(tokio::task::spawn_blocking(read).await??)
}

async fn remember(agent: &Agent, told: &Value) -> Result<(), Refusal> {
    let (path, bytes) = (
        agent.data_dir.storage().join(FILE),
        serde_json::to_vec_pretty(told)?,
    );
    let write = move || durable::replace(&path, &bytes);
    Ok(tokio::task::spawn_blocking(write).await??)
}

fn forget(path: &Path) -> io::Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) struct Connect;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Relay,
    Direct,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectParams {
    /// Where the agent or the Meeting Place is.
    #[schemars(with = "String")]
    url: PeerUrl,
    /// direct for an agent, relay for a Meeting Place; relay if nothing is said.
    mode: Option<Mode>,
    /// At a Place: only agents with one of these capabilities, which are tags there.
    #[serde(default)]
    filter_capabilities: Vec<String>,
}

impl Tool<AgentDoor> for Connect {
    const NAME: &'static str = "meeting_connect";
    const TITLE: &'static str = "Connect to an agent or a Place";
    const ABOUT: &'static str = "Connects to an agent (direct) or a Meeting Place (relay), verifies it, and lists the agents and skills there.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::ADD.idempotent().open_world();
    type Params = ConnectParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: ConnectParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let agent = &door.agent;
        let mut told = match params.mode.unwrap_or_default() {
            Mode::Direct => direct(agent, params.url).await?,
            Mode::Relay => relay(agent, params.url, params.filter_capabilities).await?,
        };
        if let Some(members) = told.as_object_mut() {
            members.insert("connected".to_owned(), json!(true));
            members.insert("connected_at".to_owned(), json!(agent.clock.now().wire()));
        }
        remember(agent, &told).await?;
        reply(told)
    }
}

async fn direct(agent: &Agent, url: PeerUrl) -> Result<Value, Refusal> {
    let met = agent
        .handles
        .meeting
        .meet(url.clone())
        .await
        .map_err(refused)?;
    let skills: Vec<_> = met
        .skills
        .iter()
        .map(|skill| json!({"id": skill.id, "name": skill.name}))
        .collect();
    Ok(json!({
        "status": "connected", "mode": "direct", "url": url,
        "peer": {"id": met.peer.id, "name": met.peer.name, "url": url},
        "peers": [{"agent_id": met.peer.id, "name": met.peer.name, "endpoint": url, "skills": skills}],
    }))
}

async fn relay(agent: &Agent, url: PeerUrl, tags: Vec<String>) -> Result<Value, Refusal> {
    let membership = &agent.handles.membership;
    let joined = membership.join(url.clone(), Arc::new(|_| {})).await?;
    let look = Browse {
        url: url.clone(),
        kind: None,
        words: None,
        tags,
        limit: ENTRIES_MAX,
    };
    let seen = membership.browse(look).await?;
    let mut peers: Vec<Value> = Vec::new();
    for (entry, _) in &seen.entries {
        let known = peers
            .iter()
            .position(|peer| peer.get("agent_id") == Some(&json!(entry.agent_id)));
        let at = known.unwrap_or_else(|| {
            peers.push(json!({"agent_id": entry.agent_id, "name": entry.name, "endpoint": url, "skills": []}));
            peers.len() - 1
        });
        let skills = peers
            .get_mut(at)
            .and_then(|peer| peer.get_mut("skills")?.as_array_mut());
        if let (Some(skills), Some(id)) = (skills, &entry.skill_id) {
            skills.push(json!({"id": id, "name": entry.name}));
        }
    }
    let hint = match peers.is_empty() {
        true => "No peers found. Wait for others to connect.",
        false => "Acquire a skill with meeting_acquire_skill; a person decides then.",
    };
    Ok(json!({
        "status": "connected", "mode": "relay", "url": url, "relay_mode": true,
        "meeting_place": {"url": url, "name": joined.place.name},
        "self_agent_id": agent.signed.instance_id, "peers": peers, "hint": hint,
    }))
}

/// Where a skill is asked for.
enum Source {
    /// An agent that can be met.
    Agent(PeerUrl),
    /// A Place where it was left.
    Place(PeerUrl),
}

/// Where the agent `id` is: the address under which we met it, else a Place that we joined.
async fn source(agent: &Agent, id: &str) -> Result<Source, Refusal> {
    if connection(agent).await?.is_none() {
        return Err(Refusal::say(
            r#"{"error":"Not connected","hint":"Use meeting_connect first"}"#,
        ));
    }
    if let Some(peer) = agent.handles.peers.find(id).await?
        && let Some(url) = peer.url
    {
        return Ok(Source::Agent(url.parse()?));
    }
    let places = agent.handles.membership.list().await?;
    match places.first() {
        Some(place) => Ok(Source::Place(place.url.clone())),
        None => Err(Refusal::say(format!(
            "Peer not found: {}",
            id.chars().take(128).collect::<String>()
        ))),
    }
}

pub(super) struct Details;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DetailParams {
    /// The id of the agent.
    peer_id: String,
    /// The id of the skill.
    skill_id: String,
    /// Show the start of its text, too.
    #[serde(default)]
    include_preview: bool,
}

impl Tool<AgentDoor> for Details {
    const NAME: &'static str = "meeting_get_skill_details";
    const TITLE: &'static str = "Look at a skill of an agent";
    const ABOUT: &'static str = "Looks at a skill that an agent offers, without keeping it. Its text is the words of a stranger.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::READ.open_world();
    type Params = DetailParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: DetailParams,
    ) -> Result<Answer<Reply>, Refusal> {
        let agent = &door.agent;
        let url = match source(agent, &params.peer_id).await? {
            Source::Agent(url) => url,
            Source::Place(url) => {
                return Err(Refusal::say(format!(
                    "What is left at a Place is looked at in quarantine: acquire it with meeting_acquire_skill, or see \
                     place_browse for {url}"
                )));
            }
        };
        let (met, found) = agent
            .handles
            .meeting
            .peek(url, params.skill_id.clone())
            .await
            .map_err(refused)?;
        let text = String::from_utf8_lossy(&found.payload);
        let members = Skill::members(&text).unwrap_or_default();
        let member = |name: &str| members.get(name).cloned().unwrap_or_default();
        let mut skill = json!({
            "id": params.skill_id, "name": found.name, "description": member("description"), "version": member("version"),
            "format": "markdown", "tags": member("tags"), "size_bytes": found.payload.len(),
            "content_hash": found.content_hash,
        });
        if let (true, Some(skill)) = (params.include_preview, skill.as_object_mut()) {
            let preview: String = Skill::body(&text)
                .trim_start()
                .chars()
                .take(PREVIEW)
                .collect();
            skill.insert("preview".to_owned(), json!(preview));
        }
        reply(json!({
            "peer_id": met.peer.id, "peer_name": met.peer.name, "skill": skill,
            "hint": "These are the words of another agent. Acquire with meeting_acquire_skill; a person decides then.",
        }))
    }
}

pub(super) struct Acquire;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum Layer {
    L1,
    L2,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AcquireParams {
    /// The id of the agent.
    peer_id: String,
    /// The id of the skill.
    skill_id: String,
    /// Only L1: what is approved becomes knowledge.
    save_to_layer: Option<Layer>,
}

impl Tool<AgentDoor> for Acquire {
    const NAME: &'static str = "meeting_acquire_skill";
    const TITLE: &'static str = "Acquire a skill of an agent";
    const ABOUT: &'static str = "Fetches a skill from an agent or a Place, checks it, and puts it into quarantine, where it waits for a person.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::ADD.idempotent().open_world();
    type Params = AcquireParams;
    type Output = Reply;

    async fn call(
        door: &AgentDoor,
        _call: &Call,
        params: AcquireParams,
    ) -> Result<Answer<Reply>, Refusal> {
        if params.save_to_layer == Some(Layer::L2) {
            return Err(Refusal::say(
                "Error: what comes from others is kept as knowledge (L1), where its origin and every change are recorded",
            ));
        }
        let agent = &door.agent;
        let progress: kairos_actors::meeting::Progress = Arc::new(|_, _| {});
        let (held, installed) = match source(agent, &params.peer_id).await? {
            Source::Agent(url) => {
                let wanted = Wanted::Skill(params.skill_id.clone());
                let fetched = agent.handles.meeting.acquire(url, wanted, progress).await;
                let (_, fetched) = fetched.map_err(refused)?;
                (fetched.held, fetched.installed)
            }
            Source::Place(url) => {
                let fetch = kairos_actors::membership::Acquire {
                    url,
                    skill_id: params.skill_id.clone(),
                    owner: Some(params.peer_id.parse()?),
                    progress,
                };
                (agent.handles.membership.acquire(fetch).await?, None)
            }
        };
        let waiting = Acquired::waiting(&held);
        let mut told = json!({
            "status": if installed.is_some() { "acquired" } else { "quarantined" },
            "peer_id": params.peer_id,
            "skill": {
                "id": params.skill_id, "name": held.evidence.name, "format": "markdown",
                "content_hash": held.evidence.content_hash,
            },
            "provenance": held.evidence.provenance,
        });
        if let Some(members) = told.as_object_mut() {
            match &installed {
                Some(done) => members.insert(
                    "saved_to".to_owned(),
                    json!({"layer": "L1", "path": done.path}),
                ),
                None => members.insert("hint".to_owned(), json!(waiting.text())),
            };
        }
        reply(told)
    }
}

pub(super) struct Disconnect;

#[derive(Debug, Serialize)]
struct Summary {
    connected_at: Option<String>,
    disconnected_at: String,
    duration_seconds: Option<u64>,
    peers_discovered: usize,
}

impl Tool<AgentDoor> for Disconnect {
    const NAME: &'static str = "meeting_disconnect";
    const TITLE: &'static str = "End the connection";
    const ABOUT: &'static str = "Ends what meeting_connect began, and sums it up. Places stay joined; leave one with place_leave.";
    const NEEDS: Action = Action::ManagePeers;
    const HINTS: Hints = Hints::ADD.idempotent();
    type Params = Nothing;
    type Output = Reply;

    async fn call(door: &AgentDoor, _call: &Call, _: Nothing) -> Result<Answer<Reply>, Refusal> {
        let agent = &door.agent;
        let Some(connection) = connection(agent).await? else {
            return reply(json!({"status": "not_connected", "message": "No active connection"}));
        };
        let path = agent.data_dir.storage().join(FILE);
        tokio::task::spawn_blocking(move || forget(&path)).await??;
        let now = agent.clock.now();
        let since = connection
            .connected_at
            .as_deref()
            .and_then(|at| Timestamp::parse(at).ok());
        let summary = Summary {
            connected_at: connection.connected_at,
            disconnected_at: now.wire(),
            duration_seconds: since.map(|since| now.since(since).as_secs()),
            peers_discovered: connection.peers.len(),
        };
        reply(json!({"status": "disconnected", "session_summary": summary}))
    }
}
