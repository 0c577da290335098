//! What is the same, and what comes first.

use std::cmp::Ordering;

use super::machine::{Machine, Run};
use super::tree::Class;
use super::value::Value;

/// The order of a whole number and one with a point, exact where one of the two cannot hold the other.
fn against(whole: i64, float: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is whole, and within 64 bits"
    )]
    let floor = float.floor() as i64;
    Some(match whole.cmp(&floor) {
        Ordering::Equal if float > float.floor() => Ordering::Less,
        order => order,
    })
}

impl Machine<'_> {
    /// Whether two values are the same; `strict` tells 1 from 1.0, as keys of hashes do.
    pub(super) fn same(&mut self, left: Value, right: Value, strict: bool) -> Run<bool> {
        self.same_within(left, right, strict, 0)
    }

    fn same_within(&mut self, left: Value, right: Value, strict: bool, depth: usize) -> Run<bool> {
        Ok(match (left, right) {
            (Value::Nil, Value::Nil) => true,
            (Value::Bool(l), Value::Bool(r)) => l == r,
            (Value::Integer(l), Value::Integer(r)) => l == r,
            (Value::Float(l), Value::Float(r)) => l == r,
            (Value::Integer(l), Value::Float(r)) | (Value::Float(r), Value::Integer(l)) => {
                !strict && against(l, r) == Some(Ordering::Equal)
            }
            (Value::Text(l), Value::Text(r)) | (Value::Symbol(l), Value::Symbol(r)) => {
                let same_length = self.heap.str(l).len() == self.heap.str(r).len();
                if same_length {
                    self.go_over(self.heap.str(l).len())?;
                }
                same_length && self.heap.str(l) == self.heap.str(r)
            }
            (Value::Array(l), Value::Array(r)) if l == r => true,
            (Value::Map(l), Value::Map(r)) if l == r => true,
            (Value::Array(l), Value::Array(r)) => {
                let length = self.heap.array(l).len();
                if length != self.heap.array(r).len() {
                    return Ok(false);
                }
                self.nested(depth)?;
                let mut at = 0;
                while let (Some(a), Some(b)) = (
                    self.heap.array(l).get(at).copied(),
                    self.heap.array(r).get(at).copied(),
                ) {
                    if !self.same_within(a, b, strict, depth + 1)? {
                        return Ok(false);
                    }
                    at += 1;
                }
                true
            }
            (Value::Map(l), Value::Map(r)) => {
                if self.heap.map(l).len() != self.heap.map(r).len() {
                    return Ok(false);
                }
                self.nested(depth)?;
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(l).get(at).copied() {
                    match self.look_up(r, key)? {
                        Some(other) if self.same_within(value, other, strict, depth + 1)? => {}
                        _ => return Ok(false),
                    }
                    at += 1;
                }
                true
            }
            (
                Value::Range {
                    from,
                    to,
                    exclusive,
                },
                Value::Range {
                    from: from_right,
                    to: to_right,
                    exclusive: exclusive_right,
                },
            ) => (from, to, exclusive) == (from_right, to_right, exclusive_right),
            (Value::Lambda(l), Value::Lambda(r)) => l == r,
            (Value::Error(l), Value::Error(r)) => l == r,
            (Value::Object(l), Value::Object(r)) => l == r,
            _ => false,
        })
    }

    /// Takes the steps of one level of lists within lists.
    fn nested(&mut self, depth: usize) -> Run<()> {
        self.step(1)?;
        match depth >= super::DEPTH_MAX {
            true => {
                let limit = super::Limit::Depth(super::DEPTH_MAX);
                Err(self.exceeded(limit))
            }
            false => Ok(()),
        }
    }

    /// The order of two values; nothing if they have none.
    pub(super) fn compare(&mut self, left: Value, right: Value) -> Run<Option<Ordering>> {
        self.compare_within(left, right, 0)
    }

    fn compare_within(&mut self, left: Value, right: Value, depth: usize) -> Run<Option<Ordering>> {
        self.step(1)?;
        Ok(match (left, right) {
            (Value::Integer(l), Value::Integer(r)) => Some(l.cmp(&r)),
            (Value::Float(l), Value::Float(r)) => l.partial_cmp(&r),
            (Value::Integer(l), Value::Float(r)) => against(l, r),
            (Value::Float(l), Value::Integer(r)) => against(r, l).map(Ordering::reverse),
            (Value::Text(l), Value::Text(r)) | (Value::Symbol(l), Value::Symbol(r)) => {
                let shorter = self.heap.str(l).len().min(self.heap.str(r).len());
                self.go_over(shorter)?;
                Some(self.heap.str(l).cmp(self.heap.str(r)))
            }
            (Value::Array(l), Value::Array(r)) => {
                self.nested(depth)?;
                let mut at = 0;
                while let (Some(a), Some(b)) = (
                    self.heap.array(l).get(at).copied(),
                    self.heap.array(r).get(at).copied(),
                ) {
                    match self.compare_within(a, b, depth + 1)? {
                        Some(Ordering::Equal) => at += 1,
                        other => return Ok(other),
                    }
                }
                Some(self.heap.array(l).len().cmp(&self.heap.array(r).len()))
            }
            (left, right) => self.same(left, right, false)?.then_some(Ordering::Equal),
        })
    }

    /// The order of two values that must have one.
    pub(super) fn order(&mut self, left: Value, right: Value) -> Run<Ordering> {
        let order = self.compare(left, right)?;
        order.ok_or_else(|| self.raise(Class::Argument, "comparison of these values failed"))
    }

    /// Sorts items by their keys; equal ones stay as they are. A merge sort of our own, since the order may fail.
    pub(super) fn sorted(&mut self, mut items: Vec<(Value, Value)>) -> Run<Vec<Value>> {
        let mut width = 1;
        while width < items.len() {
            let mut merged = Vec::with_capacity(items.len());
            for pair in items.chunks(width.saturating_mul(2)) {
                let (left, right) = pair.split_at(width.min(pair.len()));
                let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
                while let (Some((l, _)), Some((r, _))) = (left.peek(), right.peek()) {
                    let from = match self.order(*l, *r)? {
                        Ordering::Greater => &mut right,
                        _ => &mut left,
                    };
                    merged.extend(from.next());
                }
                merged.extend(left);
                merged.extend(right);
            }
            items = merged;
            width = width.saturating_mul(2);
        }
        Ok(items.into_iter().map(|(_, item)| item).collect())
    }

    /// Whether a range holds a number.
    pub(super) fn within(&self, range: Value, value: Value) -> bool {
        let Value::Range {
            from,
            to,
            exclusive,
        } = range
        else {
            return false;
        };
        match value {
            Value::Integer(value) => value >= from && (value < to || (!exclusive && value == to)),
            Value::Float(value) => {
                let low = against(from, value).is_some_and(Ordering::is_le);
                let high = against(to, value);
                low && high.is_some_and(|high| high.is_gt() || (!exclusive && high.is_eq()))
            }
            _ => false,
        }
    }
}
