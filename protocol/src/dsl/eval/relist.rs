//! New lists, hashes and texts of all items of a list.

use super::machine::{Machine, Run};
use super::tree::Class;
use super::value::{ArrayId, Value};

impl Machine<'_> {
    /// New lists and texts of all items.
    #[inline(never)]
    pub(super) fn remade(
        &mut self,
        list: ArrayId,
        method: &'static str,
        arguments: &[Value],
    ) -> Run {
        let mut made = Vec::new();
        match (method, arguments) {
            ("+" | "concat", [Value::Array(other)]) => {
                self.copy_into(&mut made, list)?;
                if method == "concat" {
                    // In place, and never more than there was at first.
                    let mut more = Vec::new();
                    self.copy_into(&mut more, *other)?;
                    return self.add_items(list, &more);
                }
                self.copy_into(&mut made, *other)?;
            }
            ("-" | "&" | "|", [Value::Array(other)]) => {
                let mut at = 0;
                while let Some(item) = self.item(list, at) {
                    let known = match method {
                        "|" => false,
                        _ => self.holds(*other, item)?,
                    };
                    let wanted = match method {
                        "-" => !known,
                        "&" => known && !self.among(&made, item)?,
                        _ => !self.among(&made, item)?,
                    };
                    if wanted {
                        self.push(&mut made, item)?;
                    }
                    at += 1;
                }
                let mut at = 0;
                while let Some(item) = self.item(*other, at).filter(|_| method == "|") {
                    if !self.among(&made, item)? {
                        self.push(&mut made, item)?;
                    }
                    at += 1;
                }
            }
            ("*", [Value::Integer(times)]) => {
                for _ in 0..*times {
                    self.step(1)?;
                    self.copy_into(&mut made, list)?;
                }
            }
            ("reverse", []) => {
                self.copy_into(&mut made, list)?;
                made.reverse();
            }
            ("compact", []) => {
                let mut at = 0;
                while let Some(item) = self.item(list, at) {
                    if !matches!(item, Value::Nil) {
                        self.push(&mut made, item)?;
                    }
                    at += 1;
                }
            }
            ("uniq", []) => {
                let mut at = 0;
                while let Some(item) = self.item(list, at) {
                    if !self.among(&made, item)? {
                        self.push(&mut made, item)?;
                    }
                    at += 1;
                }
            }
            ("flatten", []) => self.flatten_into(&mut made, list, 0)?,
            ("zip", [Value::Array(other)]) => {
                let mut at = 0;
                while let Some(item) = self.item(list, at) {
                    let other = self.item(*other, at).unwrap_or(Value::Nil);
                    let pair = self.list_of(&[item, other])?;
                    self.push(&mut made, pair)?;
                    at += 1;
                }
            }
            ("join", []) => return self.joined_list(list, "", 0),
            ("join" | "*", [Value::Text(between)]) => {
                let between = self.heap.text(*between);
                return self.joined_list(list, &between, 0);
            }
            ("to_h", []) => return self.hash_of(list),
            ("tally", []) => return self.tallied(list),
            _ => return Err(self.no_method(Value::Array(list), method, arguments)),
        }
        self.listed(made)
    }

    /// Whether a list holds an item.
    fn holds(&mut self, list: ArrayId, item: Value) -> Run<bool> {
        let mut at = 0;
        while let Some(known) = self.item(list, at) {
            self.step(1)?;
            if self.same(known, item, true)? {
                return Ok(true);
            }
            at += 1;
        }
        Ok(false)
    }

    fn among(&mut self, items: &[Value], item: Value) -> Run<bool> {
        for known in items {
            self.step(1)?;
            if self.same(*known, item, true)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn flatten_into(&mut self, made: &mut Vec<Value>, list: ArrayId, depth: usize) -> Run<()> {
        self.level(depth)?;
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            self.step(1)?;
            match item {
                Value::Array(inner) => self.flatten_into(made, inner, depth.saturating_add(1))?,
                item => self.push(made, item)?,
            }
            at += 1;
        }
        Ok(())
    }

    fn level(&self, depth: usize) -> Run<()> {
        match depth >= super::DEPTH_MAX {
            true => Err(self.exceeded(super::Limit::Depth(super::DEPTH_MAX))),
            false => Ok(()),
        }
    }

    fn joined_list(&mut self, list: ArrayId, between: &str, depth: usize) -> Run {
        self.level(depth)?;
        let mut text = String::new();
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            self.step(1)?;
            if at > 0 {
                self.append(&mut text, between)?;
            }
            let item = match item {
                Value::Array(inner) => self.joined_list(inner, between, depth.saturating_add(1))?,
                item => item,
            };
            let item = self.shown(item)?;
            self.append(&mut text, &item)?;
            at += 1;
        }
        self.built(text)
    }

    fn hash_of(&mut self, list: ArrayId) -> Run {
        let mut pairs = Vec::new();
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            let pair = match item {
                Value::Array(pair) => self.heap.array(pair).to_vec(),
                _ => Vec::new(),
            };
            let [key, value] = pair.as_slice() else {
                return Err(self.raise(Class::Type, "`to_h` takes a list of pairs"));
            };
            self.insert(&mut pairs, *key, *value)?;
            at += 1;
        }
        self.mapped(pairs)
    }

    fn tallied(&mut self, list: ArrayId) -> Run {
        let mut counts: Vec<(Value, Value)> = Vec::new();
        let mut at = 0;
        'items: while let Some(item) = self.item(list, at) {
            at += 1;
            for (known, count) in &mut counts {
                self.step(1)?;
                if self.same(*known, item, true)? {
                    if let Value::Integer(count) = count {
                        *count = count.saturating_add(1);
                    }
                    continue 'items;
                }
            }
            self.insert(&mut counts, item, Value::Integer(1))?;
        }
        self.mapped(counts)
    }
}
