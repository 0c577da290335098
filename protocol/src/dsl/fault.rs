//! What a law says that cannot be read, or that does not do what its writer may believe.

use std::fmt;
use std::num::NonZero;

use serde::Serialize;

use super::Span;
use super::ruby;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It reads, and probably means something else.
    Warning,
    /// It cannot be read.
    Error,
}

/// What kind of fault it is; stable, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultCode {
    /// No Ruby.
    Syntax,
    /// Too long, too deep, or too many.
    Limit,
    /// Bytes that are no text.
    Encoding,
    /// Ruby outside of a skill.
    OutsideSkill,
    /// A skill without one name, or without a block.
    SkillForm,
    /// A word that is none of the language at this place.
    UnknownWord,
    /// A word with too few or too many values, or a block too few or too many.
    Arity,
    /// A value that would have to be computed.
    NotLiteral,
    /// Ruby at a place where the language has only words.
    NotDeclared,
    /// An option that a node needs or does not know.
    NodeOption,
    /// Code whose text goes on behind its block.
    Scattered,
    /// A later declaration hides an earlier one.
    Hidden,
    /// It reads, and never takes effect.
    Ineffective,
    /// Code that is kept, and never evaluated.
    NotEvaluated,
}

/// One fault, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1.
    pub line: NonZero<usize>,
    /// Column in characters, from 1.
    pub column: NonZero<usize>,
    /// The place in bytes.
    pub span: Span,
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is.
    pub code: FaultCode,
    /// What is there.
    pub what: String,
    /// What may stand there; empty if that goes without saying.
    pub expected: String,
    /// What to do about it; empty if nobody can tell.
    pub mend: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.what
        )
    }
}

/// A fault before its line was looked up.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) span: Span,
    code: FaultCode,
    what: String,
    expected: String,
    mend: String,
}

impl Refused {
    pub(super) fn new(span: Span, code: FaultCode, what: impl Into<String>) -> Self {
        Self {
            span,
            code,
            what: what.into(),
            expected: String::new(),
            mend: String::new(),
        }
    }

    pub(super) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    pub(super) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = mend.into();
        self
    }

    /// The same at another place.
    pub(super) fn moved(mut self, to: impl Fn(usize) -> usize) -> Self {
        self.span = Span {
            start: to(self.span.start),
            end: to(self.span.end),
        };
        self
    }

    /// What is there.
    pub(super) fn what(&self) -> &str {
        &self.what
    }

    /// The fault at its place in `source`.
    pub(super) fn located(self, source: &str, severity: Severity) -> Fault {
        // The grammar looks behind the end of a text that is cut off.
        let span = Span {
            start: self.span.start.min(source.len()),
            end: self.span.end.min(source.len()),
        };
        let (line, column) = ruby::position(source, span.start);
        Fault {
            line,
            column,
            span,
            severity,
            code: self.code,
            what: self.what,
            expected: self.expected,
            mend: self.mend,
        }
    }
}
