//! What the law itself says about its changes: which skills there may be, which fields may change, and what depends on
//! what.

use std::collections::HashMap;
use std::mem;

use super::super::diff::{Fate, SkillDiff};
use super::super::model::{Code, Member};
use super::super::{Keyword, Law, Literal, Skill};
use super::Asks;

/// The skill that says which skills there may be.
const GOVERNANCE: &str = "l0_governance";

/// Which skills there may be, and which of them never change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Governance {
    /// Ids that there may be; nothing where no list is given.
    pub allowed: Option<Vec<String>>,
    /// Ids of skills that never change.
    pub immutable: Vec<String>,
}

impl Governance {
    /// What the skill `l0_governance` of `law` says, if its behavior is a map written out. It is read, not run.
    pub fn of(law: &Law) -> Option<Self> {
        let skill = law.skill(GOVERNANCE)?;
        let Member::Behavior(Code(code)) = &skill.member(Keyword::Behavior)?.node else {
            return None;
        };
        let Literal::Map(pairs) = map_in(code)? else {
            return None;
        };
        let list = |name: &str| {
            let (_, value) = pairs.iter().find(|(key, _)| key.text() == Some(name))?;
            let Literal::Array(items) = value else {
                return None;
            };
            let ids = items.iter().map(|item| item.text().map(str::to_owned));
            ids.collect::<Option<Vec<_>>>()
        };
        Some(Self {
            allowed: Some(list("allowed_skills")?),
            immutable: list("immutable_skills")?,
        })
    }
}

/// The value of a block that holds nothing but a value.
fn map_in(block: &str) -> Option<Literal> {
    let block = block.trim();
    let body = block
        .strip_prefix("do")
        .and_then(|body| body.strip_suffix("end"))
        .or_else(|| block.strip_prefix('{')?.strip_suffix('}'))?;
    let source = format!("skill :value do\n  content(\n{body}\n)\nend");
    let law = Law::read(source.as_bytes());
    let skill = law.skill("value").filter(|_| law.is_whole())?;
    match skill.members.as_slice() {
        [member] => member.value().cloned(),
        _ => None,
    }
}

/// Whether the rules of `skill`, as they are, let it change so.
pub(super) fn fields(skill: &Skill, change: &SkillDiff) -> Asks {
    let id = &skill.id;
    let denies_all = skill
        .evolution()
        .is_some_and(|rules| rules.denied.contains(&Literal::Symbol("all".to_owned())));
    if denies_all {
        return Err(format!("Skill '{id}' denies all evolution."));
    }
    let all: Vec<_> = match change.fate {
        // Whatever it has goes with it.
        Fate::Removed => skill
            .members
            .iter()
            .map(|member| member.keyword())
            .collect(),
        Fate::Kept | Fate::Added => change.fields.iter().map(|field| field.field).collect(),
    };
    for field in all {
        let Some(field) = field else {
            return Err(format!(
                "'{id}' holds Ruby that is no field, so no rule can speak of it"
            ));
        };
        if !skill.can_evolve(field.as_str()) {
            return Err(format!(
                "the rules of '{id}' do not let `{0}` change; see: kairos-chain skills why {id} {0}",
                field.as_str()
            ));
        }
    }
    let renamed = change.renamed_from.is_some();
    match renamed && skill.evolution().is_some() {
        true => Err(format!(
            "'{id}' has rules, and none of them lets its id change"
        )),
        false => Ok(String::new()),
    }
}

/// Whether every skill that another depends on is there, and none depends on itself. Takes as long as the law is.
pub(super) fn dependencies(law: &Law) -> Asks {
    // Look-ups find the first of each id.
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (place, skill) in law.skills.iter().enumerate() {
        places.entry(&skill.id).or_insert(place);
    }
    let mut waits: Vec<usize> = Vec::new();
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); law.skills.len()];
    for (place, skill) in law.skills.iter().enumerate() {
        let needs = needs(skill);
        waits.push(needs.len());
        for needed in needs {
            let waiting = places.get(needed).and_then(|at| needed_by.get_mut(*at));
            let Some(waiting) = waiting else {
                return Err(format!(
                    "'{}' depends on '{needed}', which would not be there",
                    skill.id
                ));
            };
            waiting.push(place);
        }
    }
    // Who waits for nobody is settled, and then those who waited for them; who is left depends on itself in the end.
    let ready = waits.iter().enumerate().filter(|(_, waits)| **waits == 0);
    let mut settled: Vec<usize> = ready.map(|(place, _)| place).collect();
    while let Some(place) = settled.pop() {
        for waiting in needed_by.get_mut(place).map(mem::take).unwrap_or_default() {
            if let Some(waits) = waits.get_mut(waiting) {
                *waits = waits.saturating_sub(1);
                if *waits == 0 {
                    settled.push(waiting);
                }
            }
        }
    }
    let mut unsettled = law
        .skills
        .iter()
        .zip(&waits)
        .filter(|(_, waits)| **waits > 0);
    match unsettled.next() {
        None => Ok("every skill that another depends on is there".to_owned()),
        Some((skill, _)) => Err(format!("'{}' would depend on itself", skill.id)),
    }
}

/// The ids of the skills that a skill depends on.
fn needs(skill: &Skill) -> Vec<&str> {
    match skill.value(Keyword::DependsOn) {
        Some(Literal::Array(items)) => items.iter().filter_map(Literal::text).collect(),
        Some(one) => one.text().into_iter().collect(),
        None => Vec::new(),
    }
}
