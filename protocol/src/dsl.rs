//! The skills language of L0, `skills/kairos.rb`: Ruby to the reference, read here without ever being run as Ruby.
//!
//! [`Law::read`] never fails: it gives the tree of what is declared, and every fault of the file at once, each with its
//! place, what may stand there and how to mend it. What is no declaration is not guessed: it is kept as it is written,
//! covered by our hash, and named by a fault; the rest stays readable. [`Law::print`] is the inverse of reading on the
//! tree, as is [`Law::from_json`] of its JSON.
//!
//! Reading order: `model` (the tree), `value` (its literals), `ruby` (the grammar), `read`, `check` (what reads, and
//! never takes effect), `print`, `json`; then `definition` and `diff`, which say what a tree means and what changed,
//! `edit` and `gate`, which change one skill and judge whether that may be, and `eval`, which evaluates what is left of its code once nothing of it reaches outside, with what
//! `facts` tells of the agent.

pub mod definition;
pub mod diff;
pub mod edit;
pub mod eval;
pub mod facts;
pub mod gate;

mod check;
mod fault;
mod json;
mod model;
mod print;
mod read;
mod ruby;
mod value;
mod word;

use serde::{Deserialize, Serialize};

pub use self::fault::{Fault, FaultCode, Severity};
pub use self::json::JsonError;
pub use self::model::{
    Code, Condition, Effect, Evolution, Guarantees, Item, Member, Node, Outside, Property, Skill,
    Spanned, Tool,
};
pub use self::print::Unprintable;
pub use self::ruby::{GRAMMAR_THREAD, SOURCE_MAX};
pub use self::value::Literal;
pub use self::word::{Keyword, Maker};

use self::fault::Refused;

/// Most skills taken from one file.
pub const SKILLS_MAX: usize = 1_000;

/// A range of bytes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A whole file of the skills language.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Law {
    /// The skills in the order of the file; ids may repeat, and the first counts for look-ups.
    pub skills: Vec<Spanned<Skill>>,
    /// What stands outside of skills. Ruby might make or change skills there, so with any of these the list of
    /// skills is not known to be whole.
    #[serde(default)]
    pub outside: Vec<Spanned<Outside>>,
    /// Everything that is wrong with the file, in its order.
    #[serde(skip)]
    pub faults: Vec<Fault>,
    /// Whether the file is no Ruby, or was not read to its end. The skills are then those of the parts that are, for a
    /// person to look at, and none of them can be changed.
    #[serde(skip)]
    pub broken: bool,
}

impl Law {
    /// Reads a file. Never fails: what cannot be read is among the faults.
    pub fn read(source: &[u8]) -> Self {
        let source = match std::str::from_utf8(source) {
            Ok(source) => source,
            Err(error) => {
                // The part before is UTF-8.
                let at = error.valid_up_to();
                let before = source.get(..at).unwrap_or_default();
                let before = std::str::from_utf8(before).unwrap_or_default();
                let span = Span { start: at, end: at };
                let refused =
                    Refused::new(span, FaultCode::Encoding, "the source is not UTF-8 here")
                        .expected("a text in UTF-8")
                        .mend("save the file as UTF-8");
                return Self {
                    faults: vec![refused.located(before, Severity::Error)],
                    broken: true,
                    ..Self::default()
                };
            }
        };
        let mut law = read::law(source);
        check::check(source, &mut law);
        law
    }

    /// The faults that keep something from being read, in the order of the file.
    pub fn errors(&self) -> impl Iterator<Item = &Fault> {
        let faults = self.faults.iter();
        faults.filter(|fault| fault.severity == Severity::Error)
    }

    /// Whether everything in the file was read.
    pub fn is_whole(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The skill that look-ups find: the first with this id.
    pub fn skill(&self, id: &str) -> Option<&Spanned<Skill>> {
        self.skills.iter().find(|skill| skill.id == id)
    }
}

#[cfg(test)]
mod tests;
