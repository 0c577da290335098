//! Looks through the layers.

use kairos_actors::knowledge::{ContextSession, KnowledgeError};
use kairos_actors::recent::RECENT;
use kairos_protocol::id::SkillName;

use super::{
    ARCHIVE_L1, Audited, CLEANUP_L2, Count, ISSUES_MAX, Issue, Layer, RECOMMENDED_MAX, STALE_L1,
    STALE_L2, days, signs, tags,
};
use crate::mcp::agent::AgentDoor;
use crate::mcp::tool::Refusal;
use crate::mcp::tools::skills;

/// Shortest description that recommends a text of a session, in characters.
const DESCRIBED: usize = 50;

/// Everything that is checked in the layers, and how much there is.
pub(super) async fn check(
    door: &AgentDoor,
    layer: Layer,
    session: Option<&SkillName>,
) -> Result<Audited, Refusal> {
    let (mut issues, mut layers) = (Vec::new(), Vec::new());
    let mut count = |layer, items, found: Vec<Issue>| {
        layers.push(Count {
            layer,
            items,
            issues: found.len(),
        });
        issues.extend(found);
    };
    if layer.covers(Layer::L0) {
        let law = skills::law(door).await?;
        let old = law.skills.iter().map(|skill| &skill.node);
        let old = old.filter(|skill| skill.content().is_some_and(signs::is_deprecated));
        let old = old.map(|skill| Issue {
            kind: "deprecated_pattern",
            layer: "L0",
            name: skill.id.clone(),
            message: "Speaks of something that may be deprecated".to_owned(),
            days_old: None,
        });
        count("L0", law.skills.len(), old.collect());
    }
    if layer.covers(Layer::L1) {
        let mut found = stale_knowledge(door, STALE_L1).await?;
        let old = texts(door, |text| {
            let old = signs::names_old_version(text);
            old.then_some(("version_ref", "Names versions that may be out of date"))
                .into_iter()
                .collect()
        });
        found.extend(old.await?);
        let items = door.agent.handles.knowledge.entries(RECENT).await?.len();
        count("L1", items, found);
    }
    if layer.covers(Layer::L2) {
        let sessions = sessions(door, session).await?;
        let items = sessions.iter().map(|session| session.contexts).sum();
        count("L2", items, stale_sessions(door, &sessions, STALE_L2));
    }
    Ok(Audited {
        layers,
        ..Audited::of(issues)
    })
}

/// Knowledge whose names and tags are alike.
pub(super) async fn conflicts(door: &AgentDoor, layer: Layer) -> Result<Vec<Issue>, Refusal> {
    if !layer.covers(Layer::L1) {
        return Ok(Vec::new());
    }
    let entries = door.agent.handles.knowledge.entries(RECENT).await?;
    let found = tokio::task::spawn_blocking(move || {
        let named = entries
            .iter()
            .map(|entry| (entry.name.as_str(), tags(entry)));
        let pairs = signs::similar(named, ISSUES_MAX);
        let issue = |((first, second), tag): (_, String)| Issue {
            kind: "similar_topic",
            layer: "L1",
            name: format!("{first} vs {second}"),
            message: format!("Both have the tag '{tag}', and their names are alike"),
            days_old: None,
        };
        pairs.into_iter().map(issue).collect()
    });
    Ok(found.await?)
}

/// What was not changed for long, the oldest first.
pub(super) async fn stale(
    door: &AgentDoor,
    layer: Layer,
    session: Option<&SkillName>,
) -> Result<Vec<Issue>, Refusal> {
    let mut found = Vec::new();
    if layer.covers(Layer::L1) {
        found.extend(stale_knowledge(door, STALE_L1).await?);
    }
    if layer.covers(Layer::L2) {
        let sessions = sessions(door, session).await?;
        found.extend(stale_sessions(door, &sessions, STALE_L2));
    }
    Ok(found)
}

/// Knowledge that talks of passing by what keeps the agent safe, or that holds secrets.
pub(super) async fn dangerous(door: &AgentDoor, layer: Layer) -> Result<Vec<Issue>, Refusal> {
    if !layer.covers(Layer::L1) {
        return Ok(Vec::new());
    }
    let found = texts(door, |text| {
        let bypassing = (
            "warning",
            "Some words may lead a reader past checks of safety",
        );
        let secret = ("critical", "Something in it looks like a credential");
        let bypasses = signs::talks_of_bypassing(text).then_some(bypassing);
        let leaks = signs::holds_secret(text).then_some(secret);
        bypasses.into_iter().chain(leaks).collect()
    });
    found.await
}

/// What could move up, be put away, or be cleared away.
pub(super) async fn recommend(
    door: &AgentDoor,
    layer: Layer,
    session: Option<&SkillName>,
) -> Result<Vec<Issue>, Refusal> {
    let mut found = Vec::new();
    if layer.covers(Layer::L2) {
        let sessions = sessions(door, session).await?;
        found.extend(well_described(door, &sessions).await?);
        let old = stale_sessions(door, &sessions, CLEANUP_L2);
        found.extend(of_kind(old, "cleanup"));
    }
    if layer.covers(Layer::L1) {
        let old = stale_knowledge(door, ARCHIVE_L1).await?;
        found.extend(of_kind(old, "archive"));
    }
    Ok(found)
}

/// The oldest, as what is recommended for them.
fn of_kind(old: Vec<Issue>, kind: &'static str) -> impl Iterator<Item = Issue> {
    old.into_iter()
        .take(RECOMMENDED_MAX)
        .map(move |issue| Issue { kind, ..issue })
}

async fn well_described(
    door: &AgentDoor,
    sessions: &[ContextSession],
) -> Result<Vec<Issue>, Refusal> {
    let mut found = Vec::new();
    for session in sessions {
        let Ok(name) = session.session.parse::<SkillName>() else {
            continue;
        };
        let contexts = match door.agent.handles.knowledge.contexts(name).await {
            Ok(contexts) => contexts,
            // It went away meanwhile.
            Err(KnowledgeError::NotFound { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        for context in contexts {
            if context.description.chars().count() <= DESCRIBED {
                continue;
            }
            found.push(Issue {
                kind: "promote",
                layer: "L2",
                name: format!("{}/{}", session.session, context.name),
                message: "There is enough in this context to be worth keeping as knowledge"
                    .to_owned(),
                days_old: None,
            });
            if found.len() == RECOMMENDED_MAX {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

async fn sessions(
    door: &AgentDoor,
    only: Option<&SkillName>,
) -> Result<Vec<ContextSession>, Refusal> {
    let mut sessions = door.agent.handles.knowledge.sessions().await?;
    if let Some(only) = only {
        sessions.retain(|session| session.session == only.as_str());
    }
    Ok(sessions)
}

/// Knowledge that was not changed for more than so many days, the oldest first.
async fn stale_knowledge(door: &AgentDoor, threshold: u64) -> Result<Vec<Issue>, Refusal> {
    let now = door.agent.clock.now();
    let entries = door.agent.handles.knowledge.entries(RECENT).await?;
    let old = entries.iter().filter_map(|entry| {
        let days = days(now, entry.modified).filter(|days| *days > threshold)?;
        Some(Issue {
            kind: "stale",
            layer: "L1",
            name: entry.name.clone(),
            message: format!("Unchanged for {days} days, where {threshold} are allowed"),
            days_old: Some(days),
        })
    });
    Ok(oldest_first(old.collect()))
}

fn stale_sessions(door: &AgentDoor, sessions: &[ContextSession], threshold: u64) -> Vec<Issue> {
    let now = door.agent.clock.now();
    let old = sessions.iter().filter_map(|session| {
        let days = days(now, session.modified).filter(|days| *days > threshold)?;
        Some(Issue {
            kind: "stale",
            layer: "L2",
            name: format!("session:{}", session.session),
            message: format!(
                "Nothing was added for {days} days ({} contexts)",
                session.contexts
            ),
            days_old: Some(days),
        })
    });
    oldest_first(old.collect())
}

fn oldest_first(mut issues: Vec<Issue>) -> Vec<Issue> {
    issues.sort_by_key(|issue| std::cmp::Reverse(issue.days_old));
    issues
}

/// What `signs` finds in the texts of knowledge; texts that cannot be read are told of elsewhere.
async fn texts(
    door: &AgentDoor,
    signs: impl Fn(&str) -> Vec<(&'static str, &'static str)>,
) -> Result<Vec<Issue>, Refusal> {
    let knowledge = &door.agent.handles.knowledge;
    let mut found = Vec::new();
    for entry in knowledge.entries(RECENT).await?.iter() {
        let Ok(name) = entry.name.parse::<SkillName>() else {
            continue;
        };
        let text = match knowledge.entry(name).await {
            Ok((_, text)) => text,
            Err(error @ (KnowledgeError::Io(_) | KnowledgeError::Ask(_))) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::debug!(%error, "a text was not audited");
                continue;
            }
        };
        found.extend(signs(&text).into_iter().map(|(kind, message)| Issue {
            kind,
            layer: "L1",
            name: entry.name.clone(),
            message: message.to_owned(),
            days_old: None,
        }));
    }
    Ok(found)
}
