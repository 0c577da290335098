//! The YAML block at the head of a skill, cut out and read as the reference does it, within bounds.

use serde_json::{Map, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

/// Longest block that is read, in bytes; a longer one counts as unreadable.
pub(super) const BLOCK_MAX: usize = 32 * 1024;
/// Deepest nesting read; metadata of real skills needs three levels.
const DEPTH_MAX: usize = 16;
/// Most mappings, sequences and scalars read.
const NODES_MAX: usize = 4_000;

/// A text cut at its frontmatter: the parts in order are the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// What comes before the first delimiter: empty, but for oddities such as a file that starts with `----`.
    pub(super) before: &'a str,
    /// The first delimiter.
    pub(super) opening: &'a str,
    /// The YAML between the delimiters, from the end of the opening one.
    pub(super) block: &'a str,
    /// The second delimiter.
    pub(super) closing: &'a str,
    /// Everything after the closing delimiter and the blank lines the delimiter swallows.
    pub(super) body: &'a str,
}

/// What the block says.
#[derive(Debug, PartialEq)]
pub(crate) enum Reading {
    /// Nothing: blank or only comments.
    Empty,
    /// A mapping, members in written order.
    Mapping(Map<String, Value>),
    /// Another kind of value. The reference drops such a file.
    Other(&'static str),
    /// Not YAML, or YAML beyond the bounds, or with aliases, which the reference refuses as well.
    Unreadable,
}

/// Cuts a text that starts with `---` at its first two delimiter lines; `None` without both.
///
/// A delimiter is `---` at the start of a line with only white space behind it; it swallows blank lines after
/// itself, but not the last line end before the next text.
pub(super) fn split(text: &str) -> Option<Parts<'_>> {
    if !text.starts_with("---") {
        return None;
    }
    let (opens, opened) = delimiter(text, 0)?;
    let (closes, closed) = delimiter(text, opened + 1)?;
    Some(Parts {
        before: text.get(..opens)?,
        opening: text.get(opens..opened)?,
        block: text.get(opened..closes)?,
        closing: text.get(closes..closed)?,
        body: text.get(closed..)?,
    })
}

/// Start and end of the first delimiter whose line starts at `from` or later. `from` is the start of a line.
fn delimiter(text: &str, from: usize) -> Option<(usize, usize)> {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{b}' | '\u{c}');
    let mut at = from;
    loop {
        let line = text.get(at..)?;
        if let Some(rest) = line.strip_prefix("---") {
            let run = rest.get(..rest.len() - rest.trim_start_matches(blank).len())?;
            let end = match run.len() == rest.len() {
                true => Some(run.len()),
                false => run.rfind('\n'),
            };
            if let Some(end) = end {
                return Some((at, at + 3 + end));
            }
        }
        at += line.find('\n')? + 1;
    }
}

/// Reads a block. Dates are read as texts, where the reference gives up on the whole block.
pub(crate) fn read(block: &str) -> Reading {
    if block.len() > BLOCK_MAX {
        return Reading::Unreadable;
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            max_nodes: NODES_MAX,
            max_events: 4 * NODES_MAX,
            max_total_scalar_bytes: BLOCK_MAX,
            max_aliases: 0,
            max_documents: 1,
            max_merge_keys: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
        // `y` and `n` are texts to the reference; `yes` and `on` are told apart where it matters.
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Value>(block, options) {
        Ok(Value::Object(members)) => Reading::Mapping(members),
        Ok(Value::Null) => Reading::Empty,
        Ok(other) => Reading::Other(crate::json::kind(&other)),
        Err(_) if block.lines().all(is_comment) => Reading::Empty,
        Err(_) => Reading::Unreadable,
    }
}

fn is_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// Whether `member` is a plain scalar that YAML 1.1, which the reference reads, takes for true: `yes` or `on`
/// without quotes, on a line of its own.
pub(super) fn says_yes(block: &str, member: &str) -> bool {
    let value = |line: &str| {
        let value = line.strip_prefix(member)?.trim_start().strip_prefix(':')?;
        let value = value.split(" #").next()?.trim();
        Some(value.eq_ignore_ascii_case("yes") || value.eq_ignore_ascii_case("on"))
    };
    block.lines().filter_map(value).next_back() == Some(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn cuts_where_the_reference_cuts() {
        let cases = [
            (
                "---\nname: x\n---\n\n\n# T\n",
                Some(("", "\nname: x\n", "\n# T\n")),
            ),
            (
                "---\r\nname: x\r\n---\r\n\r\nb",
                Some(("", "\nname: x\r\n", "\nb")),
            ),
            ("--- \nx\n---", Some(("", "\nx\n", ""))),
            ("---x\n---\na\n---\nb", Some(("---x\n", "\na\n", "\nb"))),
            ("------\na: 1\n---\nb", None),
            ("---\n---\nb", Some(("", "\n", "\nb"))),
            ("---\n\n---\nb", Some(("", "\n", "\nb"))),
            ("---\n\n\n---\n\n\n---\nb", Some(("", "\n", "\n---\nb"))),
            ("---\u{b}\na\r---\nb", None),
            ("---\u{a0}\na\n---\n", None),
            ("", None),
            ("---", None),
            (" ---\na\n---\n", None),
        ];
        for (text, expected) in cases {
            let parts = split(text).map(|p| (p.before, p.block, p.body));
            assert_eq!(parts, expected, "{text:?}");
        }
    }

    #[test]
    fn reads_the_scalars_of_the_reference() {
        let mapping = |block: &str| match read(block) {
            Reading::Mapping(members) => Value::Object(members),
            other => panic!("{block:?} gives {other:?}"),
        };
        assert_eq!(
            mapping("\na: 010\nb: 0x1F\nc: True\nd: ~\ne: 1.10\nf: y\ng: [x, 2]\n1: z\nd: 4\n"),
            json!({"a": 8, "b": 31, "c": true, "d": 4, "e": 1.1, "f": "y", "g": ["x", 2], "1": "z"})
        );
        assert_eq!(mapping("date: 2026-01-01"), json!({"date": "2026-01-01"}));
    }

    #[test]
    fn tells_empty_from_unreadable_from_other_kinds() {
        for empty in ["", "\n", "\n# only a comment\n\n", "~"] {
            assert_eq!(read(empty), Reading::Empty, "{empty:?}");
        }
        for other in ["[a, b]", "just text", "7"] {
            assert!(matches!(read(other), Reading::Other(_)), "{other:?}");
        }
        let deep = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        let wide = format!("a: [{}]", "1,".repeat(NODES_MAX));
        let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n";
        let long = format!("a: {}", "x".repeat(BLOCK_MAX));
        for bad in [
            "name: [unclosed",
            "a: b: c",
            "a: *b",
            "a: .inf",
            &deep,
            &wide,
            bomb,
            &long,
        ] {
            assert_eq!(read(bad), Reading::Unreadable, "{bad:.40}");
        }
    }

    #[test]
    fn takes_yes_and_on_for_true_only_when_plain() {
        for yes in [
            "public: yes",
            "a: 1\npublic : ON # really",
            "public: no\npublic: yes",
        ] {
            assert!(says_yes(yes, "public"), "{yes:?}");
        }
        for no in [
            "public: y",
            "public: \"yes\"",
            "publicly: yes",
            "public: yes\npublic: no",
            " public: yes",
        ] {
            assert!(!says_yes(no, "public"), "{no:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(---|\\n|\\PC|: |- |[\\[\\]{}&*!|>'\"#%@`]|\\t){0,60}") {
            read(&text);
            if let Some(parts) = split(&format!("---\n{text}")) { read(parts.block); }
        }

        #[test]
        fn the_parts_are_the_whole_text(text in "(---|\\n|\\r| |x){0,40}") {
            if let Some(p) = split(&text) {
                prop_assert_eq!([p.before, p.opening, p.block, p.closing, p.body].concat(), text);
            }
        }
    }
}
