//! What a text tells of itself at a glance: its frontmatter, its first words, its headings.

use serde_json::{Map, Value};
use thiserror::Error;

use super::frontmatter::{self, Reading};
use super::without_bom;

/// Longest first line in characters.
pub const FIRST_WORDS_MAX: usize = 300;
/// Most headings.
pub const SECTIONS_MAX: usize = 100;
/// Longest heading in characters.
pub const SECTION_MAX: usize = 200;

/// Why a frontmatter is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrontmatterFault {
    /// The text does not begin with `---`.
    #[error("the text does not begin with `---`")]
    Absent,
    /// There is no second `---`.
    #[error("the frontmatter has no end")]
    Unclosed,
    /// It is another kind of value.
    #[error("the frontmatter is no mapping")]
    NotMapping,
    /// Not YAML, or beyond its bounds.
    #[error("the frontmatter is not readable YAML")]
    Unreadable,
}

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// The frontmatter, or why there is none.
    pub frontmatter: Result<Map<String, Value>, FrontmatterFault>,
    /// The first line that is neither blank nor a heading, cut to [`FIRST_WORDS_MAX`] characters.
    pub first_words: Option<String>,
    /// The texts of all headings of the second level, at most [`SECTIONS_MAX`].
    pub sections: Vec<String>,
    /// Number of lines.
    pub lines: usize,
}

impl Outline {
    /// Reads a text of any kind; what cannot be read is told, never an error.
    pub fn read(text: &str) -> Self {
        let (frontmatter, body) = head(without_bom(text));
        let is_prose = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let first = body.lines().map(str::trim).find(is_prose);
        let headings = body.lines().filter_map(|line| line.strip_prefix("## "));
        Self {
            frontmatter,
            first_words: first.map(|line| line.chars().take(FIRST_WORDS_MAX).collect()),
            sections: headings
                .map(|heading| heading.trim().chars().take(SECTION_MAX).collect())
                .take(SECTIONS_MAX)
                .collect(),
            lines: text.lines().count(),
        }
    }

    /// A scalar member of the frontmatter as text.
    pub fn member(&self, name: &str) -> Option<String> {
        match self.frontmatter.as_ref().ok()?.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

fn head(text: &str) -> (Result<Map<String, Value>, FrontmatterFault>, &str) {
    if !text.starts_with("---") {
        return (Err(FrontmatterFault::Absent), text);
    }
    let Some(parts) = frontmatter::split(text) else {
        return (Err(FrontmatterFault::Unclosed), text);
    };
    let read = match frontmatter::read(parts.block) {
        Reading::Mapping(members) => Ok(members),
        Reading::Empty | Reading::Other(_) => Err(FrontmatterFault::NotMapping),
        Reading::Unreadable => Err(FrontmatterFault::Unreadable),
    };
    (read, parts.body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outline_has_first_words_headings_and_scalars() {
        let text = "---\nname: deposited\nversion: 1.2.3\nlicense: MIT\n---\n\n# Deposited\n\nFirst paragraph.\n\n## Section A\n\ntext\n\n## Section B\n";
        let outline = Outline::read(text);
        assert_eq!(outline.first_words.as_deref(), Some("First paragraph."));
        assert_eq!(outline.sections, ["Section A", "Section B"]);
        assert_eq!(outline.member("version").as_deref(), Some("1.2.3"));
        assert_eq!(outline.member("license").as_deref(), Some("MIT"));
        assert_eq!(outline.lines, 15);
    }

    #[test]
    fn a_frontmatter_that_is_none_is_told() {
        let fault = |text| Outline::read(text).frontmatter.unwrap_err();
        assert_eq!(fault("# A"), FrontmatterFault::Absent);
        assert_eq!(fault("---\na: 1\n"), FrontmatterFault::Unclosed);
        assert_eq!(fault("---\n- 1\n---\n"), FrontmatterFault::NotMapping);
        assert_eq!(fault("---\na: [\n---\n"), FrontmatterFault::Unreadable);
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_an_outline(text in "(---\n)?\\PC{0,200}(\n---\n)?(\n## \\PC{0,30}){0,5}") {
            let outline = Outline::read(&text);
            proptest::prop_assert!(outline.sections.len() <= SECTIONS_MAX);
        }
    }
}
