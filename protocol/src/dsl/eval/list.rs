//! Lists. What goes over one looks at each place anew, so a block may change the list it is called for.

use std::cmp::Ordering;

use super::block::Callee;
use super::machine::{Machine, Run};
use super::text::{cut, index};
use super::tree::Class;
use super::value::{ArrayId, Value};

impl Machine<'_> {
    pub(super) fn item(&self, list: ArrayId, at: usize) -> Option<Value> {
        self.heap.array(list).get(at).copied()
    }

    /// What the block makes of an item, or the item itself.
    fn seen(&mut self, block: Option<Callee<'_>>, item: Value) -> Run {
        match block {
            Some(block) => self.yields(block, &[item]),
            None => {
                self.step(1)?;
                Ok(item)
            }
        }
    }

    pub(super) fn array_method(
        &mut self,
        list: ArrayId,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        match (method, arguments, block) {
            ("<<", [item], None) => self.add_items(list, &[*item]),
            ("push", items, None) => self.add_items(list, items),
            ("[]" | "slice", ..) | ("first" | "last" | "take" | "drop" | "dig" | "fetch", ..)
                if block.is_none() =>
            {
                self.part(list, method, arguments)
            }
            ("size" | "length", [], None) | ("count", [], None) => {
                self.number(self.heap.array(list).len())
            }
            ("empty?", [], None) => Ok(Value::Bool(self.heap.array(list).is_empty())),
            ("to_a", [], None) => Ok(Value::Array(list)),
            (
                "each" | "map" | "collect" | "each_with_index" | "each_with_object" | "flat_map"
                | "filter_map" | "select" | "filter" | "reject" | "partition" | "group_by",
                _,
                Some(block),
            ) => self.over(list, method, arguments, block),
            (
                "any?" | "all?" | "none?" | "find" | "detect" | "count" | "index" | "include?"
                | "member?",
                ..,
            ) => self.sought(list, method, arguments, block),
            ("sum" | "reduce" | "inject", ..) => self.folded(list, method, arguments, block),
            ("sort" | "sort_by" | "min" | "max" | "min_by" | "max_by", [], _) => {
                self.ranked(list, method, block)
            }
            _ if block.is_none() => self.remade(list, method, arguments),
            _ => Err(self.no_method(Value::Array(list), method, arguments)),
        }
    }

    pub(super) fn add_items(&mut self, list: ArrayId, items: &[Value]) -> Run {
        for item in items {
            self.take(super::machine::ITEM_BYTES)?;
            if let Some(list) = self.heap.array_mut(list) {
                list.push(*item);
            }
        }
        Ok(Value::Array(list))
    }

    /// One item, or some that follow each other.
    #[inline(never)]
    fn part(&mut self, list: ArrayId, method: &'static str, arguments: &[Value]) -> Run {
        let length = self.heap.array(list).len();
        let some = |machine: &mut Self, start: usize, wanted: usize| {
            let items = machine.heap.array(list).iter().skip(start).take(wanted);
            let items: Vec<_> = items.copied().collect();
            machine.list_of(&items)
        };
        match (method, arguments) {
            ("[]" | "slice", [Value::Integer(at)]) => {
                let at = index(*at, length);
                Ok(at.and_then(|at| self.item(list, at)).unwrap_or(Value::Nil))
            }
            ("[]" | "slice", [Value::Integer(_), Value::Integer(_)] | [Value::Range { .. }]) => {
                match cut(arguments, length) {
                    Some((start, wanted)) => some(self, start, wanted),
                    None => Ok(Value::Nil),
                }
            }
            ("fetch", [Value::Integer(at), rest @ ..]) if rest.len() <= 1 => {
                let found = index(*at, length).and_then(|at| self.item(list, at));
                match (found, rest.first()) {
                    (Some(item), _) | (None, Some(&item)) => Ok(item),
                    (None, None) => {
                        let message = format!("index {at} outside of a list of {length}");
                        Err(self.raise(Class::Index, message))
                    }
                }
            }
            ("first", []) => Ok(self.item(list, 0).unwrap_or(Value::Nil)),
            ("last", []) => Ok(self.heap.array(list).last().copied().unwrap_or(Value::Nil)),
            ("first" | "last" | "take" | "drop", [Value::Integer(count)]) => {
                let Ok(count) = usize::try_from(*count) else {
                    return Err(self.raise(Class::Argument, "negative size of a list"));
                };
                match method {
                    "last" => some(self, length.saturating_sub(count), count),
                    "drop" => some(self, count, length),
                    _ => some(self, 0, count),
                }
            }
            ("dig", [at, rest @ ..]) => {
                let item = self.part(list, "[]", &[*at])?;
                self.dig(item, rest)
            }
            _ => Err(self.no_method(Value::Array(list), method, arguments)),
        }
    }

    /// Calls a block for every item.
    #[inline(never)]
    fn over(
        &mut self,
        list: ArrayId,
        method: &'static str,
        arguments: &[Value],
        block: Callee<'_>,
    ) -> Run {
        let object = match (method, arguments) {
            ("each_with_object", [object]) => *object,
            ("each_with_object", _) | (_, [_, ..]) => {
                return Err(self.no_method(Value::Array(list), method, arguments));
            }
            _ => Value::Nil,
        };
        let (mut made, mut others) = (Vec::new(), Vec::new());
        let mut groups: Vec<(Value, Value)> = Vec::new();
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            self.step(1)?;
            let seen = match method {
                "each_with_index" => {
                    let at = self.number(at)?;
                    self.yields(block, &[item, at])?
                }
                "each_with_object" => self.yields(block, &[item, object])?,
                _ => self.yields(block, &[item])?,
            };
            match (method, seen) {
                ("each" | "each_with_index" | "each_with_object", _) => {}
                ("map" | "collect", seen) => self.push(&mut made, seen)?,
                ("flat_map", Value::Array(inner)) => self.copy_into(&mut made, inner)?,
                ("flat_map", seen) => self.push(&mut made, seen)?,
                ("filter_map", seen) if seen.is_truthy() => self.push(&mut made, seen)?,
                ("select" | "filter" | "partition", seen) if seen.is_truthy() => {
                    self.push(&mut made, item)?;
                }
                ("reject", seen) if !seen.is_truthy() => self.push(&mut made, item)?,
                ("partition", _) => self.push(&mut others, item)?,
                ("group_by", key) => self.group(&mut groups, key, item)?,
                _ => {}
            }
            at += 1;
        }
        match method {
            "each" | "each_with_index" => Ok(Value::Array(list)),
            "each_with_object" => Ok(object),
            "group_by" => self.mapped(groups),
            "partition" => {
                let (made, others) = (self.listed(made)?, self.listed(others)?);
                self.list_of(&[made, others])
            }
            _ => self.listed(made),
        }
    }

    /// Adds an item to the list of its group.
    fn group(&mut self, groups: &mut Vec<(Value, Value)>, key: Value, item: Value) -> Run<()> {
        for (known, group) in groups.iter() {
            self.step(1)?;
            if self.same(*known, key, true)? {
                if let Value::Array(group) = *group {
                    self.add_items(group, &[item])?;
                }
                return Ok(());
            }
        }
        let group = self.list_of(&[item])?;
        self.insert(groups, key, group)
    }

    pub(super) fn copy_into(&mut self, made: &mut Vec<Value>, list: ArrayId) -> Run<()> {
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            self.push(made, item)?;
            at += 1;
        }
        Ok(())
    }

    /// Looks for items.
    #[inline(never)]
    fn sought(
        &mut self,
        list: ArrayId,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let wanted = match (method, arguments, block) {
            ("include?" | "member?" | "count" | "index", [wanted], None) => Some(*wanted),
            ("any?" | "all?" | "none?", [], _) => None,
            ("find" | "detect" | "count" | "index", [], Some(_)) => None,
            _ => return Err(self.no_method(Value::Array(list), method, arguments)),
        };
        let mut count = 0_usize;
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            let found = match wanted {
                Some(wanted) => {
                    self.step(1)?;
                    self.same(item, wanted, false)?
                }
                None => self.seen(block, item)?.is_truthy(),
            };
            match (method, found) {
                ("any?" | "include?" | "member?", true) => return Ok(Value::Bool(true)),
                ("all?", false) | ("none?", true) => return Ok(Value::Bool(false)),
                ("find" | "detect", true) => return Ok(item),
                ("index", true) => return self.number(at),
                (_, true) => count = count.saturating_add(1),
                _ => {}
            }
            at += 1;
        }
        match method {
            "all?" | "none?" => Ok(Value::Bool(true)),
            "count" => self.number(count),
            "find" | "detect" | "index" => Ok(Value::Nil),
            _ => Ok(Value::Bool(false)),
        }
    }

    /// Makes one value of all items.
    #[inline(never)]
    fn folded(
        &mut self,
        list: ArrayId,
        method: &'static str,
        arguments: &[Value],
        block: Option<Callee<'_>>,
    ) -> Run {
        let (mut value, mut at) = match (method, arguments) {
            ("sum", []) => (Value::Integer(0), 0),
            ("sum" | "reduce" | "inject", [first]) if block.is_some() || method == "sum" => {
                (*first, 0)
            }
            ("reduce" | "inject", []) if block.is_some() => match self.item(list, 0) {
                Some(first) => (first, 1),
                None => return Ok(Value::Nil),
            },
            _ => return Err(self.no_method(Value::Array(list), method, arguments)),
        };
        while let Some(item) = self.item(list, at) {
            self.step(1)?;
            value = match (method, block) {
                ("sum", block) => {
                    let item = self.seen(block, item)?;
                    self.dispatch(value, "+", &[item], None)?
                }
                (_, Some(block)) => self.yields(block, &[value, item])?,
                (_, None) => value,
            };
            at += 1;
        }
        Ok(value)
    }

    /// What the order of the items decides.
    #[inline(never)]
    fn ranked(&mut self, list: ArrayId, method: &'static str, block: Option<Callee<'_>>) -> Run {
        let by = matches!(method, "sort_by" | "min_by" | "max_by");
        if by != block.is_some() {
            return Err(self.no_method(Value::Array(list), method, &[]));
        }
        let mut keyed = Vec::new();
        let mut at = 0;
        while let Some(item) = self.item(list, at) {
            let key = self.seen(block, item)?;
            self.take(2 * super::machine::ITEM_BYTES)?;
            keyed.push((key, item));
            at += 1;
        }
        if matches!(method, "sort" | "sort_by") {
            let sorted = self.sorted(keyed)?;
            return self.list_of(&sorted);
        }
        let wanted = match method {
            "min" | "min_by" => Ordering::Less,
            _ => Ordering::Greater,
        };
        let mut keyed = keyed.into_iter();
        let Some((mut best, mut found)) = keyed.next() else {
            return Ok(Value::Nil);
        };
        for (key, item) in keyed {
            if self.order(key, best)? == wanted {
                (best, found) = (key, item);
            }
        }
        Ok(found)
    }
}
