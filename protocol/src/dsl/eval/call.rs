//! Methods: which value knows which, and what all of them know.

use super::block::Callee;
use super::machine::{Machine, Run, Stop};
use super::tree::Class;
use super::value::{Object, Value};

/// What a value is called in errors.
fn kind_of(value: Value) -> &'static str {
    match value {
        Value::Nil => "nil:NilClass",
        Value::Bool(_) => "true or false",
        Value::Integer(_) => "Integer",
        Value::Float(_) => "Float",
        Value::Text(_) => "String",
        Value::Symbol(_) => "Symbol",
        Value::Array(_) => "Array",
        Value::Map(_) => "Hash",
        Value::Range { .. } => "Range",
        Value::Lambda(_) => "lambda",
        Value::Error(_) => "error",
        Value::Object(object) => match object {
            Object::Skill(_) => "skill",
            Object::Behavior(_) => "behavior",
            Object::Rules(_) => "rules",
            Object::Ledger => "ledger",
            Object::Blocks => "blocks",
            Object::Block { .. } => "block",
            Object::Parsed => "parsed Ruby",
        },
    }
}

impl Machine<'_> {
    /// Calls a method of a value. Values that can hold others go over them in their own modules.
    pub(super) fn dispatch(
        &mut self,
        receiver: Value,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        match (method, arguments, block) {
            ("==", [other], None) => return self.same(receiver, *other, false).map(Value::Bool),
            ("!=", [other], None) => {
                return Ok(Value::Bool(!self.same(receiver, *other, false)?));
            }
            ("!", [], None) => return Ok(Value::Bool(!receiver.is_truthy())),
            ("nil?", [], None) => return Ok(Value::Bool(matches!(receiver, Value::Nil))),
            ("inspect", [], None) => return self.inspected(receiver),
            ("to_s", [], None) => {
                let text = self.shown(receiver)?;
                return self.text(&text);
            }
            ("<=>", [other], None) => {
                let order = self.compare(receiver, *other)?;
                return Ok(order.map_or(Value::Nil, |order| Value::Integer(order as i64)));
            }
            ("<" | "<=" | ">" | ">=", [other], None) => {
                return self.ordered(receiver, method, *other);
            }
            _ => {}
        }
        match receiver {
            Value::Integer(value) => self.integer_method(value, method, arguments, block),
            Value::Float(value) => self.float_method(value, method, arguments, block),
            Value::Text(id) => self.text_method(id, method, arguments, block),
            Value::Symbol(id) => self.symbol_method(id, method, arguments, block),
            Value::Array(id) => self.array_method(id, method, arguments, block),
            Value::Map(id) => self.map_method(id, method, arguments, block),
            Value::Range {
                from,
                to,
                exclusive,
            } => self.range_method((from, to, exclusive), method, arguments, block),
            Value::Object(object) => self.object_method(object, method, arguments, block),
            Value::Nil => match (method, arguments, block) {
                ("to_a", [], None) => self.listed(Vec::new()),
                ("to_i", [], None) => Ok(Value::Integer(0)),
                ("to_f", [], None) => Ok(Value::Float(0.0)),
                ("to_h", [], None) => self.mapped(Vec::new()),
                _ => Err(self.no_method(receiver, method, arguments)),
            },
            Value::Bool(value) => match (method, arguments, block) {
                ("&", [other], None) => Ok(Value::Bool(value && other.is_truthy())),
                ("|", [other], None) => Ok(Value::Bool(value || other.is_truthy())),
                _ => Err(self.no_method(receiver, method, arguments)),
            },
            Value::Lambda(lambda) => match (method, block) {
                ("call" | "[]", None) => self.call_lambda(lambda, arguments, &[]),
                _ => Err(self.no_method(receiver, method, arguments)),
            },
            Value::Error(id) => match (method, arguments, block) {
                ("message", [], None) => {
                    let text = self.error(id).1.to_owned();
                    self.text(&text)
                }
                _ => Err(self.no_method(receiver, method, arguments)),
            },
        }
    }

    fn ordered(&mut self, left: Value, method: &'static str, right: Value) -> Run {
        // Only what Ruby can compare, too.
        let comparable = matches!(
            (left, right),
            (
                Value::Integer(_) | Value::Float(_),
                Value::Integer(_) | Value::Float(_)
            ) | (Value::Text(_), Value::Text(_))
                | (Value::Symbol(_), Value::Symbol(_))
        );
        if !comparable {
            let known = matches!(
                left,
                Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Symbol(_)
            );
            return Err(match known {
                true => {
                    let message = format!(
                        "comparison of {} with {} failed",
                        kind_of(left),
                        kind_of(right)
                    );
                    self.raise(Class::Argument, message)
                }
                false => self.no_method(left, method, &[right]),
            });
        }
        let order = self.compare(left, right)?;
        Ok(Value::Bool(order.is_some_and(|order| match method {
            "<" => order.is_lt(),
            "<=" => order.is_le(),
            ">" => order.is_gt(),
            _ => order.is_ge(),
        })))
    }

    /// The error for a method that a value does not know, or not with these values.
    pub(super) fn no_method(
        &self,
        receiver: Value,
        method: &'static str,
        arguments: &[Value],
    ) -> Stop {
        let kind = kind_of(receiver);
        let given: Vec<_> = arguments
            .iter()
            .take(8)
            .map(|value| kind_of(*value))
            .collect();
        let given = match given.is_empty() || matches!(receiver, Value::Nil) {
            true => String::new(),
            false => format!(", given {}", given.join(", ")),
        };
        let message = format!("undefined method `{method}' for {kind}{given}");
        self.raise(Class::NoMethod, message)
    }
}
