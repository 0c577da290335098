//! Everything of one evaluation, and what it may still take. Whoever repeats something takes a step each time, and
//! whoever makes something takes its bytes before.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Arc;

use super::super::{Law, Span};
use super::error::{EvalError, Limit, Place};
use super::program::Program;
use super::scope::{Lambda, Scope};
use super::tree::Class;
use super::value::{Heap, Value};
use super::{Host, Limits, Spent};

/// What ends an evaluation, or a part of it.
#[derive(Debug)]
pub(super) enum Stop {
    Error(Box<EvalError>),
    /// `next`: the block ends with this value.
    Next(Value),
}

impl From<Stop> for EvalError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Error(error) => *error,
            // Blocks take what their `next` gives, and there is none outside of a block.
            Stop::Next(_) => Self::NoCode(String::new()),
        }
    }
}

/// What came of a part.
pub(super) type Run<T = Value> = Result<T, Stop>;

/// What a scope, a lambda or an error takes beyond its variables or text.
pub(super) const FRAME_BYTES: usize = 64;
/// What an item of a list takes; a pair of a hash takes two.
pub(super) const ITEM_BYTES: usize = 32;
/// How many bytes are gone over in one step.
const BYTES_PER_STEP: usize = 64;

/// Everything of one evaluation.
pub(super) struct Machine<'a> {
    pub(super) law: &'a Law,
    pub(super) source: &'a str,
    pub(super) host: &'a dyn Host,
    pub(super) limits: Limits,
    pub(super) heap: Heap,
    pub(super) scopes: Vec<Scope>,
    pub(super) lambdas: Vec<Lambda>,
    pub(super) errors: Vec<(Class, String)>,
    pub(super) programs: Vec<Arc<Program>>,
    /// Programs of behaviors by the places of their skills.
    pub(super) behaviors: BTreeMap<usize, usize>,
    /// The program that runs.
    pub(super) current: usize,
    /// What of it is being evaluated.
    pub(super) at: Span,
    pub(super) depth: usize,
    pub(super) spent: Spent,
    /// Bytes that were parsed as Ruby for the code.
    pub(super) parsed: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(law: &'a Law, source: &'a str, host: &'a dyn Host, limits: Limits) -> Self {
        Self {
            law,
            source,
            host,
            limits,
            heap: Heap::default(),
            scopes: Vec::new(),
            lambdas: Vec::new(),
            errors: Vec::new(),
            programs: Vec::new(),
            behaviors: BTreeMap::new(),
            current: 0,
            at: Span::default(),
            depth: 0,
            spent: Spent::default(),
            parsed: 0,
        }
    }

    pub(super) fn spent(&self) -> Spent {
        self.spent
    }

    fn place(&self) -> Place {
        let program = self.programs.get(self.current);
        Place {
            skill: program
                .map(|program| program.skill.clone())
                .unwrap_or_default(),
            line: program.map_or(NonZero::<usize>::MIN, |program| program.line(self.at.start)),
        }
    }

    pub(super) fn raise(&self, class: Class, message: impl Into<String>) -> Stop {
        Stop::Error(Box::new(EvalError::Raised {
            class,
            message: message.into(),
            at: self.place(),
        }))
    }

    pub(super) fn exceeded(&self, limit: Limit) -> Stop {
        let at = self.place();
        Stop::Error(Box::new(EvalError::Limit { limit, at }))
    }

    pub(super) fn unanswered(&self, what: &'static str) -> Stop {
        let at = self.place();
        Stop::Error(Box::new(EvalError::Unanswered { what, at }))
    }

    /// Takes so many steps.
    pub(super) fn step(&mut self, steps: usize) -> Run<()> {
        let steps = u64::try_from(steps).unwrap_or(u64::MAX);
        self.spent.steps = self.spent.steps.saturating_add(steps);
        match self.spent.steps > self.limits.steps {
            true => Err(self.exceeded(Limit::Steps(self.limits.steps))),
            false => Ok(()),
        }
    }

    /// Takes the steps of going over so many bytes.
    pub(super) fn go_over(&mut self, bytes: usize) -> Run<()> {
        self.step(bytes / BYTES_PER_STEP)
    }

    /// Takes so many bytes; ask before taking them.
    pub(super) fn take(&mut self, bytes: usize) -> Run<()> {
        self.spent.bytes = self.spent.bytes.saturating_add(bytes);
        match self.spent.bytes > self.limits.bytes {
            true => Err(self.exceeded(Limit::Bytes(self.limits.bytes))),
            false => Ok(()),
        }
    }

    /// What may still be taken.
    pub(super) fn bytes_left(&self) -> usize {
        self.limits.bytes.saturating_sub(self.spent.bytes)
    }

    pub(super) fn text(&mut self, text: &str) -> Run {
        self.take(ITEM_BYTES.saturating_add(text.len()))?;
        self.go_over(text.len())?;
        Ok(Value::Text(self.heap.add_text(text.into())))
    }

    pub(super) fn symbol(&mut self, name: &str) -> Run {
        self.take(ITEM_BYTES.saturating_add(name.len()))?;
        Ok(Value::Symbol(self.heap.add_text(name.into())))
    }

    /// Appends to a text under construction.
    pub(super) fn append(&mut self, text: &mut String, more: &str) -> Run<()> {
        self.take(more.len())?;
        self.go_over(more.len())?;
        text.push_str(more);
        Ok(())
    }

    /// The text that was constructed with [`append`](Self::append).
    pub(super) fn built(&mut self, text: String) -> Run {
        self.take(ITEM_BYTES)?;
        Ok(Value::Text(self.heap.add_text(text.into())))
    }

    /// Adds an item to a list under construction.
    pub(super) fn push(&mut self, list: &mut Vec<Value>, item: Value) -> Run<()> {
        self.take(ITEM_BYTES)?;
        self.step(1)?;
        list.push(item);
        Ok(())
    }

    /// The list that was constructed with [`push`](Self::push).
    pub(super) fn listed(&mut self, items: Vec<Value>) -> Run {
        self.take(ITEM_BYTES)?;
        Ok(Value::Array(self.heap.add_array(items)))
    }

    /// A list of a few values.
    pub(super) fn list_of(&mut self, items: &[Value]) -> Run {
        self.take(ITEM_BYTES.saturating_mul(items.len().saturating_add(1)))?;
        self.step(items.len() / 8)?;
        Ok(Value::Array(self.heap.add_array(items.to_vec())))
    }
}
