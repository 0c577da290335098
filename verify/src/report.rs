//! What a check found, and how it is told: in words, or as JSON for programs.

use std::fmt::Display;
use std::io;
use std::process::ExitCode;

use serde_json::{Map, Value};

/// What a check found.
#[derive(Debug)]
pub(crate) struct Report {
    /// Why it does not hold, if it does not.
    pub(crate) problem: Option<String>,
    /// What was found on the way, by name.
    pub(crate) facts: Map<String, Value>,
    /// What the reader has to look at.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Everything held.
    pub(crate) fn good() -> Self {
        Self {
            problem: None,
            facts: Map::new(),
            notes: Vec::new(),
        }
    }

    /// Something did not hold.
    pub(crate) fn bad(problem: impl Display) -> Self {
        Self {
            problem: Some(problem.to_string()),
            ..Self::good()
        }
    }

    /// Adds something that was found.
    #[must_use]
    pub(crate) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// Adds something to look at.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Tells it on standard output. The exit code is 0 if everything held, else 1, also where the reader of the output
    /// has seen enough and went away.
    pub(crate) fn tell(self, json: bool) -> io::Result<ExitCode> {
        let code = match self.problem {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::from(1),
        };
        match self.write(json, &mut io::stdout().lock()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(code),
        }
    }

    fn write(self, json: bool, out: &mut impl io::Write) -> io::Result<()> {
        if json {
            let valid = self.problem.is_none();
            let mut object = Map::from_iter([("valid".to_owned(), Value::from(valid))]);
            let problem = self
                .problem
                .map(|problem| ("problem".to_owned(), problem.into()));
            object.extend(problem);
            object.extend(self.facts);
            if !self.notes.is_empty() {
                object.insert("notes".to_owned(), self.notes.into());
            }
            serde_json::to_writer_pretty(&mut *out, &object)?;
            writeln!(out)?;
            return out.flush();
        }
        match &self.problem {
            None => writeln!(out, "VALID")?,
            Some(problem) => writeln!(out, "NOT VALID: {}", harmless(problem))?,
        }
        for (name, value) in &self.facts {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            writeln!(out, "  {}: {}", name.replace('_', " "), harmless(&text))?;
        }
        for note in &self.notes {
            writeln!(out, "  note: {}", harmless(note))?;
        }
        out.flush()
    }
}

/// `text` with everything made visible that would steer a terminal: texts come from those who are checked.
pub(crate) fn harmless(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(
            harmless("a\u{1b}[2J\u{202e}\nb é"),
            "a\\u{1b}[2J\\u{202e}\\nb é"
        );
    }
}
