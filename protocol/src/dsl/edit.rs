//! Changing one skill of a law and nothing else: by the exact place that the reader found, never by a pattern.
//!
//! Every edit reads its own result again: the one skill is what was asked for, and every other byte is as it was. The
//! same look at two whole files, [`only_change`], tells whether somebody else's edit kept to that.

use thiserror::Error;

use super::diff::{Fate, LawDiff, diff};
use super::{Law, Skill, Span, Spanned};

/// Why a law cannot be changed so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// The law is no Ruby as it is.
    #[error("the law cannot be read as it is: {0}; mend it first, see: kairos-chain skills check")]
    Law(String),
    /// The new text is not one skill that can be read whole.
    #[error("the new text is not one skill: {0}")]
    Definition(String),
    /// The new text declares another skill.
    #[error("the new text declares the skill '{found}', not '{wanted}'")]
    OtherId {
        /// What was to be changed.
        wanted: String,
        /// What it declares.
        found: String,
    },
    /// There is no such skill.
    #[error("the law has no skill '{0}'; see: kairos-chain skills list")]
    Unknown(String),
    /// There is one already.
    #[error("Skill '{0}' already exists. Use 'propose' to modify.")]
    Exists(String),
    /// Several skills have this id.
    #[error(
        "the law declares '{0}' more than once, and look-ups find the first; remove the others by hand"
    )]
    Twice(String),
    /// Its text cannot be cut out by its place.
    #[error(
        "the text of '{0}' is not whole between its `do` and `end`; put the last line of its texts above its `end`"
    )]
    Scattered(String),
    /// Nothing of what the law says would change.
    #[error("nothing of what the law says would change")]
    Nothing,
    /// The result does not say what was meant.
    #[error("this would change more than one skill: {0}")]
    More(String),
}

/// What became of the one skill that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneChange {
    /// Its id.
    pub id: String,
    /// Whether it is new, gone, or another.
    pub fate: Fate,
}

/// A law that is changed.
#[derive(Debug, Clone, Copy)]
pub struct Editor<'a> {
    source: &'a str,
    law: &'a Law,
}

impl<'a> Editor<'a> {
    /// For `source`, which reads as `law`.
    pub fn new(source: &'a str, law: &'a Law) -> Result<Self, EditError> {
        match law.broken {
            true => Err(EditError::Law(first_error(law))),
            false => Ok(Self { source, law }),
        }
    }

    /// Puts `definition` in the place of the skill `id`.
    pub fn replace(self, id: &str, definition: &str) -> Result<String, EditError> {
        let Span { start, end } = self.place(id)?;
        let text = one_skill(id, definition)?;
        let (head, tail) = (self.text(0, start), self.text(end, self.source.len()));
        let after = [head, text, tail].concat();
        self.checked(id, Fate::Kept, after)
    }

    /// Adds the skill that `definition` declares at the end, behind an empty line.
    pub fn add(self, id: &str, definition: &str) -> Result<String, EditError> {
        if self.law.skill(id).is_some() {
            return Err(EditError::Exists(id.to_owned()));
        }
        let text = one_skill(id, definition)?;
        let gap = match self.source {
            "" => "",
            source if source.ends_with("\n\n") => "",
            source if source.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        let after = [self.source, gap, text, "\n"].concat();
        self.checked(id, Fate::Added, after)
    }

    /// Takes the skill `id` away, with the empty lines behind it.
    pub fn remove(self, id: &str) -> Result<String, EditError> {
        let Span { start, end } = self.place(id)?;
        let tail = self.text(end, self.source.len());
        let gap = tail.len() - tail.trim_start_matches(['\n', '\r']).len();
        let after = [self.text(0, start), tail.get(gap..).unwrap_or_default()].concat();
        self.checked(id, Fate::Removed, after)
    }

    fn text(self, start: usize, end: usize) -> &'a str {
        self.source.get(start..end).unwrap_or_default()
    }

    /// Where the skill `id` stands, whole.
    fn place(self, id: &str) -> Result<Span, EditError> {
        let mut found = self.law.skills.iter().filter(|skill| skill.id == id);
        let skill = found
            .next()
            .ok_or_else(|| EditError::Unknown(id.to_owned()))?;
        if found.next().is_some() {
            return Err(EditError::Twice(id.to_owned()));
        }
        match is_whole(self.text(skill.span.start, skill.span.end), skill) {
            true => Ok(skill.span),
            false => Err(EditError::Scattered(id.to_owned())),
        }
    }

    /// The result, if it says what was meant.
    fn checked(self, id: &str, fate: Fate, after: String) -> Result<String, EditError> {
        let read = Law::read(after.as_bytes());
        let found = only_change((self.source, self.law), (&after, &read))?;
        match found.id == id && found.fate == fate {
            true => Ok(after),
            false => Err(EditError::More(found.id)),
        }
    }
}

/// The skill whose body is `body`, as the reference wraps it.
pub fn wrapped(id: &str, body: &str) -> String {
    format!("skill :{id} do\n{}\nend", body.trim_matches(['\n', '\r']))
}

/// The text of the one skill in `definition`, without the white space around it.
fn one_skill<'a>(id: &str, definition: &'a str) -> Result<&'a str, EditError> {
    let law = Law::read(definition.as_bytes());
    if !law.is_whole() {
        return Err(EditError::Definition(first_error(&law)));
    }
    let [skill] = law.skills.as_slice() else {
        let count = law.skills.len();
        return Err(EditError::Definition(format!("it declares {count} skills")));
    };
    if skill.id != id {
        return Err(EditError::OtherId {
            wanted: id.to_owned(),
            found: skill.id.clone(),
        });
    }
    if skill.text_id {
        let what = format!("write its id as a symbol: `skill :{id} do`");
        return Err(EditError::Definition(what));
    }
    let text = definition.trim();
    let span = definition.get(skill.span.start..skill.span.end);
    match span == Some(text) && is_whole(text, skill) {
        true => Ok(text),
        false => {
            let what = "something stands outside of the skill; move comments and texts into it";
            Err(EditError::Definition(what.to_owned()))
        }
    }
}

/// Whether `text` alone says all of `skill`.
fn is_whole(text: &str, skill: &Spanned<Skill>) -> bool {
    let alone = Law::read(text.as_bytes());
    let same = alone.skills.as_slice() == [skill.clone()];
    !alone.broken && alone.outside.is_empty() && same
}

fn first_error(law: &Law) -> String {
    let first = law.errors().next();
    first.map(ToString::to_string).unwrap_or_default()
}

/// The one skill in which two laws differ, where they differ in nothing else, not even in a comment outside of it.
pub fn only_change(
    (before, was): (&str, &Law),
    (after, is): (&str, &Law),
) -> Result<OneChange, EditError> {
    if is.broken {
        return Err(EditError::Definition(first_error(is)));
    }
    let found = diff(was, is);
    let change = the_one(&found)?;
    let more = || EditError::More(format!("something outside of the skill '{}'", change.id));
    let span = |law: &Law| {
        let mut skills = law.skills.iter().filter(|skill| skill.id == change.id);
        match (skills.next(), skills.next()) {
            (Some(skill), None) => Ok(skill.span),
            (None, _) => Err(more()),
            (Some(_), Some(_)) => Err(EditError::Twice(change.id.clone())),
        }
    };
    let around = |text: &'_ str, span: Span| -> Option<(String, String)> {
        let (head, tail) = (text.get(..span.start)?, text.get(span.end..)?);
        Some((head.to_owned(), tail.to_owned()))
    };
    let same = match change.fate {
        Fate::Kept => around(before, span(was)?) == around(after, span(is)?),
        Fate::Added => around(after, span(is)?).is_some_and(|around| is_gap(before, &around)),
        Fate::Removed => around(before, span(was)?).is_some_and(|around| is_gap(after, &around)),
    };
    same.then(|| change.clone()).ok_or_else(more)
}

/// Whether `whole` is what stands around a skill, with any white space in the place of the skill.
fn is_gap(whole: &str, (head, tail): &(String, String)) -> bool {
    let (head, tail) = (head.trim_end(), tail.trim_start());
    let between = whole
        .strip_prefix(head)
        .and_then(|rest| rest.strip_suffix(tail));
    between.is_some_and(|between| between.trim().is_empty())
}

fn the_one(found: &LawDiff) -> Result<OneChange, EditError> {
    if found.outside.is_some() {
        return Err(EditError::More(
            "what stands outside of skills changes".to_owned(),
        ));
    }
    let change = match found.skills.as_slice() {
        [] => return Err(EditError::Nothing),
        [change] => change,
        several => {
            let ids: Vec<_> = several.iter().map(|skill| skill.id.as_str()).collect();
            return Err(EditError::More(ids.join(", ")));
        }
    };
    if let Some(from) = &change.renamed_from {
        return Err(EditError::More(format!(
            "'{from}' becomes '{}', which is a removal and an addition",
            change.id
        )));
    }
    if change.moved.is_some() {
        return Err(EditError::More(format!("'{}' stands elsewhere", change.id)));
    }
    Ok(OneChange {
        id: change.id.clone(),
        fate: change.fate,
    })
}

#[cfg(test)]
mod tests;
