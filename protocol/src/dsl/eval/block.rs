//! Blocks and lambdas: how values become their parameters.

use std::sync::Arc;

use super::machine::{Machine, Run, Stop};
use super::tree::{Block, Class, Name, Parameter};
use super::value::{LambdaId, Value};

/// What a method calls with each item.
#[derive(Debug, Clone, Copy)]
pub(super) enum Callee<'e> {
    /// A block written behind the call, and the scope it sees.
    Block(&'e Arc<Block>, usize),
    /// `&:size`
    Method(&'static str),
    /// `&lambda`
    Lambda(LambdaId),
}

impl Machine<'_> {
    /// Calls what was passed to a method.
    pub(super) fn yields(&mut self, callee: Callee<'_>, values: &[Value]) -> Run {
        match callee {
            Callee::Block(block, scope) => self.invoke(block, Some(scope), values, &[], false),
            Callee::Lambda(lambda) => self.call_lambda(lambda, values, &[]),
            Callee::Method(method) => {
                self.step(1)?;
                match values.split_first() {
                    Some((receiver, rest)) => self.dispatch(*receiver, method, rest, None),
                    None => Ok(Value::Nil),
                }
            }
        }
    }

    pub(super) fn call_lambda(
        &mut self,
        id: LambdaId,
        values: &[Value],
        keywords: &[(Name, Value)],
    ) -> Run {
        let Some(lambda) = self.lambda(id) else {
            return Ok(Value::Nil);
        };
        self.in_program(lambda.program, |machine| {
            machine.invoke(&lambda.block, Some(lambda.scope), values, keywords, true)
        })
    }

    /// Runs a block in a scope of its own. A lambda is strict about the number of its values.
    pub(super) fn invoke(
        &mut self,
        block: &Block,
        parent: Option<usize>,
        values: &[Value],
        keywords: &[(Name, Value)],
        strict: bool,
    ) -> Run {
        let lambdas = self.lambdas();
        let scope = self.open(parent)?;
        self.bind_all(block, scope, values, keywords, strict)?;
        let value = match self.eval(&block.body, scope) {
            Err(Stop::Next(value)) => value,
            other => other?,
        };
        self.close(scope, lambdas);
        Ok(value)
    }

    #[inline(never)]
    fn bind_all(
        &mut self,
        block: &Block,
        scope: usize,
        values: &[Value],
        keywords: &[(Name, Value)],
        strict: bool,
    ) -> Run<()> {
        let parameters = &block.parameters;
        let takes_keywords = parameters
            .iter()
            .any(|parameter| matches!(parameter, Parameter::Keyword(..)));
        let mut given = values.to_vec();
        if let ([Value::Array(list)], true) = (values, block.spreads) {
            let items = self.heap.array(*list);
            // What is beyond the parameters is left out anyway.
            given = items.iter().take(parameters.len()).copied().collect();
        }
        if !takes_keywords && !keywords.is_empty() {
            let mut pairs = Vec::new();
            for (name, value) in keywords {
                let key = self.symbol(name)?;
                self.insert(&mut pairs, key, *value)?;
            }
            let map = self.mapped(pairs)?;
            given.push(map);
        }
        self.positional(parameters, scope, &given, strict)?;
        if takes_keywords {
            self.named(parameters, scope, keywords)?;
        }
        Ok(())
    }

    fn positional(
        &mut self,
        parameters: &[Parameter],
        scope: usize,
        given: &[Value],
        strict: bool,
    ) -> Run<()> {
        let counted = |optional: bool| {
            let those = parameters.iter().filter(move |parameter| match parameter {
                Parameter::Optional(..) => optional,
                Parameter::Plain(_) | Parameter::Group(_) => !optional,
                Parameter::Keyword(..) => false,
            });
            those.count()
        };
        let (needed, optional) = (counted(false), counted(true));
        if strict && !(needed..=needed.saturating_add(optional)).contains(&given.len()) {
            let count = given.len();
            let message = format!("wrong number of arguments (given {count}, expected {needed})");
            return Err(self.raise(Class::Argument, message));
        }
        let mut spare = given.len().saturating_sub(needed);
        let mut given = given.iter().copied();
        for parameter in parameters {
            match parameter {
                Parameter::Plain(name) => {
                    let value = given.next().unwrap_or(Value::Nil);
                    self.define(scope, name, value)?;
                }
                Parameter::Optional(name, default) => {
                    let value = match spare > 0 {
                        true => {
                            spare = spare.saturating_sub(1);
                            given.next().unwrap_or(Value::Nil)
                        }
                        false => self.eval(default, scope)?,
                    };
                    self.define(scope, name, value)?;
                }
                Parameter::Group(inner) => {
                    let value = given.next().unwrap_or(Value::Nil);
                    let items = match value {
                        Value::Array(list) => {
                            let items = self.heap.array(list).iter();
                            items.take(inner.len()).copied().collect()
                        }
                        other => vec![other],
                    };
                    // As deep as the code is nested.
                    self.positional(inner, scope, &items, false)?;
                }
                Parameter::Keyword(..) => {}
            }
        }
        Ok(())
    }

    fn named(
        &mut self,
        parameters: &[Parameter],
        scope: usize,
        keywords: &[(Name, Value)],
    ) -> Run<()> {
        for parameter in parameters {
            let Parameter::Keyword(name, default) = parameter else {
                continue;
            };
            let given = keywords.iter().find(|(known, _)| known == name);
            let value = match (given, default) {
                (Some((_, value)), _) => *value,
                (None, Some(default)) => self.eval(default, scope)?,
                (None, None) => {
                    let message = format!("missing keyword: :{name}");
                    return Err(self.raise(Class::Argument, message));
                }
            };
            self.define(scope, name, value)?;
        }
        let known = |name: &Name| {
            let mut parameters = parameters.iter();
            parameters
                .any(|parameter| matches!(parameter, Parameter::Keyword(own, _) if own == name))
        };
        match keywords.iter().find(|(name, _)| !known(name)) {
            Some((name, _)) => {
                let message = format!("unknown keyword: :{name}");
                Err(self.raise(Class::Argument, message))
            }
            None => Ok(()),
        }
    }
}
