//! The reference's manifest of the three layers: the same preimages, and so the same hashes.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::entry::Head;
use super::{Archived, Context, Entry, Tree, Unread};
use crate::dsl::{Keyword, Law, Literal};
use crate::hash::ContentHash;
use crate::json::preimage;

/// A member of a layer that its hash covers; a list comes with the members of its items.
type Member = (&'static str, &'static [&'static str]);

/// The layers in the order of the combined hash, each with what its hash covers, in order.
const COVERED: [(&str, &[Member]); 3] = [
    (
        "L0",
        &[
            ("dsl_file_hash", &[]),
            ("md_file_hash", &[]),
            ("skill_count", &[]),
            ("skills", &["id", "version", "hash"]),
        ],
    ),
    (
        "L1",
        &[
            ("knowledge_count", &[]),
            ("archived_count", &[]),
            ("knowledge", &["name", "version", "hash", "tags"]),
            ("archived", &["name", "archived_at", "hash"]),
        ],
    ),
    (
        "L2",
        &[
            ("session_count", &[]),
            ("sessions", &["id", "context_count", "hash"]),
        ],
    ),
];
/// The member that holds a layer's own hash.
const HASH: &str = "manifest_hash";

/// What was found on disk, in any order.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// `skills/kairos.rb`.
    pub dsl: Option<Vec<u8>>,
    /// The hash of `skills/kairos.md`.
    pub md: Option<ContentHash>,
    /// Entries of L1 with a main text.
    pub knowledge: Vec<Entry>,
    /// Archived entries, by the names of their directories.
    pub archived: Vec<(String, Archived)>,
    /// Sessions of L2.
    pub sessions: Vec<Session>,
    /// What could not be read at all.
    pub unread: Vec<Unread>,
    /// Every file.
    pub tree: Tree,
}

/// A session of L2.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The name of its directory.
    pub id: String,
    /// Contexts with a main text.
    pub contexts: Vec<Context>,
}

/// The state of all layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// The layers as snapshots hold them.
    pub layers: Layers,
    /// The reference's hash of the state; nothing where a part of L0 cannot be read without running it.
    pub combined: Option<ContentHash>,
    /// What the layers leave out, in order.
    pub unread: Vec<Unread>,
    /// Every file.
    pub tree: Tree,
}

/// The member `layers` of a manifest or snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers(Map<String, Value>);

/// Why layers cannot be what somebody hashed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LayersError {
    /// A member is absent or of another kind.
    #[error("`{0}` of the layers is absent or has another form")]
    Form(&'static str),
    /// A layer does not have its own hash.
    #[error("layer {0} does not have the hash it claims")]
    Hash(&'static str),
}

impl Manifest {
    /// The manifest of what was found.
    pub fn build(observed: Observed) -> Self {
        let Observed {
            dsl,
            md,
            mut knowledge,
            mut archived,
            mut sessions,
            mut unread,
            tree,
        } = observed;
        knowledge.sort_by(|a, b| a.dir.cmp(&b.dir));
        archived.sort_by(|a, b| a.0.cmp(&b.0));
        sessions.sort_by(|a, b| a.id.cmp(&b.id));
        let mut layers = Map::new();
        layers.insert("L0".to_owned(), l0(dsl.as_deref(), md, &mut unread));
        layers.insert("L1".to_owned(), l1(&knowledge, archived, &mut unread));
        layers.insert("L2".to_owned(), l2(&sessions, &tree, &mut unread));
        unread.sort();
        let layers = Layers(layers);
        Self {
            combined: layers.combined(),
            layers,
            unread,
            tree,
        }
    }

    /// What names this state in snapshots: the reference's hash, and ours where there is none.
    pub fn snapshot_hash(&self) -> ContentHash {
        self.combined.unwrap_or_else(|| self.tree.hash())
    }
}

fn l0(dsl: Option<&[u8]>, md: Option<ContentHash>, unread: &mut Vec<Unread>) -> Value {
    let law = dsl.map(Law::read).unwrap_or_default();
    for fault in law.errors() {
        unread.push(Unread {
            path: "skills/kairos.rb".to_owned(),
            reason: fault.to_string(),
        });
    }
    let whole = law.is_whole();
    let mut skills: Vec<_> = law.skills.iter().collect();
    skills.sort_by(|a, b| a.id.cmp(&b.id));
    let skills = skills.into_iter().map(|skill| {
        let version = skill.value(Keyword::Version).map(Literal::reference_json);
        json!({"id": skill.id, "version": version, "hash": skill.hash()})
    });
    let skills: Vec<_> = skills.collect();
    let layer = json!({
        "dsl_file_hash": dsl.map(ContentHash::of), "md_file_hash": md,
        "skill_count": skills.len(), "skills": skills,
    });
    sealed(layer, whole)
}

fn l1(knowledge: &[Entry], archived: Vec<(String, Archived)>, unread: &mut Vec<Unread>) -> Value {
    let mut items: Vec<(String, Value)> = Vec::new();
    for entry in knowledge {
        let head = match &entry.head {
            Ok(head) => head,
            Err(reason) => {
                unread.push(left_out("knowledge", &entry.dir, reason.clone()));
                continue;
            }
        };
        let Head {
            name,
            version,
            tags,
            ..
        } = head;
        // The reference looks the name up as a directory, so an entry under another name is left out, or takes the
        // place of the one it names.
        let target = knowledge.binary_search_by(|other| other.dir.as_str().cmp(name));
        let target = target.ok().and_then(|at| knowledge.get(at));
        if *name != entry.dir {
            let reason = format!(
                "its frontmatter names it `{name}`, which is not the name of its directory"
            );
            unread.push(left_out("knowledge", &entry.dir, reason));
        }
        if let Some(target) = target.filter(|target| target.head.is_ok()) {
            let item = json!({"name": name, "version": version, "hash": target.hash, "tags": tags});
            items.push((name.clone(), item));
        }
    }
    let mut put_away = Vec::new();
    for (dir, entry) in archived {
        match entry.name {
            Ok(name) => {
                let item = json!({"name": name, "archived_at": entry.archived_at, "hash": entry.content_hash});
                put_away.push((name, item));
            }
            Err(reason) => unread.push(left_out("knowledge/.archived", &dir, reason)),
        }
    }
    let (items, put_away) = (by_name(items), by_name(put_away));
    let layer = json!({
        "knowledge_count": items.len(), "archived_count": put_away.len(),
        "knowledge": items, "archived": put_away,
    });
    sealed(layer, true)
}

fn l2(sessions: &[Session], tree: &Tree, unread: &mut Vec<Unread>) -> Value {
    let contents = tree.children("context/");
    let mut items = Vec::new();
    for session in sessions {
        let mut contexts = Vec::new();
        for context in &session.contexts {
            match &context.head {
                Ok(head) => {
                    let item = json!({"name": head.name, "description": head.description});
                    contexts.push((head.name.clone(), item));
                }
                Err(reason) => {
                    let folder = format!("context/{}", session.id);
                    unread.push(left_out(&folder, &context.dir, reason.clone()));
                }
            }
        }
        contexts.sort_by(|a, b| a.0.cmp(&b.0));
        let contexts = by_name(contexts);
        items.push(json!({
            "id": session.id, "context_count": contexts.len(),
            "hash": ContentHash::of(preimage(&Value::from(contexts))),
            "content_hash": contents.get(session.id.as_str()),
        }));
    }
    sealed(
        json!({"session_count": items.len(), "sessions": items}),
        true,
    )
}

fn left_out(folder: &str, dir: &str, reason: String) -> Unread {
    let path = format!("{folder}/{dir}");
    Unread { path, reason }
}

fn by_name(mut items: Vec<(String, Value)>) -> Vec<Value> {
    items.sort_by(|a, b| a.0.cmp(&b.0));
    items.into_iter().map(|(_, item)| item).collect()
}

/// The layer with its hash, or with null if it is not known whole.
fn sealed(mut layer: Value, whole: bool) -> Value {
    let covered = COVERED
        .iter()
        .find_map(|(_, members)| covered(&layer, members));
    let hash = covered
        .filter(|_| whole)
        .map(|text| ContentHash::of(preimage(&text)));
    if let Some(members) = layer.as_object_mut() {
        members.insert(HASH.to_owned(), json!(hash));
    }
    layer
}

/// The part of a layer that its hash covers; nothing if a member is absent.
fn covered(layer: &Value, members: &[Member]) -> Option<Value> {
    let mut part = Map::new();
    for (name, of_items) in members {
        let value = layer.get(name)?;
        let value = match of_items {
            [] => value.clone(),
            names => {
                let item = |item: &Value| {
                    let members = names
                        .iter()
                        .map(|n| Some(((*n).to_owned(), item.get(n)?.clone())));
                    Some(Value::Object(members.collect::<Option<_>>()?))
                };
                Value::Array(value.as_array()?.iter().map(item).collect::<Option<_>>()?)
            }
        };
        part.insert((*name).to_owned(), value);
    }
    Some(Value::Object(part))
}

impl Layers {
    /// Takes over what a snapshot holds, after checking that each layer has the hash it claims.
    pub fn check(layers: Map<String, Value>) -> Result<Self, LayersError> {
        for (name, members) in &COVERED {
            let layer = layers.get(*name).ok_or(LayersError::Form(name))?;
            let covered = covered(layer, members).ok_or(LayersError::Form(name))?;
            match layer.get(HASH) {
                // Of ours, where it was not known.
                Some(Value::Null) => {}
                Some(Value::String(hash))
                    if *hash == ContentHash::of(preimage(&covered)).to_hex() => {}
                _ => return Err(LayersError::Hash(name)),
            }
        }
        Ok(Self(layers))
    }

    /// The members.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The hash over the hashes of the layers; nothing if one of them is not known.
    pub fn combined(&self) -> Option<ContentHash> {
        let hash = |(name, _): &(&str, _)| self.0.get(*name)?.get(HASH)?.as_str();
        let hashes: Option<Vec<_>> = COVERED.iter().map(hash).collect();
        Some(ContentHash::of(hashes?.join(":")))
    }

    /// A text member of L0, such as `dsl_file_hash`.
    pub fn law(&self, member: &str) -> Option<&str> {
        self.0.get("L0")?.get(member)?.as_str()
    }

    /// The skills of L0 with their hashes.
    pub fn skills(&self) -> BTreeMap<&str, Option<&str>> {
        self.list("L0", "skills", "id", "hash")
    }

    /// The knowledge of L1 with the hashes of main texts.
    pub fn knowledge(&self) -> BTreeMap<&str, Option<&str>> {
        self.list("L1", "knowledge", "name", "hash")
    }

    /// The archived knowledge with the hashes noted then.
    pub fn archived(&self) -> BTreeMap<&str, Option<&str>> {
        self.list("L1", "archived", "name", "hash")
    }

    /// The sessions of L2 with the reference's hashes.
    pub fn sessions(&self) -> BTreeMap<&str, Option<&str>> {
        self.list("L2", "sessions", "id", "hash")
    }

    fn list(
        &self,
        layer: &str,
        list: &str,
        key: &str,
        value: &str,
    ) -> BTreeMap<&str, Option<&str>> {
        let items = self
            .0
            .get(layer)
            .and_then(|layer| layer.get(list)?.as_array());
        items
            .into_iter()
            .flatten()
            .filter_map(|item| {
                Some((
                    item.get(key)?.as_str()?,
                    item.get(value).and_then(Value::as_str),
                ))
            })
            .collect()
    }
}
