//! Control: what each form of the tree does. Every form takes a step.

use super::super::Span;
use super::block::Callee;
use super::error::{EvalError, Limit};
use super::machine::{FRAME_BYTES, Machine, Run, Stop};
use super::scope::Lambda;
use super::tree::{Arm, Call, Class, Expr, Kind, Passed};
use super::value::{ErrorId, LambdaId, Object, Value};

impl Machine<'_> {
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
