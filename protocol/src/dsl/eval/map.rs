//! Hashes: pairs in the order in which their keys came.

use super::block::Callee;
use super::machine::{ITEM_BYTES, Machine, Run};
use super::tree::Class;
use super::value::{MapId, Value};

/// How many keys are looked at in one step.
const KEYS_PER_STEP: usize = 8;

impl Machine<'_> {
    /// Puts a pair into a hash under construction.
    pub(super) fn insert(
        &mut self,
        pairs: &mut Vec<(Value, Value)>,
        key: Value,
        value: Value,
    ) -> Run<()> {
        self.step(1 + pairs.len() / KEYS_PER_STEP)?;
        for (known, old) in pairs.iter_mut() {
            if self.same(*known, key, true)? {
                *old = value;
                return Ok(());
            }
        }
        self.take(2 * ITEM_BYTES)?;
        pairs.push((key, value));
        Ok(())
    }

    /// The hash that was constructed with [`insert`](Self::insert).
    pub(super) fn mapped(&mut self, pairs: Vec<(Value, Value)>) -> Run {
        self.take(ITEM_BYTES)?;
        Ok(Value::Map(self.heap.add_map(pairs)))
    }

    fn find(&mut self, map: MapId, key: Value) -> Run<Option<usize>> {
        self.step(1 + self.heap.map(map).len() / KEYS_PER_STEP)?;
        let mut at = 0;
        while let Some((known, _)) = self.heap.map(map).get(at).copied() {
            if self.same(known, key, true)? {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    pub(super) fn look_up(&mut self, map: MapId, key: Value) -> Run<Option<Value>> {
        let at = self.find(map, key)?;
        let pair = at.and_then(|at| self.heap.map(map).get(at));
        Ok(pair.map(|(_, value)| *value))
    }

    /// `list[at] = value`
    pub(super) fn assign_at(&mut self, list: Value, key: Value, value: Value) -> Run<()> {
        match (list, key) {
            (Value::Map(map), key) => {
                let at = self.find(map, key)?;
                if at.is_none() {
                    self.take(2 * ITEM_BYTES)?;
                }
                let Some(pairs) = self.heap.map_mut(map) else {
                    return Ok(());
                };
                match at.and_then(|at| pairs.get_mut(at)) {
                    Some((_, old)) => *old = value,
                    None => pairs.push((key, value)),
                }
                Ok(())
            }
            (Value::Array(list), Value::Integer(at)) => {
                let length = self.heap.array(list).len();
                let Some(at) = super::text::index(at, length).filter(|at| *at <= length) else {
                    return Err(self.raise(Class::Index, "the index is outside of the list"));
                };
                if at == length {
                    self.take(ITEM_BYTES)?;
                }
                let Some(items) = self.heap.array_mut(list) else {
                    return Ok(());
                };
                match items.get_mut(at) {
                    Some(old) => *old = value,
                    None => items.push(value),
                }
                Ok(())
            }
            _ => Err(self.no_method(list, "[]", &[key])),
        }
    }

    /// The pairs as a list of lists.
    fn pairs_of(&mut self, map: MapId) -> Run {
        let mut list = Vec::new();
        let mut at = 0;
        while let Some((key, value)) = self.heap.map(map).get(at).copied() {
            let pair = self.list_of(&[key, value])?;
            self.push(&mut list, pair)?;
            at += 1;
        }
        self.listed(list)
    }

    pub(super) fn map_method(
        &mut self,
        map: MapId,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let receiver = Value::Map(map);
        match (method, arguments, block) {
            ("[]", [key], None) => Ok(self.look_up(map, *key)?.unwrap_or(Value::Nil)),
            ("key?" | "has_key?" | "include?" | "member?", [key], None) => {
                Ok(Value::Bool(self.find(map, *key)?.is_some()))
            }
            ("fetch", [key], None) => match self.look_up(map, *key)? {
                Some(value) => Ok(value),
                None => {
                    let key = self.inspected(*key)?;
                    let key = self.shown(key)?;
                    Err(self.raise(Class::Key, format!("key not found: {key}")))
                }
            },
            ("fetch", [key, default], None) => Ok(self.look_up(map, *key)?.unwrap_or(*default)),
            ("fetch", [key], Some(block)) => match self.look_up(map, *key)? {
                Some(value) => Ok(value),
                None => self.yields(block, &[*key]),
            },
            ("dig", [key, rest @ ..], None) => {
                let value = self.look_up(map, *key)?.unwrap_or(Value::Nil);
                self.dig(value, rest)
            }
            ("keys" | "values", [], None) => {
                let mut list = Vec::new();
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(map).get(at).copied() {
                    let item = if method == "keys" { key } else { value };
                    self.push(&mut list, item)?;
                    at += 1;
                }
                self.listed(list)
            }
            ("size" | "length" | "count", [], None) => self.number(self.heap.map(map).len()),
            ("empty?", [], None) => Ok(Value::Bool(self.heap.map(map).is_empty())),
            ("to_h", [], None) => Ok(receiver),
            ("to_a", [], None) => self.pairs_of(map),
            ("each" | "each_pair", [], Some(block)) => {
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(map).get(at).copied() {
                    let pair = self.list_of(&[key, value])?;
                    self.yields(block, &[pair])?;
                    at += 1;
                }
                Ok(receiver)
            }
            ("select" | "filter" | "reject", [], Some(block)) => {
                let mut kept = Vec::new();
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(map).get(at).copied() {
                    let wanted = self.yields(block, &[key, value])?.is_truthy();
                    if wanted == (method != "reject") {
                        self.insert(&mut kept, key, value)?;
                    }
                    at += 1;
                }
                self.mapped(kept)
            }
            ("transform_values", [], Some(block)) => {
                let mut made = Vec::new();
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(map).get(at).copied() {
                    let value = self.yields(block, &[value])?;
                    self.insert(&mut made, key, value)?;
                    at += 1;
                }
                self.mapped(made)
            }
            ("merge", others, None) => {
                let mut made = Vec::new();
                self.merge_into(&mut made, map)?;
                for other in others {
                    match other {
                        Value::Map(other) => self.merge_into(&mut made, *other)?,
                        _ => return Err(self.raise(Class::Type, "`merge` takes hashes")),
                    }
                }
                self.mapped(made)
            }
            ("slice" | "except", keys, None) => {
                let mut made = Vec::new();
                let mut at = 0;
                while let Some((key, value)) = self.heap.map(map).get(at).copied() {
                    let mut named = false;
                    for wanted in keys {
                        self.step(1)?;
                        named = named || self.same(key, *wanted, true)?;
                    }
                    if named == (method == "slice") {
                        self.insert(&mut made, key, value)?;
                    }
                    at += 1;
                }
                self.mapped(made)
            }
            (
                "map" | "collect" | "flat_map" | "filter_map" | "find" | "detect" | "any?" | "all?"
                | "none?" | "count" | "sum" | "sort_by" | "min_by" | "max_by" | "group_by"
                | "partition" | "each_with_index" | "each_with_object" | "reduce" | "inject"
                | "first" | "to_h" | "sort" | "zip",
                _,
                _,
            ) => match self.pairs_of(map)? {
                Value::Array(list) => self.array_method(list, method, arguments, block),
                other => Ok(other),
            },
            _ => Err(self.no_method(receiver, method, arguments)),
        }
    }

    fn merge_into(&mut self, made: &mut Vec<(Value, Value)>, map: MapId) -> Run<()> {
        let mut at = 0;
        while let Some((key, value)) = self.heap.map(map).get(at).copied() {
            self.insert(made, key, value)?;
            at += 1;
        }
        Ok(())
    }

    /// `value.dig(keys)`
    pub(super) fn dig(&mut self, value: Value, keys: &[Value]) -> Run {
        let mut value = value;
        for key in keys {
            value = match value {
                Value::Nil => return Ok(Value::Nil),
                Value::Map(map) => self.look_up(map, *key)?.unwrap_or(Value::Nil),
                Value::Array(_) => self.dispatch(value, "[]", &[*key], None)?,
                other => return Err(self.no_method(other, "dig", &[*key])),
            };
        }
        Ok(value)
    }
}
