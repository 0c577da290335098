//! What in names and texts is worth a second look: the reference's rules of thumb. Pure, and never more than a hint.

use std::collections::{BTreeMap, BTreeSet};

/// Words of a text that speaks of what is no longer done.
const DEPRECATED: [&str; 3] = ["deprecated", "legacy", "obsolete"];
/// What has versions that may be old.
const VERSIONED: [&str; 3] = ["ruby", "python", "node"];
/// A word that two names share counts alone if it is longer.
const TELLING: usize = 5;
/// Most words of a name that are looked at.
const WORDS_MAX: usize = 12;

/// Whether a text speaks of what is no longer done.
pub(super) fn is_deprecated(text: &str) -> bool {
    let text = text.to_lowercase();
    DEPRECATED.iter().any(|word| text.contains(word))
}

/// Whether a text names a version that is old.
pub(super) fn names_old_version(text: &str) -> bool {
    let text = text.to_lowercase();
    VERSIONED.iter().any(|name| {
        text.match_indices(name).any(|(at, _)| {
            let rest = text.get(at + name.len()..).unwrap_or_default();
            let rest = rest.trim_start_matches([' ', '\t', '<', '>', '=', '~', 'v']);
            let Some((major, rest)) = number(rest) else {
                return false;
            };
            let minor = rest.strip_prefix('.').and_then(number);
            is_old(name, major, minor.map(|(minor, _)| minor))
        })
    })
}

fn is_old(name: &str, major: u32, minor: Option<u32>) -> bool {
    matches!(
        (name, major, minor),
        ("ruby", 2, Some(0..=5)) | ("python", 3, Some(0..=7)) | ("node", 10..=14, _)
    )
}

/// The number that a text begins with, and what comes after it.
fn number(text: &str) -> Option<(u32, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// Whether a text may talk somebody into passing by what keeps the agent safe.
pub(super) fn talks_of_bypassing(text: &str) -> bool {
    let follows = |line: &str, first: &str, second: &str| {
        let rest = line.split_once(first).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.contains(second))
    };
    text.to_lowercase().lines().any(|line| {
        line.contains("bypass")
            || follows(line, "skip", "approval")
            || follows(line, "ignore", "safety")
    })
}

/// Whether a text may hold a password or a key.
pub(super) fn holds_secret(text: &str) -> bool {
    let text = text.to_lowercase();
    ["password", "api_key", "api-key", "apikey"]
        .iter()
        .flat_map(|name| {
            text.match_indices(name)
                .map(|(at, name)| at.saturating_add(name.len()))
        })
        .any(|after| {
            let rest = text.get(after..).unwrap_or_default().trim_start();
            let rest = rest.strip_prefix([':', '=']).map(str::trim_start);
            let inside = rest.and_then(|rest| rest.strip_prefix(['"', '\'']));
            inside.is_some_and(|inside| inside.find(['"', '\'']).is_some_and(|end| end > 0))
        })
}

/// Pairs of names that share a tag and two words, or one long word; the tag with each, at most `max` of them.
pub(super) fn similar<'a>(
    entries: impl IntoIterator<Item = (&'a str, Vec<String>)>,
    max: usize,
) -> BTreeMap<(&'a str, &'a str), String> {
    // Names by what they share, so that the work grows with what is found and not with all pairs.
    let mut sharing: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for (name, tags) in entries {
        let words: BTreeSet<&str> = name
            .split(['_', '-', ' ', '.'])
            .filter(|word| !word.is_empty())
            .take(WORDS_MAX)
            .collect();
        let long = words
            .iter()
            .filter(|word| word.chars().count() > TELLING)
            .map(|word| (*word).to_owned());
        let pairs = words.iter().enumerate().flat_map(|(at, first)| {
            let rest = words.iter().skip(at.saturating_add(1));
            rest.map(move |second| format!("{first} {second}"))
        });
        let shared: Vec<String> = long.chain(pairs).collect();
        for tag in tags {
            for part in &shared {
                let key = (tag.clone(), part.clone());
                sharing.entry(key).or_default().insert(name);
            }
        }
    }
    let mut found = BTreeMap::new();
    for ((tag, _), names) in sharing {
        for (at, first) in names.iter().enumerate() {
            for second in names.iter().skip(at.saturating_add(1)) {
                if found.len() >= max {
                    return found;
                }
                found
                    .entry((*first, *second))
                    .or_insert_with(|| tag.clone());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_are_those_of_the_reference() {
        for old in [
            "Ruby 2.5",
            "ruby >= 2.0.1",
            "python3.7",
            "Python v3.0",
            "node 10",
            "Node 14.2",
        ] {
            assert!(names_old_version(old), "{old}");
        }
        for new in [
            "ruby 2.6",
            "ruby 2",
            "ruby 3.1",
            "python 3.10",
            "python 3.8",
            "node 100",
            "node 16",
            "nodes",
            "ruby",
            "",
        ] {
            assert!(!names_old_version(new), "{new}");
        }
    }

    #[test]
    fn texts_are_looked_through_line_by_line() {
        assert!(talks_of_bypassing("How to BYPASS it"));
        assert!(talks_of_bypassing("just skip the approval"));
        assert!(!talks_of_bypassing("approval, then skip"));
        assert!(!talks_of_bypassing("skip this\nthe approval"));
        assert!(holds_secret("password: \"x\"") && holds_secret("API-Key='abc'"));
        for harmless in [
            "password: \"\"",
            "password = x",
            "the password",
            "api_key: \"x",
            "é",
        ] {
            assert!(!holds_secret(harmless), "{harmless}");
        }
        assert!(is_deprecated("A Legacy way") && !is_deprecated("A way"));
    }

    #[test]
    fn names_are_alike_by_one_long_word_or_two() {
        let entry = |name: &'static str| (name, vec!["t".to_owned()]);
        let all = [
            "tea_pot",
            "pot_of_tea",
            "tea_cup",
            "kubernetes_a",
            "kubernetes-b",
        ];
        let found = similar(all.map(entry), 10);
        let pairs: Vec<_> = found.keys().copied().collect();
        assert_eq!(
            pairs,
            [("kubernetes-b", "kubernetes_a"), ("pot_of_tea", "tea_pot")]
        );
        assert_eq!(similar(all.map(entry), 1).len(), 1);
        let apart = [("tea_pot", vec!["a".to_owned()]), ("tea_pot_2", vec![])];
        assert_eq!(similar(apart, 10).len(), 0);
    }
}
