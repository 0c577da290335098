//! The law and the host, as code sees them.

use super::super::model::{Guarantees, Member};
use super::super::{Keyword, Literal, SOURCE_MAX, Skill, ruby};
use super::block::Callee;
use super::error::Limit;
use super::host::{BlockFacts, LedgerFacts};
use super::machine::{Machine, Run};
use super::tree::Class;
use super::value::{Object, Value};
use super::word::Ask;

/// What parsing a text as Ruby takes beyond a step for each of its bytes: a thread of its own.
const PARSE_STEPS: usize = 1_000;

impl<'a> Machine<'a> {
    pub(super) fn ask(&mut self, ask: Ask, values: &[Value]) -> Run {
        match (ask, values) {
            (Ask::Skills, []) => {
                let mut skills = Vec::new();
                for index in 0..self.law.skills.len() {
                    self.push(&mut skills, Value::Object(Object::Skill(index)))?;
                }
                self.listed(skills)
            }
            (Ask::Skill, [id]) => {
                let id = self.name(*id)?;
                self.step(self.law.skills.len() / 8)?;
                let mut skills = self.law.skills.iter();
                // As the reference finds them: not by ids that are texts.
                let found = skills.position(|skill| !skill.text_id && skill.id == *id);
                Ok(found.map_or(Value::Nil, |index| Value::Object(Object::Skill(index))))
            }
            (Ask::Layers, []) => match self.host.layers() {
                Some(layers) => self.value_of(&layers),
                None => Err(self.unanswered("the layers")),
            },
            (Ask::Settings, []) => match self.host.settings() {
                Some(settings) => self.value_of(&settings),
                None => Err(self.unanswered("the settings of evolution")),
            },
            (Ask::EvolutionEnabled, []) => match self.host.evolution_enabled() {
                Some(enabled) => Ok(Value::Bool(enabled)),
                None => Err(self.unanswered("whether the law may change")),
            },
            (Ask::EvolutionCount, []) => match self.host.evolution_count() {
                Some(count) => self.count(count),
                None => Err(self.unanswered("how often the law changed")),
            },
            (Ask::LawPath, []) => match self.host.law_path() {
                Some(path) => self.text(path),
                None => Err(self.unanswered("the path of the law")),
            },
            (Ask::Ledger, []) => self.ledger().map(|_| Value::Object(Object::Ledger)),
            (Ask::HasDirectory, [path]) => {
                let path = self.name(*path)?;
                match self.host.has_directory(&path) {
                    Some(there) => Ok(Value::Bool(there)),
                    None => Err(self.unanswered("whether there is a directory")),
                }
            }
            (Ask::Parse, [text]) => self.parse(*text),
            (Ask::Dirname, [path]) => {
                let path = self.name(*path)?;
                let path = match path.trim_end_matches('/').rsplit_once('/') {
                    None if path.starts_with('/') => "/",
                    None => ".",
                    Some((parent, _)) => match parent.trim_end_matches('/') {
                        "" => "/",
                        parent => parent,
                    },
                };
                self.text(path)
            }
            (Ask::Basename, [path]) => {
                let path = self.name(*path)?;
                let name = match path.trim_end_matches('/') {
                    "" if path.is_empty() => "",
                    "" => "/",
                    path => path.rsplit('/').next().unwrap_or(path),
                };
                self.text(name)
            }
            (Ask::Join, parts) => {
                let mut path = String::new();
                for (at, part) in parts.iter().enumerate() {
                    let part = self.name(*part)?;
                    let part = match at {
                        0 => &*part,
                        _ => {
                            let end = path.trim_end_matches('/').len();
                            path.truncate(end);
                            self.append(&mut path, "/")?;
                            part.trim_start_matches('/')
                        }
                    };
                    self.append(&mut path, part)?;
                }
                self.built(path)
            }
            _ => Err(self.raise(Class::Argument, "wrong number of arguments")),
        }
    }

    /// A text or symbol that was given.
    pub(super) fn name(&mut self, value: Value) -> Run<std::sync::Arc<str>> {
        match value {
            Value::Text(id) | Value::Symbol(id) => Ok(self.heap.text(id)),
            _ => Err(self.raise(Class::Type, "this takes a text or a symbol")),
        }
    }

    fn parse(&mut self, text: Value) -> Run {
        let Value::Text(id) = text else {
            return Err(self.raise(Class::Type, "only a text can be parsed"));
        };
        let text = self.heap.text(id);
        self.parsed = self.parsed.saturating_add(text.len());
        if self.parsed > SOURCE_MAX {
            return Err(self.exceeded(Limit::Parsed(SOURCE_MAX)));
        }
        self.step(PARSE_STEPS.saturating_add(text.len()))?;
        match ruby::complaint(&text) {
            None => Ok(Value::Object(Object::Parsed)),
            Some(complaint) => Err(self.raise(Class::Syntax, complaint)),
        }
    }

    fn ledger(&self) -> Run<&'a LedgerFacts> {
        let host = self.host;
        host.ledger()
            .ok_or_else(|| self.unanswered("the state of the ledger"))
    }

    fn count(&self, count: u64) -> Run {
        let count = i64::try_from(count);
        count
            .map(Value::Integer)
            .map_err(|_| self.exceeded(Limit::Integer))
    }

    pub(super) fn object_method(
        &mut self,
        object: Object,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        if block.is_some() {
            return Err(self.no_method(Value::Object(object), method, arguments));
        }
        match object {
            Object::Skill(index) => self.skill_method(index, method, arguments),
            Object::Rules(index) => self.rules_method(index, method, arguments),
            Object::Behavior(skill) if method == "call" && arguments.is_empty() => {
                self.call_behavior(skill)
            }
            Object::Ledger => self.ledger_method(method, arguments),
            Object::Blocks => self.blocks_method(method, arguments),
            Object::Block { last } => self.block_method(last, method, arguments),
            Object::Behavior(_) | Object::Parsed => {
                Err(self.no_method(Value::Object(object), method, arguments))
            }
        }
    }

    fn skill_at(&self, index: usize) -> Option<&'a Skill> {
        let law = self.law;
        law.skills.get(index).map(|skill| &skill.node)
    }

    fn skill_method(&mut self, index: usize, method: &'static str, arguments: &[Value]) -> Run {
        let receiver = Value::Object(Object::Skill(index));
        let Some(skill) = self.skill_at(index) else {
            return Ok(Value::Nil);
        };
        let keyword = word_of(method);
        let member = keyword
            .and_then(|keyword| skill.member(keyword))
            .map(|member| &member.node);
        // What could not be read is not taken for what was not said.
        if let Some(Member::Outside(_)) = member {
            let message = format!("`{method}` of '{}' cannot be read", skill.id);
            return Err(self.raise(Class::Standard, message));
        }
        match (method, arguments) {
            ("id", []) => match skill.text_id {
                true => self.text(&skill.id),
                false => self.symbol(&skill.id),
            },
            ("inputs", []) => match member {
                Some(Member::Inputs(inputs)) => self.literals(inputs),
                _ => Ok(Value::Nil),
            },
            ("guarantees", []) => match member {
                Some(Member::Guarantees(Guarantees::Words(words))) => {
                    let mut items = Vec::new();
                    for word in words {
                        let word = self.symbol(word)?;
                        self.push(&mut items, word)?;
                    }
                    self.listed(items)
                }
                Some(Member::Guarantees(Guarantees::Value(value))) => self.value_of(value),
                _ => Ok(Value::Nil),
            },
            ("behavior", []) => Ok(match member {
                Some(_) => Value::Object(Object::Behavior(index)),
                None => Value::Nil,
            }),
            ("evolution_rules", []) => Ok(match member {
                Some(_) => Value::Object(Object::Rules(index)),
                None => Value::Nil,
            }),
            (_, []) if keyword.is_some() => match member.and_then(Member::value) {
                Some(value) => self.value_of(value),
                None => Ok(Value::Nil),
            },
            ("can_evolve?", [field]) => {
                let field = self.name(*field)?;
                Ok(Value::Bool(skill.can_evolve(&field)))
            }
            _ => Err(self.no_method(receiver, method, arguments)),
        }
    }

    fn literals(&mut self, literals: &[Literal]) -> Run {
        let mut items = Vec::new();
        for literal in literals {
            let item = self.value_of(literal)?;
            self.push(&mut items, item)?;
        }
        self.listed(items)
    }

    fn rules_method(&mut self, index: usize, method: &'static str, arguments: &[Value]) -> Run {
        let receiver = Value::Object(Object::Rules(index));
        let Some(skill) = self.skill_at(index) else {
            return Ok(Value::Nil);
        };
        let Some(rules) = skill.evolution() else {
            return Ok(Value::Nil);
        };
        match (method, arguments) {
            ("allowed", []) => self.literals(&rules.allowed),
            ("denied", []) => self.literals(&rules.denied),
            ("conditions", []) => {
                let names = rules.conditions.iter().map(|rule| rule.name.clone());
                self.literals(&names.collect::<Vec<_>>())
            }
            ("skill_id", []) => self.symbol(&skill.id),
            ("can_evolve?", [field]) => {
                let field = self.name(*field)?;
                Ok(Value::Bool(rules.allows(&field)))
            }
            ("to_h", []) => {
                let mut pairs = Vec::new();
                for member in ["skill_id", "allowed", "denied", "conditions"] {
                    let key = self.symbol(member)?;
                    let value = self.rules_method(index, member, &[])?;
                    self.insert(&mut pairs, key, value)?;
                }
                self.mapped(pairs)
            }
            _ => Err(self.no_method(receiver, method, arguments)),
        }
    }

    fn ledger_method(&mut self, method: &'static str, arguments: &[Value]) -> Run {
        let ledger = self.ledger()?;
        match (method, arguments) {
            ("valid?" | "is_valid?", []) => Ok(Value::Bool(ledger.valid)),
            ("load_state", []) => self.symbol(&ledger.state),
            ("blocks" | "chain", []) => Ok(Value::Object(Object::Blocks)),
            ("latest_block", []) => self.blocks_method("last", &[]),
            _ => Err(self.no_method(Value::Object(Object::Ledger), method, arguments)),
        }
    }

    fn blocks_method(&mut self, method: &'static str, arguments: &[Value]) -> Run {
        let ledger = self.ledger()?;
        let block = |block: &Option<BlockFacts>, last| match block {
            Some(_) => Value::Object(Object::Block { last }),
            None => Value::Nil,
        };
        match (method, arguments) {
            ("size" | "length" | "count", []) => self.count(ledger.length),
            ("empty?", []) => Ok(Value::Bool(ledger.length == 0)),
            ("first", []) => Ok(block(&ledger.first, false)),
            ("last", []) => Ok(block(&ledger.last, true)),
            _ => Err(self.no_method(Value::Object(Object::Blocks), method, arguments)),
        }
    }

    fn block_method(&mut self, last: bool, method: &'static str, arguments: &[Value]) -> Run {
        let ledger = self.ledger()?;
        let block = match last {
            true => ledger.last.as_ref(),
            false => ledger.first.as_ref(),
        };
        let Some(block) = block else {
            return Ok(Value::Nil);
        };
        match (method, arguments) {
            ("index", []) => self.count(block.index),
            ("hash", []) => self.text(&block.hash),
            ("previous_hash", []) => self.text(&block.previous_hash),
            ("timestamp", []) => self.text(&block.timestamp),
            _ => Err(self.no_method(Value::Object(Object::Block { last }), method, arguments)),
        }
    }
}

/// The member of a skill that a method gives.
fn word_of(method: &str) -> Option<Keyword> {
    Some(match method {
        "version" => Keyword::Version,
        "title" => Keyword::Title,
        "use_when" => Keyword::UseWhen,
        "inputs" => Keyword::Inputs,
        "requires" => Keyword::Requires,
        "depends_on" => Keyword::DependsOn,
        "content" => Keyword::Content,
        "guarantees" => Keyword::Guarantees,
        "behavior" => Keyword::Behavior,
        "evolution_rules" => Keyword::Evolve,
        _ => return None,
    })
}
