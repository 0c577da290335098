//! What reads, and does not do what its writer may believe: a second pass over the tree.

use std::collections::HashSet;

use super::fault::{FaultCode, Refused, Severity};
use super::model::{Evolution, Item, Member, Skill};
use super::{Keyword, Law, Literal, Span};

/// The fields that evolution rules can name.
const FIELDS: [&str; 15] = [
    "all",
    "version",
    "title",
    "use_when",
    "inputs",
    "requires",
    "depends_on",
    "content",
    "formalization_notes",
    "guarantees",
    "evolve",
    "definition",
    "behavior",
    "tool",
    "effect",
];

/// Adds the warnings about `law`, which was read from `source`.
pub(super) fn check(source: &str, law: &mut Law) {
    let mut found = Vec::new();
    let mut ids = HashSet::new();
    for skill in &law.skills {
        if !ids.insert(skill.id.as_str()) {
            let what = format!("a second skill `{}`: look-ups find the first", skill.id);
            found.push(
                Refused::new(skill.span, FaultCode::Hidden, what)
                    .expected("an id of its own for each skill")
                    .mend("rename this one, or remove one of the two"),
            );
        }
        if skill.text_id {
            let what = format!(
                "the id \"{}\" is a text: it is listed, and never found",
                skill.id
            );
            found.push(
                Refused::new(skill.span, FaultCode::Ineffective, what)
                    .expected("a symbol")
                    .mend(format!(
                        "write `skill {} do`",
                        Literal::Symbol(skill.id.clone()).inspect()
                    )),
            );
        }
        members(skill, &mut found);
    }
    let found = found.into_iter();
    let found = found.map(|refused| refused.located(source, Severity::Warning));
    law.faults.extend(found);
    law.faults.sort_by_key(|fault| fault.span.start);
}

fn members(skill: &Skill, found: &mut Vec<Refused>) {
    for keyword in Keyword::ALL {
        if keyword == Keyword::Effect {
            continue;
        }
        let of_keyword = skill.members.iter();
        let of_keyword: Vec<_> = of_keyword
            .filter(|member| member.keyword() == Some(keyword))
            .collect();
        let Some((_, hidden)) = of_keyword.split_last() else {
            continue;
        };
        for member in hidden {
            let what = format!("this `{}` is hidden by a later one", keyword.as_str());
            found.push(
                Refused::new(member.span, FaultCode::Hidden, what)
                    .mend("keep one of the two; the last counts"),
            );
        }
    }
    for member in &skill.members {
        match &member.node {
            Member::Evolve(rules) => evolution(member.span, rules, found),
            Member::Definition(items) => {
                let mut names = HashSet::new();
                for item in items {
                    let Item::Node(node) = &item.node else {
                        continue;
                    };
                    if !names.insert((node.maker.as_str(), node.name.to_string())) {
                        let what = format!("a second node `{}` of this kind", node.name);
                        found.push(
                            Refused::new(item.span, FaultCode::Hidden, what)
                                .mend("rename one of the two, so that reports tell them apart"),
                        );
                    }
                }
            }
            _ => {}
        }
    }
}

fn evolution(span: Span, rules: &Evolution, found: &mut Vec<Refused>) {
    let mut warn = |what: String, mend: String| {
        let refused = Refused::new(span, FaultCode::Ineffective, what);
        found.push(refused.expected("fields as symbols").mend(mend));
    };
    for field in rules.allowed.iter().chain(&rules.denied) {
        match field {
            Literal::Symbol(name) if FIELDS.contains(&name.as_str()) => {}
            Literal::Symbol(name) => warn(
                format!("`:{name}` is no field of a skill"),
                format!(
                    "fields are {}",
                    FIELDS.map(|field| format!(":{field}")).join(", ")
                ),
            ),
            Literal::Text(name) => warn(
                format!("the field \"{name}\" is a text, which never matches"),
                format!("write `{}`", Literal::Symbol(name.clone()).inspect()),
            ),
            other => warn(
                format!("{} is no field", other.inspect()),
                "name fields one by one, such as `deny :content, :behavior`".to_owned(),
            ),
        }
    }
    if rules.allowed.contains(&Literal::Symbol("all".to_owned())) {
        warn(
            "`allow :all` allows nothing but a field of that name".to_owned(),
            "leave `allow` out, which allows every field".to_owned(),
        );
    }
}
