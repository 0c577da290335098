//! Between values of an evaluation and values that stand by themselves.

use std::sync::Arc;

use serde_json::Value as Json;

use super::super::Literal;
use super::error::{EvalError, Limit};
use super::machine::{ITEM_BYTES, Machine, Run};
use super::value::{Object, Value};

/// Deepest nesting of a value that is shown, taken in or given out.
const NESTING_MAX: usize = 64;
/// What a value counts for in an answer beyond its text.
const MARK_BYTES: usize = 8;

/// What still may be given out.
struct Room {
    left: usize,
    limit: Limit,
}

impl Machine<'_> {
    /// The value of what stands in a law, or of what a host tells.
    pub(super) fn value_of(&mut self, literal: &Literal) -> Run {
        self.taken_in(literal, 0)
    }

    fn taken_in(&mut self, literal: &Literal, depth: usize) -> Run {
        if depth > NESTING_MAX {
            return Err(self.exceeded(Limit::Depth(NESTING_MAX)));
        }
        Ok(match literal {
            Literal::Nil => Value::Nil,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Integer(number) => match number.as_i64() {
                Some(value) => Value::Integer(value),
                None => return Err(self.exceeded(Limit::Integer)),
            },
            Literal::Float(value) => Value::Float(*value),
            Literal::Text(text) => self.text(text)?,
            Literal::Symbol(name) => self.symbol(name)?,
            Literal::Array(items) => {
                let mut list = Vec::new();
                for item in items {
                    let item = self.taken_in(item, depth + 1)?;
                    self.push(&mut list, item)?;
                }
                self.listed(list)?
            }
            Literal::Map(pairs) => {
                let mut made = Vec::new();
                for (key, value) in pairs {
                    let key = self.taken_in(key, depth + 1)?;
                    let value = self.taken_in(value, depth + 1)?;
                    self.insert(&mut made, key, value)?;
                }
                self.mapped(made)?
            }
            Literal::Range {
                from,
                to,
                exclusive,
            } => match (&**from, &**to) {
                (Literal::Integer(from), Literal::Integer(to)) => {
                    let (Some(from), Some(to)) = (from.as_i64(), to.as_i64()) else {
                        return Err(self.exceeded(Limit::Integer));
                    };
                    Value::Range {
                        from,
                        to,
                        exclusive: *exclusive,
                    }
                }
                _ => self.text(&literal.to_string())?,
            },
        })
    }

    /// The value of JSON, with texts as keys.
    pub(super) fn value_of_json(&mut self, json: &Json) -> Run {
        self.json_in(json, 0)
    }

    fn json_in(&mut self, json: &Json, depth: usize) -> Run {
        if depth > NESTING_MAX {
            return Err(self.exceeded(Limit::Depth(NESTING_MAX)));
        }
        Ok(match json {
            Json::Null => Value::Nil,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Value::Integer(value),
                (None, Some(value)) if number.is_f64() && value.is_finite() => Value::Float(value),
                _ => return Err(self.exceeded(Limit::Integer)),
            },
            Json::String(text) => self.text(text)?,
            Json::Array(items) => {
                let mut list = Vec::new();
                for item in items {
                    let item = self.json_in(item, depth + 1)?;
                    self.push(&mut list, item)?;
                }
                self.listed(list)?
            }
            Json::Object(members) => {
                let mut made = Vec::new();
                for (key, value) in members {
                    let key = self.text(key)?;
                    let value = self.json_in(value, depth + 1)?;
                    self.insert(&mut made, key, value)?;
                }
                self.mapped(made)?
            }
        })
    }

    /// The answer of an evaluation.
    pub(super) fn output(&mut self, value: Value) -> Result<Literal, EvalError> {
        let mut room = Room {
            left: self.limits.output,
            limit: Limit::Output(self.limits.output),
        };
        Ok(self.given_out(value, 0, &mut room)?)
    }

    /// What `to_s` gives.
    pub(super) fn shown(&mut self, value: Value) -> Run<Arc<str>> {
        match value {
            Value::Text(id) | Value::Symbol(id) => Ok(self.heap.text(id)),
            value => {
                let literal = self.bare(value)?;
                let text = literal.to_string();
                self.take(text.len())?;
                Ok(text.into())
            }
        }
    }

    /// What `inspect` gives.
    pub(super) fn inspected(&mut self, value: Value) -> Run {
        let text = self.bare(value)?.inspect();
        self.text(&text)
    }

    /// The value by itself, as far as there is room for it.
    fn bare(&mut self, value: Value) -> Run<Literal> {
        let mut room = Room {
            left: self.bytes_left(),
            limit: Limit::Bytes(self.limits.bytes),
        };
        self.given_out(value, 0, &mut room)
    }

    fn given_out(&mut self, value: Value, depth: usize, room: &mut Room) -> Run<Literal> {
        self.step(1)?;
        if depth > NESTING_MAX {
            return Err(self.exceeded(Limit::Depth(NESTING_MAX)));
        }
        let weight = match value {
            Value::Text(id) | Value::Symbol(id) => self.heap.str(id).len(),
            _ => 0,
        };
        // While there is a value by itself, it takes what a value in the heap takes.
        let mark = match room.limit {
            Limit::Output(_) => MARK_BYTES,
            _ => ITEM_BYTES * 2,
        };
        match room.left.checked_sub(weight.saturating_add(mark)) {
            Some(left) => room.left = left,
            None => return Err(self.exceeded(room.limit)),
        }
        self.go_over(weight)?;
        Ok(match value {
            Value::Nil => Literal::Nil,
            Value::Bool(value) => Literal::Bool(value),
            Value::Integer(value) => whole(value),
            Value::Float(value) if value.is_finite() => Literal::Float(value),
            Value::Float(value) => Literal::Text(match value {
                value if value.is_nan() => "NaN".to_owned(),
                value if value > 0.0 => "Infinity".to_owned(),
                _ => "-Infinity".to_owned(),
            }),
            Value::Text(id) => Literal::Text(self.heap.str(id).to_owned()),
            Value::Symbol(id) => Literal::Symbol(self.heap.str(id).to_owned()),
            Value::Array(id) => {
                let mut items = Vec::new();
                let mut at = 0;
                while let Some(item) = self.heap.array(id).get(at).copied() {
                    items.push(self.given_out(item, depth + 1, room)?);
                    at += 1;
                }
                Literal::Array(items)
            }
            Value::Map(id) => {
                let mut pairs = Vec::new();
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(id).get(at).copied() {
                    let key = self.given_out(key, depth + 1, room)?;
                    pairs.push((key, self.given_out(value, depth + 1, room)?));
                    at += 1;
                }
                Literal::Map(pairs)
            }
            Value::Range {
                from,
                to,
                exclusive,
            } => Literal::Range {
                from: Box::new(whole(from)),
                to: Box::new(whole(to)),
                exclusive,
            },
            Value::Lambda(_) => Literal::Text("#<lambda>".to_owned()),
            Value::Error(id) => Literal::Text(self.error(id).1.to_owned()),
            Value::Object(object) => Literal::Text(self.named_object(object)),
        })
    }

    fn named_object(&self, object: Object) -> String {
        let of = |index: usize| {
            let skill = self.law.skills.get(index);
            skill.map(|skill| skill.id.as_str()).unwrap_or_default()
        };
        match object {
            Object::Skill(index) => format!("#<skill {}>", of(index)),
            Object::Behavior(index) => format!("#<behavior of {}>", of(index)),
            Object::Rules(index) => format!("#<rules of {}>", of(index)),
            Object::Ledger => "#<ledger>".to_owned(),
            Object::Blocks => "#<blocks>".to_owned(),
            Object::Block { .. } => "#<block>".to_owned(),
            Object::Parsed => "#<ruby>".to_owned(),
        }
    }
}

/// A whole number of 64 bits, which a literal always holds.
fn whole(value: i64) -> Literal {
    Literal::Integer(value.into())
}
