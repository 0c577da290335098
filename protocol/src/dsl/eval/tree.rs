//! Code that may be evaluated: what is left of Ruby once everything that could reach outside is refused.
//!
//! Neither `send` nor a constant has a form here, so nothing that a block computes can become one.

use std::sync::Arc;

use super::super::Span;
use super::word::Ask;

/// A name of a variable or parameter, or a text written in the code.
pub(in super::super) type Name = Arc<str>;

/// A piece of code and its place in its block.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Expr {
    pub(in super::super) span: Span,
    pub(in super::super) kind: Kind,
}

/// What it does.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Kind {
    Nil,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Name),
    Symbol(Name),
    /// `"a#{b}"`, or a symbol of that form.
    Joined {
        parts: Vec<Expr>,
        symbol: bool,
    },
    Array(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    /// `a..b`, or `a...b` without its end.
    Range {
        from: Box<Expr>,
        to: Box<Expr>,
        exclusive: bool,
    },
    Variable(Name),
    /// `a = b`
    Assign(Name, Box<Expr>),
    /// `a[b] = c`
    AssignAt {
        list: Box<Expr>,
        at: Box<Expr>,
        value: Box<Expr>,
    },
    Sequence(Vec<Expr>),
    If {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    /// `case a when b, c then d else e end`
    Case {
        subject: Box<Expr>,
        arms: Vec<(Vec<Expr>, Expr)>,
        otherwise: Box<Expr>,
    },
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Call(Box<Call>),
    /// What is asked of the host, or of the grammar.
    Ask(Ask, Vec<Expr>),
    Lambda(Arc<Block>),
    /// `raise "text"`, `raise ArgumentError, "text"`
    Raise(Class, Box<Expr>),
    /// `begin a rescue b => c d end`
    Rescue {
        body: Box<Expr>,
        arms: Vec<Arm>,
        /// What follows if nothing was raised.
        otherwise: Option<Box<Expr>>,
    },
    /// `next a`: ends the block.
    Next(Box<Expr>),
}

/// `receiver.method(arguments) { block }`
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Call {
    pub(in super::super) receiver: Expr,
    /// Whether it is `&.`.
    pub(in super::super) safe: bool,
    /// One of [`word::METHODS`](super::word::METHODS).
    pub(in super::super) method: &'static str,
    pub(in super::super) arguments: Vec<Expr>,
    pub(in super::super) keywords: Vec<(Name, Expr)>,
    pub(in super::super) block: Option<Passed>,
}

/// The block of a call.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Passed {
    /// `{ … }`
    Block(Arc<Block>),
    /// `&:size`
    Method(&'static str),
    /// `&lambda`
    Variable(Expr),
}

/// What is called with values: a block, or a lambda.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Block {
    pub(in super::super) parameters: Vec<Parameter>,
    /// Whether a list that is its only argument is spread over its parameters.
    pub(in super::super) spreads: bool,
    pub(in super::super) body: Expr,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) enum Parameter {
    /// `a`
    Plain(Name),
    /// `a = 1`
    Optional(Name, Expr),
    /// `(a, b)`
    Group(Vec<Parameter>),
    /// `a:`, `a: 1`
    Keyword(Name, Option<Expr>),
}

/// `rescue A, B => error` and what follows.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super) struct Arm {
    /// Which errors; the common ones, if none is named.
    pub(in super::super) classes: Vec<Class>,
    pub(in super::super) variable: Option<Name>,
    pub(in super::super) body: Expr,
}

/// A kind of error that code can raise and rescue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[expect(missing_docs, reason = "each is the class of Ruby without `Error`")]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Argument,
    Index,
    Key,
    NoMethod,
    Range,
    Runtime,
    Syntax,
    Type,
    ZeroDivision,
    /// Whatever is common: all but [`Syntax`](Self::Syntax).
    Standard,
    /// Whatever there is.
    Exception,
}

impl Class {
    const ALL: [(&'static str, Self); 11] = [
        ("ArgumentError", Self::Argument),
        ("IndexError", Self::Index),
        ("KeyError", Self::Key),
        ("NoMethodError", Self::NoMethod),
        ("RangeError", Self::Range),
        ("RuntimeError", Self::Runtime),
        ("SyntaxError", Self::Syntax),
        ("TypeError", Self::Type),
        ("ZeroDivisionError", Self::ZeroDivision),
        ("StandardError", Self::Standard),
        ("Exception", Self::Exception),
    ];

    /// The class of this name.
    pub(in super::super) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, class)| *class)
    }

    /// Its name in Ruby.
    pub fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, class)| *class == self);
        found.map_or("StandardError", |(name, _)| name)
    }

    /// Whether `rescue` of this class takes an error of class `raised`.
    pub(super) fn takes(self, raised: Self) -> bool {
        match self {
            Self::Exception => true,
            Self::Standard => !matches!(raised, Self::Syntax | Self::Exception),
            Self::Index => matches!(raised, Self::Index | Self::Key),
            other => other == raised,
        }
    }
}
