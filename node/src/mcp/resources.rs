//! What an agent knows, as resources: the law, knowledge, contexts, SkillSets, blocks of the ledger and their proofs.
//!
//! Each leaves with its trust tier in `_meta`: whether it was made here, or came from another agent, and from which.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kairos_actors::knowledge::{Authorship, KnowledgeError, ResourceInfo};
use kairos_actors::recent::RECENT;
use kairos_place::role::Action;
use kairos_protocol::hash::ContentHash;
use kairos_protocol::resource::{ResourceUri, Subdirectory, is_text};
use rmcp::ErrorData;
use rmcp::model::{MetaObject, ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};

use super::agent::AgentDoor;
use super::call::Caller;
use super::failure;
use super::skills;
use super::watch::Stamps;

/// The namespace of our members of `_meta`.
const OURS: &str = "io.github.kairos-chain";
/// Most SkillSets that are listed.
const SETS_MAX: usize = 1_000;

/// `_meta` with what we say about something.
pub(super) fn meta(said: Value) -> MetaObject {
    let mut meta = MetaObject::new();
    meta.insert(OURS.to_owned(), said);
    meta
}

/// Everything that can be read by name, without the blocks: those are as many as there were changes.
pub(super) async fn list(door: &AgentDoor, caller: &Caller) -> Result<Vec<Resource>, ErrorData> {
    caller
        .may(Action::ReadKnowledge)
        .map_err(failure::of_role)?;
    let handles = &door.agent.handles;
    let found = handles
        .knowledge
        .resources()
        .await
        .map_err(failure::internal)?;
    let mut listed: Vec<_> = found.iter().map(described).collect();
    let sets = handles
        .skill_sets
        .fresh(Duration::ZERO)
        .await
        .map_err(failure::internal)?;
    listed.extend(sets.sets.iter().take(SETS_MAX).map(|set| {
        let name = &set.set.metadata.name;
        Resource::new(format!("skillset://{name}"), name.as_str())
            .with_title(format!("SkillSet {name}"))
            .with_description(&set.set.metadata.description)
            .with_mime_type("application/json")
    }));
    listed.sort_by(|a, b| a.uri.cmp(&b.uri));
    Ok(listed)
}

/// The state of the list, and of each of `uris` that is a text or a file.
pub(super) async fn stamps(
    door: &AgentDoor,
    caller: &Caller,
    uris: &[String],
) -> Result<Stamps, ErrorData> {
    caller
        .may(Action::ReadKnowledge)
        .map_err(failure::of_role)?;
    let found = door
        .agent
        .handles
        .knowledge
        .resources()
        .await
        .map_err(failure::internal)?;
    let stamp = |of: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        of(&mut hasher);
        hasher.finish()
    };
    let list = stamp(&|hasher| found.iter().for_each(|info| info.uri.hash(hasher)));
    let of = uris.iter().map(|uri| {
        let info = found.iter().find(|info| info.uri == *uri);
        (
            uri.clone(),
            info.map(|info| stamp(&|hasher| (info.size, info.modified_at).hash(hasher))),
        )
    });
    Ok(Stamps {
        list,
        of: of.collect(),
    })
}

fn described(info: &ResourceInfo) -> Resource {
    let said = json!({"layer": info.layer, "type": info.kind});
    Resource::new(&info.uri, &info.name)
        .with_mime_type(info.mime_type)
        .with_size(info.size)
        .with_meta(meta(said))
}

/// The forms of names.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: &str, name: &str, about: &str, mime: &str| {
        ResourceTemplate::new(uri, name)
            .with_description(about)
            .with_mime_type(mime)
    };
    vec![
        template(
            "knowledge://{name}",
            "knowledge",
            "An entry of knowledge (L1)",
            "text/markdown",
        ),
        template(
            "knowledge://{name}/{directory}/{path}",
            "knowledge_file",
            "A file beside an entry of knowledge",
            "application/octet-stream",
        ),
        template(
            "context://{session}/{name}",
            "context",
            "A text of a session (L2)",
            "text/markdown",
        ),
        template(
            "skillset://{skillset}",
            "skillset",
            "What is known of an installed SkillSet",
            "application/json",
        ),
        template(
            "ledger://block/{index}",
            "block",
            "A block of the ledger",
            "application/json",
        ),
        template(
            "ledger://proof/{index}",
            "proof",
            "A proof that a block is in the ledger, for kairos-verify",
            "text/plain",
        ),
    ]
}

/// Reads one by its name.
pub(super) async fn read(
    door: &AgentDoor,
    caller: &Caller,
    uri: &str,
) -> Result<ReadResourceResult, ErrorData> {
    let contents = if let Some(rest) = uri.strip_prefix("ledger://") {
        caller.may(Action::ReadLedger).map_err(failure::of_role)?;
        ledger(door, uri, rest).await?
    } else {
        caller
            .may(Action::ReadKnowledge)
            .map_err(failure::of_role)?;
        match uri.split_once("://") {
            Some(("skillset", name)) => skill_set(door, uri, name).await?,
            Some(("skill", _)) => skills::read(door, uri).await?,
            _ => text_or_file(door, uri).await?,
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

async fn text_or_file(door: &AgentDoor, uri: &str) -> Result<ResourceContents, ErrorData> {
    let knowledge = &door.agent.handles.knowledge;
    let parsed: ResourceUri = uri.parse().map_err(|_| failure::no_resource(uri))?;
    let tier = match &parsed {
        ResourceUri::Knowledge { name, .. } => Some(name.clone()),
        _ => None,
    };
    let resource = knowledge
        .resource(parsed)
        .await
        .map_err(|error| match error {
            KnowledgeError::NoResource { .. }
            | KnowledgeError::NotFound { .. }
            | KnowledgeError::NotPlain { .. } => failure::no_resource(uri),
            other => failure::internal(other),
        })?;
    let hash = ContentHash::of(&resource.bytes);
    let mut said =
        json!({"layer": resource.info.layer, "type": resource.info.kind, "sha256": hash.to_hex()});
    if let (Some(name), Value::Object(members)) = (tier, &mut said) {
        members.extend(origin(door, name.as_str(), hash).await?);
    }
    Ok(contents(uri, resource.info.mime_type, resource.bytes).with_meta(meta(said)))
}

/// A text where it is one, else its bytes in base64.
pub(super) fn contents(uri: &str, mime: &str, bytes: Vec<u8>) -> ResourceContents {
    let contents = match is_text(mime) {
        true => match String::from_utf8(bytes) {
            Ok(text) => ResourceContents::text(text, uri),
            Err(not_utf8) => ResourceContents::blob(STANDARD.encode(not_utf8.into_bytes()), uri),
        },
        false => ResourceContents::blob(STANDARD.encode(bytes), uri),
    };
    contents.with_mime_type(mime)
}

/// Whose work an entry of knowledge is: `own`, or `acquired` and from whom.
pub(super) async fn origin(
    door: &AgentDoor,
    name: &str,
    hash: ContentHash,
) -> Result<serde_json::Map<String, Value>, ErrorData> {
    let knowledge = &door.agent.handles.knowledge;
    let (tier, from) = match knowledge
        .authorship(name, hash)
        .await
        .map_err(failure::internal)?
    {
        Authorship::Ours => ("own", None),
        Authorship::Theirs(_) => {
            let sidecar = knowledge
                .provenance(name)
                .await
                .map_err(failure::internal)?;
            let from = sidecar
                .as_ref()
                .and_then(|sidecar| sidecar.get("received_from")?.as_str());
            ("acquired", from.map(str::to_owned))
        }
    };
    let mut said = serde_json::Map::new();
    said.insert("tier".to_owned(), json!(tier));
    if let Some(from) = from {
        said.insert("received_from".to_owned(), json!(from));
    }
    Ok(said)
}

async fn skill_set(door: &AgentDoor, uri: &str, name: &str) -> Result<ResourceContents, ErrorData> {
    let info = door.agent.handles.skill_sets.info(name).await;
    let info = info.map_err(|_| failure::no_resource(uri))?;
    let set = &info.listed.set;
    let told = json!({
        "name": set.metadata.name, "version": set.metadata.version, "layer": set.layer,
        "description": set.metadata.description, "enabled": set.enabled, "content_hash": info.listed.content_hash,
    });
    let from = info
        .origin
        .as_ref()
        .map(|origin| origin.received_from.to_string());
    let tier = if from.is_some() { "acquired" } else { "own" };
    let said = json!({"tier": tier, "received_from": from});
    let text = serde_json::to_string_pretty(&told).map_err(failure::internal)?;
    Ok(ResourceContents::text(text, uri)
        .with_mime_type("application/json")
        .with_meta(meta(said)))
}

async fn ledger(door: &AgentDoor, uri: &str, rest: &str) -> Result<ResourceContents, ErrorData> {
    let (kind, index) = rest
        .split_once('/')
        .ok_or_else(|| failure::no_resource(uri))?;
    let index: u64 = index.parse().map_err(|_| failure::no_resource(uri))?;
    let handles = &door.agent.handles;
    match kind {
        "block" => {
            let blocks = handles
                .chain
                .blocks(index, 1)
                .await
                .map_err(failure::internal)?;
            let block = blocks.first().ok_or_else(|| failure::no_resource(uri))?;
            Ok(ResourceContents::text(block.file_form(), uri).with_mime_type("application/json"))
        }
        "proof" => {
            let proof = handles
                .tlog
                .prove(index, false, false)
                .await
                .map_err(|_| failure::no_resource(uri))?;
            Ok(ResourceContents::text(proof.to_string(), uri).with_mime_type("text/plain"))
        }
        _ => Err(failure::no_resource(uri)),
    }
}

/// Values that a variable of a template may have.
pub(super) async fn complete(
    door: &AgentDoor,
    template: &str,
    variable: &str,
) -> Result<Vec<String>, ErrorData> {
    if !templates()
        .iter()
        .any(|known| known.uri_template == template)
    {
        return Err(ErrorData::invalid_params(
            "there is no template of that form",
            None,
        ));
    }
    let handles = &door.agent.handles;
    let knowledge = &handles.knowledge;
    Ok(
        match (
            template.split_once("://").map(|(scheme, _)| scheme),
            variable,
        ) {
            (Some("knowledge"), "name") => {
                let entries = knowledge.entries(RECENT).await;
                let entries = entries.map_err(failure::internal)?;
                entries.iter().map(|entry| entry.name.clone()).collect()
            }
            (Some("knowledge"), "directory") => Subdirectory::ALL
                .iter()
                .map(|one| one.as_str().to_owned())
                .collect(),
            (Some("context"), "session") => {
                let sessions = knowledge.sessions().await.map_err(failure::internal)?;
                sessions
                    .into_iter()
                    .map(|session| session.session)
                    .collect()
            }
            (Some("context"), "name") => {
                let found = knowledge.resources().await.map_err(failure::internal)?;
                let names = found.into_iter().filter_map(|info| match info.uri.parse() {
                    Ok(ResourceUri::Context { name, .. }) => Some(name.to_string()),
                    _ => None,
                });
                names.collect()
            }
            (Some("skillset"), "skillset") => {
                let sets = handles
                    .skill_sets
                    .fresh(Duration::ZERO)
                    .await
                    .map_err(failure::internal)?;
                sets.sets
                    .iter()
                    .map(|set| set.set.metadata.name.to_string())
                    .collect()
            }
            _ => Vec::new(),
        },
    )
}
