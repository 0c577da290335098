//! Numbers and ranges of them.

use super::block::Callee;
use super::error::Limit;
use super::machine::{Machine, Run};
use super::tree::Class;
use super::value::Value;

impl Machine<'_> {
    fn whole(&self, value: Option<i64>) -> Run {
        value
            .map(Value::Integer)
            .ok_or_else(|| self.exceeded(Limit::Integer))
    }

    /// What is left of a number once its fraction is gone.
    fn truncated(&self, value: f64) -> Run {
        if !value.is_finite() {
            return Err(self.raise(Class::Range, "this number has no whole part"));
        }
        // The first beyond 64 bits.
        const BEYOND: f64 = 9_223_372_036_854_775_808.0;
        #[expect(clippy::cast_possible_truncation, reason = "it is within 64 bits")]
        let whole = (-BEYOND..BEYOND).contains(&value).then_some(value as i64);
        self.whole(whole)
    }

    pub(super) fn integer_method(
        &mut self,
        value: i64,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let receiver = Value::Integer(value);
        match (method, arguments, block) {
            ("+" | "-" | "*" | "/" | "%" | "**", [Value::Integer(other)], None) => {
                self.computed(value, method, *other)
            }
            ("+" | "-" | "*" | "/" | "%" | "**", [Value::Float(_)], None) => {
                self.float_method(float(value), method, arguments, None)
            }
            ("-@", [], None) => self.whole(value.checked_neg()),
            ("abs", [], None) => self.whole(value.checked_abs()),
            ("+@" | "to_i" | "floor" | "ceil" | "round", [], None) => Ok(receiver),
            ("to_f", [], None) => Ok(Value::Float(float(value))),
            ("zero?", [], None) => Ok(Value::Bool(value == 0)),
            ("positive?", [], None) => Ok(Value::Bool(value > 0)),
            ("negative?", [], None) => Ok(Value::Bool(value < 0)),
            ("even?", [], None) => Ok(Value::Bool(value % 2 == 0)),
            ("odd?", [], None) => Ok(Value::Bool(value % 2 != 0)),
            ("times", [], Some(block)) => {
                let mut n = 0;
                while n < value {
                    self.step(1)?;
                    self.yields(block, &[Value::Integer(n)])?;
                    n += 1;
                }
                Ok(receiver)
            }
            _ => Err(self.no_method(receiver, method, arguments)),
        }
    }

    fn computed(&self, left: i64, method: &'static str, right: i64) -> Run {
        if matches!(method, "/" | "%") && right == 0 {
            return Err(self.raise(Class::ZeroDivision, "divided by 0"));
        }
        self.whole(match method {
            "+" => left.checked_add(right),
            "-" => left.checked_sub(right),
            "*" => left.checked_mul(right),
            // Ruby rounds down, and the rest has the sign of what it was divided by.
            "/" => left.checked_div_euclid(right).and_then(|quotient| {
                let rest = left.checked_rem_euclid(right)?;
                match right < 0 && rest != 0 {
                    true => quotient.checked_sub(1),
                    false => Some(quotient),
                }
            }),
            "%" => left
                .checked_rem_euclid(right)
                .and_then(|rest| match right < 0 && rest != 0 {
                    true => rest.checked_add(right),
                    false => Some(rest),
                }),
            _ => match u32::try_from(right) {
                Ok(exponent) => left.checked_pow(exponent),
                Err(_) if right < 0 => {
                    return Err(self.raise(Class::Range, "a power below 0 is no whole number"));
                }
                Err(_) => match left {
                    0 | 1 => Some(left),
                    -1 if right % 2 == 0 => Some(1),
                    -1 => Some(-1),
                    _ => None,
                },
            },
        })
    }

    pub(super) fn float_method(
        &mut self,
        value: f64,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let receiver = Value::Float(value);
        let other = match arguments {
            [Value::Integer(other)] => Some(float(*other)),
            [Value::Float(other)] => Some(*other),
            _ => None,
        };
        if let (Some(other), "+" | "-" | "*" | "/" | "%" | "**", None) = (other, method, block) {
            return Ok(Value::Float(match method {
                "+" => value + other,
                "-" => value - other,
                "*" => value * other,
                "/" => value / other,
                "%" => value - other * (value / other).floor(),
                _ => value.powf(other),
            }));
        }
        match (method, arguments, block) {
            ("-@", [], None) => Ok(Value::Float(-value)),
            ("abs", [], None) => Ok(Value::Float(value.abs())),
            ("+@" | "to_f", [], None) => Ok(receiver),
            ("to_i", [], None) => self.truncated(value),
            ("floor", [], None) => self.truncated(value.floor()),
            ("ceil", [], None) => self.truncated(value.ceil()),
            ("round", [], None) => self.truncated(value.round()),
            ("round", [Value::Integer(digits)], None) => match i32::try_from(*digits) {
                Ok(digits @ 1..=15) => {
                    let scale = 10_f64.powi(digits);
                    let scaled = value * scale;
                    let rounded = scaled.round() / scale;
                    Ok(Value::Float(if scaled.is_finite() {
                        rounded
                    } else {
                        value
                    }))
                }
                _ => Err(self.raise(Class::Argument, "`round` takes 1 to 15 digits")),
            },
            ("zero?", [], None) => Ok(Value::Bool(value == 0.0)),
            ("positive?", [], None) => Ok(Value::Bool(value > 0.0)),
            ("negative?", [], None) => Ok(Value::Bool(value < 0.0)),
            _ => Err(self.no_method(receiver, method, arguments)),
        }
    }

    pub(super) fn range_method(
        &mut self,
        (from, to, exclusive): (i64, i64, bool),
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let receiver = Value::Range {
            from,
            to,
            exclusive,
        };
        let end = match exclusive {
            true => to.checked_sub(1),
            false => Some(to),
        };
        let end = end.filter(|end| *end >= from);
        match (method, arguments, block) {
            ("include?" | "member?", [value], None) => {
                return Ok(Value::Bool(self.within(receiver, *value)));
            }
            ("size" | "count", [], None) => {
                let size = match end {
                    None => Some(0),
                    Some(end) => end.checked_sub(from).and_then(|size| size.checked_add(1)),
                };
                return self.whole(size);
            }
            ("first", [], None) => return Ok(Value::Integer(from)),
            ("last", [], None) => return Ok(Value::Integer(to)),
            ("min", [], None) => return Ok(end.map_or(Value::Nil, |_| Value::Integer(from))),
            ("max", [], None) => return Ok(end.map_or(Value::Nil, Value::Integer)),
            ("each", [], Some(block)) => {
                let mut next = end.map(|_| from);
                while let Some(n) = next {
                    self.step(1)?;
                    self.yields(block, &[Value::Integer(n)])?;
                    next = n.checked_add(1).filter(|n| Some(*n) <= end);
                }
                return Ok(receiver);
            }
            _ => {}
        }
        let mut items = Vec::new();
        let mut next = end.map(|_| from);
        while let Some(n) = next {
            self.push(&mut items, Value::Integer(n))?;
            next = n.checked_add(1).filter(|n| Some(*n) <= end);
        }
        let Value::Array(list) = self.listed(items)? else {
            return Ok(Value::Nil);
        };
        self.array_method(list, method, arguments, block)
    }
}

/// A whole number as one with a point; the nearest, where there is none.
pub(super) fn float(value: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "as in Ruby")]
    let float = value as f64;
    float
}
