//! The code of blocks: read once, and run as often as it is called.

use std::sync::Arc;

use super::super::fault::{Fault, Severity};
use super::super::model::{Code, Member, Spanned};
use super::super::{Keyword, Law, Literal, Span, ruby};
use super::error::EvalError;
use super::machine::{Machine, Run, Stop};
use super::tree::{Block, Class, Name};
use super::value::Value;

/// The code of one block.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) skill: String,
    /// As it was parsed.
    pub(super) text: String,
    /// The line of the law on which it begins.
    pub(super) line: usize,
    block: Arc<Block>,
}

impl<'a> Machine<'a> {
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
}
