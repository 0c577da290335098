//! What a change of a text looks like, for a person.

use std::time::Duration;

use similar::TextDiff;

/// Longest diff in bytes; what is beyond is counted, not shown.
pub const DIFF_MAX: usize = 256 * 1024;
/// Lines around each change.
const CONTEXT: usize = 3;
/// How long a small diff is looked for; past it, one that is right and larger is good enough.
const PATIENCE: Duration = Duration::from_millis(500);

/// A unified diff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diff {
    /// The text.
    pub text: String,
    /// Bytes that are left out.
    pub left_out: usize,
}

/// The unified diff of the file at `path`.
pub(super) fn unified(path: &str, before: Option<&[u8]>, after: Option<&[u8]>) -> Diff {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let name = |bytes: Option<&[u8]>| match bytes {
        Some(_) => path,
        None => "/dev/null",
    };
    let (old, new) = (text(before), text(after));
    let diff = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(&old, &new);
    let whole = diff
        .unified_diff()
        .context_radius(CONTEXT)
        .header(name(before), name(after))
        .to_string();
    let end = whole.floor_char_boundary(DIFF_MAX);
    Diff {
        left_out: whole.len() - end,
        text: whole.get(..end).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_changes_and_where() {
        let diff = unified(
            "a/b.md",
            Some(b"one\ntwo\nthree\n"),
            Some(b"one\n2\nthree\n"),
        );
        let text = "--- a/b.md\n+++ a/b.md\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
        assert_eq!((diff.text.as_str(), diff.left_out), (text, 0));
        assert!(
            unified("n", None, Some(b"x\n"))
                .text
                .starts_with("--- /dev/null\n+++ n\n")
        );
    }

    #[test]
    fn is_bounded_in_length_and_says_so() {
        let (old, new) = ("a\n".repeat(200_000), "b\n".repeat(200_000));
        let diff = unified("n", Some(old.as_bytes()), Some(new.as_bytes()));
        assert_eq!(diff.text.len(), DIFF_MAX);
        assert!(diff.left_out > 0);
    }
}
