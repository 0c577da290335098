//! Parts of the texts that tools answer with.

use std::fmt::Write as _;

/// Sizes as the reference writes them: `B`, `KB` or `MB`, the larger two with one decimal.
pub(super) fn size(bytes: u64) -> String {
    const KB: u64 = 1024;
    const MB: u64 = KB * 1024;
    let tenths = |unit: u64| {
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..KB => format!("{bytes} B"),
        KB..MB => format!("{} KB", tenths(KB)),
        MB.. => format!("{} MB", tenths(MB)),
    }
}

/// A Markdown table.
pub(super) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(N));
    for row in rows {
        let cells = row.map(|cell| cell.replace('|', "\\|").replace(['\n', '\r'], " "));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

/// The first `max` characters, and a sign that there are more.
pub(super) fn start(text: &str, max: usize) -> String {
    let mut start: String = text.chars().take(max).collect();
    if start.len() < text.len() {
        start.push_str("...");
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KB"),
            (1536, "1.5 KB"),
            (1024 * 1024, "1.0 MB"),
            (u64::MAX, "17592186044415.9 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_cell_ends_no_row() {
        let text = table(["A", "B"], [["x|y".to_owned(), "1\n2".to_owned()]]);
        assert_eq!(text, "| A | B |\n|---|---|\n| x\\|y | 1 2 |\n");
    }
}
