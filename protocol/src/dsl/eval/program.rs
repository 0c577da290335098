//! The code of blocks: read once, and run as often as it is called.

use std::num::NonZero;
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
    /// The line of the law on which it begins.
    first_line: usize,
    /// Where each further line of its text begins: errors are many, and lines are looked up for each.
    line_starts: Vec<usize>,
    block: Arc<Block>,
}

impl Program {
    /// The line of the law on which this byte of its text stands.
    pub(super) fn line(&self, at: usize) -> NonZero<usize> {
        let before = self.line_starts.partition_point(|start| *start <= at);
        let line = self.first_line.saturating_add(before);
        NonZero::new(line).unwrap_or(NonZero::<usize>::MIN)
    }
}

impl<'a> Machine<'a> {
    /// Reads the code of a block of the skill.
    pub(super) fn load(&mut self, id: &str, within: Span, code: &Code) -> Run<usize> {
        let block = self.read(within, code).map_err(|faults| {
            Stop::Error(Box::new(EvalError::Refused {
                skill: id.to_owned(),
                faults,
            }))
        })?;
        let text = format!("{}{}", ruby::CODE_PREFIX, code.0);
        let first_line = self.begin(within, code).map_or(1, |begin| {
            let (line, _) = ruby::position(self.source, begin);
            line.get()
        });
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        self.programs.push(Arc::new(Program {
            skill: id.to_owned(),
            first_line,
            line_starts: ends.map(|(end, _)| end.saturating_add(1)).collect(),
            block: Arc::new(block),
        }));
        Ok(self.programs.len().saturating_sub(1))
    }

    /// Lowers the code of a block, or tells everything in it that is not evaluated: with places of the law, if its
    /// text is at hand, otherwise of the block.
    pub(super) fn read(&self, within: Span, code: &Code) -> Result<Block, Vec<Fault>> {
        let text = format!("{}{}", ruby::CODE_PREFIX, code.0);
        let begin = self.begin(within, code);
        ruby::code(&text).map_err(|refused| {
            let faults = refused.into_iter().map(|refused| {
                let prefix = ruby::CODE_PREFIX.len();
                let from = begin.unwrap_or_default();
                let moved = refused.moved(|at| at.saturating_sub(prefix).saturating_add(from));
                let source = match begin {
                    Some(_) => self.source,
                    None => &code.0,
                };
                moved.located(source, Severity::Warning)
            });
            faults.collect()
        })
    }

    /// Where the block of a member begins in the text of the law.
    fn begin(&self, within: Span, code: &Code) -> Option<usize> {
        let member = self.source.get(within.start..within.end)?;
        let at = member.find(&code.0).filter(|_| !code.0.is_empty())?;
        Some(within.start.saturating_add(at))
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
