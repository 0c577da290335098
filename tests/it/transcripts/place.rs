//! Does again, with a Meeting Place of ours, what the recorder did with one of the reference.
//!
//! Registrations, introductions and deposits of agents whose keys are in the recording are sent as they were recorded,
//! signatures included. The keys of three agents are not in it: they get new ones, and sign what they deposit anew.

pub(super) mod differences;

use std::collections::HashMap;

use kairos_tests::{Home, TestNode, TestPeer};
use reqwest::Client;
use serde_json::{Map, Value, json};

use super::answer::{Answer, bearer, session_token};
use super::compare::{Finding, Findings, Fresh, is_time, is_token, text};
use super::recording::{Agent, CUT, Exchange, Recording, Row, Summary, Version, cut_length};
use super::table::is_skipped;

use self::differences::SKIPPED;

/// Longest skill that a Place takes.
const SKILL_MAX: usize = 100_000;
/// Agents that the recorded Place takes in.
const AGENTS_MAX: usize = 100;
/// How the recorded tokens begin that open nothing.
const NO_SESSION: &str = "00000000";

/// What is new in every answer, and what it must look like.
const FRESH: &[Fresh] = &[
    (
        &[
            "started_at",
            "agents[].registered_at",
            "agents[].last_heartbeat",
            "entries[].registered_at",
            "entries[].deposited_at",
            "entries[].published_at",
            "entries[].trust_metadata.first_deposited",
            "entries[].trust_metadata.provenance.deposited_at_origin",
            "agent.registered_at",
            "deposited_skills[].deposited_at",
            "profile_generated_at",
            "deposited_at",
            "attestations[].deposited_at",
            "trust_metadata.first_deposited",
            "trust_metadata.provenance.deposited_at_origin",
            "updated_at",
            "withdrawn_at",
        ],
        is_time,
    ),
    (&["session_token"], is_token),
    (&["place_trust.uptime_seconds"], Value::is_u64),
];

/// An agent that the recorder registered without recording it.
struct Unseen {
    /// The first case that has a token of it.
    case: &'static str,
    id: &'static str,
    name: &'static str,
    /// What it says of itself, where that differs from what it signed.
    description: Option<&'static str>,
}

const UNSEEN: [Unseen; 5] = [
    Unseen {
        case: "deposit_ok",
        id: "agent-0001",
        name: "Agent One",
        description: Some("desc"),
    },
    Unseen {
        case: "deposit_empty",
        id: "agent-0004",
        name: "Agent Four",
        description: Some("an independent client"),
    },
    Unseen {
        case: "deposit_traversal_id",
        id: "agent-0005",
        name: "Agent Five",
        description: Some("an independent client"),
    },
    Unseen {
        case: "browse /place/v1/board/browse",
        id: "agent-0002",
        name: "Agent Two",
        description: None,
    },
    Unseen {
        case: "skillset_deposit",
        id: "agent-0001",
        name: "Agent One",
        description: Some("desc"),
    },
];

/// Reads the recording of a Place. A case that was tried on several paths gets the path into its name.
pub(super) fn recording(version: Version) -> Recording {
    let mut recording = Recording::read(version, version.place());
    let mut paths: HashMap<String, Vec<String>> = HashMap::new();
    for row in recording.exchanges() {
        let seen = paths.entry(row.case.clone()).or_default();
        if !seen.contains(&row.request.path) {
            seen.push(row.request.path.clone());
        }
    }
    for row in &mut recording.rows {
        if let Row::Http(row) = row {
            if paths[&row.case].len() > 1 {
                row.case = format!("{} {}", row.case, row.request.path);
            }
            if row.request.body.contains(CUT) {
                row.request.body = oversize(row);
            }
        }
    }
    recording
}

/// Puts back the deposit that is too large, but for its signature, which nobody gets to look at.
fn oversize(row: &Exchange) -> String {
    assert_eq!(row.case, "deposit_oversize");
    let body = json!({
        "skill_id": "s", "name": "s", "description": "a deposited skill", "tags": ["t1", "t2"],
        "format": "markdown", "content": "x".repeat(SKILL_MAX + 1),
        "content_hash": super::recording::sha256("x".repeat(SKILL_MAX + 1)),
        "signature": "A".repeat(344),
    })
    .to_string();
    assert_eq!(body.len(), cut_length(&row.request.body));
    body
}

pub(super) struct Replay<'a> {
    recording: &'a Recording,
    client: Client,
    /// Keys for agents whose own are not in the recording, by their ids.
    peers: HashMap<&'static str, TestPeer>,
    nodes: HashMap<Agent, TestNode>,
    homes: HashMap<Agent, Home>,
    /// Recorded token to ours, with the agent it speaks for, where the replay opened the session.
    tokens: HashMap<String, (String, Option<&'static str>)>,
    calls: HashMap<String, Vec<u16>>,
    /// The number of the next agent that fills the Place, once one did.
    filled: Option<usize>,
    found: Vec<Finding>,
}

impl<'a> Replay<'a> {
    /// Replays all of it and returns every difference.
    pub(super) async fn run(recording: &'a Recording) -> Vec<Finding> {
        let homes: HashMap<_, _> = [Agent::A, Agent::B]
            .map(|agent| (agent, home(recording, agent)))
            .into();
        let nodes = homes
            .iter()
            .map(|(agent, home)| (*agent, start(home, *agent)))
            .collect();
        let peers = ["agent-0004", "agent-0005"].map(|id| (id, TestPeer::claiming(id)));
        let mut replay = Self {
            recording,
            client: Client::builder().no_proxy().build().unwrap(),
            peers: peers.into(),
            nodes,
            homes,
            tokens: HashMap::new(),
            calls: HashMap::new(),
            filled: None,
            found: Vec::new(),
        };
        for row in &recording.rows {
            match row {
                Row::Meta(row) if row.note.contains("restarted") => replay.restart(),
                Row::Meta(_) | Row::Fact(_) => {}
                Row::Http(row) if is_skipped(SKIPPED, &row.case) => {}
                Row::File(row) if is_skipped(SKIPPED, &row.case) => {}
                Row::Http(row) => replay.exchange(row).await,
                Row::Summary(row) => replay.summary(row).await,
                Row::File(_) | Row::Cli(_) | Row::InstalledTree(_) => {
                    panic!("nothing says how to replay that")
                }
            }
        }
        replay.found
    }

    async fn exchange(&mut self, row: &Exchange) {
        self.lead_up_to(row).await;
        let answer = self.send(row).await;
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        let recorded = &row.response;
        if recorded.body.contains(CUT) {
            // Lists of agents, of which the first were compared before.
            findings.put("status", recorded.status, answer.status);
        } else {
            let ours = Answer {
                body: comparable(&answer.body),
                ..answer
            };
            ours.compare(recorded, &comparable(&recorded.body), &mut findings);
        }
        self.found.append(&mut findings.found);
        if let (Some(recorded), Some(ours)) =
            (session_token(&recorded.body), session_token(&answer.body))
        {
            self.tokens.insert(recorded, (ours, None));
        }
    }

    async fn send(&mut self, row: &Exchange) -> Answer {
        let token = bearer(row);
        let (ours, speaker) = match token {
            Some(recorded) => {
                let (ours, speaker) = self.token(recorded, row).await;
                (Some(ours), speaker)
            }
            None => (None, None),
        };
        let body = match speaker.and_then(|id| self.peers.get(id)) {
            Some(peer) => signed_by(peer, row),
            None => row.sent(),
        };
        let node = &self.nodes[&row.peer];
        let answer = Answer::to(&self.client, node, row, body, ours.as_deref()).await;
        if let Some(token) = token {
            let calls = self.calls.entry(token.to_owned()).or_default();
            calls.push(answer.status);
        }
        answer
    }

    /// Returns our token for a recorded one, opening a session where the recorder did so unseen.
    async fn token(&mut self, recorded: &str, row: &Exchange) -> (String, Option<&'static str>) {
        if let Some(known) = self.tokens.get(recorded) {
            return known.clone();
        }
        if recorded.starts_with(NO_SESSION) {
            return (recorded.to_owned(), None);
        }
        let known = match UNSEEN.iter().find(|unseen| unseen.case == row.case) {
            Some(unseen) => (self.register(unseen).await, Some(unseen.id)),
            // One that meets the agent only; its token opens the Place too.
            None => {
                let peer = TestPeer::new("Recorder");
                let node = &self.nodes[&row.peer];
                (peer.introduce(&self.client, node).await, None)
            }
        };
        self.tokens.insert(recorded.to_owned(), known.clone());
        known
    }

    /// Registers an agent as the recorder did, with the recorded key and signature where there are any.
    async fn register(&self, unseen: &Unseen) -> String {
        let mut body = match self.peers.get(unseen.id) {
            Some(peer) => members(&peer.introduction()),
            None => {
                let registration = |row: &&Exchange| {
                    let body = serde_json::from_str::<Value>(&row.request.body).unwrap_or_default();
                    row.case.starts_with("register_signed") && body["id"] == unseen.id
                };
                let row = self.recording.exchanges().find(registration).unwrap();
                members(&serde_json::from_str(&row.request.body).unwrap())
            }
        };
        let capabilities = json!({
            "meeting_protocol_version": "1.0.0", "supported_actions": ["introduce", "request_skill"],
            "skill_formats": ["markdown"],
        });
        body.insert("id".to_owned(), json!(unseen.id));
        body.insert("name".to_owned(), json!(unseen.name));
        body.insert("capabilities".to_owned(), capabilities);
        if let Some(description) = unseen.description {
            body.insert("description".to_owned(), json!(description));
        }
        let node = &self.nodes[&Agent::A];
        let request = self.client.post(node.url("/place/v1/register")).json(&body);
        let answer = request.send().await.unwrap().text().await.unwrap();
        session_token(&answer).unwrap_or_else(|| panic!("{} got no session: {answer}", unseen.id))
    }

    /// Makes the calls that the recorder left out.
    async fn lead_up_to(&mut self, row: &Exchange) {
        if let Some(number) = row.case.strip_prefix("rate_limit_call_") {
            let until = number.parse::<usize>().unwrap() - 1;
            let token = bearer(row).unwrap();
            while self.calls.get(token).map_or(0, Vec::len) < until {
                self.send(row).await;
            }
        }
        if let Some(number) = row.case.strip_prefix("fill_") {
            let number: usize = number.parse().unwrap();
            for number in self.filled.unwrap_or(number)..number {
                self.fill(number).await;
            }
            self.filled = Some(number + 1);
        }
        // It filled the recorded Place; ours, which took fewer agents in, needs more.
        if row.case == "register_when_full" {
            while self.agents().await < AGENTS_MAX {
                let number = self.filled.unwrap_or_default();
                self.fill(number).await;
                self.filled = Some(number + 1);
            }
        }
    }

    async fn fill(&self, number: usize) {
        let body = json!({"id": format!("fill-{number}"), "name": format!("Fill {number}")});
        let url = self.nodes[&Agent::A].url("/place/v1/register");
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "fill-{number}");
    }

    /// How many agents the Place says it has.
    async fn agents(&self) -> usize {
        let url = self.nodes[&Agent::A].url("/place/v1/info");
        let answer = self.client.get(url).send().await.unwrap();
        let info: Value = answer.json().await.unwrap();
        usize::try_from(info["registered_agents"].as_u64().unwrap()).unwrap()
    }

    async fn summary(&mut self, row: &Summary) {
        assert_eq!(row.case, "rate_limit");
        let last = |exchange: &&Exchange| exchange.case == "rate_limit_call_101";
        let last = self.recording.exchanges().find(last).unwrap();
        self.send(last).await;
        let mut counted: HashMap<String, usize> = HashMap::new();
        for status in &self.calls[bearer(last).unwrap()] {
            *counted.entry(status.to_string()).or_default() += 1;
        }
        let mut findings = Findings::of(row.seq, &row.case, FRESH);
        for (status, count) in &row.statuses {
            let ours = counted.get(status).copied().unwrap_or_default();
            findings.put(&format!("statuses.{status}"), count, ours);
        }
        self.found.append(&mut findings.found);
    }

    fn restart(&mut self) {
        drop(self.nodes.remove(&Agent::A));
        self.nodes
            .insert(Agent::A, start(&self.homes[&Agent::A], Agent::A));
    }
}

/// A data directory of an agent with the recorded id and name.
fn home(recording: &Recording, agent: Agent) -> Home {
    let home = Home::initialized();
    let id = match agent {
        Agent::A => place_id(recording),
        Agent::B => "the-other-agent".to_owned(),
    };
    let path = home.data_dir().join("keys/instance_id");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, id).unwrap();
    home
}

fn place_id(recording: &Recording) -> String {
    let fact = recording.rows.iter().find_map(|row| match row {
        Row::Fact(fact) if fact.case == "self_id" => Some(fact),
        _ => None,
    });
    let fact = fact.unwrap();
    match recording.version {
        Version::Seed => assert_eq!(fact.place_self_id, fact.meeting_instance_id),
        // One agent with two ids; the Place's is the one that matters here.
        Version::Head => assert_ne!(fact.place_self_id, fact.meeting_instance_id),
    }
    fact.place_self_id.clone()
}

fn start(home: &Home, agent: Agent) -> TestNode {
    let node = TestNode::builder()
        .home(home)
        .set("identity.name", "Agent Alpha")
        .set("identity.description", "Genomics knowledge agent")
        .set("identity.scope", "bioinformatics")
        // The recorder calls faster than anyone may who is not one.
        .set("limits.requests_per_address", "1000000")
        .set("limits.new_peers_per_address", "1000000");
    match agent {
        Agent::B => node.start(),
        Agent::A => node
            .arg("--place")
            .set("place.max_agents", &AGENTS_MAX.to_string())
            .set("place.deposits", "500")
            // Agents of the reference cannot show more.
            .set("place.write", "introduced")
            .start(),
    }
}

/// The recorded body with the signature of `peer` in the place of one that was good.
fn signed_by(peer: &TestPeer, row: &Exchange) -> Vec<u8> {
    const NOT_GOOD: [&str; 2] = ["deposit_bad_signature", "deposit_signature_not_base64"];
    let body: Value = serde_json::from_str(&row.request.body).unwrap_or_default();
    match (body.get("content"), body.get("signature")) {
        (Some(content), Some(_)) if !NOT_GOOD.contains(&row.case.as_str()) => {
            let mut body = members(&body);
            body.insert(
                "signature".to_owned(),
                json!(peer.sign(text(content).as_bytes())),
            );
            Value::Object(body).to_string().into_bytes()
        }
        _ => row.sent(),
    }
}

/// A body without what is not compared here.
///
/// A list of the board, which has no order, is put in that of names; where it is a random choice, only its length is
/// left. Introductions are compared with those of agents that meet.
fn comparable(body: &str) -> String {
    let Ok(Value::Object(mut body)) = serde_json::from_str(body) else {
        return body.to_owned();
    };
    body.shift_remove("peer_identity");
    let sampled = body.get("sampling") == Some(&json!("random_sample"));
    match body.get_mut("entries") {
        Some(entries) if sampled => *entries = json!(entries.as_array().map(Vec::len)),
        Some(Value::Array(entries)) => {
            entries.sort_by(|a, b| text(&a["name"]).cmp(text(&b["name"])));
        }
        _ => {}
    }
    Value::Object(body).to_string()
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}
