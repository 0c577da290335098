//! Control: what each form of the tree does. Every form takes a step; nothing repeats without taking steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::fault::{Fault, Severity};
use super::super::model::{Code, Member, Spanned};
use super::super::{Keyword, Law, Literal, Span, ruby};
use super::block::Callee;
use super::error::{EvalError, Limit, Place};
use super::tree::{Arm, Block, Call, Class, Expr, Kind, Name, Passed};
use super::value::{ErrorId, Heap, LambdaId, Object, Value};
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

/// What a variable takes, its name aside.
const VARIABLE_BYTES: usize = 48;
/// What a scope, a lambda or an error takes beyond its variables or text.
const FRAME_BYTES: usize = 64;
/// What an item of a list takes; a pair of a hash takes two.
pub(super) const ITEM_BYTES: usize = 32;
/// How many bytes are gone over in one step.
const BYTES_PER_STEP: usize = 64;

/// The variables of a block that runs, or may run again.
#[derive(Debug)]
struct Scope {
    parent: Option<usize>,
    variables: Vec<(Name, Value)>,
}

/// A lambda, and where it was written.
#[derive(Debug, Clone)]
pub(super) struct Lambda {
    pub(super) block: Arc<Block>,
    pub(super) scope: usize,
    pub(super) program: usize,
}

/// The code of one block.
#[derive(Debug)]
struct Program {
    skill: String,
    /// As it was parsed.
    text: String,
    /// The line of the law on which it begins.
    line: usize,
    block: Arc<Block>,
}

/// Everything of one evaluation.
pub(super) struct Machine<'a> {
    pub(super) law: &'a Law,
    source: &'a str,
    pub(super) host: &'a dyn Host,
    pub(super) limits: Limits,
    pub(super) heap: Heap,
    scopes: Vec<Scope>,
    lambdas: Vec<Lambda>,
    errors: Vec<(Class, String)>,
    programs: Vec<Arc<Program>>,
    /// Programs of behaviors by the places of their skills.
    behaviors: BTreeMap<usize, usize>,
    /// The program that runs.
    current: usize,
    /// What of it is being evaluated.
    pub(super) at: Span,
    depth: usize,
    spent: Spent,
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

    // Limits and errors.

    fn place(&self) -> Place {
        let Some(program) = self.programs.get(self.current) else {
            return Place {
                skill: String::new(),
                line: std::num::NonZero::<usize>::MIN,
            };
        };
        let (line, _) = ruby::position(&program.text, self.at.start);
        Place {
            skill: program.skill.clone(),
            line: line.saturating_add(program.line.saturating_sub(1)),
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

    // Values.

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

    // Programs.

    /// Reads the code of a block of the skill.
    pub(super) fn load(&mut self, id: &str, within: Span, code: &Code) -> Run<usize> {
        let line = self.first_line(within, code);
        let text = format!("{}{}", ruby::CODE_PREFIX, code.0);
        let block = ruby::code(&text).map_err(|refused| {
            let faults = refused.into_iter().map(|refused| {
                let fault = refused.located(&text, Severity::Error);
                Fault {
                    line: fault.line.saturating_add(line.saturating_sub(1)),
                    ..fault
                }
            });
            Stop::Error(Box::new(EvalError::Refused {
                skill: id.to_owned(),
                faults: faults.collect(),
            }))
        })?;
        self.programs.push(Arc::new(Program {
            skill: id.to_owned(),
            text,
            line,
            block: Arc::new(block),
        }));
        Ok(self.programs.len().saturating_sub(1))
    }

    /// The line on which the block of a member begins.
    fn first_line(&self, within: Span, code: &Code) -> usize {
        let member = self.source.get(within.start..within.end);
        let at = member.and_then(|member| member.find(&code.0));
        match at {
            None => 1,
            Some(at) => {
                let (line, _) = ruby::position(self.source, within.start.saturating_add(at));
                line.get()
            }
        }
    }

    /// Runs a program from its first line.
    pub(super) fn run(&mut self, program: usize, arguments: &[Value]) -> Run {
        let Some(block) = self
            .programs
            .get(program)
            .map(|program| program.block.clone())
        else {
            return Ok(Value::Nil);
        };
        let before = (self.current, self.at);
        self.current = program;
        let answer = self.invoke(&block, None, arguments, &[], false);
        if answer.is_ok() {
            (self.current, self.at) = before;
        }
        answer
    }

    pub(super) fn behavior_of(&mut self, id: &str) -> Result<Value, EvalError> {
        let mut skills = self.law.skills.iter();
        let Some(skill) = skills.position(|skill| skill.id == id) else {
            return Err(EvalError::NoSkill(id.to_owned()));
        };
        Ok(self.call_behavior(skill)?)
    }

    /// Evaluates the behavior of the skill at this place of the law.
    pub(super) fn call_behavior(&mut self, index: usize) -> Run {
        if let Some(program) = self.behaviors.get(&index).copied() {
            return self.run(program, &[]);
        }
        let law: &'a Law = self.law;
        let Some(skill) = law.skills.get(index) else {
            return Ok(Value::Nil);
        };
        let failed = |error| Err(Stop::Error(Box::new(error)));
        let program = match skill.member(Keyword::Behavior) {
            Some(Spanned {
                span,
                node: Member::Behavior(code),
            }) => self.load(&skill.id, *span, code)?,
            Some(_) => return failed(EvalError::Unread(skill.id.clone())),
            None => return failed(EvalError::NoCode(skill.id.clone())),
        };
        self.behaviors.insert(index, program);
        self.run(program, &[])
    }

    pub(super) fn call_from_outside(
        &mut self,
        value: Value,
        member: Option<&str>,
        keywords: &[(&str, Literal)],
    ) -> Result<Value, EvalError> {
        let called = match member {
            None => value,
            Some(name) => {
                let key = self.symbol(name)?;
                match value {
                    Value::Map(map) => self.look_up(map, key)?.unwrap_or(Value::Nil),
                    _ => Value::Nil,
                }
            }
        };
        let Value::Lambda(lambda) = called else {
            return Err(self
                .raise(Class::NoMethod, "what should be called is no lambda")
                .into());
        };
        let mut given = Vec::with_capacity(keywords.len());
        for (name, value) in keywords {
            given.push((Name::from(*name), self.value_of(value)?));
        }
        Ok(self.call_lambda(lambda, &[], &given)?)
    }

    // Variables.

    pub(super) fn open(&mut self, parent: Option<usize>) -> Run<usize> {
        self.take(FRAME_BYTES)?;
        self.scopes.push(Scope {
            parent,
            variables: Vec::new(),
        });
        Ok(self.scopes.len().saturating_sub(1))
    }

    /// Closes a scope that nothing can see any more: it is the last, and no lambda was made in it.
    pub(super) fn close(&mut self, scope: usize, lambdas: usize) {
        if self.lambdas.len() == lambdas
            && self.scopes.len() == scope.saturating_add(1)
            && let Some(scope) = self.scopes.pop()
        {
            let freed = scope.variables.len().saturating_mul(VARIABLE_BYTES);
            let freed = freed.saturating_add(FRAME_BYTES);
            self.spent.bytes = self.spent.bytes.saturating_sub(freed);
        }
    }

    pub(super) fn lambdas(&self) -> usize {
        self.lambdas.len()
    }

    pub(super) fn lambda(&self, id: LambdaId) -> Option<Lambda> {
        self.lambdas.get(id.0).cloned()
    }

    pub(super) fn in_program<T>(
        &mut self,
        program: usize,
        run: impl FnOnce(&mut Self) -> Run<T>,
    ) -> Run<T> {
        let before = (self.current, self.at);
        self.current = program;
        let done = run(self);
        // An error is told where it was; whoever rescues it goes back.
        if done.is_ok() {
            (self.current, self.at) = before;
        }
        done
    }

    fn variable(&self, scope: usize, name: &Name) -> Option<Value> {
        let mut scope = Some(scope);
        while let Some(found) = scope.and_then(|scope| self.scopes.get(scope)) {
            let mut variables = found.variables.iter();
            if let Some((_, value)) = variables.find(|(known, _)| known == name) {
                return Some(*value);
            }
            scope = found.parent;
        }
        None
    }

    /// Sets a variable where it is, or makes it in this scope.
    fn assign(&mut self, scope: usize, name: &Name, value: Value) -> Run<()> {
        let mut next = Some(scope);
        while let Some(found) = next.and_then(|scope| self.scopes.get_mut(scope)) {
            let mut variables = found.variables.iter_mut();
            if let Some((_, old)) = variables.find(|(known, _)| known == name) {
                *old = value;
                return Ok(());
            }
            next = found.parent;
        }
        self.define(scope, name, value)
    }

    /// Makes a variable in this scope.
    pub(super) fn define(&mut self, scope: usize, name: &Name, value: Value) -> Run<()> {
        self.take(VARIABLE_BYTES)?;
        if let Some(scope) = self.scopes.get_mut(scope) {
            scope.variables.push((name.clone(), value));
        }
        Ok(())
    }

    // Forms.

    pub(super) fn eval(&mut self, expr: &Expr, scope: usize) -> Run {
        self.at = expr.span;
        self.step(1)?;
        if self.depth >= self.limits.depth {
            return Err(self.exceeded(Limit::Depth(self.limits.depth)));
        }
        self.depth = self.depth.saturating_add(1);
        let value = self.form(expr, scope);
        self.depth = self.depth.saturating_sub(1);
        value
    }

    fn form(&mut self, expr: &Expr, scope: usize) -> Run {
        match &expr.kind {
            Kind::Nil => Ok(Value::Nil),
            Kind::Bool(value) => Ok(Value::Bool(*value)),
            Kind::Integer(value) => Ok(Value::Integer(*value)),
            Kind::Float(value) => Ok(Value::Float(*value)),
            Kind::Text(text) => self.text(text),
            Kind::Symbol(name) => self.symbol(name),
            Kind::Joined { parts, symbol } => self.joined(parts, *symbol, scope),
            Kind::Array(items) => {
                let mut list = Vec::new();
                for item in items {
                    let item = self.eval(item, scope)?;
                    self.push(&mut list, item)?;
                }
                self.listed(list)
            }
            Kind::Map(pairs) => self.hash(pairs, scope),
            Kind::Range {
                from,
                to,
                exclusive,
            } => {
                let (from, to) = (self.eval(from, scope)?, self.eval(to, scope)?);
                match (from, to) {
                    (Value::Integer(from), Value::Integer(to)) => Ok(Value::Range {
                        from,
                        to,
                        exclusive: *exclusive,
                    }),
                    _ => Err(self.raise(Class::Argument, "a range must be of whole numbers")),
                }
            }
            Kind::Variable(name) => Ok(self.variable(scope, name).unwrap_or(Value::Nil)),
            Kind::Assign(name, value) => {
                let value = self.eval(value, scope)?;
                self.assign(scope, name, value)?;
                Ok(value)
            }
            Kind::AssignAt { list, at, value } => {
                let list = self.eval(list, scope)?;
                let key = self.eval(at, scope)?;
                let value = self.eval(value, scope)?;
                self.at = expr.span;
                self.assign_at(list, key, value)?;
                Ok(value)
            }
            Kind::Sequence(statements) => {
                let mut last = Value::Nil;
                for statement in statements {
                    last = self.eval(statement, scope)?;
                }
                Ok(last)
            }
            Kind::If {
                condition,
                then,
                otherwise,
            } => match self.eval(condition, scope)?.is_truthy() {
                true => self.eval(then, scope),
                false => self.eval(otherwise, scope),
            },
            Kind::Case {
                subject,
                arms,
                otherwise,
            } => self.case(subject, arms, otherwise, scope),
            Kind::And(left, right) => match self.eval(left, scope)? {
                left if left.is_truthy() => self.eval(right, scope),
                left => Ok(left),
            },
            Kind::Or(left, right) => match self.eval(left, scope)? {
                left if left.is_truthy() => Ok(left),
                _ => self.eval(right, scope),
            },
            Kind::Call(call) => self.method_call(call, expr.span, scope),
            Kind::Ask(ask, arguments) => {
                let mut values = Vec::with_capacity(arguments.len());
                for argument in arguments {
                    values.push(self.eval(argument, scope)?);
                }
                self.at = expr.span;
                self.ask(*ask, &values)
            }
            Kind::Lambda(block) => {
                self.take(FRAME_BYTES)?;
                self.lambdas.push(Lambda {
                    block: block.clone(),
                    scope,
                    program: self.current,
                });
                Ok(Value::Lambda(LambdaId(
                    self.lambdas.len().saturating_sub(1),
                )))
            }
            Kind::Raise(class, text) => {
                let text = self.eval(text, scope)?;
                self.at = expr.span;
                let text = self.shown(text)?;
                Err(self.raise(*class, &*text))
            }
            Kind::Rescue {
                body,
                arms,
                otherwise,
            } => self.rescue(body, arms, otherwise.as_deref(), scope),
            Kind::Next(value) => {
                let value = self.eval(value, scope)?;
                Err(Stop::Next(value))
            }
        }
    }

    #[inline(never)]
    fn joined(&mut self, parts: &[Expr], symbol: bool, scope: usize) -> Run {
        let mut text = String::new();
        for part in parts {
            let part = self.eval(part, scope)?;
            let part = self.shown(part)?;
            self.append(&mut text, &part)?;
        }
        match symbol {
            true => self.symbol(&text),
            false => self.built(text),
        }
    }

    #[inline(never)]
    fn hash(&mut self, pairs: &[(Expr, Expr)], scope: usize) -> Run {
        let mut made = Vec::new();
        for (key, value) in pairs {
            let key = self.eval(key, scope)?;
            let value = self.eval(value, scope)?;
            self.insert(&mut made, key, value)?;
        }
        self.mapped(made)
    }

    #[inline(never)]
    fn case(
        &mut self,
        subject: &Expr,
        arms: &[(Vec<Expr>, Expr)],
        otherwise: &Expr,
        scope: usize,
    ) -> Run {
        let subject = self.eval(subject, scope)?;
        for (patterns, body) in arms {
            for pattern in patterns {
                let pattern = self.eval(pattern, scope)?;
                let matches = match (pattern, subject) {
                    (Value::Range { .. }, Value::Integer(_) | Value::Float(_)) => {
                        self.within(pattern, subject)
                    }
                    _ => self.same(pattern, subject, false)?,
                };
                if matches {
                    return self.eval(body, scope);
                }
            }
        }
        self.eval(otherwise, scope)
    }

    #[inline(never)]
    fn rescue(&mut self, body: &Expr, arms: &[Arm], otherwise: Option<&Expr>, scope: usize) -> Run {
        let before = (self.current, self.depth);
        let (raised, message) = match self.eval(body, scope) {
            Ok(value) => {
                return match otherwise {
                    Some(otherwise) => self.eval(otherwise, scope),
                    None => Ok(value),
                };
            }
            Err(Stop::Error(error)) => match *error {
                EvalError::Raised { class, message, at } => {
                    let takes = |arm: &&Arm| match arm.classes.as_slice() {
                        [] => Class::Standard.takes(class),
                        classes => classes.iter().any(|wanted| wanted.takes(class)),
                    };
                    let Some(arm) = arms.iter().find(takes) else {
                        let error = EvalError::Raised { class, message, at };
                        return Err(Stop::Error(Box::new(error)));
                    };
                    (arm, (class, message))
                }
                other => return Err(Stop::Error(Box::new(other))),
            },
            Err(next) => return Err(next),
        };
        (self.current, self.depth) = before;
        if let Some(name) = &raised.variable {
            self.take(FRAME_BYTES.saturating_add(message.1.len()))?;
            self.errors.push(message);
            let error = ErrorId(self.errors.len().saturating_sub(1));
            self.assign(scope, name, Value::Error(error))?;
        }
        self.eval(&raised.body, scope)
    }

    pub(super) fn error(&self, id: ErrorId) -> (Class, &str) {
        let found = self.errors.get(id.0);
        found.map_or((Class::Standard, ""), |(class, text)| (*class, text))
    }

    #[inline(never)]
    fn method_call(&mut self, call: &Call, at: Span, scope: usize) -> Run {
        let receiver = self.eval(&call.receiver, scope)?;
        if call.safe && matches!(receiver, Value::Nil) {
            return Ok(Value::Nil);
        }
        let mut arguments = Vec::with_capacity(call.arguments.len());
        for argument in &call.arguments {
            arguments.push(self.eval(argument, scope)?);
        }
        let mut keywords = Vec::with_capacity(call.keywords.len());
        for (name, value) in &call.keywords {
            keywords.push((name.clone(), self.eval(value, scope)?));
        }
        let block = match &call.block {
            None => None,
            Some(Passed::Block(block)) => Some(Callee::Block(block, scope)),
            Some(Passed::Method(method)) => Some(Callee::Method(method)),
            Some(Passed::Variable(variable)) => match self.eval(variable, scope)? {
                Value::Lambda(lambda) => Some(Callee::Lambda(lambda)),
                _ => return Err(self.raise(Class::Type, "only a lambda can be passed on")),
            },
        };
        self.at = at;
        match (receiver, call.method) {
            (Value::Lambda(lambda), "call" | "[]") if block.is_none() => {
                self.call_lambda(lambda, &arguments, &keywords)
            }
            (Value::Object(Object::Behavior(skill)), "call")
                if block.is_none() && arguments.is_empty() && keywords.is_empty() =>
            {
                self.call_behavior(skill)
            }
            _ if !keywords.is_empty() => {
                Err(self.raise(Class::Argument, "only lambdas take keywords"))
            }
            _ => self.dispatch(receiver, call.method, &arguments, block),
        }
    }
}
