//! What a support person would ask about a data directory, asked by the program itself.
//!
//! Each check is one sentence about one thing, with the way out where something is wrong. Nothing here changes the
//! directory: locks are looked at, the ledger is read as it is, and the one file written to time the disk never has
//! a name. What may be put right without asking is in [`fix`] and runs only when it is asked for.

mod clock;
mod content;
mod directory;
pub mod fix;
mod leftovers;
mod locks;
mod service;

use kairos_protocol::time::Timestamp;
use serde::Serialize;

use crate::agent;
use crate::config::{ConfigError, Settings};
use crate::data_dir::DataDir;
use crate::data_dir::survey::survey;

/// How much a finding matters, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// It works, but a person should look.
    Warn,
    /// It does not work, or what is there is not safe.
    Fail,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, such as `keys.permissions`.
    pub check: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What was found.
    pub message: String,
    /// What to do about it; present on every warning and failure.
    pub fix: Option<String>,
}

/// What is examined.
#[derive(Debug)]
pub struct Patient<'a> {
    /// The directory, which need not exist.
    pub data_dir: &'a DataDir,
    /// Its settings, or why there are none.
    pub settings: Result<Settings, ConfigError>,
    /// The time.
    pub now: Timestamp,
}

/// The answers so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.push(check, Level::Ok, message.into(), None);
    }

    fn warn(&mut self, check: &'static str, message: impl Into<String>, fix: impl Into<String>) {
        self.push(check, Level::Warn, message.into(), Some(fix.into()));
    }

    fn fail(&mut self, check: &'static str, message: impl Into<String>, fix: impl Into<String>) {
        self.push(check, Level::Fail, message.into(), Some(fix.into()));
    }

    fn push(&mut self, check: &'static str, level: Level, message: String, fix: Option<String>) {
        self.0.push(Finding {
            check,
            level,
            message,
            fix,
        });
    }
}

/// Asks everything, in the order in which a person would. Blocks on the disk, and up to a few seconds on whoever
/// answers at the configured port.
pub fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let mut found = Findings::default();
    let dir = patient.data_dir;
    if directory::presence(dir, &mut found) {
        let survey = survey(dir);
        directory::shape(dir, &survey, &mut found);
        directory::permissions(&survey, &mut found);
        directory::disk(dir, &mut found);
        locks::check(dir, &survey, &mut found);
        let defaults = Settings::default();
        let settings = patient.settings.as_ref().unwrap_or(&defaults);
        let ledger = content::ledger(&agent::ledger(dir, settings), &mut found);
        clock::check(patient.now, ledger, &mut found);
        content::keys(dir, &mut found);
        content::law(dir, &mut found);
        content::knowledge(dir, &mut found);
        content::skill_sets(dir, &mut found);
        content::version(dir, &mut found);
        leftovers::check(&survey, &mut found);
        leftovers::crashes(dir, &mut found);
    } else {
        clock::check(patient.now, None, &mut found);
    }
    leftovers::beside(dir, &mut found);
    service::settings(&patient.settings, &mut found);
    if let Ok(settings) = &patient.settings {
        service::port(settings, dir, &mut found);
    }
    found.0
}

/// The worst of `findings`.
pub fn worst(findings: &[Finding]) -> Level {
    findings
        .iter()
        .map(|finding| finding.level)
        .max()
        .unwrap_or(Level::Ok)
}

/// `count` things in words: `1 file`, `2 files`.
fn counted(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

/// The first few of `names`, and how many there are besides.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<_> = names.iter().take(SHOWN).map(String::as_str).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests;
