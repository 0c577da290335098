//! The tree of a law: skills, their members, and what lies outside the language. Equality leaves places aside.

use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::{Keyword, Literal, Maker, Span};
use crate::hash::ContentHash;
use crate::json::preimage;

/// A part of the tree and where it stands. Two are equal if their parts are.
#[derive(Debug, Clone, Default)]
pub struct Spanned<T> {
    /// The place in bytes; empty for what was not read from a source.
    pub span: Span,
    /// The part.
    pub node: T,
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.node
    }
}

impl<T> DerefMut for Spanned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.node
    }
}

impl<T> From<T> for Spanned<T> {
    fn from(node: T) -> Self {
        let span = Span::default();
        Self { span, node }
    }
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.node.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Spanned<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(Self::from)
    }
}

/// One skill, as declared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skill {
    /// Its id; the reference finds only those that are written as symbols.
    pub id: String,
    /// Whether the id is written as a text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub text_id: bool,
    /// What it declares, in order; of repeated members the last counts, but effects add up.
    pub members: Vec<Spanned<Member>>,
}

/// One declaration in a skill.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "member", content = "value", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the word of the language")]
pub enum Member {
    Version(Literal),
    Title(Literal),
    UseWhen(Literal),
    Inputs(Vec<Literal>),
    Requires(Literal),
    DependsOn(Literal),
    Content(Literal),
    FormalizationNotes(Literal),
    Guarantees(Guarantees),
    Evolve(Evolution),
    Definition(Vec<Spanned<Item>>),
    Behavior(Code),
    Tool(Tool),
    Effect(Effect),
    /// What could not be read.
    Outside(Outside),
}

/// What a skill promises.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guarantees {
    /// A value in place of a block.
    Value(Literal),
    /// The words of a block.
    Words(Vec<String>),
}

/// Which members of a skill may change.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evolution {
    /// Fields that may; all, if none is named.
    #[serde(default)]
    pub allowed: Vec<Literal>,
    /// Fields that may not, `:all` for every one.
    #[serde(default)]
    pub denied: Vec<Literal>,
    /// Conditions, which the reference keeps and never asks.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// A condition of evolution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What it is called.
    pub name: Literal,
    /// Its code.
    pub code: Option<Code>,
}

/// One entry of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Item {
    /// A node.
    Node(Node),
    /// What could not be read.
    Outside(Outside),
}

/// A node of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The word that makes it.
    pub maker: Maker,
    /// Its name, a symbol or text.
    pub name: Literal,
    /// Its options, in the order written.
    pub options: Vec<(String, Literal)>,
}

/// Code: kept as it is written, and never run while reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub String);

/// A tool that a skill offers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// What it is called; nil if that is not said.
    #[serde(default)]
    pub name: Literal,
    /// What it does; nil if that is not said.
    #[serde(default)]
    pub description: Literal,
    /// What it takes.
    #[serde(default)]
    pub properties: Vec<Property>,
    /// Which of these it needs.
    #[serde(default)]
    pub required: Vec<Literal>,
    /// Its code.
    pub execute: Option<Code>,
}

/// What a tool takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Property {
    /// Its name.
    pub name: Literal,
    /// A type of JSON Schema.
    #[serde(rename = "type")]
    pub kind: Literal,
    /// What it means.
    pub description: Literal,
}

/// An effect that a skill declares; the reference never causes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// What it is called.
    pub name: Literal,
    /// What it needs.
    #[serde(default)]
    pub requires: Vec<Literal>,
    /// What it leaves.
    #[serde(default)]
    pub records: Vec<Literal>,
    /// Its code.
    pub run: Option<Code>,
}

/// Legal Ruby that the language does not have: kept as written, hashed and shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outside {
    /// What it is, in words.
    pub what: String,
    /// The member that it would be.
    pub keyword: Option<Keyword>,
    /// As written.
    pub text: String,
    /// The hash of the whole source, if the text goes on behind other declarations, as that of a heredoc may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scattered: Option<ContentHash>,
    /// Of how many skills it stands behind; 0 within a skill.
    #[serde(default)]
    pub behind: usize,
}

impl Member {
    /// The word that begins it; nothing for Ruby that begins with none.
    pub fn keyword(&self) -> Option<Keyword> {
        Some(match self {
            Self::Version(_) => Keyword::Version,
            Self::Title(_) => Keyword::Title,
            Self::UseWhen(_) => Keyword::UseWhen,
            Self::Inputs(_) => Keyword::Inputs,
            Self::Requires(_) => Keyword::Requires,
            Self::DependsOn(_) => Keyword::DependsOn,
            Self::Content(_) => Keyword::Content,
            Self::FormalizationNotes(_) => Keyword::FormalizationNotes,
            Self::Guarantees(_) => Keyword::Guarantees,
            Self::Evolve(_) => Keyword::Evolve,
            Self::Definition(_) => Keyword::Definition,
            Self::Behavior(_) => Keyword::Behavior,
            Self::Tool(_) => Keyword::Tool,
            Self::Effect(_) => Keyword::Effect,
            Self::Outside(outside) => return outside.keyword,
        })
    }

    /// The one value of a member that takes one.
    pub fn value(&self) -> Option<&Literal> {
        match self {
            Self::Version(value)
            | Self::Title(value)
            | Self::UseWhen(value)
            | Self::Requires(value)
            | Self::DependsOn(value)
            | Self::Content(value)
            | Self::FormalizationNotes(value)
            | Self::Guarantees(Guarantees::Value(value)) => Some(value),
            _ => None,
        }
    }
}

impl Node {
    /// The type that the reference stores.
    pub fn kind(&self) -> String {
        match self.maker {
            Maker::Constraint => "Constraint".to_owned(),
            Maker::Check => "Check".to_owned(),
            Maker::Plan => "Plan".to_owned(),
            Maker::ToolCall => "ToolCall".to_owned(),
            Maker::Node => self
                .written("type")
                .map(ToString::to_string)
                .unwrap_or_default(),
        }
    }

    fn written(&self, name: &str) -> Option<&Literal> {
        let (_, value) = self.options.iter().find(|(key, _)| key == name)?;
        Some(value)
    }

    /// The options that the reference stores, in its order: what a maker asks for comes last.
    pub fn stored(&self) -> Vec<(&str, &Literal)> {
        let last = self.maker.required();
        let options = self
            .options
            .iter()
            .map(|(key, value)| (key.as_str(), value));
        if self.maker == Maker::Node {
            return options.filter(|(key, _)| *key == "prompt").collect();
        }
        let (mut first, asked): (Vec<_>, Vec<_>) =
            options.partition(|(key, _)| !last.contains(key));
        first.extend(asked);
        first
    }

    /// A stored option.
    pub fn option(&self, name: &str) -> Option<&Literal> {
        let stored = self.stored();
        let found = stored.into_iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value)
    }

    /// The sentence of the content that it was made from.
    pub fn source_span(&self) -> Option<&Literal> {
        match self.maker {
            Maker::Node => self.written("source_span"),
            _ => None,
        }
    }
}

impl Evolution {
    /// Whether `field` may change: not if it or `:all` is denied, and only if it is allowed, where any is.
    ///
    /// Only symbols count, as in the reference.
    pub fn allows(&self, field: &str) -> bool {
        let names = |list: &[Literal], name: &str| {
            let mut list = list.iter();
            list.any(|entry| matches!(entry, Literal::Symbol(entry) if entry == name))
        };
        let denied = names(&self.denied, field) || names(&self.denied, "all");
        !denied && (self.allowed.is_empty() || names(&self.allowed, field))
    }
}

impl Skill {
    /// The member that counts: the last with this word.
    pub fn member(&self, keyword: Keyword) -> Option<&Spanned<Member>> {
        let mut members = self.members.iter().rev();
        members.find(|member| member.keyword() == Some(keyword))
    }

    /// The value of a member that takes one; nothing if there is none, or it could not be read.
    pub fn value(&self, keyword: Keyword) -> Option<&Literal> {
        self.member(keyword)?.value()
    }

    /// The reference's JSON of a member with one value; null if there is none, or it could not be read.
    pub fn value_json(&self, keyword: Keyword) -> Value {
        self.value(keyword)
            .map(Literal::reference_json)
            .unwrap_or_default()
    }

    /// The title; nothing if there is none, or it is no text.
    pub fn title(&self) -> Option<&str> {
        self.value(Keyword::Title)?.text()
    }

    /// The content; nothing if there is none, or it is no text.
    pub fn content(&self) -> Option<&str> {
        self.value(Keyword::Content)?.text()
    }

    /// The rules; nothing if none are given, or they could not be read.
    pub fn evolution(&self) -> Option<&Evolution> {
        match &self.member(Keyword::Evolve)?.node {
            Member::Evolve(rules) => Some(rules),
            _ => None,
        }
    }

    /// Whether its own rules let `field` change. Rules that could not be read let nothing change.
    pub fn can_evolve(&self, field: &str) -> bool {
        match self.member(Keyword::Evolve).map(|member| &member.node) {
            None => self.is_known(),
            Some(Member::Evolve(rules)) => self.is_known() && rules.allows(field),
            Some(_) => false,
        }
    }

    /// The entries of the definition; nothing if there is none, or it could not be read.
    pub fn definition(&self) -> Option<&[Spanned<Item>]> {
        match &self.member(Keyword::Definition)?.node {
            Member::Definition(items) => Some(items),
            _ => None,
        }
    }

    /// The nodes of the definition.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        let items = self.definition().unwrap_or_default().iter();
        items.filter_map(|item| match &item.node {
            Item::Node(node) => Some(node),
            Item::Outside(_) => None,
        })
    }

    /// The effects by their names, the last of each.
    pub fn effects(&self) -> Vec<&Effect> {
        let mut effects: Vec<&Effect> = Vec::new();
        for member in &self.members {
            if let Member::Effect(effect) = &member.node {
                match effects.iter_mut().find(|other| other.name == effect.name) {
                    Some(other) => *other = effect,
                    None => effects.push(effect),
                }
            }
        }
        effects
    }

    /// Whether no Ruby in it could change a member that was read.
    fn is_known(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| member.keyword().is_some())
    }

    /// The text that the reference hashes: compact JSON with its members in its order.
    ///
    /// What could not be read counts as not given, see [`hash`](Self::hash).
    pub fn preimage(&self) -> String {
        let of = |keyword| match self.value(keyword) {
            Some(value) => value.reference_json(),
            None => Value::Null,
        };
        preimage(&json!({
            "id": self.id, "version": of(Keyword::Version), "title": of(Keyword::Title),
            "content": of(Keyword::Content), "guarantees": self.guarantees_json(),
            "evolution_rules": self.evolution().map(|rules| rules.reference_json(&self.id)),
        }))
    }

    /// The reference's hash; nothing if a member that it covers could not be read.
    pub fn hash(&self) -> Option<ContentHash> {
        let unread = |member: &Spanned<Member>| match &member.node {
            Member::Outside(outside) => outside.keyword.is_none_or(Keyword::is_hashed),
            _ => false,
        };
        let whole = !self.members.iter().any(unread);
        whole.then(|| ContentHash::of(self.preimage()))
    }

    /// Our hash: of the whole tree, code and what could not be read included.
    pub fn tree_hash(&self) -> Result<ContentHash, serde_json::Error> {
        Ok(ContentHash::of(preimage(&serde_json::to_value(self)?)))
    }

    /// The reference's JSON of what it promises; null if that is nothing, or could not be read.
    pub fn guarantees_json(&self) -> Value {
        match self.member(Keyword::Guarantees).map(|member| &member.node) {
            Some(Member::Guarantees(Guarantees::Words(words))) => json!(words),
            Some(Member::Guarantees(Guarantees::Value(value))) => value.reference_json(),
            _ => Value::Null,
        }
    }
}
