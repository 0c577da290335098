//! Adds the settings to a YAML file that it lacks, and leaves every byte of it that is there.
//!
//! Missing keys are inserted as text, with the comments above them. Whether that worked is not guessed: the result is
//! parsed, and must say what it said before and what was missing, nothing else. Whoever writes YAML in some way that
//! text insertion does not suit gets no merge.

use std::ops::Range;

use serde_json::{Map, Value};
use serde_saphyr::options::DuplicateKeyPolicy;

/// Deepest level at which keys are added; settings have three.
const DEPTH_MAX: usize = 8;

/// `user` with all keys of `template` that it lacks; nothing if that cannot be done without changing what it says.
/// Values of `user` win, and lists are never merged.
pub fn merge(user: &str, template: &str) -> Option<String> {
    let (ours, theirs) = (parse(user)?, parse(template)?);
    let mut wanted = ours.clone();
    let mut missing = Vec::new();
    add_missing(&mut wanted, &theirs, &mut Vec::new(), &mut missing)?;
    let mut lines: Vec<String> = user.lines().map(str::to_owned).collect();
    let template: Vec<&str> = template.lines().collect();
    for path in &missing {
        insert(&mut lines, &template, path)?;
    }
    if missing.is_empty() {
        return Some(user.to_owned());
    }
    let merged = lines.join("\n") + "\n";
    (parse(&merged)? == wanted).then_some(merged)
}

fn parse(text: &str) -> Option<Map<String, Value>> {
    // Of a key given twice the reference takes the last.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::LastWins, with_snippet: false, emit_comments: false,
    };
    match serde_saphyr::from_str_with_options(text, options).ok()? {
        Value::Object(map) => Some(map),
        Value::Null => Some(Map::new()),
        _ => None,
    }
}

/// Adds to `user` what only `template` has, and notes the paths of what was added.
fn add_missing(
    user: &mut Map<String, Value>,
    template: &Map<String, Value>,
    path: &mut Vec<String>,
    missing: &mut Vec<Vec<String>>,
) -> Option<()> {
    if path.len() >= DEPTH_MAX {
        return None;
    }
    for (key, value) in template {
        path.push(key.clone());
        match (user.get_mut(key), value) {
            (None, value) => {
                user.insert(key.clone(), value.clone());
                missing.push(path.clone());
            }
            (Some(Value::Object(user)), Value::Object(template)) => {
                add_missing(user, template, path, missing)?;
            }
            // The owner's, whatever it is.
            (Some(_), _) => {}
        }
        path.pop();
    }
    Some(())
}

/// Inserts the lines of `path` in `template` behind everything that lies in its parent in `lines`.
fn insert(lines: &mut Vec<String>, template: &[&str], path: &[String]) -> Option<()> {
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (parent_lines, indent) = match path.split_last()?.1 {
        [] => (0..texts.len(), 0),
        parent => {
            let block = find(&texts, parent)?;
            let below = block.start + 1..block.end;
            let first = texts
                .get(below.clone())?
                .iter()
                .find(|line| is_content(line))?;
            (below, indent_of(first))
        }
    };
    // Behind the last line that says something, so that comments at the end stay with what follows.
    let last = texts
        .get(parent_lines.clone())?
        .iter()
        .rposition(|line| is_content(line));
    let at = last.map_or(parent_lines.start, |last| parent_lines.start + last + 1);
    let block = find(template, path)?;
    let from = indent_of(template.get(block.start)?);
    let block = with_comments(template, block, from);
    let moved = template
        .get(block)?
        .iter()
        .map(|line| match line.get(from..) {
            Some(rest) if !rest.trim().is_empty() => format!("{}{rest}", " ".repeat(indent)),
            _ => String::new(),
        });
    let moved: Vec<String> = moved.collect();
    lines.splice(at..at, moved);
    Some(())
}

/// The lines of the value at `path`, from the one with its key on. The last of several, as a reader takes it.
fn find(lines: &[&str], path: &[String]) -> Option<Range<usize>> {
    let mut within = 0..lines.len();
    let mut found = None;
    for key in path {
        let content = |at: &usize| lines.get(*at).is_some_and(|line| is_content(line));
        let indent = indent_of(lines.get(within.clone().find(content)?)?);
        let begins = |at: &usize| {
            lines.get(*at).is_some_and(|line| {
                indent_of(line) == indent
                    && line
                        .trim_start()
                        .strip_prefix(key.as_str())
                        .is_some_and(|rest| rest.starts_with(':'))
            })
        };
        let start = within.clone().rfind(begins)?;
        let ends = |at: &usize| {
            lines.get(*at).is_some_and(|line| {
                // A list may stand as far left as its key.
                is_content(line)
                    && indent_of(line) <= indent
                    && !(indent_of(line) == indent && line.trim_start().starts_with("- "))
            })
        };
        let mut end = (start + 1..within.end).find(ends).unwrap_or(within.end);
        while end > start + 1 && !lines.get(end - 1).is_some_and(|line| is_content(line)) {
            end -= 1;
        }
        within = start + 1..end;
        found = Some(start..end);
    }
    found
}

/// `block` with the comments right above it, and a blank line before them.
fn with_comments(lines: &[&str], block: Range<usize>, indent: usize) -> Range<usize> {
    let mut start = block.start;
    while let Some(above) = start.checked_sub(1)
        && lines
            .get(above)
            .is_some_and(|line| line.trim_start().starts_with('#') && indent_of(line) == indent)
    {
        start = above;
    }
    if indent == 0
        && start > 0
        && lines
            .get(start - 1)
            .is_some_and(|line| line.trim().is_empty())
    {
        start -= 1;
    }
    start..block.end
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// Whether a line says something: not blank, no comment, not the start of the document.
fn is_content(line: &str) -> bool {
    let text = line.trim();
    !text.is_empty() && !text.starts_with('#') && text != "---"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn missing_keys_come_with_their_comments_and_nothing_else_changes() {
        for (user, template, merged) in [
            (
                "a: 1 # mine\n",
                "# About a.\na: 2\n\n# About b.\nb: 3\n",
                "a: 1 # mine\n\n# About b.\nb: 3\n",
            ),
            (
                "# top\nhttp:\n    port: 1   # mine\n    # end\nz: [1]\n",
                "http:\n  port: 2\n  # Where.\n  host: x\nz: [2]\n",
                "# top\nhttp:\n    port: 1   # mine\n    # Where.\n    host: x\n    # end\nz: [1]\n",
            ),
            (
                "---\nlist:\n- a\n- b\nc: 1\n",
                "list: [x]\nd:\n- y\n",
                "---\nlist:\n- a\n- b\nc: 1\nd:\n- y\n",
            ),
            (
                "k: [a]\nk: [b]\n",
                "k: [c]\nm: 1\n",
                "k: [a]\nk: [b]\nm: 1\n",
            ),
            ("a: null\n", "a: {b: 1}\n", "a: null\n"),
            ("", "a: 1\n", "a: 1\n"),
            ("a: 1", "a: 2\n", "a: 1"),
        ] {
            assert_eq!(merge(user, template).as_deref(), Some(merged), "{user:?}");
        }
    }

    #[test]
    fn what_cannot_be_merged_as_text_is_not() {
        for (user, template) in [
            ("{a: 1}\n", "b: 2\n"),
            ("a: {b: 1}\n", "a:\n  c: 2\n"),
            ("- a\n", "b: 2\n"),
            ("a: [\n", "b: 2\n"),
            ("text: |\n  a: 1\nx: 1\n...\n", "b: 2\n"),
        ] {
            assert_eq!(merge(user, template), None, "{user:?}");
        }
    }

    #[test]
    fn our_settings_can_be_added_to_those_of_the_reference() {
        let ours = include_str!("../../templates/skills/config.yml");
        let theirs = "enabled: true\nkairos_meta_skills:\n  - l0_governance\n  - core_safety\nhttp:\n  enabled: false\n  \
                      host: 0.0.0.0\n  port: 8080\nkairos_meta_skills:\n  - core_safety\n";
        let merged = merge(theirs, ours).unwrap();
        assert!(merged.starts_with("enabled: true\nkairos_meta_skills:\n  - l0_governance\n"));
        assert!(merged.contains("host: 0.0.0.0"), "{merged}");
        assert_eq!(merge(&merged, ours).as_deref(), Some(merged.as_str()));
    }

    fn yaml() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Value::from),
            "[a-z]{1,5}".prop_map(Value::from),
            Just(Value::from(vec![1, 2]))
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop::collection::btree_map("[a-e]{1,2}", inner, 1..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        })
    }

    fn text(value: &Value, indent: usize, out: &mut String) {
        for (key, value) in value.as_object().unwrap() {
            let pad = " ".repeat(indent);
            match value {
                Value::Object(_) => {
                    *out += &format!("{pad}# {key}\n{pad}{key}:\n");
                    text(value, indent + 2, out);
                }
                Value::Array(list) => {
                    *out += &format!("{pad}{key}:\n");
                    for item in list {
                        *out += &format!("{pad}- {item}\n");
                    }
                }
                value => *out += &format!("{pad}{key}: {value}\n\n"),
            }
        }
    }

    proptest! {
        #[test]
        fn a_merge_keeps_every_line_and_says_what_both_say(user in yaml(), template in yaml()) {
            prop_assume!(user.is_object() && template.is_object());
            let (mut ours, mut theirs) = (String::new(), String::new());
            text(&user, 0, &mut ours);
            text(&template, 0, &mut theirs);
            let merged = merge(&ours, &theirs).expect("block style can be merged");
            let mut lines = merged.lines();
            prop_assert!(ours.lines().all(|line| lines.any(|other| other == line)));
            let mut wanted = parse(&ours).unwrap();
            add_missing(&mut wanted, &parse(&theirs).unwrap(), &mut Vec::new(), &mut Vec::new()).unwrap();
            prop_assert_eq!(parse(&merged).unwrap(), wanted);
        }
    }
}
