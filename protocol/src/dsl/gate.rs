//! What a change of the law must pass, whichever way it comes: one table of gates and of the steps that each looks at.
//!
//! [`judge`] looks at the two files and believes nothing about a change but what they show. It decides nothing alone:
//! what passes waits for a person, and what does not is not even shown to one.

mod rules;
mod settings;

use serde::{Deserialize, Serialize};

use super::definition::{Context, verify};
use super::diff::{Fate, LawDiff, SkillDiff, diff};
use super::edit::{EditError, only_change};
use super::eval::Facts;
use super::{Law, Skill};

pub use rules::Governance;
pub use settings::Settings;

/// A change of the law, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another text of the skill of this id.
    Evolve(String),
    /// A new skill of this id.
    Add(String),
    /// The skill of this id goes.
    Remove(String),
    /// Whichever skill differs in a whole new file.
    Whole,
    /// Back to a former file, whatever differs.
    Rollback,
    /// A former file where there is none.
    Return,
}

impl Step {
    /// The skill it names.
    fn id(&self) -> Option<&str> {
        match self {
            Self::Evolve(id) | Self::Add(id) | Self::Remove(id) => Some(id),
            Self::Whole | Self::Rollback | Self::Return => None,
        }
    }

    /// What becomes of the skill it names.
    fn fate(&self) -> Option<Fate> {
        match self {
            Self::Evolve(_) => Some(Fate::Kept),
            Self::Add(_) => Some(Fate::Added),
            Self::Remove(_) => Some(Fate::Removed),
            Self::Whole | Self::Rollback | Self::Return => None,
        }
    }
}

/// What is asked about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Are changes of the law switched on?
    Enabled,
    /// May the layer change?
    Layer,
    /// Does the session have a change left?
    Session,
    /// Is there a reason?
    Reason,
    /// Is all that changes read?
    Syntax,
    /// Does one skill change, and nothing beside it?
    OneSkill,
    /// Is it the skill that was named?
    MatchingId,
    /// Does the law let there be a skill of this id?
    Allowed,
    /// May the skill change at all?
    Immutable,
    /// Do the skill's own rules let these fields change?
    Fields,
    /// Are the skills there that others depend on?
    Dependencies,
    /// Does the definition hold, as far as a program can tell?
    Definition,
}

impl Gate {
    /// Every gate, in the order in which they are told.
    pub const ALL: [Self; 12] = [
        Self::Enabled,
        Self::Layer,
        Self::Session,
        Self::Reason,
        Self::Syntax,
        Self::OneSkill,
        Self::MatchingId,
        Self::Allowed,
        Self::Immutable,
        Self::Fields,
        Self::Dependencies,
        Self::Definition,
    ];

    /// Whether a step of this kind must pass it: the table. Only a way back may change several skills, since what it
    /// undoes did. Where there is no law, there are no rules of it either, and no change that could be one too many.
    pub fn asks(self, step: &Step) -> bool {
        if *step == Step::Return {
            return matches!(self, Self::Reason | Self::Syntax | Self::Dependencies);
        }
        match self {
            Self::OneSkill => !matches!(step, Step::Rollback),
            Self::MatchingId => step.id().is_some(),
            Self::Enabled
            | Self::Layer
            | Self::Session
            | Self::Reason
            | Self::Syntax
            | Self::Allowed
            | Self::Immutable
            | Self::Fields
            | Self::Dependencies
            | Self::Definition => true,
        }
    }

    /// The category and the words of the reference, where it asks the same.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Enabled => ("Authority", "Evolution enabled"),
            Self::Layer => ("Authority", "Layer may change"),
            Self::Session => ("Authority", "Within session limit"),
            Self::Reason => ("Traceability", "Reason documented"),
            Self::Syntax => ("Consistency", "Ruby syntax valid"),
            Self::OneSkill => ("Scope", "One skill changes"),
            Self::MatchingId => ("Consistency", "Definition declares the skill"),
            Self::Allowed => ("Consistency", "Skill in allowed_skills"),
            Self::Immutable => ("Consistency", "Skill not immutable"),
            Self::Fields => ("Consistency", "Evolve rules permit change"),
            Self::Dependencies => ("Consistency", "Dependencies in place"),
            Self::Definition => ("Consistency", "Definition holds"),
        }
    }
}

/// A change and what it is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The law as it is.
    pub before: &'a [u8],
    /// The law as it would be.
    pub after: &'a [u8],
    /// What was asked for.
    pub step: &'a Step,
    /// Why.
    pub reason: Option<&'a str>,
    /// The settings in force.
    pub settings: &'a Settings,
    /// What definitions are verified with.
    pub facts: &'a Facts,
    /// Changes that this session has had.
    pub used: u32,
}

/// What one gate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The gate.
    pub gate: Gate,
    /// Whether it lets the change pass.
    pub passed: bool,
    /// Why.
    pub detail: String,
}

/// What all gates say.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Each gate that was asked.
    pub checks: Vec<Check>,
    /// What would change.
    pub diff: LawDiff,
}

impl Verdict {
    /// Whether every gate lets it pass.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    /// The gates that do not.
    pub fn refusals(&self) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(|check| !check.passed)
    }

    /// The skill that changes; nothing where none or several do.
    pub fn skill(&self) -> Option<&str> {
        match self.diff.skills.as_slice() {
            [one] => Some(&one.id),
            _ => None,
        }
    }
}

/// Both sides of a change, read.
struct Sides<'a> {
    asked: Asked<'a>,
    was: Law,
    is: Law,
    diff: LawDiff,
    governance: Governance,
}

/// Asks every gate about a change.
pub fn judge(asked: Asked<'_>) -> Verdict {
    let (was, is) = (Law::read(asked.before), Law::read(asked.after));
    let diff = diff(&was, &is);
    // What rules is the law that is in force, never the one that is asked for.
    let governance = Governance::of(&was).unwrap_or_else(|| asked.settings.fallback.clone());
    let sides = Sides {
        asked,
        was,
        is,
        diff,
        governance,
    };
    let gates = Gate::ALL.into_iter();
    let checks = gates
        .filter(|gate| gate.asks(asked.step))
        .map(|gate| match sides.ask(gate) {
            Ok(detail) => Check {
                gate,
                passed: true,
                detail,
            },
            Err(detail) => Check {
                gate,
                passed: false,
                detail,
            },
        });
    Verdict {
        checks: checks.collect(),
        diff: sides.diff,
    }
}

type Asks = Result<String, String>;

impl Sides<'_> {
    fn ask(&self, gate: Gate) -> Asks {
        match gate {
            Gate::Enabled => self.enabled(),
            Gate::Layer => self.layer(),
            Gate::Session => self.session(),
            Gate::Reason => self.reason(),
            Gate::Syntax => self.syntax(),
            Gate::OneSkill => self.one_skill(),
            Gate::MatchingId => self.matching_id(),
            Gate::Allowed => self.allowed(),
            Gate::Immutable => self.immutable(),
            Gate::Fields => self.fields(),
            Gate::Dependencies => self.dependencies(),
            Gate::Definition => self.definition(),
        }
    }

    fn enabled(&self) -> Asks {
        if let Some(problem) = &self.asked.settings.problem {
            return Err(problem.clone());
        }
        match self.asked.settings.enabled {
            true => Ok("evolution_enabled in skills/config.yml".to_owned()),
            false => Err(
                "Evolution is disabled. The owner sets `evolution_enabled: true` in skills/config.yml"
                    .to_owned(),
            ),
        }
    }

    fn layer(&self) -> Asks {
        match self.asked.settings.mutable {
            true => Ok("layers.L0_law in skills/config.yml".to_owned()),
            false => Err(
                "the layer L0_law is switched off or not mutable in skills/config.yml".to_owned(),
            ),
        }
    }

    fn session(&self) -> Asks {
        let (used, limit) = (self.asked.used, self.asked.settings.per_session);
        let told = format!("{used}/{limit} evolutions used");
        match used < limit {
            true => Ok(told),
            false => Err(format!(
                "{told}; a new session begins a day after the first, or with: kairos-chain skills reset"
            )),
        }
    }

    fn reason(&self) -> Asks {
        let given = self
            .asked
            .reason
            .is_some_and(|reason| !reason.trim().is_empty());
        match given {
            true => Ok("A reason is given".to_owned()),
            false => Err("No reason is given".to_owned()),
        }
    }

    /// The skills of the later law that the change is about.
    fn changed(&self) -> impl Iterator<Item = (&SkillDiff, &Skill)> {
        let changes = self.diff.skills.iter();
        changes.filter_map(|change| {
            let skill = self.is.skills.iter().find(|skill| skill.id == change.id)?;
            Some((change, &skill.node))
        })
    }

    fn syntax(&self) -> Asks {
        if self.is.broken {
            let first = self.is.errors().next();
            let first = first.map(ToString::to_string).unwrap_or_default();
            return Err(format!("the new law is no Ruby: {first}"));
        }
        if self.diff.outside.is_some() && *self.asked.step != Step::Return {
            return Err(
                "what stands outside of skills changes, and no rule speaks of that".to_owned(),
            );
        }
        let spans: Vec<_> = {
            let changed = |id: &str| self.diff.skills.iter().any(|change| change.id == id);
            let skills = self.is.skills.iter().filter(|skill| changed(&skill.id));
            skills.map(|skill| skill.span).collect()
        };
        let within = |at: usize| {
            spans
                .iter()
                .any(|span| (span.start..span.end).contains(&at))
        };
        match self.is.errors().find(|fault| within(fault.span.start)) {
            Some(fault) => Err(format!("it cannot be read: {fault}")),
            None => Ok("all of it is read".to_owned()),
        }
    }

    fn one_skill(&self) -> Asks {
        let text =
            |bytes| std::str::from_utf8(bytes).map_err(|_| "the law is not UTF-8".to_owned());
        let (before, after) = (text(self.asked.before)?, text(self.asked.after)?);
        if self.was.broken {
            let first = self.was.errors().next();
            let first = first.map(ToString::to_string).unwrap_or_default();
            return Err(EditError::Law(first).to_string());
        }
        match only_change((before, &self.was), (after, &self.is)) {
            Ok(change) => Ok(format!("'{}' and nothing else", change.id)),
            Err(error) => Err(error.to_string()),
        }
    }

    fn matching_id(&self) -> Asks {
        let (Some(id), Some(fate)) = (self.asked.step.id(), self.asked.step.fate()) else {
            return Ok("no skill is named".to_owned());
        };
        match self.diff.skills.as_slice() {
            [change] if change.id == id && change.fate == fate => Ok(format!("it is '{id}'")),
            [change] => Err(format!("'{}' changes, not '{id}' as was said", change.id)),
            _ => Err(format!("not '{id}' alone changes, as was said")),
        }
    }

    /// Every id that the change touches, former ones included.
    fn ids(&self) -> impl Iterator<Item = &str> {
        let changes = self.diff.skills.iter();
        changes.flat_map(|change| {
            std::iter::once(change.id.as_str()).chain(change.renamed_from.as_deref())
        })
    }

    fn allowed(&self) -> Asks {
        let fresh = self
            .diff
            .skills
            .iter()
            .filter(|change| change.fate == Fate::Added || change.renamed_from.is_some());
        let fresh: Vec<_> = fresh.map(|change| change.id.as_str()).collect();
        let Some(allowed) = &self.governance.allowed else {
            return match fresh.first() {
                None => Ok("no list is given, and no skill is new".to_owned()),
                Some(id) => Err(format!(
                    "'{id}' is new, and neither l0_governance nor kairos_meta_skills lists what belongs to L0"
                )),
            };
        };
        match self
            .ids()
            .find(|id| !allowed.iter().any(|allowed| allowed == id))
        {
            None => Ok("against the list of l0_governance".to_owned()),
            Some(id) => Err(format!(
                "Skill '{id}' is not allowed in L0. Allowed L0 skills (from l0_governance): {}",
                allowed.join(", ")
            )),
        }
    }

    fn immutable(&self) -> Asks {
        let fixed = &self.governance.immutable;
        match self.ids().find(|id| fixed.iter().any(|fixed| fixed == id)) {
            None => Ok(format!("immutable are: {}", fixed.join(", "))),
            Some(id) => Err(format!("Skill '{id}' is immutable")),
        }
    }

    fn fields(&self) -> Asks {
        for change in &self.diff.skills {
            let id = change.renamed_from.as_deref().unwrap_or(&change.id);
            // Of two with one id the first counts, and its rules.
            let Some(skill) = self.was.skill(id) else {
                continue;
            };
            if change.fate == Fate::Added {
                continue;
            }
            rules::fields(skill, change)?;
        }
        Ok("the skill's own rules let these fields change".to_owned())
    }

    /// What was amiss before is not held against this change.
    fn dependencies(&self) -> Asks {
        match rules::dependencies(&self.is) {
            Err(amiss) if rules::dependencies(&self.was).as_ref() == Err(&amiss) => {
                Ok(format!("as before: {amiss}"))
            }
            told => told,
        }
    }

    fn definition(&self) -> Asks {
        for (_, skill) in self.changed() {
            // As the agent is: what whoever asks would have it be decides nothing.
            let report = verify(skill, &Context::of(skill, self.asked.facts));
            let failed = report
                .results
                .iter()
                .find(|result| result.verdict == Ok(false));
            if let Some(failed) = failed {
                return Err(format!(
                    "{} '{}' of '{}' fails: {}",
                    failed.node_type, failed.node_name, skill.id, failed.detail
                ));
            }
        }
        Ok("no node of a definition fails".to_owned())
    }
}

#[cfg(test)]
mod tests;
