//! Code of a law, `behavior` and `tool` blocks, evaluated within a small part of Ruby. It reaches nothing.
//!
//! A block is lowered to a tree of its own, which has no form for anything that leads outside: methods and constants
//! are those of a list, so what a text computes can never become one. What has no form is refused before anything is
//! evaluated, all of it at once, with its line and with what to write instead.
//!
//! What is left can only compute with values, and ask a [`Host`], which answers with values. It is held to [`Limits`]:
//! steps, depth, bytes and the size of its answer. The same block with the same answers gives the same value, always.
//!
//! | Ruby | here |
//! |---|---|
//! | whole numbers of any size | 64 bits; beyond them is a limit |
//! | texts can be changed in place | they cannot; lists and hashes can |
//! | `Kairos.skills` loads the file anew | the law at hand |
//! | `KairosChain::Chain#blocks` does not exist, so the shipped block raises | how many blocks there are, and the first and last |
//! | `KairosMcp::SafeEvolver::DSL_PATH` is gone, so one shipped block raises | the same as `KairosMcp.dsl_path` |
//! | anything raised can be rescued | what is raised can be; a limit, a refusal, and silence of the host cannot |
//!
//! ```
//! use kairos_protocol::dsl::Law;
//! use kairos_protocol::dsl::eval::{Evaluation, Limits};
//!
//! let source = "skill :sums do\n  behavior do\n    (1..4).sum { |n| n * n }\n  end\nend\n";
//! let law = Law::read(source.as_bytes());
//! let mut evaluation = Evaluation::new(&law, source, &(), Limits::default());
//! let answer = evaluation.behavior("sums")?;
//! assert_eq!(evaluation.literal(answer)?.to_string(), "30");
//! # Ok::<(), kairos_protocol::dsl::eval::EvalError>(())
//! ```
//!
//! Reading order: `tree` (what code may be), `word` (its words), `host`, `error`; then `machine`
//! (what it may take), `program`, `scope`, `form` (control), `block`, `call` (methods), `number`, `text`, `list`, `map`, `object` (their values), `value`; last `tool`.

mod block;
mod call;
mod convert;
mod error;
mod form;
mod host;
mod list;
mod machine;
mod map;
mod number;
mod object;
mod order;
mod program;
mod relist;
mod scope;
mod text;
mod tool;
pub(super) mod tree;
mod value;
pub(super) mod word;

pub use self::error::{EvalError, Limit, Place};
pub use self::host::{BlockFacts, Facts, Host, LedgerFacts};
pub use self::tool::{
    Offer, TOOL_NAME_MAX, ToolAnswer, ToolDefinition, ToolError, Unoffered, run_tool, tools,
};
pub use self::tree::Class;

use self::machine::Machine;
use self::value::Value;
use super::model::Member;
use super::{Fault, Keyword, Law, Literal};

/// Most steps of one evaluation: one for each part of the code that is looked at, one for each few bytes or items that
/// are gone over. The longest block of the shipped laws takes less than a thousand.
pub const STEPS_MAX: u64 = 500_000;
/// Deepest nesting of what is being evaluated; each level takes a few KiB of stack.
pub const DEPTH_MAX: usize = 128;
/// Most bytes that values of one evaluation take, those no longer used included.
pub const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest answer in bytes, its marks included.
pub const OUTPUT_MAX: usize = 256 * 1024;

/// What an evaluation may take. More than the constants is never granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`STEPS_MAX`].
    pub steps: u64,
    /// See [`DEPTH_MAX`].
    pub depth: usize,
    /// See [`BYTES_MAX`].
    pub bytes: usize,
    /// See [`OUTPUT_MAX`].
    pub output: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: STEPS_MAX,
            depth: DEPTH_MAX,
            bytes: BYTES_MAX,
            output: OUTPUT_MAX,
        }
    }
}

impl Limits {
    fn granted(self) -> Self {
        Self {
            steps: self.steps.min(STEPS_MAX),
            depth: self.depth.min(DEPTH_MAX),
            bytes: self.bytes.min(BYTES_MAX),
            output: self.output.min(OUTPUT_MAX),
        }
    }
}

/// What an evaluation took so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Steps.
    pub steps: u64,
    /// Bytes.
    pub bytes: usize,
}

/// A value of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Answer(Value);

/// One evaluation: all that it does together is held to its limits.
pub struct Evaluation<'a> {
    machine: Machine<'a>,
}

impl std::fmt::Debug for Evaluation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spent = self.spent();
        f.debug_struct("Evaluation").field("spent", &spent).finish()
    }
}

impl<'a> Evaluation<'a> {
    /// An evaluation over a law. `source` is the text that it was read from, for the lines in errors; without it they
    /// count from the line on which the block begins.
    pub fn new(law: &'a Law, source: &'a str, host: &'a dyn Host, limits: Limits) -> Self {
        Self {
            machine: Machine::new(law, source, host, limits.granted()),
        }
    }

    /// Evaluates the behavior of a skill.
    pub fn behavior(&mut self, id: &str) -> Result<Answer, EvalError> {
        self.machine.behavior_of(id).map(Answer)
    }

    /// Calls a lambda that is an answer, or the member `member` of one that is a hash, with keyword arguments.
    ///
    /// This is how the automatic check of a proposal is asked: the behavior of `approval_workflow` answers with it
    /// as `auto_check`.
    pub fn call(
        &mut self,
        answer: Answer,
        member: Option<&str>,
        keywords: &[(&str, Literal)],
    ) -> Result<Answer, EvalError> {
        let called = self.machine.call_from_outside(answer.0, member, keywords);
        called.map(Answer)
    }

    /// The answer as a value that can leave; what cannot, such as a lambda, is shown as `#<lambda>`.
    pub fn literal(&mut self, answer: Answer) -> Result<Literal, EvalError> {
        self.machine.output(answer.0)
    }

    /// What was spent so far.
    pub fn spent(&self) -> Spent {
        self.machine.spent()
    }
}

/// Everything in the blocks of a law that is not evaluated, as warnings: it is kept, and refused when it is called.
pub fn check(law: &Law, source: &str) -> Vec<Fault> {
    let machine = Machine::new(law, source, &(), Limits::default());
    let blocks = law.skills.iter().flat_map(|skill| {
        let members = [Keyword::Behavior, Keyword::Tool].into_iter();
        members.filter_map(|keyword| skill.member(keyword))
    });
    let faults = blocks.filter_map(|member| {
        let code = match &member.node {
            Member::Behavior(code) => Some(code),
            Member::Tool(tool) => tool.execute.as_ref(),
            _ => None,
        };
        machine.read(member.span, code?).err()
    });
    faults.flatten().collect()
}

#[cfg(test)]
mod tests;
