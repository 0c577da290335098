//! What a change of the law comes to, for whoever decides about it: skill by skill and field by field, as data and in
//! lines, with the hash that the ledger gets.

use std::fmt;
use std::io;
use std::time::Duration;

use kairos_protocol::dsl::diff::{
    Fate, FieldDiff, LawDiff, Move, NodeDiff, SkillDiff, SourceDiff, diff,
};
use kairos_protocol::dsl::{Law, Literal};
use kairos_protocol::hash::ContentHash;
use similar::{ChangeTag, TextDiff};

/// How long a small difference of one field is looked for; past it, one that is right and larger is good enough.
const PATIENCE: Duration = Duration::from_millis(500);

/// What differs between two laws.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Skill by skill and field by field.
    pub diff: LawDiff,
    /// The hash of that, which stands for it in the ledger as `law_diff_hash`.
    pub hash: ContentHash,
}

/// One line of a [`Difference`], in pieces of one meaning each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line(pub Vec<(Mark, String)>);

/// What a piece of a line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing of its own.
    Plain,
    /// It is what the lines below are about.
    Head,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Changed,
}

impl Difference {
    /// What `after` changes. Fails as [`Self::of`] does.
    pub fn between(before: &Law, after: &Law) -> io::Result<Self> {
        Self::of(diff(before, after))
    }

    /// `diff` with its hash. Fails only where there is no JSON of it to hash.
    pub fn of(diff: LawDiff) -> io::Result<Self> {
        let hash = diff.hash()?;
        Ok(Self { diff, hash })
    }

    /// All of it, each line without its end; the hash comes last. None where nothing differs.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = Lines(Vec::new());
        self.diff
            .skills
            .iter()
            .for_each(|change| lines.skill(change));
        if let Some(outside) = &self.diff.outside {
            lines.push([(Mark::Head, "outside of skills".to_owned())]);
            lines.source(outside);
        }
        if !self.diff.is_empty() {
            lines.plain(format!("Hash of this diff: {}", self.hash));
        }
        lines.0
    }
}

/// The lines of [`Difference::lines`].
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines()
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(_, text)| f.write_str(text))
    }
}

fn fate(fate: Fate) -> (Mark, String) {
    let (mark, word) = match fate {
        Fate::Added => (Mark::Added, "added"),
        Fate::Removed => (Mark::Removed, "removed"),
        Fate::Kept => (Mark::Changed, "changed"),
    };
    (mark, word.to_owned())
}

/// What became of a part beside its content.
fn notes(renamed_from: Option<&str>, moved: Option<Move>) -> String {
    let renamed = renamed_from.map(|from| format!(", was '{from}'"));
    let moved =
        moved.map(|Move { from, to }| format!(", moved from place {} to {}", from + 1, to + 1));
    renamed.unwrap_or_default() + &moved.unwrap_or_default()
}

struct Lines(Vec<Line>);

impl Lines {
    fn push<const N: usize>(&mut self, pieces: [(Mark, String); N]) {
        self.0.push(Line(Vec::from(pieces)));
    }

    fn plain(&mut self, text: String) {
        self.push([(Mark::Plain, text)]);
    }

    fn skill(&mut self, change: &SkillDiff) {
        let mut notes = notes(change.renamed_from.as_deref(), change.moved);
        if change.reordered {
            notes.push_str(", fields in another order");
        }
        self.push([
            (Mark::Head, format!("skill '{}'", change.id)),
            (Mark::Plain, " ".to_owned()),
            fate(change.fate),
            (Mark::Plain, notes),
        ]);
        change.fields.iter().for_each(|change| self.field(change));
    }

    fn field(&mut self, change: &FieldDiff) {
        let name = change
            .field
            .map_or("what cannot be read", |field| field.as_str());
        self.push([(Mark::Plain, format!("  {name} ")), fate(change.fate)]);
        match change.nodes.is_empty() {
            true => self.source(&change.source),
            false => change.nodes.iter().for_each(|change| self.node(change)),
        }
    }

    fn node(&mut self, change: &NodeDiff) {
        let NodeDiff { kind, name, .. } = change;
        let notes = notes(change.renamed_from.as_deref(), change.moved);
        self.push([
            (Mark::Plain, format!("    {kind} '{name}' ")),
            fate(change.fate),
            (Mark::Plain, notes),
        ]);
        for option in &change.options {
            for (mark, sign, value) in [
                (Mark::Removed, '-', &option.before),
                (Mark::Added, '+', &option.after),
            ] {
                if let Some(value) = value.as_ref().map(Literal::inspect) {
                    self.push([(mark, format!("      {sign} {}: {value}", option.name))]);
                }
            }
        }
    }

    fn source(&mut self, change: &SourceDiff) {
        let lines = TextDiff::configure()
            .timeout(PATIENCE)
            .diff_lines(change.before.as_str(), &change.after);
        for line in lines.iter_all_changes() {
            let text = line.value().trim_end_matches('\n');
            match line.tag() {
                ChangeTag::Equal => {}
                ChangeTag::Delete => self.push([(Mark::Removed, format!("    - {text}"))]),
                ChangeTag::Insert => self.push([(Mark::Added, format!("    + {text}"))]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_of_each_skill_field_and_node_what_became_of_it() {
        let before = "skill :a do\n  version \"1\"\nend\nskill :b do\n  definition do\n    check :hot, condition: \
                      \"x >= 9\"\n    check :wet, condition: \"y\"\n  end\nend\nskill :gone do\n  title \"G\"\nend\n";
        let after = "skill :b do\n  definition do\n    check :wet, condition: \"y\"\n    check :warm, condition: \
                     \"x >= 9\"\n  end\nend\nskill :a do\n  version \"2\"\nend\nskill :new do\n  use_when \"now\"\nend\n";
        let found =
            Difference::between(&Law::read(before.as_bytes()), &Law::read(after.as_bytes()));
        let found = found.unwrap();
        let told = found.to_string();
        for line in [
            "  version changed",
            "    - version \"1\"",
            "    + version \"2\"",
            "skill 'new' added",
            "skill 'gone' removed",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}: {told}");
        }
        assert!(told.contains("'warm' changed, was 'hot'"), "{told}");
        assert!(told.contains(", moved from place "), "{told}");
        let last = format!("Hash of this diff: {}", found.diff.hash().unwrap());
        assert_eq!(told.lines().next_back(), Some(last.as_str()));
    }

    #[test]
    fn says_nothing_where_nothing_differs() {
        let law = Law::read(b"skill :a do\n  version \"1\"\nend\n");
        let other = Law::read(b"skill :a do\n  # a comment\n  version('1')\nend\n");
        assert_eq!(Difference::between(&law, &other).unwrap().lines(), []);
    }
}
