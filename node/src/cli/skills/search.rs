//! Finding skills of the law by the words that they have.

use kairos_protocol::dsl::{Keyword, Literal, Skill};
use serde_json::json;

use super::{Source, told};
use crate::cli::exit::Exit;
use crate::cli::out::{Cell, Out};

/// How much a skill has of some words: more for each word that its head has than for one of its content.
fn weight(skill: &Skill, words: &[String]) -> usize {
    let has =
        |text: Option<&str>, word: &str| text.is_some_and(|t| t.to_lowercase().contains(word));
    let use_when = skill.value(Keyword::UseWhen).and_then(Literal::text);
    let of = |word: &String| {
        [
            (has(Some(&skill.id), word) || has(skill.title(), word), 4),
            (has(use_when, word), 2),
            (has(skill.content(), word), 1),
        ]
        .iter()
        .map(|(has, weight)| usize::from(*has) * weight)
        .sum::<usize>()
    };
    words.iter().map(of).sum()
}

/// Lists the skills that have any of `words`, those with most of them first.
pub(super) fn search(source: &Source, words: &str, out: &mut Out) -> anyhow::Result<Exit> {
    let words: Vec<_> = words.split_whitespace().map(str::to_lowercase).collect();
    let skills = source.law.skills.iter();
    let mut found: Vec<_> = skills
        .map(|skill| (weight(skill, &words), skill))
        .filter(|(weight, _)| *weight > 0)
        .collect();
    // Of equal weight in the order of the law.
    found.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    if out.wants_json() {
        let found: Vec<_> = found
            .iter()
            .map(
                |(weight, skill)| json!({"id": skill.id, "title": skill.title(), "weight": weight}),
            )
            .collect();
        out.json(&json!({"found": found}))?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        out.line("No skill of the law has these words.")?;
        return Ok(Exit::Done);
    }
    let rows = found.into_iter().map(|(_, skill)| {
        let use_when = told(skill.value(Keyword::UseWhen));
        [Cell::from(&skill.id), Cell::from(use_when)]
    });
    out.table(["ID", "USE WHEN"], rows)?;
    Ok(Exit::Done)
}
