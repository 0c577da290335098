//! Texts and symbols. A text never changes; each of these makes a new one, whose bytes are taken before it is made.

use super::block::Callee;
use super::machine::{Machine, Run};
use super::tree::Class;
use super::value::{TextId, Value};

impl Machine<'_> {
    pub(super) fn symbol_method(
        &mut self,
        id: TextId,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        match (method, arguments, block) {
            ("to_sym", [], None) => Ok(Value::Symbol(id)),
            ("size" | "length", [], None) => self.text_method(id, method, arguments, None),
            ("start_with?" | "end_with?", _, None) => self.text_method(id, method, arguments, None),
            _ => Err(self.no_method(Value::Symbol(id), method, arguments)),
        }
    }

    pub(super) fn text_method(
        &mut self,
        id: TextId,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let receiver = Value::Text(id);
        if block.is_some() {
            return Err(self.no_method(receiver, method, arguments));
        }
        let text = self.heap.text(id);
        self.go_over(text.len())?;
        match (method, arguments) {
            ("+", [Value::Text(other)]) => {
                let other = self.heap.text(*other);
                let mut joined = String::new();
                self.append(&mut joined, &text)?;
                self.append(&mut joined, &other)?;
                self.built(joined)
            }
            ("+", [_]) => Err(self.raise(
                Class::Type,
                "only a text can be added to a text; use `to_s`",
            )),
            ("*", [Value::Integer(times)]) => self.repeated(&text, *times),
            ("size" | "length", []) => self.number(text.chars().count()),
            ("empty?", []) => Ok(Value::Bool(text.is_empty())),
            ("strip", []) => self.text(text.trim_matches(is_blank)),
            ("lstrip", []) => self.text(text.trim_start_matches(is_blank)),
            ("rstrip", []) => self.text(text.trim_end_matches(is_blank)),
            ("upcase", []) => self.mapped_text(&text, |text| text.to_uppercase()),
            ("downcase", []) => self.mapped_text(&text, |text| text.to_lowercase()),
            ("capitalize", []) => self.mapped_text(&text, capitalized),
            ("reverse", []) => self.mapped_text(&text, |text| text.chars().rev().collect()),
            ("to_sym", []) => Ok(Value::Symbol(id)),
            ("to_i", []) => match leading_integer(&text) {
                Some(value) => Ok(Value::Integer(value)),
                None => Err(self.exceeded(super::Limit::Integer)),
            },
            ("to_f", []) => Ok(Value::Float(leading_float(&text))),
            ("include?", [part]) => {
                let part = self.text_given(*part)?;
                Ok(Value::Bool(text.contains(&*part)))
            }
            ("start_with?" | "end_with?", parts) => {
                for part in parts {
                    let part = self.text_given(*part)?;
                    let found = match method {
                        "start_with?" => text.starts_with(&*part),
                        _ => text.ends_with(&*part),
                    };
                    if found {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            ("index", [part]) => {
                let part = self.text_given(*part)?;
                match text.find(&*part).and_then(|at| text.get(..at)) {
                    Some(before) => self.number(before.chars().count()),
                    None => Ok(Value::Nil),
                }
            }
            ("sub" | "gsub", [from, to]) => {
                let (from, to) = (self.text_given(*from)?, self.text_given(*to)?);
                self.replaced(&text, &from, &to, method == "sub")
            }
            ("chars", []) => {
                let mut list = Vec::new();
                for char in text.chars() {
                    let char = self.text(char.encode_utf8(&mut [0; 4]))?;
                    self.push(&mut list, char)?;
                }
                self.listed(list)
            }
            ("lines", []) => self.parts(text.split_inclusive('\n')),
            ("split", []) => self.parts(text.split_ascii_whitespace()),
            ("split", [part]) => {
                let part = self.text_given(*part)?;
                match &*part {
                    " " => self.parts(text.split_ascii_whitespace()),
                    "" => self.text_method(id, "chars", &[], None),
                    // Ruby leaves out what is empty at the end.
                    part => {
                        let mut end = &*text;
                        while let Some(rest) = end.strip_suffix(part) {
                            end = rest;
                        }
                        match end {
                            "" => self.listed(Vec::new()),
                            end => self.parts(end.split(part)),
                        }
                    }
                }
            }
            ("[]", [Value::Text(part)]) => {
                let part = self.heap.text(*part);
                match text.contains(&*part) {
                    true => self.text(&part),
                    false => Ok(Value::Nil),
                }
            }
            ("[]" | "slice", [Value::Integer(at)]) => {
                let length = text.chars().count();
                match index(*at, length).and_then(|at| text.chars().nth(at)) {
                    Some(char) => self.text(char.encode_utf8(&mut [0; 4])),
                    None => Ok(Value::Nil),
                }
            }
            ("[]" | "slice", [Value::Integer(_), Value::Integer(_)] | [Value::Range { .. }]) => {
                match cut(arguments, text.chars().count()) {
                    Some((start, length)) => {
                        let part = text.chars().skip(start).take(length);
                        self.take(text.len())?;
                        let part: String = part.collect();
                        self.text(&part)
                    }
                    None => Ok(Value::Nil),
                }
            }
            _ => Err(self.no_method(receiver, method, arguments)),
        }
    }

    /// A text that a method of a text needs.
    fn text_given(&self, value: Value) -> Run<std::sync::Arc<str>> {
        match value {
            Value::Text(id) => Ok(self.heap.text(id)),
            _ => Err(self.raise(Class::Type, "this takes a text")),
        }
    }

    /// A number of things that are there.
    pub(super) fn number(&self, count: usize) -> Run {
        let count = i64::try_from(count);
        count
            .map(Value::Integer)
            .map_err(|_| self.exceeded(super::Limit::Integer))
    }

    pub(super) fn repeated(&mut self, text: &str, times: i64) -> Run {
        let Ok(times) = usize::try_from(times) else {
            return Err(self.raise(Class::Argument, "negative argument"));
        };
        let length = text.len().saturating_mul(times);
        self.take(length)?;
        self.go_over(length)?;
        self.built(match length {
            0 => String::new(),
            _ => text.repeat(times),
        })
    }

    fn mapped_text(&mut self, text: &str, map: fn(&str) -> String) -> Run {
        // A changed letter takes at most three times its bytes.
        self.take(text.len().saturating_mul(3))?;
        self.built(map(text))
    }

    fn replaced(&mut self, text: &str, from: &str, to: &str, once: bool) -> Run {
        let mut made = String::new();
        let mut done = 0;
        for (at, found) in text.match_indices(from) {
            self.step(1)?;
            self.append(&mut made, text.get(done..at).unwrap_or_default())?;
            self.append(&mut made, to)?;
            done = at.saturating_add(found.len());
            if once {
                break;
            }
        }
        self.append(&mut made, text.get(done..).unwrap_or_default())?;
        self.built(made)
    }

    fn parts<'t>(&mut self, parts: impl Iterator<Item = &'t str>) -> Run {
        let mut list = Vec::new();
        for part in parts {
            let part = self.text(part)?;
            self.push(&mut list, part)?;
        }
        self.listed(list)
    }
}

/// What Ruby strips: ASCII white space, and NUL.
fn is_blank(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\0')
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase());
    let mut made: String = first.into_iter().flatten().collect();
    made.push_str(&chars.as_str().to_lowercase());
    made
}

/// The number that a text begins with, 0 if it begins with none; nothing beyond 64 bits.
fn leading_integer(text: &str) -> Option<i64> {
    let text = text.trim_start_matches(is_blank);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|char: char| !char.is_ascii_digit());
    let digits = end.and_then(|end| digits.get(..end)).unwrap_or(digits);
    match digits {
        "" => Some(0),
        digits => format!("{sign}{digits}").parse().ok(),
    }
}

/// The number with a point that a text begins with, 0 if it begins with none.
fn leading_float(text: &str) -> f64 {
    let text = text.trim_start_matches(is_blank);
    let mut end = 0;
    let mut point = false;
    for (at, char) in text.char_indices() {
        match char {
            '+' | '-' if at == 0 => {}
            '.' if !point => point = true,
            char if char.is_ascii_digit() => end = at.saturating_add(1),
            _ => break,
        }
    }
    let digits = text.get(..end).unwrap_or_default();
    digits.parse().unwrap_or_default()
}

/// The place that an index means, which counts from the end if it is below 0.
pub(super) fn index(at: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let at = match at < 0 {
        true => at.checked_add(length)?,
        false => at,
    };
    usize::try_from(at).ok()
}

/// Where `[start, length]` or `[range]` begins, and how much of it there is.
pub(super) fn cut(arguments: &[Value], length: usize) -> Option<(usize, usize)> {
    let (start, wanted) = match arguments {
        [Value::Integer(start), Value::Integer(wanted)] => {
            (index(*start, length)?, usize::try_from(*wanted).ok()?)
        }
        [
            Value::Range {
                from,
                to,
                exclusive,
            },
        ] => {
            let start = index(*from, length)?;
            let end = match index(*to, length) {
                Some(end) if *exclusive => end,
                Some(end) => end.saturating_add(1),
                None => 0,
            };
            (start, end.saturating_sub(start))
        }
        _ => return None,
    };
    let left = length.checked_sub(start)?;
    Some((start, wanted.min(left)))
}
