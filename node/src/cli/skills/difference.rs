//! What changed between two laws, for people and programs.

use kairos_protocol::dsl::Literal;
use kairos_protocol::dsl::diff::{
    Fate, FieldDiff, LawDiff, Move, NodeDiff, SkillDiff, SourceDiff, diff,
};
use serde_json::json;
use similar::{ChangeTag, TextDiff};

use super::Source;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};

/// Shows what `after` changes.
pub(super) fn show(before: &Source, after: &Source, out: &mut Out) -> anyhow::Result<Exit> {
    let found = diff(&before.law, &after.law);
    if out.wants_json() {
        out.json(&json!({"diff": found, "hash": found.hash()?}))?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        let same = match before.bytes == after.bytes {
            true => "Nothing changed.",
            false => "The text changed, and what it says did not.",
        };
        out.line(same)?;
    }
    changes(&found, out)?;
    for side in [before, after] {
        side.warn(out)?;
    }
    Ok(Exit::Done)
}

/// All that changed, and the hash that stands for it in the ledger.
pub(super) fn changes(found: &LawDiff, out: &mut Out) -> anyhow::Result<()> {
    for change in &found.skills {
        skill(change, out)?;
    }
    if let Some(outside) = &found.outside {
        out.line(out.paint(Tone::Strong, "outside of skills"))?;
        source(outside, out)?;
    }
    if !found.is_empty() {
        out.line(format_args!("Hash of this diff: {}", found.hash()?))?;
    }
    Ok(())
}

fn fate(fate: Fate, out: &Out) -> String {
    match fate {
        Fate::Added => out.paint(Tone::Good, "added"),
        Fate::Removed => out.paint(Tone::Bad, "removed"),
        Fate::Kept => out.paint(Tone::Careful, "changed"),
    }
}

/// What became of a part beside its content.
fn notes(renamed_from: Option<&str>, moved: Option<Move>) -> String {
    let renamed = renamed_from.map(|from| format!(", was '{from}'"));
    let moved =
        moved.map(|Move { from, to }| format!(", moved from place {} to {}", from + 1, to + 1));
    renamed.unwrap_or_default() + &moved.unwrap_or_default()
}

fn skill(change: &SkillDiff, out: &mut Out) -> std::io::Result<()> {
    let name = out.paint(Tone::Strong, format_args!("skill '{}'", change.id));
    let notes = notes(change.renamed_from.as_deref(), change.moved);
    let order = if change.reordered {
        ", fields in another order"
    } else {
        ""
    };
    out.line(format_args!(
        "{name} {}{notes}{order}",
        fate(change.fate, out)
    ))?;
    change
        .fields
        .iter()
        .try_for_each(|change| field(change, out))
}

fn field(change: &FieldDiff, out: &mut Out) -> std::io::Result<()> {
    let name = change
        .field
        .map_or("what cannot be read", |field| field.as_str());
    out.line(format_args!("  {name} {}", fate(change.fate, out)))?;
    match change.nodes.is_empty() {
        true => source(&change.source, out),
        false => change.nodes.iter().try_for_each(|change| node(change, out)),
    }
}

fn node(change: &NodeDiff, out: &mut Out) -> std::io::Result<()> {
    let NodeDiff {
        kind,
        name,
        renamed_from,
        moved,
        ..
    } = change;
    let notes = notes(renamed_from.as_deref(), *moved);
    out.line(format_args!(
        "    {kind} '{name}' {}{notes}",
        fate(change.fate, out)
    ))?;
    for option in &change.options {
        for (tone, sign, value) in [
            (Tone::Bad, '-', &option.before),
            (Tone::Good, '+', &option.after),
        ] {
            if let Some(value) = value.as_ref().map(Literal::inspect) {
                out.line(out.paint(tone, format_args!("      {sign} {}: {value}", option.name)))?;
            }
        }
    }
    Ok(())
}

fn source(change: &SourceDiff, out: &mut Out) -> std::io::Result<()> {
    let lines = TextDiff::from_lines(change.before.as_str(), &change.after);
    for line in lines.iter_all_changes() {
        let text = line.value().trim_end_matches('\n');
        match line.tag() {
            ChangeTag::Equal => {}
            ChangeTag::Delete => out.line(out.paint(Tone::Bad, format_args!("    - {text}")))?,
            ChangeTag::Insert => out.line(out.paint(Tone::Good, format_args!("    + {text}")))?,
        }
    }
    Ok(())
}
