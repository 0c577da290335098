//! Knowledge as skills of the Skills extension (SEP-2640): directories with a `SKILL.md`, every file with its digest.
//!
//! `skill://NAME/DIRECTORY/SKILL.md`: NAME is ours, DIRECTORY the name that Agent Skills allow. An entry leaves with
//! its trust tier and, where it is asked for alone, with who signed for it and where the ledger proves its hash.

use std::collections::BTreeMap;

use kairos_actors::knowledge::{Authorship, KnowledgeEntry, KnowledgeError};
use kairos_actors::recent::RECENT;
use kairos_place::role::Action;
use kairos_protocol::id::SkillName;
use kairos_protocol::provenance::{Kind, Provenance};
use kairos_protocol::resource::media_type;
use kairos_protocol::skill::Skill as Text;
use kairos_protocol::skill::agent_skill::Directory;
use rmcp::ErrorData;
use rmcp::model::{
    DIRECTORY_MIME_TYPE, Resource, ResourceContents, SKILL_MD, Skill, SkillFrontmatter,
    SkillResource, SkillResources,
};
use serde_json::{Map, Value, json};

use super::agent::AgentDoor;
use super::call::Caller;
use super::failure;
use super::resources::{contents, meta, origin};

/// The names that have a main text, sorted.
pub(super) async fn names(
    door: &AgentDoor,
    caller: &Caller,
) -> Result<Vec<KnowledgeEntry>, ErrorData> {
    caller
        .may(Action::ReadKnowledge)
        .map_err(failure::of_role)?;
    let entries = door.agent.handles.knowledge.entries(RECENT).await;
    let entries = entries.map_err(failure::internal)?;
    let has_text = |entry: &&KnowledgeEntry| entry.content_hash.is_some() && entry.fault.is_none();
    Ok(entries.iter().filter(has_text).cloned().collect())
}

/// One skill as it is listed; nothing where its entry is no Agent Skill, or gone meanwhile.
pub(super) async fn listed(
    door: &AgentDoor,
    entry: &KnowledgeEntry,
) -> Result<Option<Skill>, ErrorData> {
    let Ok(name) = entry.name.parse::<SkillName>() else {
        return Ok(None);
    };
    let Some(directory) = whole(door, &name).await? else {
        return Ok(None);
    };
    let Some(mut skill) = skill(&name, &directory) else {
        return Ok(None);
    };
    if let Some(hash) = entry.content_hash {
        skill = skill.with_meta(meta(Value::Object(origin(door, &entry.name, hash).await?)));
    }
    Ok(Some(skill))
}

/// One skill by the URI of its `SKILL.md`, with who signed for it and the proof of its hash.
pub(super) async fn get(door: &AgentDoor, caller: &Caller, uri: &str) -> Result<Skill, ErrorData> {
    caller
        .may(Action::ReadKnowledge)
        .map_err(failure::of_role)?;
    let unknown = || {
        ErrorData::invalid_params(
            "no skill is served at that URI; skills/list shows those that are",
            None,
        )
    };
    let (name, path) = split(uri).ok_or_else(unknown)?;
    let (directory, _) = within(door, &name, path).await?.ok_or_else(unknown)?;
    let skill = skill(&name, &directory)
        .filter(|skill| skill.uri == uri)
        .ok_or_else(unknown)?;
    let (entry, _) = door
        .agent
        .handles
        .knowledge
        .entry(name)
        .await
        .map_err(|_| unknown())?;
    let said = signed(door, &entry).await?;
    Ok(skill.with_meta(meta(Value::Object(said))))
}

/// A file of a skill.
pub(super) async fn read(door: &AgentDoor, uri: &str) -> Result<ResourceContents, ErrorData> {
    let (name, path) = split(uri).ok_or_else(|| failure::no_resource(uri))?;
    let found = within(door, &name, path).await?;
    let (directory, below) = found.ok_or_else(|| failure::no_resource(uri))?;
    let file = directory.files.into_iter().find(|file| file.path == below);
    let file = file.ok_or_else(|| failure::no_resource(uri))?;
    Ok(contents(uri, mime(&file.path), file.bytes))
}

fn mime(path: &str) -> &'static str {
    match path {
        SKILL_MD => "text/markdown",
        _ => media_type(path),
    }
}

/// What lies directly in a directory of a skill.
pub(super) async fn directory(
    door: &AgentDoor,
    caller: &Caller,
    uri: &str,
) -> Result<Vec<Resource>, ErrorData> {
    caller
        .may(Action::ReadKnowledge)
        .map_err(failure::of_role)?;
    let no_directory = || {
        let told = "no directory of a skill is served at that URI; skills/list shows the skills";
        ErrorData::invalid_params(told, Some(json!({"uri": failure::shown(uri)})))
    };
    let uri = uri.trim_end_matches('/');
    let (name, path) = split(uri).ok_or_else(no_directory)?;
    let skill = whole(door, &name).await?.ok_or_else(no_directory)?;
    let below = path
        .strip_prefix(skill.name.as_str())
        .ok_or_else(no_directory)?;
    let below = match below.strip_prefix('/') {
        Some(below) => format!("{below}/"),
        None if below.is_empty() => String::new(),
        None => return Err(no_directory()),
    };
    let mut found = BTreeMap::new();
    for file in &skill.files {
        let Some(rest) = file.path.strip_prefix(&below) else {
            continue;
        };
        let child = match rest.split_once('/') {
            Some((folder, _)) => {
                Resource::new(format!("{uri}/{folder}"), folder).with_mime_type(DIRECTORY_MIME_TYPE)
            }
            None => Resource::new(format!("{uri}/{rest}"), rest)
                .with_mime_type(mime(&file.path))
                .with_size(file.bytes.len() as u64),
        };
        found.insert(child.uri.clone(), child);
    }
    match found.is_empty() {
        true => Err(no_directory()),
        false => Ok(found.into_values().collect()),
    }
}

/// Our name, and what follows it.
fn split(uri: &str) -> Option<(SkillName, &str)> {
    let (name, path) = uri.strip_prefix("skill://")?.split_once('/')?;
    Some((name.parse().ok()?, path))
}

/// An entry as the directory of an Agent Skill; nothing where it cannot be one.
async fn whole(door: &AgentDoor, name: &SkillName) -> Result<Option<Directory>, ErrorData> {
    let knowledge = &door.agent.handles.knowledge;
    match knowledge.as_agent_skill(name.clone()).await {
        Ok(directory) => Ok(Some(directory)),
        Err(error @ (KnowledgeError::Io(_) | KnowledgeError::Ask(_))) => {
            Err(failure::internal(error))
        }
        Err(_) => Ok(None),
    }
}

/// The directory that `path` begins with, and the rest of it.
async fn within<'p>(
    door: &AgentDoor,
    name: &SkillName,
    path: &'p str,
) -> Result<Option<(Directory, &'p str)>, ErrorData> {
    let Some(directory) = whole(door, name).await? else {
        return Ok(None);
    };
    let below = path
        .strip_prefix(directory.name.as_str())
        .and_then(|rest| rest.strip_prefix('/'));
    Ok(below.map(|below| (directory, below)))
}

fn skill(name: &SkillName, directory: &Directory) -> Option<Skill> {
    let root = format!("skill://{name}/{}", directory.name);
    let main = directory.files.iter().find(|file| file.path == SKILL_MD)?;
    let text = std::str::from_utf8(&main.bytes).ok()?;
    let files = directory
        .files
        .iter()
        .map(|file| SkillResource::from_bytes(format!("{root}/{}", file.path), &file.bytes));
    let skill = Skill::new(
        format!("{root}/{SKILL_MD}"),
        frontmatter(text)?,
        SkillResources::Files(files.collect()),
    );
    // What the extension does not allow, such as odd file names, is not served.
    skill.validate().is_ok().then_some(skill)
}

/// The frontmatter as its bytes have it.
fn frontmatter(text: &str) -> Option<SkillFrontmatter> {
    let members = Text::members(text)?;
    let word = |name: &str| members.get(name).and_then(Value::as_str);
    let mut frontmatter = SkillFrontmatter::new(word("name")?, word("description")?);
    for (name, value) in members
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "name" | "description"))
    {
        frontmatter = frontmatter.with_field(name, value.clone());
    }
    Some(frontmatter)
}

/// The trust tier, the signed provenance, and the proof of the newest record about an entry.
async fn signed(door: &AgentDoor, entry: &KnowledgeEntry) -> Result<Map<String, Value>, ErrorData> {
    let Some(hash) = entry.content_hash else {
        return Ok(Map::new());
    };
    let agent = &door.agent;
    let mut said = origin(door, &entry.name, hash).await?;
    said.insert("content_hash".to_owned(), json!(hash));
    let authorship = agent
        .handles
        .knowledge
        .authorship(&entry.name, hash)
        .await
        .map_err(failure::internal)?;
    let (id, key, now) = (
        agent.signed.instance_id.clone(),
        agent.keypair.clone(),
        agent.clock.now(),
    );
    let name = entry.name.clone();
    let sign = move || match authorship {
        Authorship::Theirs(None) => Ok(None),
        Authorship::Theirs(Some(received)) => received.handed_on(id, &key, now).map(Some),
        Authorship::Ours => Provenance::authored(Kind::Skill, &name, hash, id, &key, now).map(Some),
    };
    match tokio::task::spawn_blocking(sign)
        .await
        .map_err(failure::internal)?
    {
        Ok(Some(provenance)) => drop(said.insert("provenance".to_owned(), json!(provenance))),
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "a skill leaves without provenance"),
    }
    let records = agent
        .handles
        .knowledge
        .history(&entry.name, 1)
        .await
        .map_err(failure::internal)?;
    if let Some(record) = records
        .first()
        .filter(|record| record.next_hash == Some(hash))
    {
        let proof = agent
            .handles
            .tlog
            .prove(record.block, false, false)
            .await
            .map_err(failure::internal)?;
        said.insert(
            "ledger".to_owned(),
            json!({"block": record.block, "proof": proof.to_string()}),
        );
    }
    Ok(said)
}
