//! A law as JSON: ours, from which it can be read again, and the one that the reference makes of a skill.

use serde_json::{Map, Value, json};
use thiserror::Error;

use super::model::{Effect, Evolution, Member, Node, Skill, Tool};
use super::{Code, Keyword, Law, Literal, Unprintable};

/// Why JSON is no law.
#[derive(Debug, Error)]
pub enum JsonError {
    /// It is no JSON of this form.
    #[error("this JSON is no law: {0}")]
    Form(#[from] serde_json::Error),
    /// It has no source.
    #[error(transparent)]
    Unprintable(#[from] Unprintable),
    /// It says what no source says: a word that is none, or code that is no block.
    #[error("no source means what this JSON says{}", .first.as_deref().map(|first| format!("; written out, {first}")).unwrap_or_default())]
    Meaning {
        /// What is wrong with the source that it would be.
        first: Option<String>,
    },
}

impl Law {
    /// The tree as JSON, without places and faults.
    pub fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    /// Reads [`to_json`](Self::to_json). The tree is printed and read again, so that nothing gets in that a source could
    /// not say; its places are those in that source.
    pub fn from_json(json: &[u8]) -> Result<Self, JsonError> {
        let law: Self = serde_json::from_slice(json)?;
        let read = Self::read(law.print()?.as_bytes());
        if read.broken || (&read.skills, &read.outside) != (&law.skills, &law.outside) {
            let first = read.errors().next().map(ToString::to_string);
            return Err(JsonError::Meaning { first });
        }
        Ok(read)
    }
}

impl Skill {
    /// The JSON that the reference makes of a skill, in its order. Symbols become texts, so there is no way back; code
    /// is given as written, where the reference gives the address of an object, and the time of loading is left out.
    pub fn reference_json(&self) -> Value {
        let of = |keyword| self.value(keyword).map(Literal::reference_json);
        let inputs = self.member(Keyword::Inputs).map(|member| &member.node);
        let behavior = self.member(Keyword::Behavior).map(|member| &member.node);
        let tool = self.member(Keyword::Tool).map(|member| &member.node);
        let effects = self.effects();
        let effects = effects
            .into_iter()
            .map(|effect| (effect.name.to_string(), effect.reference_json()));
        let effects: Map<_, _> = effects.collect();
        json!({
            "id": self.id, "version": of(Keyword::Version), "title": of(Keyword::Title),
            "use_when": of(Keyword::UseWhen),
            "inputs": match inputs {
                Some(Member::Inputs(values)) => Some(list(values)),
                _ => None,
            },
            "requires": of(Keyword::Requires), "guarantees": self.guarantees_json(),
            "depends_on": of(Keyword::DependsOn), "content": of(Keyword::Content),
            "behavior": match behavior {
                Some(Member::Behavior(Code(text))) => Some(text),
                _ => None,
            },
            "effects": (!effects.is_empty()).then_some(effects),
            "evolution_rules": self.evolution().map(|rules| rules.reference_json(&self.id)),
            "tool_config": match tool {
                Some(Member::Tool(tool)) => Some(tool.reference_json()),
                _ => None,
            },
            "definition": self.definition().map(|_| {
                json!({ "nodes": self.nodes().map(Node::reference_json).collect::<Vec<_>>() })
            }),
            "formalization_notes": of(Keyword::FormalizationNotes),
        })
    }
}

fn list(values: &[Literal]) -> Value {
    values.iter().map(Literal::reference_json).collect()
}

impl Evolution {
    /// The rules of the skill `id` as the reference's JSON.
    pub(super) fn reference_json(&self, id: &str) -> Value {
        let conditions = self.conditions.iter();
        let conditions: Vec<_> = conditions.map(|c| c.name.reference_json()).collect();
        json!({
            "skill_id": id, "allowed": list(&self.allowed), "denied": list(&self.denied),
            "conditions": conditions,
        })
    }
}

impl Node {
    /// The node as the reference's JSON.
    pub fn reference_json(&self) -> Value {
        let options = self.stored().into_iter();
        let options = options.map(|(key, value)| (key.to_owned(), value.reference_json()));
        json!({
            "type": self.kind(), "name": self.name.reference_json(),
            "options": options.collect::<Map<_, _>>(),
            "source_span": self.source_span().map(Literal::reference_json),
        })
    }
}

impl Effect {
    fn reference_json(&self) -> Value {
        json!({
            "name": self.name.reference_json(), "requirements": list(&self.requires),
            "recordings": list(&self.records), "has_runner": self.run.is_some(),
        })
    }
}

impl Tool {
    fn reference_json(&self) -> Value {
        let properties = self.properties.iter();
        let properties = properties.map(|property| {
            let (kind, description) = (&property.kind, &property.description);
            let (kind, description) = (kind.reference_json(), description.reference_json());
            (
                property.name.to_string(),
                json!({ "type": kind, "description": description }),
            )
        });
        json!({
            "name": self.name.reference_json(),
            "description": self.description.reference_json(),
            "input_schema": {
                "type": "object", "properties": properties.collect::<Map<_, _>>(),
                "required": list(&self.required),
            },
            "execute": self.execute.as_ref().map(|code| &code.0),
        })
    }
}
