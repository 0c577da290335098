//! What the law itself says about its changes: which skills there may be, which fields may change, and what depends on
//! what.

use std::collections::HashSet;

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

/// Whether every skill that another depends on is there, and none depends on itself.
pub(super) fn dependencies(law: &Law) -> Asks {
    let needs = |skill: &Skill| -> Vec<String> {
        let named = |value: &Literal| value.text().map(str::to_owned);
        match skill.value(Keyword::DependsOn) {
            Some(Literal::Array(items)) => items.iter().filter_map(named).collect(),
            Some(one) => named(one).into_iter().collect(),
            None => Vec::new(),
        }
    };
    let mut settled: HashSet<&str> = HashSet::new();
    for skill in &law.skills {
        for needed in needs(skill) {
            if law.skill(&needed).is_none() {
                return Err(format!(
                    "'{}' depends on '{needed}', which would not be there",
                    skill.id
                ));
            }
        }
    }
    // Each round settles those whose needs are settled; who is left depends on itself in the end.
    loop {
        let before = settled.len();
        for skill in &law.skills {
            let ready = needs(skill)
                .iter()
                .all(|needed| settled.contains(needed.as_str()));
            if ready {
                settled.insert(&skill.id);
            }
        }
        if settled.len() == before {
            break;
        }
    }
    let unsettled = law
        .skills
        .iter()
        .find(|skill| !settled.contains(skill.id.as_str()));
    match unsettled {
        None => Ok("every skill that another depends on is there".to_owned()),
        Some(skill) => Err(format!("'{}' would depend on itself", skill.id)),
    }
}
