//! The skills language of L0, `skills/kairos.rb`: Ruby to the reference, read here without ever being run.
//!
//! Read are the members of each `skill :id do … end` that the reference hashes: version, title, content,
//! guarantees and evolution rules. What is not a literal is not guessed: it becomes a [`Fault`] at its place, the
//! skill has no hash then, and the other skills stay readable.

mod ruby;

use std::fmt;
use std::num::NonZero;

use serde_json::{Map, Number, Value, json};

pub use self::ruby::SOURCE_MAX;
use self::ruby::{Block, Call, Kind, Node};
use crate::hash::ContentHash;
use crate::json::preimage;

/// Most skills taken from one file.
pub const SKILLS_MAX: usize = 1_000;

/// A range of bytes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// What cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: NonZero<usize>,
    /// Column in characters, from 1.
    pub column: NonZero<usize>,
    /// The place in bytes.
    pub span: Span,
    /// What is there.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.what
        )
    }
}

/// A whole file of the skills language.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Law {
    /// The skills in the order of the file; ids may repeat, and the first counts for look-ups.
    pub skills: Vec<Skill>,
    /// What stands outside of skills. Ruby might make or change skills there, so with any of these the list of
    /// skills is not known to be whole.
    pub faults: Vec<Fault>,
}

/// One skill, as declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Skill {
    /// Its id.
    pub id: String,
    /// From `skill` to `end`.
    pub span: Span,
    /// A literal; null if not given.
    pub version: Value,
    /// A literal; null if not given.
    pub title: Value,
    /// A literal; null if not given.
    pub content: Value,
    /// Names, or the value given instead of a block; null if not given.
    pub guarantees: Value,
    /// The rules; nothing if not given.
    pub evolution: Option<Evolution>,
    /// What in it cannot be read, in the order of the file.
    pub faults: Vec<Fault>,
}

/// Which members of a skill may change.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evolution {
    /// Fields that may.
    pub allowed: Vec<Value>,
    /// Fields that may not, `all` for every one.
    pub denied: Vec<Value>,
    /// Names of conditions, which are blocks of code and never run.
    pub conditions: Vec<Value>,
}

impl Skill {
    /// The text that the reference hashes: compact JSON with its members in its order.
    pub fn preimage(&self) -> String {
        let evolution = self.evolution.as_ref().map(|rules| {
            json!({
                "skill_id": self.id, "allowed": rules.allowed, "denied": rules.denied,
                "conditions": rules.conditions,
            })
        });
        preimage(&json!({
            "id": self.id, "version": self.version, "title": self.title, "content": self.content,
            "guarantees": self.guarantees, "evolution_rules": evolution,
        }))
    }

    /// The hash of [`preimage`](Self::preimage); nothing if a member could not be read.
    pub fn hash(&self) -> Option<ContentHash> {
        self.faults
            .is_empty()
            .then(|| ContentHash::of(self.preimage()))
    }
}

impl Law {
    /// Reads a file. Never fails: what cannot be read is among the faults.
    pub fn read(source: &[u8]) -> Self {
        let source = match std::str::from_utf8(source) {
            Ok(source) => source,
            Err(error) => {
                // The part before is UTF-8.
                let at = error.valid_up_to();
                let before = source.get(..at).unwrap_or_default();
                let before = std::str::from_utf8(before).unwrap_or_default();
                let what = "the source is not UTF-8 here".to_owned();
                let span = Span { start: at, end: at };
                return Self {
                    skills: Vec::new(),
                    faults: vec![fault(before, span, what)],
                };
            }
        };
        let mut law = Self::default();
        match ruby::parse(source) {
            Err(complaints) => {
                let faults = complaints.into_iter();
                law.faults = faults.map(|c| fault(source, c.at, c.what)).collect();
            }
            Ok(statements) => {
                for statement in statements {
                    law.statement(source, statement);
                }
            }
        }
        law
    }

    /// Every fault of the file in order, those of skills included.
    pub fn all_faults(&self) -> Vec<&Fault> {
        let skills = self.skills.iter().flat_map(|skill| &skill.faults);
        let mut all: Vec<_> = self.faults.iter().chain(skills).collect();
        all.sort_by_key(|fault| fault.span.start);
        all
    }

    fn statement(&mut self, source: &str, node: Node) {
        let mut refuse = |span: Span, what: String| self.faults.push(fault(source, span, what));
        let Kind::Call(call) = node.kind else {
            return refuse(
                node.span,
                format!("{} outside of a skill", shown(&node.kind)),
            );
        };
        if call.name != "skill" {
            return refuse(node.span, format!("`{}` outside of a skill", call.name));
        }
        let id = match call.arguments.as_slice() {
            [
                Node {
                    kind: Kind::Symbol(id) | Kind::Text(id),
                    ..
                },
            ] => id.clone(),
            _ => return refuse(node.span, "a skill without one name as its id".to_owned()),
        };
        let Some(block) = call.block else {
            return refuse(node.span, format!("the skill `{id}` has no block"));
        };
        if self.skills.len() == SKILLS_MAX {
            return refuse(node.span, format!("more than {SKILLS_MAX} skills"));
        }
        let mut skill = Skill {
            id,
            span: node.span,
            version: Value::Null,
            title: Value::Null,
            content: Value::Null,
            guarantees: Value::Null,
            evolution: None,
            faults: Vec::new(),
        };
        for statement in block.statements {
            if let Err(Refused { span, what }) = skill.member(statement) {
                skill.faults.push(fault(source, span, what));
            }
        }
        self.skills.push(skill);
    }
}

/// Something that is not read.
struct Refused {
    span: Span,
    what: String,
}

impl Skill {
    fn member(&mut self, node: Node) -> Result<(), Refused> {
        let span = node.span;
        let refuse = |what: String| Err(Refused { span, what });
        let Kind::Call(call) = node.kind else {
            return refuse(format!("{} in a skill", shown(&node.kind)));
        };
        match call.name.as_str() {
            "version" => self.version = one(span, &call)?,
            "title" => self.title = one(span, &call)?,
            "content" => self.content = one(span, &call)?,
            "guarantees" => {
                self.guarantees = match &call.block {
                    Some(block) => guarantees(block)?,
                    None if call.arguments.is_empty() => Value::Null,
                    None => one(span, &call)?,
                }
            }
            "evolve" if call.arguments.is_empty() => {
                let rules = call.block.as_ref().map(evolution).transpose()?;
                self.evolution = Some(rules.unwrap_or_default());
            }
            // Declared, and no part of what is hashed.
            "use_when"
            | "inputs"
            | "requires"
            | "depends_on"
            | "behavior"
            | "effect"
            | "definition"
            | "formalization_notes"
            | "tool" => {}
            name => return refuse(format!("`{name}` is no member of a skill")),
        }
        Ok(())
    }
}

/// The one argument of a member that takes one.
fn one(span: Span, call: &Call) -> Result<Value, Refused> {
    match call.arguments.as_slice() {
        [value] => literal(value),
        others => Err(Refused {
            span,
            what: format!("`{}` takes one value, not {}", call.name, others.len()),
        }),
    }
}

/// The bare words of a `guarantees` block.
fn guarantees(block: &Block) -> Result<Value, Refused> {
    let mut names = Vec::new();
    for node in &block.statements {
        let refuse = |what: String| {
            let span = node.span;
            Err(Refused { span, what })
        };
        match &node.kind {
            Kind::Call(call) if OF_RUBY.contains(&call.name.as_str()) => {
                return refuse(format!(
                    "`{}` is a method of Ruby, which takes no note of it",
                    call.name
                ));
            }
            Kind::Call(call) => {
                // Ruby drops the arguments, but a word among them would be noted too.
                call.arguments
                    .iter()
                    .try_for_each(|argument| literal(argument).map(drop))?;
                names.push(Value::from(call.name.as_str()));
            }
            other => return refuse(format!("{} among guarantees", shown(other))),
        }
    }
    Ok(Value::Array(names))
}

fn evolution(block: &Block) -> Result<Evolution, Refused> {
    let mut rules = Evolution::default();
    for node in &block.statements {
        let refuse = |what: String| {
            let span = node.span;
            Err(Refused { span, what })
        };
        let Kind::Call(call) = &node.kind else {
            return refuse(format!("{} among rules", shown(&node.kind)));
        };
        let values = call.arguments.iter().map(literal);
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        match call.name.as_str() {
            "allow" => rules.allowed.extend(values),
            "deny" => rules.denied.extend(values),
            "when_condition" if values.len() == 1 => {
                for name in values {
                    if !rules.conditions.contains(&name) {
                        rules.conditions.push(name);
                    }
                }
            }
            name => return refuse(format!("`{name}` is no rule")),
        }
    }
    Ok(rules)
}

/// The JSON form of a literal.
fn literal(node: &Node) -> Result<Value, Refused> {
    let refuse = |what: String| {
        let span = node.span;
        Err(Refused { span, what })
    };
    Ok(match &node.kind {
        Kind::Nil => Value::Null,
        Kind::True => Value::Bool(true),
        Kind::False => Value::Bool(false),
        Kind::Text(text) | Kind::Symbol(text) => Value::from(text.as_str()),
        Kind::Integer(written) => match ruby::integer(written).and_then(Number::from_i128) {
            Some(number) => Value::Number(number),
            None => return refuse(format!("the number {written} is too large")),
        },
        Kind::Float(written) => match written.parse().ok().and_then(Number::from_f64) {
            Some(number) => Value::Number(number),
            None => return refuse(format!("the number {written} is too large")),
        },
        Kind::Array(items) => Value::Array(items.iter().map(literal).collect::<Result<_, _>>()?),
        Kind::Hash(pairs) => {
            let mut members = Map::new();
            for (key, value) in pairs {
                let name = match literal(key)? {
                    Value::String(name) => name,
                    other => preimage(&other),
                };
                members.insert(name, literal(value)?);
            }
            Value::Object(members)
        }
        other => return refuse(format!("{} is not a literal", shown(other))),
    })
}

/// What a piece of Ruby is, in words.
fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Call(call) => format!("`{}`", call.name),
        Kind::Other(what) => (*what).to_owned(),
        _ => "a value".to_owned(),
    }
}

fn fault(source: &str, span: Span, what: String) -> Fault {
    // The grammar looks behind the end of a text that is cut off.
    let span = Span {
        start: span.start.min(source.len()),
        end: span.end.min(source.len()),
    };
    let (line, column) = ruby::position(source, span.start);
    Fault {
        line,
        column,
        span,
        what,
    }
}

/// Words that every object of Ruby 3.1 understands: in a `guarantees` block they run instead of being noted.
#[rustfmt::skip]
const OF_RUBY: &[&str] = &[
    "Array", "Complex", "Float", "Hash", "Integer", "Rational", "String", "__callee__", "__dir__", "__id__",
    "__method__", "__send__", "abort", "at_exit", "autoload", "binding", "block_given?", "caller",
    "caller_locations", "catch", "class", "clone", "define_singleton_method", "display", "dup", "enum_for", "eql?",
    "equal?", "eval", "exec", "exit", "exit!", "extend", "fail", "fork", "format", "freeze", "frozen?", "gem",
    "gets", "global_variables", "guarantees", "hash", "initialize", "inspect", "instance_eval", "instance_exec",
    "instance_of?", "instance_variable_defined?", "instance_variable_get", "instance_variable_set",
    "instance_variables", "is_a?", "iterator?", "itself", "j", "jj", "kind_of?", "lambda", "load", "local_variables",
    "loop", "method", "method_missing", "methods", "nil?", "object_id", "open", "p", "pp", "print", "printf",
    "private_methods", "proc", "protected_methods", "public_method", "public_methods", "public_send", "putc", "puts",
    "raise", "rand", "readline", "readlines", "remove_instance_variable", "require", "require_relative",
    "respond_to?", "respond_to_missing?", "select", "send", "set_trace_func", "singleton_class", "singleton_method",
    "singleton_methods", "sleep", "spawn", "sprintf", "srand", "syscall", "system", "tap", "test", "then", "throw",
    "to_enum", "to_json", "to_s", "to_yaml", "trace_var", "trap", "untrace_var", "warn", "yield_self",
];

#[cfg(test)]
mod tests;
