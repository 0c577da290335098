//! What was checked, and how it came out: the words a person reads before deciding.

use serde::{Deserialize, Serialize};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not hold.
    Failed,
    /// The peer gave nothing to check.
    Unknown,
}

impl Outcome {
    /// `passed`, `failed` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked, such as `content hash`.
    pub name: String,
    /// How it came out.
    pub outcome: Outcome,
    /// What was found, in words for a person.
    pub detail: String,
}

/// The checks of one conversation, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checks(pub Vec<Check>);

impl Checks {
    /// Notes that something holds.
    pub fn pass(&mut self, name: &str, detail: impl Into<String>) {
        self.note(name, Outcome::Passed, detail);
    }

    /// Notes that there was nothing to check.
    pub fn unknown(&mut self, name: &str, detail: impl Into<String>) {
        self.note(name, Outcome::Unknown, detail);
    }

    /// Notes how a check came out.
    pub fn note(&mut self, name: &str, outcome: Outcome, detail: impl Into<String>) {
        self.0.push(Check {
            name: name.to_owned(),
            outcome,
            detail: detail.into(),
        });
    }
}
