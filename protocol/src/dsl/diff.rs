//! What changed between two laws: skill by skill, field by field, node by node, with what only moved or got another
//! name told apart from what is new.

use std::collections::HashMap;

use serde::Serialize;

use super::model::{Item, Member, Node, Outside, Skill, Spanned};
use super::{Keyword, Law, Literal};
use crate::hash::ContentHash;
use crate::json::preimage;

mod align;

use align::{Pair, align};

/// All that changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LawDiff {
    /// Skills with a change, in the order of the later law; removed ones last.
    pub skills: Vec<SkillDiff>,
    /// What stands outside of skills, if that changed.
    pub outside: Option<SourceDiff>,
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is on both sides.
    Kept,
}

/// A part that stands elsewhere among its kind; both places count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Where it was.
    pub from: usize,
    /// Where it is.
    pub to: usize,
}

/// What changed of one skill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SkillDiff {
    /// Its id; the later one, if it was renamed.
    pub id: String,
    /// What became of it.
    pub fate: Fate,
    /// Its id before.
    pub renamed_from: Option<String>,
    /// Where it went.
    pub moved: Option<Move>,
    /// Its fields that changed; all of a skill that is new or gone.
    pub fields: Vec<FieldDiff>,
    /// Whether its fields stand in another order.
    pub reordered: bool,
}

/// What changed of one field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldDiff {
    /// The field; nothing for Ruby that is none.
    pub field: Option<Keyword>,
    /// What became of it.
    pub fate: Fate,
    /// Its source on both sides.
    pub source: SourceDiff,
    /// What changed of the nodes, if it is the definition and was read on both sides.
    pub nodes: Vec<NodeDiff>,
}

/// Source on both sides; empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceDiff {
    /// As it was.
    pub before: String,
    /// As it is.
    pub after: String,
}

/// What changed of one node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeDiff {
    /// Its type.
    pub kind: String,
    /// Its name; the later one, if it was renamed.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Its name before.
    pub renamed_from: Option<String>,
    /// Where it went.
    pub moved: Option<Move>,
    /// The options that differ.
    pub options: Vec<OptionDiff>,
}

/// What changed of one option.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OptionDiff {
    /// Its name.
    pub name: String,
    /// As it was, if it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Literal>,
    /// As it is, if it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Literal>,
}

/// Compares two laws.
pub fn diff(before: &Law, after: &Law) -> LawDiff {
    let pairs = align(
        &before.skills,
        &after.skills,
        |skill| skill.id.clone(),
        |before, after| alike(&before.members, &after.members),
    );
    let skills = pairs.into_iter().map(skill).filter(|diff| !diff.is_empty());
    let outside = (before.outside != after.outside).then(|| SourceDiff {
        before: outside_source(&before.outside),
        after: outside_source(&after.outside),
    });
    LawDiff {
        skills: skills.collect(),
        outside,
    }
}

fn outside_source(outside: &[Spanned<Outside>]) -> String {
    let lines = outside.iter().map(|outside| format!("{}\n", outside.text));
    lines.collect()
}

/// Which part of two lists is equal, in percent.
fn alike<T: PartialEq>(before: &[T], after: &[T]) -> usize {
    let longest = before.len().max(after.len());
    let same = before.iter().filter(|part| after.contains(part)).count();
    (100 * same).checked_div(longest).unwrap_or_default()
}

fn skill(pair: Pair<'_, Spanned<Skill>>) -> SkillDiff {
    let none = [].as_slice();
    let (fate, moved) = (pair.fate(), pair.moved());
    let members = |skill: Option<&'_ Spanned<Skill>>| skill.map(|skill| skill.members.clone());
    let (before, after) = (members(pair.before()), members(pair.after()));
    let (before, after) = (
        before.as_deref().unwrap_or(none),
        after.as_deref().unwrap_or(none),
    );
    let ids = [pair.after(), pair.before()].map(|skill| skill.map(|skill| skill.id.clone()));
    let [id_after, id_before] = ids;
    let renamed_from = match fate {
        Fate::Kept if id_after != id_before => id_before.clone(),
        _ => None,
    };
    let keywords = Keyword::ALL.map(Some).into_iter().chain([None]);
    let fields: Vec<_> = keywords
        .filter_map(|keyword| field(keyword, before, after))
        .collect();
    let order = |members: &[Spanned<Member>]| -> Vec<_> {
        members.iter().map(|member| member.keyword()).collect()
    };
    SkillDiff {
        id: id_after.or(id_before).unwrap_or_default(),
        fate,
        renamed_from,
        moved,
        reordered: fate == Fate::Kept && fields.is_empty() && order(before) != order(after),
        fields,
    }
}

fn field(
    keyword: Option<Keyword>,
    before: &[Spanned<Member>],
    after: &[Spanned<Member>],
) -> Option<FieldDiff> {
    let of = |members: &[Spanned<Member>]| -> Vec<Member> {
        let members = members.iter().filter(|member| member.keyword() == keyword);
        members.map(|member| member.node.clone()).collect()
    };
    let (before, after) = (of(before), of(after));
    if before == after {
        return None;
    }
    let nodes = match (before.as_slice(), after.as_slice()) {
        ([Member::Definition(before)], [Member::Definition(after)]) => nodes(before, after),
        _ => Vec::new(),
    };
    let source = |members: &[Member]| members.iter().map(Member::source).collect::<String>();
    Some(FieldDiff {
        field: keyword,
        fate: match (before.is_empty(), after.is_empty()) {
            (true, _) => Fate::Added,
            (_, true) => Fate::Removed,
            _ => Fate::Kept,
        },
        source: SourceDiff {
            before: source(&before),
            after: source(&after),
        },
        nodes,
    })
}

fn nodes(before: &[Spanned<Item>], after: &[Spanned<Item>]) -> Vec<NodeDiff> {
    let of = |items: &[Spanned<Item>]| -> Vec<Node> {
        let items = items.iter().filter_map(|item| match &item.node {
            Item::Node(node) => Some(node.clone()),
            Item::Outside(_) => None,
        });
        items.collect()
    };
    let (before, after) = (of(before), of(after));
    let pairs = align(
        &before,
        &after,
        |node| (node.kind(), node.name.inspect()),
        |before, after| match before.kind() == after.kind() && !before.options.is_empty() {
            true => alike(&before.options, &after.options),
            false => 0,
        },
    );
    let diffs = pairs.into_iter().map(|pair| node(&pair));
    diffs.filter(|diff| !diff.is_empty()).collect()
}

fn node(pair: &Pair<'_, Node>) -> NodeDiff {
    let (before, after) = (pair.before(), pair.after());
    let name = |node: Option<&Node>| node.map(|node| node.name.to_string());
    let renamed = before
        .zip(after)
        .is_some_and(|(before, after)| before.name != after.name);
    let options = |node: Option<&Node>| -> Vec<(String, Literal)> {
        node.map(|node| node.options.clone()).unwrap_or_default()
    };
    let (was, is) = (options(before), options(after));
    let value = |options: &[(String, Literal)], name: &str| {
        let found = options.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.clone())
    };
    let gone = was.iter().filter(|(name, _)| value(&is, name).is_none());
    let names = is.iter().chain(gone).map(|(name, _)| name);
    let options = names.filter_map(|name| {
        let (before, after) = (value(&was, name), value(&is, name));
        (before != after).then(|| OptionDiff {
            name: name.clone(),
            before,
            after,
        })
    });
    NodeDiff {
        kind: after.or(before).map(Node::kind).unwrap_or_default(),
        name: name(after.or(before)).unwrap_or_default(),
        fate: pair.fate(),
        renamed_from: name(before).filter(|_| renamed),
        moved: pair.moved(),
        options: options.collect(),
    }
}

impl LawDiff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.skills.is_empty() && self.outside.is_none()
    }

    /// The hash of the diff's JSON, which stands for it in the ledger.
    pub fn hash(&self) -> Result<ContentHash, serde_json::Error> {
        Ok(ContentHash::of(preimage(&serde_json::to_value(self)?)))
    }
}

impl SkillDiff {
    fn is_empty(&self) -> bool {
        self.fate == Fate::Kept
            && self.renamed_from.is_none()
            && self.moved.is_none()
            && self.fields.is_empty()
            && !self.reordered
    }
}

impl NodeDiff {
    fn is_empty(&self) -> bool {
        self.fate == Fate::Kept
            && self.renamed_from.is_none()
            && self.moved.is_none()
            && self.options.is_empty()
    }
}

/// How many parts of a kind there were with a key, to tell equal keys apart.
fn numbered<K: Clone + Eq + std::hash::Hash>(keys: impl Iterator<Item = K>) -> Vec<(K, usize)> {
    let mut seen: HashMap<K, usize> = HashMap::new();
    let keys = keys.map(|key| {
        let count = seen.entry(key.clone()).or_default();
        *count += 1;
        (key, *count)
    });
    keys.collect()
}

#[cfg(test)]
mod tests;
