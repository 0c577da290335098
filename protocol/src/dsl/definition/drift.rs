//! Where a definition and the content went apart.
//!
//! [`Drift::items`] and the ratio follow the reference, which looks for parts of words. [`Drift::statements`] says of
//! each sentence of the content that demands something which nodes speak of it, and by which words.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::super::model::Node;
use super::super::{Literal, Skill};

/// What makes a line of the content a demand.
const DEMANDS: [&str; 6] = ["must", "required", "always", "never", "shall", "mandatory"];
/// Longest line that is shown whole, in characters.
const LINE_MAX: usize = 80;
/// Words that say nothing about what a sentence is about.
const COMMON: [&str; 28] = [
    "a", "an", "and", "any", "are", "be", "before", "by", "every", "for", "from", "in", "is", "it",
    "must", "not", "of", "on", "or", "that", "the", "this", "to", "true", "false", "with",
    "required", "always",
];

/// In which direction something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The content does not speak of a node.
    DefinitionOrphaned,
    /// No node speaks of a demand of the content.
    ContentUncovered,
}

/// Something that one side says and the other does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DriftItem {
    /// Which side.
    pub direction: Direction,
    /// The sentence about it.
    pub description: String,
    /// The node, if it is one.
    pub node_name: Option<String>,
}

/// A demand of the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// The line of the content, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
    /// The nodes that speak of it, the one with most words in common first.
    pub matches: Vec<Match>,
}

/// A node that speaks of a demand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Match {
    /// The node.
    pub node_name: String,
    /// Whether the node cites the sentence as its source.
    pub cited: bool,
    /// The words that both have.
    pub words: Vec<String>,
}

/// How definition and content fit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Drift {
    /// What is missing on one side, nodes first.
    pub items: Vec<DriftItem>,
    /// Which part of the nodes the content speaks of, to two digits; nothing if there are no nodes.
    pub coverage_ratio: Option<f64>,
    /// Each demand of the content and the nodes that speak of it.
    pub statements: Vec<Statement>,
}

/// Compares the definition of `skill` with its content.
pub fn drift(skill: &Skill) -> Drift {
    let content = skill.content().unwrap_or_default();
    let lowered = content.to_lowercase();
    let nodes: Vec<_> = skill.nodes().collect();
    let mut items = Vec::new();
    for node in &nodes {
        if !is_mentioned(node, &lowered) {
            let (name, kind) = (node.name.to_string(), node.kind());
            let description = format!(
                "Definition node '{name}' ({kind}) has no corresponding mention in content"
            );
            items.push(DriftItem {
                direction: Direction::DefinitionOrphaned,
                description,
                node_name: Some(name),
            });
        }
    }
    let ratio = ratio(nodes.len() - items.len(), nodes.len());
    let keywords: Vec<_> = nodes.iter().flat_map(|node| keywords(node)).collect();
    // Against no nodes at all, every demand would be uncovered; the ratio says it.
    let compared = if nodes.is_empty() { "" } else { content };
    for line in compared
        .lines()
        .map(str::trim)
        .filter(|line| is_asserting(line))
    {
        let lowered = line.to_lowercase();
        let demands = DEMANDS.iter().any(|word| lowered.contains(word));
        if demands && !keywords.iter().any(|word| lowered.contains(word.as_str())) {
            let description = format!(
                "Content assertion \"{}\" not covered by any definition node",
                cut(line)
            );
            items.push(DriftItem {
                direction: Direction::ContentUncovered,
                description,
                node_name: None,
            });
        }
    }
    Drift {
        items,
        coverage_ratio: ratio,
        statements: statements(content, &nodes),
    }
}

/// The part as the reference rounds it.
fn ratio(covered: usize, of: usize) -> Option<f64> {
    let (covered, of) = (u32::try_from(covered).ok()?, u32::try_from(of).ok()?);
    (of > 0).then(|| (f64::from(covered) / f64::from(of) * 100.0).round() / 100.0)
}

/// Whether a line is neither empty nor a heading, part of a table, or an item of a list.
fn is_asserting(line: &str) -> bool {
    !line.is_empty() && !line.starts_with(['#', '|', '-'])
}

fn cut(line: &str) -> String {
    match line.chars().count() > LINE_MAX {
        true => line
            .chars()
            .take(LINE_MAX - 2)
            .chain("...".chars())
            .collect(),
        false => line.to_owned(),
    }
}

/// The parts of a name between `_`; those at the end that are empty do not count.
fn parts(name: &str) -> Vec<String> {
    let name = name.to_lowercase();
    name.trim_end_matches('_')
        .split('_')
        .map(str::to_owned)
        .collect()
}

fn is_mentioned(node: &Node, lowered: &str) -> bool {
    let mut parts = parts(&node.name.to_string()).into_iter();
    let options = node.stored().into_iter();
    parts.any(|part| lowered.contains(&part))
        || options.into_iter().any(|(_, value)| match value {
            Literal::Text(text) => lowered.contains(&text.to_lowercase()),
            _ => false,
        })
}

fn keywords(node: &Node) -> Vec<String> {
    let mut words = parts(&node.name.to_string());
    for (_, value) in node.stored() {
        match value {
            Literal::Text(text) => {
                let text = text.to_lowercase();
                let long = text.split_whitespace();
                words.extend(
                    long.filter(|word| word.chars().count() > 3)
                        .map(str::to_owned),
                );
            }
            Literal::Symbol(name) => words.push(name.to_lowercase()),
            _ => {}
        }
    }
    words
}

fn statements(content: &str, nodes: &[&Node]) -> Vec<Statement> {
    let about: Vec<_> = nodes.iter().map(|node| (*node, node_words(node))).collect();
    let lines = content.lines().enumerate();
    let lines = lines.map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', '|']));
    let mut found = Vec::new();
    for (line, text) in lines {
        let whole: BTreeSet<_> = words(text).collect();
        if !DEMANDS.iter().any(|word| whole.contains(*word)) {
            continue;
        }
        let said: BTreeSet<_> = telling(text).collect();
        let mut matches: Vec<_> = about
            .iter()
            .filter_map(|(node, about)| {
                let cited = cites(node, text);
                let words: Vec<_> = about.intersection(&said).cloned().collect();
                (cited || !words.is_empty()).then(|| Match {
                    node_name: node.name.to_string(),
                    cited,
                    words,
                })
            })
            .collect();
        // Stable, so that equal ones stay in the order of the definition.
        matches.sort_by_key(|found| (!found.cited, usize::MAX - found.words.len()));
        let text = text.to_owned();
        found.push(Statement {
            line,
            text,
            matches,
        });
    }
    found
}

/// Whether a node gives `text` as its source.
fn cites(node: &Node, text: &str) -> bool {
    let cited = node.source_span().and_then(Literal::text).map(str::trim);
    cited.is_some_and(|cited| !cited.is_empty() && text.contains(cited))
}

fn node_words(node: &Node) -> BTreeSet<String> {
    let mut found: BTreeSet<_> = telling(&node.name.to_string()).collect();
    let mut add = |value: &Literal| {
        if let Some(text) = value.text() {
            found.extend(telling(text));
        }
    };
    for (_, value) in node.stored() {
        match value {
            Literal::Array(items) => items.iter().for_each(&mut add),
            value => add(value),
        }
    }
    found
}

/// Whole words in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase)
}

/// The words that tell what a text is about, without their endings.
fn telling(text: &str) -> impl Iterator<Item = String> {
    let words = words(text).filter(|word| word.chars().count() > 1);
    words
        .filter(|word| !COMMON.contains(&word.as_str()) && !DEMANDS.contains(&word.as_str()))
        .map(|word| {
            let endings = ["ing", "ed", "es", "s"].into_iter();
            let mut stems = endings.filter_map(|ending| word.strip_suffix(ending));
            let stem = stems.find(|stem| stem.chars().count() > 2);
            stem.map_or_else(|| word.clone(), str::to_owned)
        })
}

impl Drift {
    /// Whether anything is missing on either side.
    pub fn is_drifted(&self) -> bool {
        !self.items.is_empty()
    }

    /// The report on the skill `id` for people, in the reference's form.
    pub fn markdown(&self, id: &str) -> String {
        let Some(ratio) = self.coverage_ratio else {
            return format!(
                "## Drift Report: {id}\n\nThe definition is empty: there is nothing to compare."
            );
        };
        let orphaned = |item: &&DriftItem| item.direction == Direction::DefinitionOrphaned;
        let warnings = self.items.iter().filter(orphaned).count();
        let total = self.items.len();
        let mut text = format!(
            "## Drift Report: {id}\n\n**Coverage Ratio**: {:.0}% of definition nodes reflected in content\n\
             **Issues**: 0 errors, {warnings} warnings, {} info ({total} total)\n\n",
            ratio * 100.0,
            total - warnings
        );
        if self.items.is_empty() {
            text.push_str("No drift detected. Content and definition layers are aligned.");
        }
        for DriftItem {
            direction,
            description,
            ..
        } in &self.items
        {
            let head = match direction {
                Direction::DefinitionOrphaned => "⚠️ [Definition > Content]",
                Direction::ContentUncovered => "ℹ️ [Content > Definition]",
            };
            // Writing to a text never fails.
            let _ = writeln!(text, "{head} {description}");
        }
        text
    }
}
