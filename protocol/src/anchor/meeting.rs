//! Anchors of what happens when agents meet: a session, a relayed message, an exchanged skill. All have the type
//! `meeting`, and are told apart by their metadata.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Anchor, AnchorError, AnchorMembers, hash_of};
use crate::hash::ContentHash;
use crate::time::Timestamp;

/// An anchored session.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionAnchor {
    /// The anchor.
    pub anchor: Anchor,
    /// The hash over the messages alone.
    pub messages_hash: ContentHash,
}

/// The anchor of a session: an object with `session_id`, `peer_id`, `messages`, and perhaps `started_at` and `ended_at`.
/// All of it is hashed, in the order of its members.
pub fn session(session: &Map<String, Value>, now: Timestamp) -> Result<SessionAnchor, AnchorError> {
    let id = text(session, "session_id")?;
    let peer = text(session, "peer_id")?;
    let messages = session
        .get("messages")
        .and_then(Value::as_array)
        .ok_or(AnchorError::Malformed("messages"))?;
    let mut metadata = Map::new();
    metadata.insert("message_count".to_owned(), json!(messages.len()));
    if let Some(started) = session.get("started_at").filter(|at| !at.is_null()) {
        metadata.insert("started_at".to_owned(), started.clone());
    }
    let ended = session.get("ended_at").filter(|at| !at.is_null());
    let ended = ended.cloned().unwrap_or_else(|| json!(now.wire()));
    metadata.insert("ended_at".to_owned(), ended);
    let anchor = members(
        id,
        hash_of(&Value::Object(session.clone())),
        [peer],
        metadata,
    );
    Ok(SessionAnchor {
        anchor: anchor.check(now)?,
        messages_hash: hash_of(&Value::Array(messages.clone())),
    })
}

/// A message that a relay took.
#[derive(Debug, Clone, Copy)]
pub struct Relayed<'a> {
    /// The relay's name for it.
    pub relay_id: &'a str,
    /// Who sent it.
    pub from: &'a str,
    /// For whom.
    pub to: &'a str,
    /// The hash of the sealed text, with or without `sha256:` before it.
    pub blob_hash: &'a str,
    /// What it says it is about.
    pub message_type: Option<&'a str>,
    /// Its length in bytes.
    pub size_bytes: Option<u64>,
}

/// The anchor of a relayed message.
pub fn relay(relayed: Relayed<'_>, now: Timestamp) -> Result<Anchor, AnchorError> {
    // The reference anchors no hash in its own relay's form.
    let hash = relayed.blob_hash;
    let hash = hash.strip_prefix("sha256:").unwrap_or(hash);
    let mut metadata = Map::new();
    metadata.insert("relay_type".to_owned(), json!("message"));
    if let Some(kind) = relayed.message_type {
        metadata.insert("message_type".to_owned(), json!(kind));
    }
    if let Some(size) = relayed.size_bytes {
        metadata.insert("size_bytes".to_owned(), json!(size));
    }
    metadata.insert("relayed_at".to_owned(), json!(now.wire()));
    let hash = super::parse_hash("data_hash", hash)?;
    let (from, to) = (relayed.from.to_owned(), relayed.to.to_owned());
    members(relayed.relay_id.to_owned(), hash, [from, to], metadata).check(now)
}

/// A skill, or a SkillSet, that changed hands.
#[derive(Debug, Clone, Copy)]
pub struct Exchanged<'a> {
    /// Its name.
    pub skill_name: &'a str,
    /// The hash of its content.
    pub skill_hash: ContentHash,
    /// Who took part, the one who acted first.
    pub peers: &'a [&'a str],
    /// What happened; a word of the caller's.
    pub direction: &'a str,
    /// Hashes that go with it, by name. The reference prepares some of them and leaves them out.
    pub hashes: &'a [(&'a str, ContentHash)],
}

/// The anchor of a skill that changed hands.
pub fn exchange(exchanged: Exchanged<'_>, now: Timestamp) -> Result<Anchor, AnchorError> {
    let name = exchanged.skill_name;
    let mut metadata = Map::new();
    metadata.insert("skill_name".to_owned(), json!(name));
    metadata.insert("direction".to_owned(), json!(exchanged.direction));
    metadata.insert("exchanged_at".to_owned(), json!(now.wire()));
    for (name, hash) in exchanged.hashes {
        metadata.insert((*name).to_owned(), json!(hash));
    }
    let id = format!("skill_{name}_{}", now.as_secs());
    let peers = exchanged.peers.iter().map(|peer| (*peer).to_owned());
    members(
        id,
        exchanged.skill_hash,
        peers.collect::<Vec<_>>(),
        metadata,
    )
    .check(now)
}

/// The anchor of a skill that went to or came from a peer. `direction` is a word of the caller's.
pub fn skill_exchange(
    skill_name: &str,
    skill_hash: ContentHash,
    peer_id: &str,
    direction: &str,
    now: Timestamp,
) -> Result<Anchor, AnchorError> {
    let exchanged = Exchanged {
        skill_name,
        skill_hash,
        peers: &[peer_id],
        direction,
        hashes: &[],
    };
    exchange(exchanged, now)
}

fn members(
    source_id: String,
    data_hash: ContentHash,
    participants: impl Into<Vec<String>>,
    metadata: Map<String, Value>,
) -> AnchorMembers {
    AnchorMembers {
        anchor_type: "meeting".to_owned(),
        source_id,
        data_hash: data_hash.to_hex(),
        participants: participants.into(),
        metadata,
        ..AnchorMembers::default()
    }
}

fn text(of: &Map<String, Value>, member: &'static str) -> Result<String, AnchorError> {
    let text = of.get(member).and_then(Value::as_str);
    text.map(str::to_owned)
        .ok_or(AnchorError::Malformed(member))
}

/// What the anchors of meetings add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MeetingStats {
    /// All of them.
    pub total_anchors: u64,
    /// Those with a number of messages.
    pub sessions: u64,
    /// Those with a size.
    pub relays: u64,
    /// Those with the name of a skill.
    pub skill_exchanges: u64,
    /// How many different participants they have.
    pub unique_peers: u64,
    /// Messages of all sessions.
    pub total_messages: u64,
    /// Bytes of all relayed messages.
    pub total_bytes_relayed: u64,
}

impl MeetingStats {
    /// Adds up the anchors of the type `meeting` among `anchors`.
    pub fn of<'a>(anchors: impl IntoIterator<Item = &'a Anchor>) -> Self {
        let mut stats = Self::default();
        let mut peers = BTreeSet::new();
        for anchor in anchors {
            if anchor.anchor_type().as_str() != "meeting" {
                continue;
            }
            stats.total_anchors += 1;
            peers.extend(anchor.participants());
            let number = |name: &str| anchor.metadata().get(name).map(|n| n.as_u64().unwrap_or(0));
            if let Some(messages) = number("message_count") {
                stats.sessions += 1;
                stats.total_messages = stats.total_messages.saturating_add(messages);
            } else if let Some(bytes) = number("size_bytes") {
                stats.relays += 1;
                stats.total_bytes_relayed = stats.total_bytes_relayed.saturating_add(bytes);
            } else if anchor.metadata().contains_key("skill_name") {
                stats.skill_exchanges += 1;
            }
        }
        stats.unique_peers = peers.len() as u64;
        stats
    }
}
