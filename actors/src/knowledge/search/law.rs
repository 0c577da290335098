//! Layer L0 cut into what can be found: the sections of `kairos.md`, the skills of `kairos.rb`.
//!
//! The Ruby file is read as lines and never run; where its skills begin and end is seen from lines that begin with
//! `skill :name`, which is enough for searching.

/// Most sections of one file.
const SECTIONS_MAX: usize = 1_000;

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    /// The file below `skills/`.
    pub(super) file: String,
    /// Its id; the first of a name counts.
    pub(super) id: String,
    /// Its title.
    pub(super) title: String,
    begin: usize,
    end: usize,
}

impl Section {
    /// Its text, in the text of the file.
    pub(super) fn text<'a>(&self, file: &'a str) -> &'a str {
        file.get(self.begin..self.end).unwrap_or_default()
    }
}

/// Cuts the text of `file`.
pub(super) fn sections(file: &str, text: &str) -> Vec<Section> {
    let heading = match file.ends_with(".rb") {
        true => ruby_heading,
        false => markdown_heading,
    };
    let mut found: Vec<Section> = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some((id, title)) = heading(line.trim_end())
            && found.len() < SECTIONS_MAX
        {
            if let Some(last) = found.last_mut() {
                last.end = at;
            }
            found.push(Section {
                file: file.to_owned(),
                id: id.to_owned(),
                title: title.to_owned(),
                begin: at,
                end: text.len(),
            });
        } else if let Some(last) = found.last_mut()
            && last.title.is_empty()
            && let Some(title) = ruby_title(line)
        {
            title.clone_into(&mut last.title);
        }
        at += line.len();
    }
    let mut seen = std::collections::HashSet::new();
    found.retain(|section| seen.insert(section.id.clone()));
    found
}

/// `## [SPEC-010] Title`, the form of the reference.
fn markdown_heading(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("##")?;
    let (id, title) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
    let (word, number) = id.split_once('-')?;
    let fits = rest.starts_with(char::is_whitespace)
        && !word.is_empty()
        && word.bytes().all(|b| b.is_ascii_uppercase())
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
        && title.starts_with(char::is_whitespace)
        && !title.trim().is_empty();
    fits.then_some((id, title.trim()))
}

/// `skill :name do`.
fn ruby_heading(line: &str) -> Option<(&str, &str)> {
    let rest = line.strip_prefix("skill")?.trim_start().strip_prefix(':')?;
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(rest.len());
    let id = rest.get(..end).filter(|id| !id.is_empty())?;
    Some((id, ""))
}

/// `title "…"`.
fn ruby_title(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix("title")?.trim();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    rest.strip_prefix(quote)?.strip_suffix(quote)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_constitution_is_cut_at_its_headings() {
        let text = "# T\nintro\n## [SPEC-010] One thing\nbody 1\n## not one\n## [LAYER-020]  Two\r\nbody 2\n## [lower-1] x\n## [SPEC-010] again\n";
        let found = sections("kairos.md", text);
        let told: Vec<_> = found
            .iter()
            .map(|s| (s.id.as_str(), s.title.as_str()))
            .collect();
        assert_eq!(told, [("SPEC-010", "One thing"), ("LAYER-020", "Two")]);
        assert_eq!(
            found[0].text(text),
            "## [SPEC-010] One thing\nbody 1\n## not one\n"
        );
    }

    #[test]
    fn the_law_is_cut_at_its_skills() {
        let text = "# c\nskill :core_safety do\n  title \"Core Safety\"\n  version '1.1'\nend\n\nskill :b do\n  content 'x'\nend\n";
        let found = sections("kairos.rb", text);
        let told: Vec<_> = found
            .iter()
            .map(|s| (s.id.as_str(), s.title.as_str()))
            .collect();
        assert_eq!(told, [("core_safety", "Core Safety"), ("b", "")]);
        assert!(found[1].text(text).ends_with("end\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_cut_into_parts_of_it(text in "(## \\[A-1\\] x|skill :a|title \"|\\PC|\\n| ){0,60}") {
            for file in ["kairos.md", "kairos.rb"] {
                for section in sections(file, &text) {
                    prop_assert!(text.contains(section.text(&text)));
                    prop_assert!(!section.text(&text).is_empty());
                }
            }
        }
    }
}
