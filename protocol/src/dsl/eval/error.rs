//! Why there is no answer.

use std::fmt;
use std::num::NonZero;

use super::super::Fault;
use super::tree::Class;

/// A line of a skill's code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The id of the skill.
    pub skill: String,
    /// The line of the law; of the block, if the law's text is not at hand.
    pub line: NonZero<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, in '{}'", self.line, self.skill)
    }
}

/// What an evaluation may not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Steps.
    Steps(u64),
    /// Levels of nesting.
    Depth(usize),
    /// Bytes of values.
    Bytes(usize),
    /// Bytes of the answer.
    Output(usize),
    /// Bytes that are parsed as Ruby.
    Parsed(usize),
    /// Whole numbers of 64 bits.
    Integer,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(most) => write!(f, "it takes more than {most} steps"),
            Self::Depth(most) => write!(f, "it nests deeper than {most} levels"),
            Self::Bytes(most) => write!(f, "its values take more than {most} bytes"),
            Self::Output(most) => write!(f, "its answer is longer than {most} bytes"),
            Self::Parsed(most) => write!(f, "it has more than {most} bytes parsed as Ruby"),
            Self::Integer => f.write_str("it computes a whole number beyond 64 bits"),
        }
    }
}

/// Why code gave no answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// There is no such skill.
    #[error("the law has no skill '{0}'")]
    NoSkill(String),
    /// It has no code of this kind.
    #[error("the skill '{0}' has no such block")]
    NoCode(String),
    /// Its code could not be read; the faults of the law say why.
    #[error("the code of '{0}' cannot be read; see the faults of the law")]
    Unread(String),
    /// It has code that is never evaluated. There is at least one fault.
    #[error("{}", refused(.skill, .faults))]
    Refused {
        /// The skill.
        skill: String,
        /// Everything in its block that is not evaluated.
        faults: Vec<Fault>,
    },
    /// It raised an error.
    #[error("{at}: {message}")]
    Raised {
        /// Which.
        class: Class,
        /// Its text.
        message: String,
        /// Where.
        at: Place,
    },
    /// It would take more than it may.
    #[error("{at}: {limit}")]
    Limit {
        /// What it would exceed.
        limit: Limit,
        /// Where.
        at: Place,
    },
    /// It asks what the host does not answer.
    #[error("{at}: it asks for {what}, which is not told here")]
    Unanswered {
        /// What it asks.
        what: &'static str,
        /// Where.
        at: Place,
    },
}

fn refused(skill: &str, faults: &[Fault]) -> String {
    let Some(first) = faults.first() else {
        return format!("'{skill}' has code that is not evaluated");
    };
    let mend = match first.mend.as_str() {
        "" => String::new(),
        mend => format!("; {mend}"),
    };
    let more = match faults.len() {
        1 => String::new(),
        many => format!(" (and {} more)", many.saturating_sub(1)),
    };
    format!(
        "line {}, in '{skill}': {}{mend}{more}",
        first.line, first.what
    )
}
