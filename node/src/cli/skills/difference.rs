//! What changed between two laws, for people and programs.

use kairos_actors::skills::{Difference, Mark};
use serde_json::json;

use super::Source;
use crate::cli::exit::Exit;
use crate::cli::out::{Out, Tone};

/// Shows what `after` changes.
pub(super) fn show(before: &Source, after: &Source, out: &mut Out) -> anyhow::Result<Exit> {
    let found = Difference::between(&before.law, &after.law)?;
    if out.wants_json() {
        out.json(&json!({"diff": found.diff, "hash": found.hash}))?;
        return Ok(Exit::Done);
    }
    if found.diff.is_empty() {
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
pub(in crate::cli) fn changes(found: &Difference, out: &mut Out) -> std::io::Result<()> {
    for line in found.lines() {
        let pieces = line.0.into_iter().map(|(mark, text)| match mark {
            Mark::Plain => text,
            Mark::Head => out.paint(Tone::Strong, text),
            Mark::Added => out.paint(Tone::Good, text),
            Mark::Removed => out.paint(Tone::Bad, text),
            Mark::Changed => out.paint(Tone::Careful, text),
        });
        out.line(pieces.collect::<String>())?;
    }
    Ok(())
}
