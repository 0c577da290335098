//! Which text a model is given at the start: one line of `skills/config.yml`, read, and changed without touching any
//! other byte of the file.

use serde_json::{Map, Value};
use thiserror::Error;

use crate::id::SkillName;
use crate::skill::frontmatter::{self, Reading};

/// The key.
const KEY: &str = "instructions_mode";
/// The mode where nothing is set, as in the reference.
const DEFAULT: &str = "user";

/// Why the mode cannot be read or set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModeError {
    /// The settings are no mapping.
    #[error("skills/config.yml is not a mapping in YAML; mend it first")]
    Unreadable,
    /// The mode is something else than a word.
    #[error("`instructions_mode` in skills/config.yml is {0}, a word is expected")]
    Kind(String),
    /// The line cannot be told from others.
    #[error("`instructions_mode` in skills/config.yml is not one line of its own; set it by hand")]
    NotOneLine,
}

fn members(yaml: &str) -> Result<Map<String, Value>, ModeError> {
    match frontmatter::read(yaml) {
        Reading::Mapping(members) => Ok(members),
        Reading::Empty => Ok(Map::new()),
        Reading::Other(_) | Reading::Unreadable => Err(ModeError::Unreadable),
    }
}

/// The mode that the settings set.
pub fn mode(yaml: &str) -> Result<String, ModeError> {
    match members(yaml)?.get(KEY) {
        None | Some(Value::Null) => Ok(DEFAULT.to_owned()),
        Some(Value::String(mode)) => Ok(mode.clone()),
        Some(other) => Err(ModeError::Kind(other.to_string())),
    }
}

/// The settings with `mode` in force; every byte of another line stays.
pub fn with_mode(yaml: &str, mode: &SkillName) -> Result<String, ModeError> {
    let mut expected = members(yaml)?;
    expected.insert(KEY.to_owned(), Value::from(mode.as_str()));
    let line = format!("{KEY}: {}", quoted(mode.as_str()));
    let mut found = 0;
    let mut after = String::with_capacity(yaml.len() + line.len());
    for old in yaml.split_inclusive('\n') {
        let is_key = old
            .strip_prefix(KEY)
            .is_some_and(|rest| rest.starts_with(':'));
        if !is_key {
            after.push_str(old);
            continue;
        }
        found += 1;
        after.push_str(&line);
        if let Some((_, comment)) = old.trim_end().split_once(" #") {
            after.push_str(" #");
            after.push_str(comment);
        }
        let end = old.len() - old.trim_end_matches(['\n', '\r']).len();
        after.push_str(old.get(old.len() - end..).unwrap_or_default());
    }
    if found == 0 {
        if !after.is_empty() && !after.ends_with('\n') {
            after.push('\n');
        }
        after.push_str(&line);
        after.push('\n');
    }
    // Read again: nothing else may have changed, whatever form the file has.
    match found < 2 && members(&after)? == expected {
        true => Ok(after),
        false => Err(ModeError::NotOneLine),
    }
}

/// A word as it stands in YAML; in quotes unless it can be taken for nothing else.
fn quoted(word: &str) -> String {
    let plain = word
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let starts = word.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    match plain && starts && !words.contains(&word.to_lowercase().as_str()) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "''")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(yaml: &str, mode: &str) -> Result<String, ModeError> {
        with_mode(yaml, &mode.parse().unwrap())
    }

    #[test]
    fn one_line_changes_and_its_comment_stays() {
        let yaml = "# mine\nenabled: true\ninstructions_mode: user # who\nb: [1]\n";
        let after = with(yaml, "developer").unwrap();
        assert_eq!(after, yaml.replace(": user", ": developer"));
        assert_eq!(mode(&after).unwrap(), "developer");
        assert_eq!(
            with("a: 1", "poet").unwrap(),
            "a: 1\ninstructions_mode: poet\n"
        );
        assert_eq!(with("", "no").unwrap(), "instructions_mode: 'no'\n");
        assert_eq!(mode("").unwrap(), "user");
    }

    #[test]
    fn what_is_not_one_line_is_left_to_its_owner() {
        for yaml in [
            "instructions_mode: a\ninstructions_mode: b\n",
            "instructions_mode: |\n  a\n  b\n",
            "{a: 1, instructions_mode: user}",
            "a: 'x\n\ninstructions_mode: y\n\n  '\n",
        ] {
            let refused = with(yaml, "poet");
            assert!(refused.is_err(), "{yaml}: {refused:?}");
        }
        assert_eq!(mode("- a"), Err(ModeError::Unreadable));
        assert!(matches!(
            mode("instructions_mode: [a]"),
            Err(ModeError::Kind(_))
        ));
    }

    proptest! {
        #[test]
        fn the_mode_that_was_set_is_read(name in "[a-zA-Z0-9_ éß'#-]{1,20}", rest in "[a-z]: [0-9]{1,3}\n") {
            if let Ok(name) = name.parse::<SkillName>() {
                let after = with_mode(&rest, &name).unwrap();
                prop_assert_eq!(mode(&after).unwrap(), name.as_str());
                prop_assert!(after.starts_with(&rest));
            }
        }
    }
}
